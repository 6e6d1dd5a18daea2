"""The event loop in plain Python: the specification, and the twin of the compiled one.

Read this to know what a replay does. It shares nothing with the compiled loop but the layout
of its inputs and the names of what it records; tests demand that both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.arrays import book_arrays, fill_slots, kernel_inputs, tape_arrays
from backtest.book import CLOSE
from backtest.instruments import PERPETUAL
from backtest.kernels.state import LIQUIDATION_COLUMNS, SERIES_NAMES
from backtest.kernels.types import Holdings, empty_market, empty_requirement
from backtest.reference_accounts import (
    Account,
    Position,
    Quote,
    impact_cost,
    quote,
    requested_notional_usd,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.book import AccountBook
    from backtest.requirement import Policy
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


class Replay:
    """One replay, one row at a time."""

    def __init__(
        self, tape: MarketTape, book: AccountBook, policy: Policy, venue: VenueRules
    ) -> None:
        self.tape = tape_arrays(tape, venue)
        self.assets = len(tape.assets)
        self.orders = book_arrays(book, tape, slice(0, len(tape)))
        self.book, self.venue = book, venue.numbers()
        self.layers = fill_slots(policy.layers(tape), len(tape))
        self.given = kernel_inputs(self.layers, len(tape.instruments))
        self.market = empty_market(tape.instruments, self.assets)
        self.recorded = book.mode == "recorded"
        self.accounts = []
        for currency, wallet in zip(book.collateral_currency, book.wallet, strict=True):
            cash = [0.0] * (1 + self.assets)
            if self.recorded:
                cash[currency] = float(wallet)
            self.accounts.append(
                Account(int(currency), cash, 0.0 if self.recorded else float(wallet))
            )
        self.fund = self.venue.fund_start_usd
        self.liquidators = self.fees = self.deficit = 0.0
        self.outside = [0.0] * (1 + self.assets)
        self.opening = np.bincount(
            book.collateral_currency, weights=book.wallet, minlength=1 + self.assets
        )
        self.opening[0] += self.fund
        self.series = {name: np.zeros(len(tape)) for name in SERIES_NAMES}
        self.log: list[list[float]] = []
        self.next_order = self.next_transfer = 0

    def rate(self, row: int, currency: int) -> float:
        """US dollars per unit of a currency."""
        return 1.0 if currency == 0 else float(self.tape.index[row, currency - 1])

    def settles_in(self, i: int) -> int:
        """Currency of an instrument."""
        return int(1 + self.tape.asset[i]) if self.tape.inverse[i] else 0

    def quote(self, i: int, row: int, snapshot: int) -> Quote | None:
        """Value one contract; nothing if its volatility was never quoted."""
        return quote(self.tape, i, row, snapshot, self.venue.option_delta_floor)

    def now(self, i: int) -> Quote:
        """Return the market's own quote of a held instrument."""
        found = self.quote(i, self.row, int(self.tape.snapshot[self.row]))
        assert found is not None
        return found

    def seen(self, i: int) -> Quote | None:
        """Return the quote that the venue knows."""
        tape, row = self.tape, self.row
        return self.quote(i, int(tape.seen[row]), int(tape.seen_snapshot[row]))

    def known(self, i: int) -> Quote:
        """Return the quote that the venue knows of a held instrument."""
        found = self.seen(i)
        assert found is not None
        return found

    def equity(self, account: Account, row: int, price: Callable[[int], Quote]) -> float:
        """Add up cash at a row's index and positions at somebody's prices."""
        total = account.cash[0]
        for c in range(1, 1 + self.assets):
            total += account.cash[c] * self.rate(row, c)
        for p in account.positions:
            total += p.quantity * price(p.instrument).value_usd
        return total

    def equity_now(self, account: Account) -> float:
        """Value an account at the market's prices."""
        return self.equity(account, self.row, self.now)

    def equity_seen(self, account: Account) -> float:
        """Value an account at the prices the venue knows."""
        return self.equity(account, int(self.tape.seen[self.row]), self.known)

    def require(self, accounts: list[Account]) -> tuple[np.ndarray, np.ndarray]:
        """Ask the policy for initial and maintenance margin of each account."""
        counts = [len(a.positions) for a in accounts]
        legs = [p for a in accounts for p in a.positions]
        for i in {p.instrument for p in legs}:
            known = self.known(i)
            self.market.value_usd[i] = known.value_usd
            self.market.notional_usd[i] = known.notional_usd
            self.market.forward[i] = known.forward
            self.market.sigma[i] = known.sigma
            self.market.years[i] = known.years
        holdings = Holdings(
            np.cumsum([0, *counts])[: len(counts)].astype(np.int64),
            np.array(counts, np.int64),
            np.array([p.instrument for p in legs], np.int64),
            np.array([p.quantity for p in legs]),
        )
        requirement = empty_requirement(len(accounts))
        for layer, given in zip(self.layers, self.given, strict=True):
            who = np.arange(len(accounts))
            layer.rule.reference(given, self.market, holdings, who, requirement)
        return requirement.initial, requirement.maintenance

    def charge(self, account: Account, usd: float) -> None:
        """Take US dollars out of the collateral currency at the index."""
        coins = usd / self.rate(self.row, account.currency)
        account.cash[account.currency] -= coins
        if account.currency:
            self.flow[account.currency] += coins
            self.flow[0] -= usd

    def deposit(self, account: Account, usd: float, rate: float) -> None:
        """Wallet to account."""
        coins = min(usd / rate, account.wallet)
        account.wallet -= coins
        account.cash[account.currency] += coins
        self.record("deposits_usd", coins * self.rate(self.row, account.currency))

    def withdraw(self, account: Account, usd: float, rate: float) -> None:
        """Account to wallet."""
        coins = usd / rate
        account.cash[account.currency] -= coins
        account.wallet += coins
        self.record("withdrawals_usd", coins * self.rate(self.row, account.currency))

    def close_out(self, account: Account) -> float:
        """Settle an account without positions; return what is missing."""
        equity = self.equity_now(account)
        if equity >= 0.0 and self.recorded:
            return 0.0
        for c in range(1 + self.assets):
            self.flow[c] += account.cash[c]
            account.cash[c] = 0.0
        self.flow[0] -= equity
        if equity < 0.0:
            self.deficit += equity
            self.record("gross_bad_debt_usd", -equity)
            return -equity
        coins = equity / self.rate(self.row, account.currency)
        if account.currency:
            self.flow[0] += equity
            self.flow[account.currency] -= coins
        account.wallet += coins
        self.record("withdrawals_usd", equity)
        return 0.0

    def waterfall(self, shortfall: float) -> None:
        """Insurance fund first, then every solvent account with positions."""
        if shortfall <= 0.0:
            return
        paid = min(self.fund, shortfall)
        self.fund -= paid
        self.deficit += paid
        self.record("insurance_drawdown_usd", paid)
        residual = shortfall - paid
        if residual <= 0.0:
            return
        self.record("residual_bad_debt_usd", residual)
        open_accounts = [a for a in self.accounts if a.positions]
        solvent = 0.0
        for account in open_accounts:
            solvent += max(self.equity_now(account), 0.0)
        if solvent <= 0.0:
            return
        share = min(residual / solvent, 1.0)
        for account in open_accounts:
            equity = self.equity_now(account)
            if equity > 0.0:
                self.charge(account, share * equity)
                self.deficit += share * equity

    def record(self, name: str, amount: float) -> None:
        """Add to a series at the present row."""
        self.series[name][self.row] += amount

    def run(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Replay every row; return the series and the liquidation log."""
        for row in range(len(self.tape.ts)):
            self.row = row
            self.step()
        return self.series, np.array(self.log).reshape(-1, LIQUIDATION_COLUMNS)

    def step(self) -> None:
        """Market, funding, expiry, oracle, deposits, check, liquidation, waterfall, orders."""
        row, tape = self.row, self.tape
        self.flow = [0.0] * (1 + self.assets)
        self.sold = [0.0] * self.assets
        seen = int(tape.seen[row])
        self.market.tick[0] = row
        if seen >= 0:
            self.market.index[:], self.market.mark[:] = tape.index[seen], tape.mark[seen]
            for layer, given in zip(self.layers, self.given, strict=True):
                given.parameters[:] = layer.parameters[seen]
        self.accrue_funding()
        shortfall = self.settle_expired()
        self.update_protocol()
        self.arrive_deposits()
        if seen >= 0:
            shortfall += self.check_margins()
        self.waterfall(shortfall)
        self.waterfall(self.place_orders())
        self.balance()

    def accrue_funding(self) -> None:
        """Longs pay the rate on the value of their contracts."""
        if not self.tape.funding[self.row].any():
            return
        for account in self.accounts:
            for p in account.positions:
                if self.tape.kind[p.instrument] == PERPETUAL:
                    rate = float(self.tape.funding[self.row, self.tape.asset[p.instrument]])
                    paid = p.quantity * abs(self.now(p.instrument).unit) * rate
                    account.cash[self.settles_in(p.instrument)] -= paid
                    self.flow[self.settles_in(p.instrument)] += paid

    def settle_expired(self) -> float:
        """Pay what expired options are worth at the index."""
        tape, shortfall = self.tape, 0.0
        for account in self.accounts:
            expired = [
                p
                for p in account.positions[::-1]
                if tape.expiry_ms[p.instrument] <= tape.ts[self.row]
            ]
            for p in expired:
                i = p.instrument
                index = float(tape.index[self.row, tape.asset[i]])
                intrinsic = index - float(tape.strike[i])
                intrinsic = intrinsic if tape.is_call[i] else -intrinsic
                payoff = float(tape.contract_size[i]) * max(intrinsic, 0.0)
                payoff = payoff / index if tape.inverse[i] else payoff
                received = p.quantity * payoff
                account.cash[self.settles_in(i)] += received
                self.flow[self.settles_in(i)] -= received
                account.trade(i, -p.quantity)
            if expired and not account.positions:
                account.called_at = None
                shortfall += self.close_out(account)
        return shortfall

    def update_protocol(self) -> None:
        """Show fund and open notional, as the venue sees them."""
        protocol = self.market.protocol
        protocol[:] = 0.0
        protocol[0] = self.fund
        gross = dict.fromkeys(range(len(self.tape.asset)), 0.0)
        for account in self.accounts:
            for p in account.positions:
                gross[p.instrument] += abs(p.quantity)
        self.gross = {i: contracts for i, contracts in gross.items() if contracts}
        for i, contracts in self.gross.items():
            protocol[1 + self.tape.asset[i]] += contracts * self.known(i).notional_usd

    def arrive_deposits(self) -> None:
        """Credit paid margin calls and the transfers of a recorded book."""
        now = self.tape.ts[self.row]
        for account in self.accounts:
            if account.deposit_due is not None and account.deposit_due <= now:
                account.deposit_due = None
                if account.positions:
                    rate = self.rate(self.row, account.currency)
                    self.deposit(account, account.deposit_usd, rate)
        orders = self.orders
        while (k := self.next_transfer) < len(orders.transfer_row) and (
            orders.transfer_row[k] <= self.row
        ):
            account = self.accounts[orders.transfer_account[k]]
            account.cash[account.currency] += float(orders.transfer_amount[k])
            self.flow[account.currency] -= float(orders.transfer_amount[k])
            self.next_transfer += 1

    def check_margins(self) -> float:
        """Compare equity with margin; call, enforce, liquidate."""
        active = [n for n, a in enumerate(self.accounts) if a.positions]
        initial, maintenance = self.require([self.accounts[n] for n in active])
        for i, contracts in self.gross.items():
            self.record("open_notional_usd", contracts * self.now(i).notional_usd)
        for n, im, mm in zip(active, initial, maintenance, strict=True):
            self.record("locked_collateral_usd", max(self.equity_now(self.accounts[n]), 0.0))
            self.record("required_initial_usd", im)
            self.record("required_maintenance_usd", mm)
        self.record("accounts_open", len(active))
        shortfall = 0.0
        for n, im, mm in zip(active, initial, maintenance, strict=True):
            equity = self.equity_seen(self.accounts[n])
            if equity < mm or self.call_is_overdue(n, equity, im, mm):
                shortfall += self.liquidate(n, equity, mm)
        return shortfall

    def call_is_overdue(self, n: int, equity: float, initial: float, maintenance: float) -> bool:
        """Make, keep or drop a margin call; a healthy account takes home what it can spare."""
        account, level = self.accounts[n], self.venue.call_level * maintenance
        now = int(self.tape.ts[self.row])
        if equity >= level:
            account.called_at = None
            target = float(self.book.buffer[n]) * initial
            if not self.recorded and equity > float(self.book.release[n]) * target:
                rate = self.rate(int(self.tape.seen[self.row]), account.currency)
                self.withdraw(account, equity - target, rate)
            return False
        if account.called_at is None:
            asked = max(initial, level) - equity
            account.called_at = now
            self.record("margin_calls_usd", asked)
            if not self.recorded and self.book.top_up_share[n] > 0.0:
                account.deposit_due = now + int(self.book.top_up_delay_ms[n])
                account.deposit_usd = float(self.book.top_up_share[n]) * asked
            return False
        return now - account.called_at >= self.venue.call_deadline_ms

    def liquidate(self, n: int, equity: float, maintenance: float) -> float:
        """Close a share of every leg; return what is missing if nothing is left."""
        account, venue = self.accounts[n], self.venue
        exposure, net = 0.0, [0.0] * self.assets
        for p in account.positions:
            held = self.now(p.instrument)
            exposure += abs(p.quantity) * held.exposure_usd
            net[self.tape.asset[p.instrument]] += p.quantity * held.delta_usd
        share = 1.0
        if venue.liquidation_mode != 0.0 and equity > 0.0:
            target = venue.liquidation_target * maintenance
            saved = target - venue.penalty * exposure
            if saved > 0.0:
                share = max((target - equity) / saved, venue.liquidation_minimum_share)
                share = min(share, 1.0)
        before = self.equity_now(account)
        closed_exposure = closed_notional = cost = 0.0
        for p in account.positions[::-1]:
            held, asset = self.now(p.instrument), self.tape.asset[p.instrument]
            quantity = -share * p.quantity
            volume = abs(quantity) * held.exposure_usd
            depth = float(self.tape.depth_usd[self.row, asset])
            slippage = impact_cost(volume, self.sold[asset], depth, venue)
            self.sold[asset] += volume
            currency = self.settles_in(p.instrument)
            paid = quantity * held.unit + slippage / self.rate(self.row, currency)
            account.cash[currency] -= paid
            self.flow[currency] += paid
            closed_exposure += volume
            closed_notional += abs(quantity) * held.notional_usd
            cost += slippage
            account.trade(p.instrument, quantity)
        penalty = min(venue.penalty * closed_exposure, max(self.equity_now(account), 0.0))
        self.charge(account, penalty)
        incentive = venue.incentive_share * penalty
        self.liquidators += incentive
        self.fund += penalty - incentive
        shortfall = 0.0 if account.positions else self.close_out(account)
        account.called_at = None
        self.record("liquidations", 1.0)
        self.record("liquidated_notional_usd", closed_notional)
        self.record("penalties_usd", penalty)
        largest = max(range(self.assets), key=lambda a: abs(net[a]))
        side = 1.0 if net[largest] >= 0.0 else -1.0
        what = [self.row, n, largest, side, closed_notional, share]
        self.log.append([*what, before, maintenance, cost, penalty, shortfall])
        return shortfall

    def place_orders(self) -> float:
        """Execute or reject this row's orders, group by group."""
        shortfall, orders = 0.0, self.orders
        while (k := self.next_order) < len(orders.order_row) and orders.order_row[k] <= self.row:
            group = [k]
            while group[-1] + 1 < len(orders.order_row) and (
                orders.order_group[group[-1] + 1] == orders.order_group[k]
            ):
                group.append(group[-1] + 1)
            shortfall += self.place_group(group)
            self.next_order = group[-1] + 1
        return shortfall

    def traded_quantity(self, account: Account, order: int) -> float:
        """Contracts that an order trades; one that closes never opens."""
        quantity = float(self.orders.order_quantity[order])
        if self.orders.order_kind[order] != CLOSE:
            return quantity
        held = account.held(int(self.orders.order_instrument[order]))
        if held * quantity >= 0.0:
            return 0.0
        return -held if abs(quantity) >= abs(held) else quantity

    def place_group(self, group: list[int]) -> float:
        """Try the group on a copy of the account; margin it there; then do it or not."""
        orders, tape, now = self.orders, self.tape, self.tape.ts[self.row]
        n = int(orders.order_account[group[0]])
        account = self.accounts[n]
        legs = [(int(orders.order_instrument[k]), self.traded_quantity(account, k)) for k in group]
        reduces = all(orders.order_kind[k] == CLOSE for k in group)
        snapshot = int(tape.snapshot[self.row])
        tradable = tape.seen[self.row] >= 0 and all(
            tape.listed_ms[i] <= now < tape.expiry_ms[i]
            and self.quote(i, self.row, snapshot) is not None
            and self.seen(i) is not None
            for i, _ in legs
        )
        if not tradable:
            if not reduces:
                self.record("rejected_notional_usd", requested_notional_usd(tape, self.row, legs))
            return 0.0
        trial = Account(account.currency, list(account.cash), account.wallet)
        trial.positions = [Position(p.instrument, p.quantity) for p in account.positions]
        fee = 0.0
        for i, quantity in legs:
            if quantity:
                trial.cash[self.settles_in(i)] -= quantity * self.now(i).unit
                fee += self.venue.taker_fee * abs(quantity) * self.now(i).exposure_usd
                trial.trade(i, quantity)
        rate, post = self.rate(int(tape.seen[self.row]), account.currency), 0.0
        if not reduces:
            initial = float(self.require([trial])[0][0])
            equity = self.equity_seen(trial) - fee
            if not self.recorded:
                post = max(float(self.book.buffer[n]) * initial - equity, 0.0)
                post = min(post, account.wallet * rate)
                if equity + post < initial:
                    self.record(
                        "rejected_notional_usd", requested_notional_usd(tape, self.row, legs)
                    )
                    return 0.0
        for i, quantity in legs:
            if quantity:
                paid = quantity * self.now(i).unit
                account.cash[self.settles_in(i)] -= paid
                self.flow[self.settles_in(i)] += paid
                account.trade(i, quantity)
        self.charge(account, fee)
        self.fees += fee
        if post > 0.0:
            self.deposit(account, post, rate)
        if account.positions:
            return 0.0
        account.called_at = None
        return self.close_out(account)

    def balance(self) -> None:
        """Post what the market received and count all money there is."""
        leaked = gross = 0.0
        for c in range(1 + self.assets):
            self.outside[c] += self.flow[c]
            total, scale = self.outside[c], abs(self.outside[c])
            for account in self.accounts:
                total += account.cash[c]
                scale += abs(account.cash[c])
                if account.currency == c:
                    total += account.wallet
                    scale += account.wallet
            if c == 0:
                for purse in (self.fund, self.liquidators, self.fees, self.deficit):
                    total += purse
                    scale += abs(purse)
            leaked += abs(total - float(self.opening[c])) * self.rate(self.row, c)
            gross += scale * self.rate(self.row, c)
        self.series["fund_usd"][self.row] = self.fund
        self.series["ledger_imbalance_usd"][self.row] = leaked
        self.series["ledger_scale_usd"][self.row] = gross


def replay_reference(
    tape: MarketTape, book: AccountBook, policy: Policy, venue: VenueRules
) -> tuple[dict[str, np.ndarray], np.ndarray, Any]:
    """Replay a whole tape; return the series, the liquidation log and the replay itself."""
    twin = Replay(tape, book, policy, venue)
    series, log = twin.run()
    return series, log, twin
