"""Findings: what is odd about stored data, as rows with a rule, a place and a sentence.

Every rule is declared here once; the code that looks for it names it, and the table of rules in
``docs/data-quality.md`` is held to this list by a test.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from backtest.units import MS_PER_DAY, duration_text
from data_ingest.quality import bounds as b

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


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


_DECLARED = (
    FindingRule("stored_row", "every feed", "error",
                "the row rules",
                "A stored row breaks a rule that would keep it out today."),
    FindingRule("false_coverage", "candles and other bars", "error",
                "",
                "The ledger calls a window complete in which bars are missing."),
    FindingRule("terms_unknown", "chain, option trades", "error",
                "",
                "Rows of an option whose strike and expiry are unknown."),
    FindingRule("expired_mark", "chain", "error",
                "at or after expiry",
                "An option is marked when it has expired."),
    FindingRule("gap", "candles and other bars", "warning",
                "one bar",
                "Bars are missing between the first and the last."),
    FindingRule("shortfall", "every feed", "warning",
                "",
                "A pull could not have this window; the reason is the ledger's."),
    FindingRule("quarantined", "every feed", "warning",
                "",
                "Rows broke a row rule and were put aside."),
    FindingRule("out_of_order", "every import", "note",
                "",
                "A file's rows do not ascend in time; they are stored in order."),
    FindingRule("repeated_rows", "every import", "note",
                "",
                "A file holds rows twice, value for value; they are stored once."),
    FindingRule("jump", "candles", "warning",
                f"{b.JUMP_DEVIATIONS} robust deviations and {_percent(b.SMALLEST_JUMP)}",
                f"The close moved far beyond what it did in the {b.LOOK_BACK} bars before."),
    FindingRule("wick", "candles", "warning",
                f"{b.WICK_RANGES} median ranges and {_percent(b.SMALLEST_WICK)}",
                f"High and low are far apart against the {b.LOOK_BACK} bars before."),
    FindingRule("stale_price", "candles", "warning",
                f"{b.STALE_BARS} bars and {duration_text(b.STALE_MS)}",
                "Price stands still, bar after bar, while volume trades."),
    FindingRule("stale_mark", "mark and index candles", "warning",
                f"{b.STALE_BARS} bars and {duration_text(b.STALE_MS)}",
                "The mark or index stands still, bar after bar."),
    FindingRule("no_trades", "trade candles", "note",
                "one bar",
                "Bars without volume."),
    FindingRule("no_volume", "trade candles", "note",
                "one bar",
                "Bars whose volume was not recorded."),
    FindingRule("mark_off_trade", "mark and index candles", "warning",
                _percent(b.FARTHEST_MARK),
                "Mark or index closes away from the trades of the same bar."),
    FindingRule("mark_is_trade", "mark and index candles", "warning",
                f"{_percent(b.EQUAL_SHARE)} of the bars",
                "High and low equal those of trades to the tick: it is no mark."),
    FindingRule("spans_differ", "candles", "note",
                "one bar",
                "Series of one market begin or end at different times."),
    FindingRule("timeframes_disagree", "candles", "warning",
                f"{b.SAME_PRICE:g} of price, {b.SAME_VOLUME:g} of volume",
                "Fine bars joined do not give the stored coarse bar."),
    FindingRule("funding_gap", "funding", "warning",
                "one payment",
                "A payment is missing between payments."),
    FindingRule("funding_interval", "funding", "note",
                "",
                "The interval between payments changes."),
    FindingRule("funding_extreme", "funding", "warning",
                f"{_percent(b.LARGEST_RATE)} a payment",
                "A funding rate beyond what most venues' caps allow."),
    FindingRule("funding_unknown", "funding", "note",
                f"{_percent(b.UNKNOWN_SHARE)} of the candles' span",
                "Trade candles without funding beside them."),
    FindingRule("snapshot_gap", "chain", "warning",
                duration_text(b.LONGEST_STEP_MS),
                "Chain snapshots are far apart."),
    FindingRule("chain_repeated", "chain", "warning",
                f"{_percent(b.REPEATED_SHARE)} of the options",
                "A snapshot repeats the one before it: the collector was stuck."),
    FindingRule("index_lag", "chain", "note",
                _percent(b.INDEX_APART),
                "Options of one snapshot carry different index prices."),
    FindingRule("forward_off_index", "chain", "warning",
                f"{_percent(b.FORWARD_APART)}, and {_percent(b.FORWARD_APART_A_YEAR)} a year",
                "An expiry's forward is far from the index."),
    FindingRule("no_quote", "chain", "note",
                "",
                "Options without a bid, or without an ask."),
    FindingRule("crossed_quotes", "chain", "warning",
                "bid at or above ask",
                "Bid and ask cross or lock."),
    FindingRule("mark_outside_quotes", "chain", "warning",
                f"{b.OUTSIDE_COIN:g} coins",
                "The mark lies below the bid or above the ask."),
    FindingRule("iv_extreme", "chain", "warning",
                f"below {_percent(b.LOWEST_IV)} or above {_percent(b.HIGHEST_IV)}",
                "An implied volatility that few markets have."),
    FindingRule("flat_smile", "chain", "warning",
                f"{_percent(b.FLAT_SHARE)} of {b.FEWEST_ALIKE} options or more",
                "Most options of an expiry have one volatility: a default, not a market."),
    FindingRule("stale_iv", "chain", "note",
                f"{b.STALE_SNAPSHOTS} snapshots, index moved {_percent(b.STALE_MOVE)}",
                "An option's volatility stands still while the index moves."),
    FindingRule("open_interest_stale", "chain", "note",
                f"{b.STALE_INTEREST_MS // MS_PER_DAY} days with volume on each",
                "Open interest stands still while the option trades."),
    FindingRule("mark_off_model", "chain", "warning",
                f"{b.OFF_MODEL_COIN:g} coins",
                "Black-76 of mark volatility and forward does not give the mark."),
    FindingRule("parity", "chain", "warning",
                f"{b.PARITY_COIN:g} coins",
                "Call less put is not forward less strike."),
    FindingRule("butterfly", "chain", "warning",
                f"{b.BUTTERFLY_COIN:g} coins",
                "Marks of three neighbouring strikes are not convex."),
    FindingRule("calendar", "chain", "warning",
                f"{100 * b.CALENDAR_VOLATILITY:g} point of volatility",
                "Total variance falls from one expiry to the next."),
    FindingRule("trade_without_iv", "option trades", "note",
                "0 or 500 %",
                "A trade whose price had no volatility; the venue writes 0 or 500 %."),
    FindingRule("trade_after_expiry", "option trades", "error",
                "at or after expiry",
                "An option traded when it had expired."),
    FindingRule("trade_missing", "option trades", "warning",
                "one number",
                "Numbers are missing from an option's sequence of trades."),
)  # fmt: skip

FINDING_RULES = {rule.name: rule for rule in _DECLARED}


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
