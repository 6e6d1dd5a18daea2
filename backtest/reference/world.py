"""Everything a replay knows and changes: inputs, accounts, purses, prices, what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.arrays import prepare
from backtest.reference.accounts import Account
from backtest.reference.policy import PolicyDesk
from backtest.reference.quotes import Quote, quote
from backtest.reference.records import Records
from backtest.reference.schedule import Keepers, Schedule

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.requirement import Policy
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


class World:
    """The state of one replay; the other modules of this package say how it changes.

    Money lies in the accounts' cash, in wallets outside the venue, in five purses (fund,
    liquidators, fees, uncovered deficit, vault), and with the market, ``outside``, which is the
    counterparty of every trade. Lists per currency begin with the US dollar; the coin of asset
    ``a`` is currency ``1 + a``.
    """

    def __init__(
        self, tape: MarketTape, book: AccountBook, policy: Policy, venue: VenueRules
    ) -> None:
        layers = policy.layers(tape)
        prepared, bar_of_row = prepare(tape, book, layers, venue, slice(0, len(tape)))
        self.timeline, self.tape, self.book = prepared.timeline, prepared.tape, prepared.book
        self.venue, self.rules = prepared.venue, prepared.rules
        self.assets = self.tape.index.shape[1]
        self.recorded = book.mode == "recorded"
        self.desk = PolicyDesk(prepared.layers, self.tape)
        self._open_accounts(book)

        self.schedule = Schedule()
        outages = zip(
            self.rules.outage_start_ms.tolist(), self.rules.outage_end_ms.tolist(), strict=True
        )
        self.keepers = Keepers(
            list(outages), self.venue.keeper_capacity, int(self.venue.keeper_block_ms)
        )
        self.clock = int(self.timeline.at_ms[0])
        self.row, self.instant, self.known = -1, -1, False
        self.next_action = self.next_fate = self.next_transfer = 0

        # What liquidations did to prices, per asset.
        self.sold = [0.0] * self.assets
        self.pushed = [0.0] * self.assets
        self.permanent = [0.0] * self.assets
        self.transient = [0.0] * self.assets
        self.shift = [0.0] * self.assets
        self.shift_at_row: dict[int, list[float]] = {}

        # Prices: the market's own, and what the venue sees of them.
        self.index = [0.0] * self.assets
        self.mark = [0.0] * self.assets
        self.seen_row = [-1] * self.assets
        self.seen_shift = [0.0] * self.assets
        self.seen_index = [0.0] * self.assets
        self.seen_mark = [0.0] * self.assets
        self.seen_confidence = [1.0] * self.assets
        self.seen_at = self.clock
        self.coins_held_usd = [0.0] * self.assets
        self.open_contracts: dict[int, float] = {}
        self._now: dict[int, Quote | None] = {}
        self._seen: dict[int, Quote | None] = {}

        # Deficits by asset and side (0: a long went bankrupt, 1: a short) not yet passed on.
        self.owed = [[0.0, 0.0] for _ in range(self.assets)]
        self.drawn = [0.0] * self.assets
        self.client_funds = 0.0
        self.owed_so_far = 0.0

        self.records = Records(bar_of_row.tolist(), [account.owner for account in self.accounts])

    def _open_accounts(self, book: AccountBook) -> None:
        """Fill the wallets; in a recorded book the money lies in the accounts at once."""
        orders = self.book
        self.live = [False] * len(orders.order_account)
        starts = orders.resting_start
        self.accounts = [
            Account(
                number=n,
                owner=int(owner),
                currency=int(orders.collateral_currency[n]),
                legs_alone=bool(orders.scheme[n]),
                cash=[0.0] * (1 + self.assets),
                resting=orders.resting_order[starts[n] : starts[n + 1]].tolist(),
            )
            for n, owner in enumerate(orders.owner)
        ]
        self.wallets = [float(amount) for amount in book.wallet]
        self.wallet_currency = [int(currency) for currency in book.collateral_currency]
        self.fund, self.vault = self.venue.fund_start_usd, self.venue.vault_start_usd
        self.liquidators = self.fees = self.deficit = 0.0
        self.outside = [0.0] * (1 + self.assets)
        self.flow = [0.0] * (1 + self.assets)
        self.opening = [0.0] * (1 + self.assets)
        for wallet, currency in zip(self.wallets, self.wallet_currency, strict=True):
            self.opening[currency] += wallet
        self.opening[0] += self.fund + self.vault
        if self.recorded:
            for account in self.accounts:
                account.cash[account.currency] = self.wallets[account.owner]
                self.wallets[account.owner] = 0.0

    # Recording.

    def record(self, name: str, amount: float = 1.0) -> None:
        """Add to a series at the present row."""
        self.records.series[self.row][name] += amount

    def set_level(self, name: str, level: float) -> None:
        """Set a series at the present row."""
        self.records.series[self.row][name] = level

    def level(self, name: str) -> float:
        """Return what a series holds at the present row."""
        return self.records.series[self.row][name]

    def enter(self, account: Account, name: str, amount_usd: float) -> None:
        """Add to an account's ledger; positive is money into the account."""
        self.records.entries[account.number][name] += amount_usd

    # Prices.

    def settles_in(self, i: int) -> int:
        """Currency of an instrument."""
        return int(1 + self.tape.asset[i]) if self.tape.inverse[i] else 0

    def rate(self, currency: int) -> float:
        """US dollars per unit of a currency, true."""
        return 1.0 if currency == 0 else self.index[currency - 1]

    def seen_rate(self, currency: int) -> float:
        """US dollars per unit of a currency, as the venue sees it."""
        return 1.0 if currency == 0 else self.seen_index[currency - 1]

    def shifted(self, price: float, shift: float) -> float:
        """Move a price of the tape by what liquidations did to it."""
        return price * (1.0 + shift) if self.venue.feedback_on else price

    def price_truly(self) -> None:
        """Take the market's prices of the present row."""
        self._now.clear()
        for a in range(self.assets):
            self.index[a] = self.shifted(float(self.tape.index[self.row, a]), self.shift[a])
            self.mark[a] = self.shifted(float(self.tape.mark[self.row, a]), self.shift[a])

    def price_as_seen(self) -> None:
        """Take the prices that the venue sees."""
        self._seen.clear()
        for a, row in enumerate(self.seen_row):
            if row >= 0:
                self.seen_index[a] = self.shifted(
                    float(self.tape.index[row, a]), self.seen_shift[a]
                )
                self.seen_mark[a] = self.shifted(float(self.tape.mark[row, a]), self.seen_shift[a])
                self.seen_confidence[a] = float(self.tape.confidence[row, a])
        self.desk.show_prices(self.seen_index, self.seen_mark, self.seen_confidence)

    def try_now(self, i: int) -> Quote | None:
        """Return the market's own quote, if it can be quoted."""
        if i not in self._now:
            a = int(self.tape.asset[i])
            self._now[i] = quote(
                self.tape,
                i,
                self.index[a],
                self.mark[a],
                int(self.tape.snapshot[self.row]),
                int(self.tape.ts[self.row]),
                self.venue,
            )
        return self._now[i]

    def try_seen(self, i: int) -> Quote | None:
        """Return the quote that the venue sees, if it can be quoted."""
        if i not in self._seen:
            a = int(self.tape.asset[i])
            self._seen[i] = quote(
                self.tape,
                i,
                self.seen_index[a],
                self.seen_mark[a],
                int(self.timeline.seen_snapshot[self.instant]),
                self.seen_at,
                self.venue,
            )
        return self._seen[i]

    def now(self, i: int) -> Quote:
        """Return the market's own quote of a contract that somebody holds."""
        found = self.try_now(i)
        assert found is not None
        return found

    def seen(self, i: int) -> Quote:
        """Return the venue's quote of a contract that somebody holds."""
        found = self.try_seen(i)
        assert found is not None
        return found

    # Accounts.

    def equity_now(self, account: Account) -> float:
        """Value an account at the market's prices."""
        total = cash_usd(account, self.index)
        for p in account.positions:
            total += p.quantity * self.now(p.instrument).value_usd
        return total

    def equity_seen(self, account: Account) -> float:
        """Value an account at the prices the venue sees."""
        total = cash_usd(account, self.seen_index)
        for p in account.positions:
            total += p.quantity * self.seen(p.instrument).value_usd
        return total

    def enforceable(self, account: Account) -> bool:
        """Whether the venue acts now on the prices of all that an account holds."""
        enforce = self.timeline.enforce[self.instant]
        return all(enforce[self.tape.asset[p.instrument]] for p in account.positions)

    def is_overdue(self, account: Account) -> bool:
        """Whether an account has an open margin call that is past its deadline."""
        deadline = int(self.venue.call_deadline_ms)
        return account.called_at is not None and self.clock - account.called_at >= deadline

    def largest_net_delta(self, account: Account) -> tuple[int, int]:
        """Return the asset that an account is most exposed to, and 0 if long of it, else 1."""
        net = [0.0] * self.assets
        for p in account.positions:
            net[self.tape.asset[p.instrument]] += p.quantity * self.now(p.instrument).delta_usd
        largest = max(range(self.assets), key=lambda a: abs(net[a]))
        return largest, 0 if net[largest] >= 0.0 else 1


def cash_usd(account: Account, index: list[float]) -> float:
    """Add up an account's cash at given prices of the coins."""
    total = account.cash[0]
    for coins, price in zip(account.cash[1:], index, strict=True):
        total += coins * price
    return total
