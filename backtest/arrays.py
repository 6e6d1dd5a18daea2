"""From the four inputs to the arrays that both engines read, and to the compiled loop's world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backtest.actions import BookArrays, book_arrays
from backtest.errors import ConfigError, DataError, nearest
from backtest.intrabar import expand
from backtest.kernels import state as places
from backtest.kernels.blocks import Block
from backtest.kernels.lanes import LANES
from backtest.kernels.pricing import QUOTE_ROWS
from backtest.kernels.queue import KINDS
from backtest.kernels.records import (
    ADL_COLUMNS,
    LEDGER_NAMES,
    LIQUIDATION_COLUMNS,
    SERIES_NAMES,
)
from backtest.kernels.state import (
    ASK,
    BOOK,
    FUND,
    MARKET,
    RECORDS,
    STATE,
    TAPE,
    TIMELINE,
    VAULT,
    VENUE,
    WORLD,
)
from backtest.kernels.types import KERNEL_SLOTS, PROTOCOL_ROWS, no_requirement
from backtest.requirement import RequirementLayer, RequirementRule
from backtest.timeline import (
    Timeline,
    build_timeline,
    charged_funding,
    doubt,
    keeper_costs,
    settlement_prices,
)
from backtest.venue import UNLIMITED, VenueNumbers

if TYPE_CHECKING:
    from backtest.book import AccountBook
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


class TapeArrays(NamedTuple):
    """The market as both engines read it; see `backtest.tape.MarketTape`."""

    ts: np.ndarray  # (T,)
    snapshot: np.ndarray  # (T,) option snapshot in force, -1 for none
    index: np.ndarray  # type: ignore[assignment]  # (T, A)
    mark: np.ndarray  # (T, A)
    depth_usd: np.ndarray  # (T, A)
    funding: np.ndarray  # (T, A) as the venue charges it
    keeper_cost_usd: np.ndarray  # (T,)
    settlement_usd: np.ndarray  # (I,) index that expired contracts are settled at
    confidence: np.ndarray  # (T, A) of the oracle, 1 less the half-width of its doubt
    iv: np.ndarray  # (S, V)
    forward_ratio: np.ndarray  # (S, E)
    carry: np.ndarray  # (S, E) logarithm of the forward over the index
    asset: np.ndarray  # (I,) int32
    kind: np.ndarray  # (I,) int8
    inverse: np.ndarray  # (I,) int8
    contract_size: np.ndarray  # (I,)
    strike: np.ndarray  # (I,)
    is_call: np.ndarray  # (I,) int8
    listed_ms: np.ndarray  # (I,)
    expiry_ms: np.ndarray  # (I,)
    iv_column: np.ndarray  # (I,) int32
    expiry_column: np.ndarray  # (I,) int32


class VenueArrays(NamedTuple):
    """The venue rules that are lists."""

    brackets: np.ndarray  # (B,) USD
    outage_start_ms: np.ndarray  # (W,)
    outage_end_ms: np.ndarray  # (W,)
    market_cap_usd: np.ndarray  # (A,)
    collateral: np.ndarray  # (A, COLLATERAL_COLUMNS)


class Prepared(NamedTuple):
    """Everything that is fixed before the first instant."""

    timeline: Timeline
    tape: TapeArrays
    book: BookArrays
    venue: VenueNumbers
    rules: VenueArrays
    layers: tuple[RequirementLayer, ...]


def _no_reference(*_: object) -> None:
    """Add nothing, in plain Python."""


NO_RULE = RequirementRule("none", no_requirement, _no_reference)


def prepare(
    tape: MarketTape,
    book: AccountBook,
    layers: tuple[RequirementLayer, ...],
    venue: VenueRules,
    rows: slice,
) -> tuple[Prepared, np.ndarray]:
    """Lay the four inputs out for a window of bars.

    Parameters
    ----------
    tape, book, venue
        As in `backtest.replay.replay`.
    layers
        The policy's, one row of parameters per bar.
    rows
        Bars of the window.

    Returns
    -------
    tuple
        The inputs, and the bar that each row of their tape is part of.
    """
    path = expand(tape)
    inside = path.rows(rows)
    timeline = build_timeline(path.tape, venue, inside)
    policy_row = path.closed_bar(timeline.policy_row)
    # Inside the first bar a policy has seen nothing yet, so there is nothing to check against.
    check = np.where(policy_row >= 0, timeline.check, 0)
    prepared = Prepared(
        timeline=timeline._replace(
            policy_row=np.ascontiguousarray(policy_row, np.int64),
            check=np.ascontiguousarray(check, np.int64),
        ),
        tape=_tape_arrays(path.tape, venue, settlement_prices(tape, venue.settlement.average)),
        book=book_arrays(book, tape, path, rows),
        venue=venue.numbers(),
        rules=_venue_arrays(venue, tape.assets),
        layers=fill_slots(layers, len(tape)),
    )
    return prepared, path.bar_of_row


def _tape_arrays(tape: MarketTape, venue: VenueRules, settlement_usd: np.ndarray) -> TapeArrays:
    table = tape.instruments
    return TapeArrays(
        ts=tape.ts,
        snapshot=np.searchsorted(tape.vol_ts, tape.ts, side="right").astype(np.int64) - 1,
        index=tape.index,
        mark=tape.mark,
        depth_usd=tape.depth_usd,
        funding=charged_funding(tape, venue.funding),
        keeper_cost_usd=keeper_costs(tape, venue.liquidation.keepers),
        settlement_usd=settlement_usd,
        confidence=1.0 - np.minimum(doubt(tape, venue.oracle.confidence), 1.0),
        iv=tape.iv,
        forward_ratio=tape.forward_ratio,
        carry=np.log(tape.forward_ratio),
        asset=table.asset,
        kind=table.kind,
        inverse=table.inverse,
        contract_size=table.contract_size,
        strike=table.strike,
        is_call=table.is_call,
        listed_ms=table.listed_ms,
        expiry_ms=table.expiry_ms,
        iv_column=table.iv_column,
        expiry_column=table.expiry_column,
    )


def _venue_arrays(venue: VenueRules, assets: tuple[str, ...]) -> VenueArrays:
    liquidation, fund = venue.liquidation, venue.insurance_fund
    for field, named in (("collateral", venue.collateral),
                         ("insurance_fund.market_cap_usd", fund.market_cap_usd)):  # fmt: skip
        for asset in named:
            if asset not in assets:
                raise ConfigError(
                    f"venue.{field} names {asset!r}, which the tape lacks.{nearest(asset, assets)}"
                )
    rules = np.zeros((len(assets), places.COLLATERAL_COLUMNS))
    rules[:, places.SCALE_START_USD] = UNLIMITED
    for asset, coin in venue.collateral.items():
        a = assets.index(asset)
        lost = coin.treasury.loss() if coin.treasury else 0.0
        rules[a, places.HAIRCUT] = min(1.0, coin.haircut + lost)
        rules[a, places.DEPTH_IMPACT] = coin.depth_impact
        rules[a, places.WRONG_WAY] = coin.wrong_way
        rules[a, places.CORRELATION] = coin.correlation
        if coin.scale_start_usd is not None:
            rules[a, places.SCALE_START_USD] = coin.scale_start_usd
        if coin.peg:
            rules[a, places.PEG_USD] = coin.peg.usd
            rules[a, places.PEG_THRESHOLD] = coin.peg.threshold
            rules[a, places.PEG_FACTOR] = coin.peg.factor
    outages = np.array(liquidation.keepers.outages, np.int64).reshape(-1, 2)
    return VenueArrays(
        brackets=np.array(liquidation.brackets, np.float64),
        outage_start_ms=outages[:, 0].copy(),
        outage_end_ms=outages[:, 1].copy(),
        market_cap_usd=np.array([fund.market_cap_usd.get(a, UNLIMITED) for a in assets]),
        collateral=rules,
    )


def fill_slots(layers: tuple[RequirementLayer, ...], rows: int) -> tuple[RequirementLayer, ...]:
    """Fill a policy's unused kernel slots; refuse more add-ons than there are slots."""
    if not 1 <= len(layers) <= KERNEL_SLOTS:
        raise DataError(
            f"a policy has one base layer and at most {KERNEL_SLOTS - 1} add-ons, "
            f"not {len(layers)} layers."
        )
    empty = RequirementLayer(NO_RULE, np.zeros((rows, 0)), np.empty(0))
    return layers + (empty,) * (KERNEL_SLOTS - len(layers))


def _slots_needed(book: BookArrays, instruments: int) -> np.ndarray:
    """Count the distinct instruments each account ever orders: no account can hold more.

    Returns
    -------
    numpy.ndarray
        ``(N + 1,)`` slots; the last entry, of the spare account, fits any order group.
    """
    accounts = len(book.owner)
    pairs = np.unique(book.order_account * instruments + book.order_instrument)
    needed = np.bincount(pairs // instruments, minlength=accounts)[:accounts]
    legs = (book.action_last - book.action_first).max(initial=0)
    return np.append(needed, needed.max(initial=0) + legs).astype(np.int64)


def build_world(prepared: Prepared, book: AccountBook, events: int) -> Block:
    """Allocate the world at the start of a window: wallets full, no position open.

    In a recorded book the wallet is the collateral observed at the start and lies in the
    account from the first row. Either log of events gets ``events`` rows.
    """
    tape, orders, venue = prepared.tape, prepared.book, prepared.venue
    rows, assets = tape.index.shape
    accounts, instruments = len(orders.owner), len(tape.asset)
    needed = _slots_needed(orders, max(instruments, 1))
    slots = int(needed.sum())
    cash = np.zeros((1 + assets, accounts + 1))
    wallet = book.wallet.copy()
    if orders.recorded:
        first = np.searchsorted(orders.owner, np.arange(len(book)))
        cash[book.collateral_currency, first] = wallet
        wallet[:] = 0.0
    purse = np.zeros(places.PURSES)
    purse[FUND], purse[VAULT] = venue.fund_start_usd, venue.vault_start_usd
    opening = np.bincount(book.collateral_currency, weights=book.wallet, minlength=1 + assets)
    opening[0] += purse.sum()
    counter = np.zeros(places.COUNTERS, np.int64)
    counter[[places.CLOCK, places.ROW]] = prepared.timeline.at_ms[0] - 1, -1
    counter[places.CROSSED] = int(orders.scheme.sum())
    counter[[places.LIST_STALE, places.GROSS_STALE, places.MONEY_MOVED]] = 1
    counter[places.WALLETS_MOVED] = 1
    coins = (book.collateral_currency, orders.transfer_currency, tape.inverse)
    counter[places.COINS] = int(any(np.any(column > 0) for column in coins))
    moved = rows if venue.feedback_on else 0
    anchored = accounts if venue.trigger_on else 0
    scheduled = KINDS * accounts + 1

    def ints(count: int, value: int = 0) -> np.ndarray:
        return np.full(count, value, np.int64)

    state = {
        "scheme": np.append(orders.scheme, 0),
        "cash": cash,
        "wallet": wallet,
        "wallet_currency": book.collateral_currency,
        "outside": np.zeros(1 + assets),
        "flow": np.zeros(1 + assets),
        "opening": opening,
        "purse": purse,
        "counted": np.zeros((4, 1 + assets)),
        "start": np.concatenate(([0], np.cumsum(needed)[:-1])).astype(np.int64),
        "count": ints(accounts + 1),
        "instrument": ints(slots),
        "quantity": np.zeros(slots),
        "entry": np.zeros(slots),
        "holders": ints(instruments),
        "gross": np.zeros(instruments),
        "net": np.zeros(instruments),
        **{name: ints(accounts, places.NEVER) for name in ("call_ts", "deposit_ts")},
        "liquidation_ts": ints(accounts, places.NEVER),
        "deposit_usd": np.zeros(accounts),
        "steps": ints(accounts),
        "queued": ints(accounts),
        "reserved": np.zeros(accounts),
        "live": ints(len(orders.order_account)),
        "live_count": ints(accounts),
        "anchor_ts": ints(accounts, places.NEVER),
        "anchor_value": np.zeros(anchored),
        "anchor_margin": np.zeros(anchored),
        "anchor_delta": np.zeros((anchored, assets)),
        "anchor_index": np.zeros((anchored, assets)),
        **{k: np.zeros(instruments) for k in ("unit", "value_usd", "notional_usd", "delta_usd")},
        "quotes": np.zeros((QUOTE_ROWS, instruments)),
        "quoted": ints(instruments),
        "funded": ints(slots),
        "funded_account": ints(slots),
        "priced": ints(instruments),
        "seen_priced": ints(instruments),
        "assets": np.zeros((places.ASSET_ROWS, assets)),
        "shift_at_row": np.zeros((moved, assets)),
        "counter": counter,
        "level": np.zeros(places.LEVELS),
        "event_time": ints(scheduled),
        "event_sequence": ints(scheduled),
        "event_heap": ints(scheduled),
        "event_place": ints(scheduled, -1),
        **{name: ints(accounts + 1) for name in ("who", "listed", "done", "active", "winners")},
        **{name: np.zeros(accounts + 1) for name in ("equity", "gain", "score")},
        "last_few": np.zeros(LANES),
    }
    return Block(
        WORLD,
        {
            "tape": Block(TAPE, tape._asdict()),
            "timeline": Block(TIMELINE, prepared.timeline._asdict()),
            "book": Block(BOOK, {k: v for k, v in orders._asdict().items() if k != "scheme"}),
            "venue": Block(VENUE, {**venue._asdict(), **prepared.rules._asdict()}),
            "market": Block(MARKET, _market(instruments, assets)),
            "state": Block(STATE, state),
            "ask": Block(ASK, _ask(prepared.layers, accounts, slots, instruments, assets)),
            "records": _records(rows, accounts, events),
        },
    )


def _market(instruments: int, assets: int) -> dict[str, np.ndarray]:
    names = ("value_usd", "notional_usd", "forward", "sigma", "years", "delta_usd", "rate")
    return {
        "tick": np.zeros(1, np.int64),
        "index": np.zeros(assets),
        "mark": np.zeros(assets),
        "settled": np.zeros(instruments),
        "confidence": np.ones(instruments),
        "index_confidence": np.ones(assets),
        "protocol": np.zeros((PROTOCOL_ROWS, assets)),
        **{name: np.zeros(instruments) for name in names},
    }


def _ask(
    layers: tuple[RequirementLayer, ...], accounts: int, slots: int, instruments: int, assets: int
) -> dict[str, Any]:
    ask: dict[str, Any] = {
        "initial": np.zeros(accounts + 1),
        "maintenance": np.zeros(accounts + 1),
        "worst_scenario": np.full(accounts + 1, -1, np.int64),
        "leg_start": np.arange(slots, dtype=np.int64),
        "leg_count": np.ones(slots, np.int64),
        "leg_initial": np.zeros(slots),
        "leg_maintenance": np.zeros(slots),
        "leg_worst": np.full(slots, -1, np.int64),
        "legs": np.zeros(slots, np.int64),
        "no_cash": np.zeros((1 + assets, 0)),
        "layers": sum(layer.rule is not NO_RULE for layer in layers),
    }
    for k, layer in enumerate(layers):
        columns = layer.rule.scratch_columns(layer.constants)
        ask[f"parameters{k}"] = np.zeros(layer.parameters.shape[1])
        ask[f"constants{k}"] = np.ascontiguousarray(layer.constants, np.float64)
        ask[f"scratch{k}"] = _aligned(instruments, columns)
        ask[f"scratch_tick{k}"] = np.full(instruments, -1, np.int64)
        ask[f"path{k}"] = np.ascontiguousarray(layer.parameters, np.float64)
    return ask


def _aligned(rows: int, columns: int) -> np.ndarray:
    """Allocate a table that begins at a cache line, so that no register's load straddles two."""
    line = 64 // np.dtype(float).itemsize
    numbers = np.zeros(rows * columns + line)
    first = -numbers.ctypes.data // numbers.itemsize % line
    return numbers[first : first + rows * columns].reshape(rows, columns)


def _records(rows: int, accounts: int, events: int) -> Block:
    return Block(
        RECORDS,
        {
            "series": np.zeros((rows, len(SERIES_NAMES))),
            "log": np.zeros((events, LIQUIDATION_COLUMNS)),
            "adl_log": np.zeros((events, ADL_COLUMNS)),
            "ledger": np.zeros((accounts, len(LEDGER_NAMES))),
        },
    )
