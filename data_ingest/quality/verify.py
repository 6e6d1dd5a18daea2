"""Verification: everything that is odd about a store, or about the markets of one study."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from data_ingest.quality.arrivals import ARRIVAL_RULES
from data_ingest.quality.calendar import calendar_findings
from data_ingest.quality.candles import CandleKey, candle_findings, candle_keys, market_findings
from data_ingest.quality.chains import chain_findings
from data_ingest.quality.findings import Finding, in_order, read_findings, write_findings
from data_ingest.quality.funding import funding_findings
from data_ingest.quality.option_trades import option_trade_findings
from data_ingest.quality.stored import (
    chain_terms_findings,
    data_state,
    quarantine_findings,
    shortfall_findings,
    steady_feed_findings,
    table_findings,
)
from data_ingest.schema import FEED_TABLES
from data_ingest.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from data_ingest.spec import MarketSpec
    from data_ingest.store import DataStore

Market = tuple[str, str]
"""Exchange, and symbol or asset."""


@dataclass(frozen=True)
class Verification:
    """What one verification found.

    Parameters
    ----------
    findings : tuple of Finding
        The worst first; those of imports among them.
    data_state : str
        Digest of the batches that were stored then.
    rows : int
        Rows that were looked at.
    """

    findings: tuple[Finding, ...]
    data_state: str
    rows: int

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return sum(each.severity == severity for each in self.findings)


def markets_of(market: MarketSpec) -> frozenset[Market]:
    """List what a study reads: its perpetuals and futures, and the assets of its options."""
    symbols = [market.symbol(asset) for asset in market.assets]
    symbols += [future.symbol for future in market.dated_futures()]
    wanted = {(market.exchange, symbol) for symbol in symbols}
    if market.options:
        wanted |= {(market.options.exchange, asset) for asset in market.assets}
    return frozenset(wanted)


def verify(
    store: DataStore,
    markets: frozenset[Market] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Verification:
    """Look for everything that `FINDING_RULES` declares; nothing is changed.

    Parameters
    ----------
    store : DataStore
        An open store, read-only is enough.
    markets : frozenset of (exchange, market), optional
        Look at these only; the whole store by default.
    advance : callable, optional
        Called with steps done and steps in all.

    Raises
    ------
    StoreError
        If the store is empty.
    """
    if store.is_empty():
        raise StoreError(f"the store {store.path} is empty; import or pull data first.")
    steps = list(_steps(store, markets))
    found: list[Finding] = []
    for done, step in enumerate(steps):
        found += step()
        if advance:
            advance(done + 1, len(steps))
    if "findings" in _tables(store):
        found += [each for each in read_findings(store) if each.rule in ARRIVAL_RULES]
    if markets is not None:
        found = [each for each in found if _wanted(each, markets)]
    rows = sum(store.rows(f"SELECT count(*) FROM {table.name}")[0][0] for table in FEED_TABLES)
    return Verification(tuple(in_order(found)), data_state(store), int(rows))


def keep(store: DataStore, verification: Verification) -> None:
    """Store what was found in place of what the last verification found."""
    own = [each for each in verification.findings if each.rule not in ARRIVAL_RULES]
    with store.transaction() as cursor:
        write_findings(cursor, "", own, verification.data_state)


def _steps(
    store: DataStore, markets: frozenset[Market] | None
) -> Iterator[Callable[[], Iterable[Finding]]]:
    def wanted(exchange: str, market: str) -> bool:
        return markets is None or (exchange, market) in markets

    for table in FEED_TABLES:
        yield partial(table_findings, store, table)
    for look in (
        shortfall_findings, quarantine_findings, chain_terms_findings, steady_feed_findings,
    ):  # fmt: skip
        yield partial(look, store)
    keys = [key for key in candle_keys(store) if wanted(key.exchange, key.symbol)]
    beside: dict[Market, list[CandleKey]] = {}
    for key in keys:
        yield partial(candle_findings, store, key)
        beside.setdefault((key.exchange, key.symbol), []).append(key)
    for together in beside.values():
        yield partial(market_findings, store, together)
    paying = set(store.rows("SELECT DISTINCT exchange, symbol FROM funding"))
    for exchange, symbol in sorted(paying | set(beside)):
        if wanted(exchange, symbol):
            yield partial(funding_findings, store, exchange, symbol)
    for exchange, asset, start, end in store.rows(
        "SELECT exchange, asset, min(ts_ms), max(ts_ms) FROM chain JOIN instruments "
        "USING (exchange, native_id) WHERE kind = 'option' GROUP BY ALL ORDER BY ALL"
    ):
        if wanted(exchange, asset):
            yield partial(chain_findings, store, exchange, asset)
            yield partial(calendar_findings, store, exchange, asset, start, end)
    for exchange, asset in store.rows(
        "SELECT DISTINCT exchange, split_part(native_id, '-', 1) FROM option_trades ORDER BY ALL"
    ):
        if wanted(exchange, asset):
            yield partial(option_trade_findings, store, exchange, asset)


def _wanted(finding: Finding, markets: frozenset[Market]) -> bool:
    """Keep findings of the wanted markets, and those that name none."""
    return finding.market == "all" or (finding.exchange, finding.market) in markets


def _tables(store: DataStore) -> set[str]:
    return {row[0] for row in store.rows("SELECT table_name FROM information_schema.tables")}
