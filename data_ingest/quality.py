"""Quality rules: which rows are refused, and the sentence that says why.

A rule is a SQL predicate that is true for a bad row, and its reason. Rules run inside DuckDB
over a staged relation that has the feed's columns plus ``row_number``, so a million rows are
judged in a fraction of a second. Nothing is repaired: a bad row stops the import, or goes to
the quarantine table with its number, its reason and its raw text.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from backtest.events import EVENT_KINDS
from data_ingest.schema import (
    ACCOUNT_FILLS,
    ACCOUNT_FLOWS,
    BRACKETS,
    CANDLES,
    CHAIN,
    DELIVERY_PRICES,
    DEPTH,
    EVENTS,
    FUNDING,
    INSTRUMENTS,
    LIQUIDATIONS,
    LONG_SHORT_RATIO,
    OPEN_INTEREST,
    OPTION_TRADES,
    SETTLEMENTS,
    SIGNALS,
    TRADES,
    VOLATILITY_INDEX,
    FeedTable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb


_UNITS = {
    **dict.fromkeys(("open", "high", "low", "close", "volume_usd"), "USD"),
    **dict.fromkeys(("index_price", "forward_price", "strike", "mid_price"), "USD"),
    **dict.fromkeys(("bid_depth_usd", "ask_depth_usd"), "USD"),
    **dict.fromkeys(("volume_base", "open_interest", "volume_24h", "amount"), "coins"),
    **dict.fromkeys(("mark_coin", "bid_coin", "ask_coin", "price_coin"), "coins"),
    **dict.fromkeys(("mark_iv", "iv"), "a year"),
    **dict.fromkeys(("price_usd", "amount_usd", "tick_size", "price"), "USD"),
    **dict.fromkeys(("notional_usd", "account_value_usd", "collateral_usd"), "USD"),
    "amount_base": "coins",
    **dict.fromkeys(("debt_amount", "collateral_amount"), "tokens"),
    **dict.fromkeys(("lower", "upper"), ""),
    **dict.fromkeys(("initial_rate", "maintenance_rate", "ratio", "multiplier"), ""),
    "contract_size": "per contract",
}


@dataclass(frozen=True)
class Rule:
    """A predicate that is true for a bad row, and the reason given to the user.

    ``{column}`` in the reason stands for the row's own value.
    """

    bad: str
    reason: str


@dataclass(frozen=True)
class BadRow:
    """One refused row: its 1-based number in the source, and why."""

    row_number: int
    reason: str


def _required(*columns: str) -> list[Rule]:
    return [
        Rule(
            f"{column} IS NULL OR NOT isfinite({column})",
            f"{column} is missing or not a number",
        )
        for column in columns
    ]


def _positive(*columns: str) -> list[Rule]:
    return [
        Rule(f"{column} <= 0", f"{column} is {_told(column)}; it must be above 0")
        for column in columns
    ]


def _not_negative(*columns: str) -> list[Rule]:
    return [
        Rule(f"{column} < 0", f"{column} is {_told(column)}; it must not be negative")
        for column in columns
    ]


def _told(column: str) -> str:
    """Write the place of a column's value, with its unit."""
    return f"{{{column}}} {_UNITS[column]}".rstrip()


def _present(*columns: str) -> list[Rule]:
    return [Rule(f"{column} IS NULL", f"{column} is missing or not a time") for column in columns]


_SIDE = Rule(
    "side IS NULL OR side NOT IN ('buy', 'sell')", "side is '{side}'; it must be buy or sell"
)

SIGNAL_KINDS = ("rate", "spread", "price", "volatility", "sentiment", "other")
"""What an outside signal can be; a rate or a spread is a fraction a year."""


OUTSIDE_KINDS = {SIGNALS.name: SIGNAL_KINDS, EVENTS.name: EVENT_KINDS}
"""Kinds of what is imported from outside the market, by feed."""


def _one_of(column: str, choices: Sequence[str]) -> Rule:
    listed = ", ".join(f"'{choice}'" for choice in choices)
    return Rule(
        f"{column} IS NULL OR {column} NOT IN ({listed})",
        f"{column} is '{{{column}}}'; it must be one of {', '.join(choices)}",
    )


RULES: dict[str, list[Rule]] = {
    CANDLES.name: [
        *_present("open_ms"),
        *_required("open", "high", "low", "close"),
        *_positive("open", "high", "low", "close"),
        Rule("high < low", "high is {high} USD, below low, {low} USD"),
        Rule(
            "high < greatest(open, close)",
            "high is {high} USD, below open or close, {open} and {close} USD",
        ),
        Rule(
            "low > least(open, close)",
            "low is {low} USD, above open or close, {open} and {close} USD",
        ),
        *_not_negative("volume_base", "volume_usd"),
        Rule(
            "open_ms % timeframe_ms <> 0", "the bar opens at {open_ms} ms, off its timeframe's grid"
        ),
    ],
    FUNDING.name: [
        *_present("ts_ms"),
        *_required("rate"),
        # No venue has charged a quarter of notional in one interval: such a number is a percent.
        Rule("abs(rate) > 0.25", "rate is {rate}, beyond 0.25 per interval; is it in percent?"),
        *_positive("index_price"),
    ],
    CHAIN.name: [
        *_present("ts_ms"),
        *_required("mark_coin", "mark_iv", "forward_price", "index_price"),
        *_positive("mark_iv", "forward_price", "index_price"),
        Rule("mark_iv > 10", "mark_iv is {mark_iv}, above 10 a year; is it in percent?"),
        *_not_negative("mark_coin", "bid_coin", "ask_coin", "open_interest", "volume_24h"),
        Rule("bid_coin > ask_coin", "bid is {bid_coin} coins, above ask, {ask_coin} coins"),
    ],
    OPTION_TRADES.name: [
        *_present("ts_ms"),
        *_required("price_coin", "amount", "index_price"),
        *_positive("price_coin", "amount", "index_price"),
        *_not_negative("iv"),
        Rule("side NOT IN ('buy', 'sell')", "side is '{side}'; it must be buy or sell"),
    ],
    INSTRUMENTS.name: [
        *_required("contract_size"),
        *_positive("contract_size", "strike", "tick_size", "multiplier"),
        Rule(
            "kind = 'option' AND (strike IS NULL OR is_call IS NULL OR expiry_ms IS NULL)",
            "the option lacks its strike, type or expiry",
        ),
        Rule("expiry_ms <= listed_ms", "the instrument expires before it is listed"),
    ],
    DEPTH.name: [
        *_present("ts_ms"),
        *_required("mid_price", "bid_depth_usd", "ask_depth_usd"),
        *_positive("mid_price"),
        *_not_negative("bid_depth_usd", "ask_depth_usd"),
    ],
    OPEN_INTEREST.name: [
        *_present("ts_ms"),
        *_not_negative("amount_base", "amount_usd"),
        Rule("amount_base IS NULL AND amount_usd IS NULL", "the open interest is missing"),
    ],
    LONG_SHORT_RATIO.name: [
        *_present("ts_ms"),
        *_required("ratio"),
        *_not_negative("ratio"),
        Rule(
            "abs(long_share + short_share - 1) > 0.01",
            "long and short shares, {long_share} and {short_share}, do not add up to 1",
        ),
    ],
    VOLATILITY_INDEX.name: [
        *_present("open_ms"),
        *_required("close"),
        # Some recordings keep the close of a day alone; then the other three are NULL together.
        Rule(
            "(open IS NULL) <> (high IS NULL) OR (high IS NULL) <> (low IS NULL)",
            "open, high and low are there in part only",
        ),
        Rule("least(open, low, close) <= 0", "the index is not above 0"),
        Rule("close > 10", "close is {close}, above 10 a year; is it in percent?"),
        Rule("high > 10", "high is {high}, above 10 a year; is it in percent?"),
        Rule("high < low", "high is {high}, below low, {low}"),
    ],
    DELIVERY_PRICES.name: [
        *_present("ts_ms"),
        *_required("price_usd"),
        *_positive("price_usd"),
    ],
    SETTLEMENTS.name: [
        *_present("ts_ms"),
        Rule(
            "kind NOT IN ('settlement', 'delivery', 'bankruptcy')",
            "kind is '{kind}'; it must be settlement, delivery or bankruptcy",
        ),
        *_positive("index_price"),
    ],
    BRACKETS.name: [
        *_present("ts_ms"),
        *_required("maintenance_rate"),
        *_positive("initial_rate", "maintenance_rate"),
        Rule(
            "maintenance_rate > 1 OR initial_rate > 1",
            "the rates are {initial_rate} and {maintenance_rate}, above 1; are they in percent?",
        ),
        Rule("upper <= lower", "the tier ends at {upper}, not above its start, {lower}"),
    ],
    TRADES.name: [
        *_present("ts_ms"),
        *_required("price", "amount_base"),
        *_positive("price", "amount_base"),
        _SIDE,
    ],
    ACCOUNT_FILLS.name: [
        *_present("ts_ms"),
        Rule("account IS NULL", "the account is missing"),
        *_required("price", "amount_base"),
        *_positive("price", "amount_base"),
        _SIDE,
    ],
    LIQUIDATIONS.name: [
        *_present("ts_ms"),
        Rule(
            "amount_base IS NULL AND notional_usd IS NULL",
            "neither the amount nor its worth in US dollars is there",
        ),
        *_positive("price", "amount_base", "notional_usd", "debt_amount", "collateral_amount"),
        *_not_negative("collateral_usd"),
        Rule("side NOT IN ('buy', 'sell')", "side is '{side}'; it must be buy or sell"),
    ],
    ACCOUNT_FLOWS.name: [
        *_present("ts_ms"),
        Rule("account IS NULL", "the account is missing"),
        *_required("amount_usd"),
    ],
    SIGNALS.name: [
        *_present("ts_ms", "known_ts_ms"),
        Rule("name IS NULL OR name = ''", "the signal has no name"),
        *_required("value"),
        _one_of("kind", SIGNAL_KINDS),
        Rule(
            "kind IN ('rate', 'spread') AND abs(value) > 1",
            "the {kind} is {value}, beyond 1 a year; is it in percent?",
        ),
    ],
    EVENTS.name: [
        *_present("known_ts_ms"),
        Rule("calendar IS NULL OR calendar = ''", "the event names no calendar"),
        Rule("event_id IS NULL OR event_id = ''", "the event has no title to tell it by"),
        Rule("ts_ms IS NULL AND NOT coalesce(cancelled, false)", "ts_ms is missing or not a time"),
        _one_of("kind", EVENT_KINDS),
    ],
}


NO_FORECAST_RULES = [
    Rule(
        "known_ts_ms < ts_ms",
        "it was known at {known_ts_ms} ms, before {ts_ms} ms, which it is about; say forecast: "
        "true if it is a forecast",
    ),
]
"""For signals that the mapping does not call forecasts."""

CHAIN_INSTRUMENT_RULES = [
    *_present("expiry_ms"),
    *_required("strike"),
    *_positive("strike"),
    Rule("expiry_ms <= ts_ms", "the option's expiry precedes its mark"),
    Rule("is_call IS NULL", "the option is neither a call nor a put"),
]
"""For recorded chains, whose rows carry the terms of their instrument."""


def bad_rows(
    cursor: duckdb.DuckDBPyConnection,
    table: FeedTable,
    relation: str,
    extra_rules: Sequence[Rule] = (),
) -> list[BadRow]:
    """Judge a staged relation; each bad row appears once, with its first reason.

    Parameters
    ----------
    cursor : duckdb.DuckDBPyConnection
        The connection that holds the relation.
    table : FeedTable
        Whose rules apply.
    relation : str
        Name of a table with the feed's columns and ``row_number``.
    extra_rules : sequence of Rule
        Rules over further columns of the relation.
    """
    rules = [*RULES[table.name], *extra_rules]
    cases = " ".join(f"WHEN {rule.bad} THEN {_reason_sql(rule)}" for rule in rules)
    judged = cursor.execute(
        f"SELECT row_number, reason FROM (SELECT row_number, CASE {cases} END AS reason "
        f"FROM {relation}) WHERE reason IS NOT NULL ORDER BY row_number"
    ).fetchall()
    found = [BadRow(int(number), str(reason)) for number, reason in judged]
    return sorted(
        [*found, *_contradictions(cursor, table, relation, {row.row_number for row in found})],
        key=lambda row: row.row_number,
    )


def put_aside(
    cursor: duckdb.DuckDBPyConnection,
    table: FeedTable,
    source: str,
    refused: Sequence[BadRow],
    raw: str,
    staged: str,
) -> None:
    """Move refused rows from a staged relation to the quarantine table, with their raw text."""
    cursor.execute("CREATE OR REPLACE TEMP TABLE refused (row_number BIGINT, reason VARCHAR)")
    cursor.execute(
        "INSERT INTO refused SELECT unnest(?::BIGINT[]), unnest(?::VARCHAR[])",
        [[row.row_number for row in refused], [row.reason for row in refused]],
    )
    cursor.execute(
        f"INSERT INTO quarantine SELECT ?, ?, row_number, reason, to_json({raw})::VARCHAR, ? "
        f"FROM refused JOIN {raw} USING (row_number) ON CONFLICT DO NOTHING",
        [table.name, source, time.time_ns() // 1_000_000],
    )
    cursor.execute(f"DELETE FROM {staged} WHERE row_number IN (SELECT row_number FROM refused)")


def _contradictions(
    cursor: duckdb.DuckDBPyConnection, table: FeedTable, relation: str, known: set[int]
) -> list[BadRow]:
    """Find rows that share a natural key and differ in value; identical repeats are harmless."""
    key = ", ".join(table.key)
    values = ", ".join(table.values)
    repeated = cursor.execute(
        f"SELECT unnest(numbers), first_row FROM (SELECT list(row_number) AS numbers, "
        f"min(row_number) AS first_row, count(DISTINCT ({values})) AS versions "
        f"FROM {relation} GROUP BY {key} HAVING count(*) > 1) WHERE versions > 1"
    ).fetchall()
    return [
        BadRow(int(number), f"repeats the key of row {first} with other values")
        if number != first
        else BadRow(int(number), "another row repeats this key with other values")
        for number, first in repeated
        if number not in known
    ]


def _reason_sql(rule: Rule) -> str:
    """Write the SQL that fills a row's own values into its reason."""
    parts = re.split(r"\{(\w+)\}", rule.reason)
    texts = ["'" + text.replace("'", "''") + "'" for text in parts[::2]]
    columns = [f", {column}, " for column in parts[1::2]]
    return f"concat({''.join(chain.from_iterable(zip_longest(texts, columns, fillvalue='')))})"
