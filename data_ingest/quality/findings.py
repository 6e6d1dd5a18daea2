"""Findings: what is odd about stored data, as rows with a rule, a place and a sentence.

Every rule is declared here once; the code that looks for it names it, and the table of rules in
``docs/data-quality.md`` is held to this list by a test.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from data_ingest.store import DataStore

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error means that the store contradicts itself; a warning, that a study may be bent; a note,
that a reader should know."""


@dataclass(frozen=True)
class FindingRule:
    """One kind of finding.

    Parameters
    ----------
    name : str
        Stable name.
    looks_at : str
        The feed.
    severity : {"error", "warning", "note"}
        How bad it is.
    bound : str
        Where it begins; empty for what is either there or not.
    meaning : str
        One sentence.
    """

    name: str
    looks_at: str
    severity: Severity
    bound: str
    meaning: str


_DECLARED = (
    ("stored_row", "every feed", "error", "the row rules",
     "A stored row breaks a rule that would keep it out today."),
    ("false_coverage", "candles, volatility index", "error", "",
     "The ledger calls a window complete in which bars are missing."),
    ("terms_unknown", "chain, option trades", "error", "",
     "Rows of an option whose strike and expiry are unknown."),
    ("expired_mark", "chain", "error", "at or after expiry",
     "An option is marked when it has expired."),
    ("gap", "candles, volatility index", "warning", "one bar",
     "Bars are missing between the first and the last."),
    ("shortfall", "every feed", "warning", "",
     "A pull could not have this window; the reason is the ledger's."),
    ("quarantined", "every feed", "warning", "",
     "Rows broke a row rule and were put aside."),
    ("out_of_order", "every import", "note", "",
     "A file's rows do not ascend in time; they are stored in order."),
    ("repeated_rows", "every import", "note", "",
     "A file holds rows twice, value for value; they are stored once."),
    ("jump", "candles", "warning", "25 robust deviations and 2 %",
     "The close moved far beyond what it did in the 500 bars before."),
    ("wick", "candles", "warning", "25 times the median range and 5 %",
     "High and low are far apart against the 500 bars before."),
    ("stale_price", "candles", "warning", "3 bars and 30 min",
     "Price stands still, bar after bar, while volume trades."),
    ("stale_mark", "mark and index candles", "warning", "3 bars and 30 min",
     "The mark or index stands still, bar after bar."),
    ("no_trades", "trade candles", "note", "one bar",
     "Bars without volume."),
    ("no_volume", "trade candles", "note", "one bar",
     "Bars whose volume was not recorded."),
    ("mark_off_trade", "mark and index candles", "warning", "2 %",
     "Mark or index closes away from the trades of the same bar."),
    ("mark_is_trade", "mark and index candles", "warning", "half of the bars",
     "High and low equal those of trades to the tick: it is no mark."),
    ("spans_differ", "candles", "note", "one bar",
     "Series of one market begin or end at different times."),
    ("timeframes_disagree", "candles", "warning", "1e-6 of price, 1e-3 of volume",
     "Fine bars joined do not give the stored coarse bar."),
    ("funding_gap", "funding", "warning", "one payment",
     "A payment is missing between payments."),
    ("funding_interval", "funding", "note", "",
     "The interval between payments changes."),
    ("funding_extreme", "funding", "warning", "0.5 % a payment",
     "A funding rate beyond what most venues' caps allow."),
    ("funding_unknown", "funding", "note", "1 % of the candles' span",
     "Trade candles without funding beside them."),
    ("snapshot_gap", "chain", "warning", "8 h",
     "Chain snapshots are far apart."),
    ("chain_repeated", "chain", "warning", "90 % of the options",
     "A snapshot repeats the one before it: the collector was stuck."),
    ("index_lag", "chain", "note", "0.1 %",
     "Options of one snapshot carry different index prices."),
    ("forward_off_index", "chain", "warning", "1 %, and 30 % a year",
     "An expiry's forward is far from the index."),
    ("no_quote", "chain", "note", "",
     "Options without a bid, or without an ask."),
    ("crossed_quotes", "chain", "warning", "bid at or above ask",
     "Bid and ask cross or lock."),
    ("mark_outside_quotes", "chain", "warning", "0.0005 coins",
     "The mark lies below the bid or above the ask."),
    ("iv_extreme", "chain", "warning", "below 5 % or above 300 %",
     "An implied volatility that few markets have."),
    ("flat_smile", "chain", "warning", "half of 10 options or more",
     "Most options of an expiry have one and the same volatility: a default, not a market."),
    ("stale_iv", "chain", "note", "4 snapshots, index moved 2 %",
     "An option's volatility stands still while the index moves."),
    ("open_interest_stale", "chain", "note", "7 days with volume on each",
     "Open interest stands still while the option trades."),
    ("mark_off_model", "chain", "warning", "0.001 coins",
     "Black-76 of mark volatility and forward does not give the mark."),
    ("parity", "chain", "warning", "0.001 coins",
     "Call less put is not forward less strike."),
    ("butterfly", "chain", "warning", "0.0002 coins",
     "Marks of three neighbouring strikes are not convex."),
    ("calendar", "chain", "warning", "1 point of volatility",
     "Total variance falls from one expiry to the next."),
    ("trade_without_iv", "option trades", "note", "0 or 500 %",
     "A trade whose price had no volatility; the venue writes 0 or 500 %."),
    ("trade_after_expiry", "option trades", "error", "at or after expiry",
     "An option traded when it had expired."),
    ("trade_missing", "option trades", "warning", "one number",
     "Numbers are missing from an option's sequence of trades."),
)  # fmt: skip

FINDING_RULES = {rule[0]: FindingRule(*rule) for rule in _DECLARED}  # type: ignore[arg-type]


@dataclass(frozen=True)
class Finding:
    """One odd thing and its place.

    Parameters
    ----------
    rule : str
        One of `FINDING_RULES`.
    feed, exchange, market : str
        Where; candles say kind and timeframe in ``feed``.
    start_ms, end_ms : int
        Half-open; both 0 where the finding has no time.
    rows : int
        How many rows it is about; missing ones where rows are missing.
    detail : str
        One sentence with the numbers.
    """

    rule: str
    feed: str
    exchange: str
    market: str
    start_ms: int
    end_ms: int
    rows: int
    detail: str

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return FINDING_RULES[self.rule].severity


def write_findings(
    cursor: duckdb.DuckDBPyConnection, source: str, findings: Sequence[Finding], state: str
) -> None:
    """Replace what was found in one source: an imported file, or "" for the whole store."""
    cursor.execute("DELETE FROM findings WHERE source = ?", [source])
    found_at_ms = time.time_ns() // 1_000_000
    if findings:
        columns = [
            [getattr(each, name) for each in findings]
            for name in ("rule", "severity", "feed", "exchange", "market", "start_ms", "end_ms",
                         "rows", "detail")
        ]  # fmt: skip
        cursor.execute(
            "INSERT INTO findings SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
            "unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
            "unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]), "
            "?, ?, ?",
            [*columns, source, state, found_at_ms],
        )


def read_findings(store: DataStore, source: str | None = None) -> list[Finding]:
    """Return stored findings, of one source or of all, the worst first."""
    where, values = ("", []) if source is None else ("WHERE source = ?", [source])
    rows = store.rows(
        "SELECT rule, feed, exchange, market, start_ms, end_ms, row_count, detail FROM findings "
        f"{where} ORDER BY rowid",
        values,
    )
    return in_order(Finding(*row) for row in rows if row[0] in FINDING_RULES)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by severity, rule as declared and market; a market's own stay as found, worst first."""
    rules = list(FINDING_RULES)
    return sorted(
        findings,
        key=lambda each: (
            SEVERITIES.index(each.severity), rules.index(each.rule), each.exchange, each.market,
            each.feed,
        ),
    )  # fmt: skip
