"""Row rules: what every row of a feed must fulfil, and the sentence that says why it does not.

Each feed's rules become one pandera schema. A rule judges several columns, or one relation between
them, over the whole frame at once: pandera's cost is per check, not per row, and pages are small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

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
)

if TYPE_CHECKING:
    import pandas as pd
    from pandera.pandas import DataFrameSchema

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
    "contract_size": "per contract",
}


SIGNAL_KINDS = ("rate", "spread", "price", "volatility", "sentiment", "other")
"""What an outside signal can be; a rate or a spread is a fraction a year."""

OUTSIDE_KINDS = {SIGNALS.name: SIGNAL_KINDS, EVENTS.name: EVENT_KINDS}
"""Kinds of what is imported from outside the market, by feed."""

Good = Callable[..., np.ndarray]
"""From the arrays of some columns, absent values being NaN or None, to one boolean per row."""


@dataclass(frozen=True)
class RowRule:
    """What good rows fulfil.

    Parameters
    ----------
    columns : tuple of str
        The columns that are judged.
    good : callable
        Of one column where ``each``, otherwise of them all.
    reason : str
        Why a row is bad; ``{high}`` stands for the row's own value of a column. Where ``each``,
        ``{}`` stands for the name of the bad column and ``{value}`` for its value and unit.
    each : bool
        Each column is judged by itself.
    """

    columns: tuple[str, ...]
    good: Good
    reason: str
    each: bool = False

    def rows_good(self, frame: pd.DataFrame) -> pd.Series:
        """Judge each row of a frame."""
        import pandas as pd

        return pd.Series(np.logical_and.reduce(self._verdicts(frame)), index=frame.index)

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        """Return why each row of a frame is bad, by its first bad column; values unfilled."""
        firsts = np.argmin(self._verdicts(frame), axis=0)
        told = [self._reason(column) for column in self.columns] if self.each else [self.reason]
        return [told[place] for place in firsts]

    def _verdicts(self, frame: pd.DataFrame) -> list[np.ndarray]:
        arrays = [_array(frame[name]) for name in self.columns]
        return [self.good(array) for array in arrays] if self.each else [self.good(*arrays)]

    def _reason(self, column: str) -> str:
        told = f"{{{column}}} {_UNITS.get(column, '')}".rstrip()
        return self.reason.replace("{}", column).replace("{value}", told)


def _array(column: pd.Series) -> np.ndarray:
    """Return a column as an array; times and truths that may be absent become floats."""
    if hasattr(column.dtype, "na_value") and column.dtype.kind in "iub":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.to_numpy()


def absent(values: np.ndarray) -> np.ndarray:
    """Tell where a number is NaN or a text None."""
    import pandas as pd

    return np.asarray(pd.isna(values))


def _present(*columns: str) -> RowRule:
    return RowRule(columns, lambda time: ~np.isnan(time), "{} is missing or not a time", each=True)


def _required(*columns: str) -> RowRule:
    return RowRule(columns, np.isfinite, "{} is missing or not a number", each=True)


# A comparison with an absent value is false, and what may be absent is no fault.
def _positive(*columns: str) -> RowRule:
    return RowRule(columns, lambda x: ~(x <= 0), "{} is {value}; it must be above 0", each=True)


def _not_negative(*columns: str) -> RowRule:
    return RowRule(columns, lambda x: ~(x < 0), "{} is {value}; it must not be negative", each=True)


def never(columns: str, bad: Good, reason: str) -> RowRule:
    """Rule out a relation between columns, named with a space between; ``bad`` is true for it."""
    return RowRule(tuple(columns.split()), lambda *arrays: ~bad(*arrays), reason)


def _told(column: str, reason: str = "") -> RowRule:
    return never(
        column, lambda texts: absent(texts) | (texts == ""), reason or f"the {column} is missing"
    )


def _one_of(column: str, *allowed: str, required: bool = False) -> RowRule:
    listed = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
    return RowRule(
        (column,),
        lambda texts: np.isin(texts, allowed) | (absent(texts) & (not required)),
        f"{column} is '{{{column}}}'; it must be {listed}",
    )


ROW_RULES: dict[str, tuple[RowRule, ...]] = {
    CANDLES.name: (
        _present("open_ms"),
        _required("open", "high", "low", "close"),
        _positive("open", "high", "low", "close"),
        never("high low", np.less, "high is {high} USD, below low, {low} USD"),
        never(
            "high open close",
            lambda high, open_, close: high < np.maximum(open_, close),
            "high is {high} USD, below open or close, {open} and {close} USD",
        ),
        never(
            "low open close",
            lambda low, open_, close: low > np.minimum(open_, close),
            "low is {low} USD, above open or close, {open} and {close} USD",
        ),
        _not_negative("volume_base", "volume_usd"),
        never(
            "open_ms timeframe_ms",
            lambda time, step: time % step > 0,
            "the bar opens at {open_ms} ms, off its timeframe's grid",
        ),
    ),
    FUNDING.name: (
        _present("ts_ms"),
        _required("rate"),
        # No venue has charged a quarter of notional in one interval: such a number is a percent.
        never(
            "rate",
            lambda rate: np.abs(rate) > 0.25,
            "rate is {rate}, beyond 0.25 per interval; is it in percent?",
        ),
        _positive("index_price"),
    ),
    CHAIN.name: (
        _present("ts_ms"),
        _required("mark_coin", "mark_iv", "forward_price", "index_price"),
        _positive("mark_iv", "forward_price", "index_price"),
        never(
            "mark_iv",
            lambda volatility: volatility > 10,
            "mark_iv is {mark_iv}, above 10 a year; is it in percent?",
        ),
        _not_negative("mark_coin", "bid_coin", "ask_coin", "open_interest", "volume_24h"),
        never(
            "bid_coin ask_coin",
            np.greater,
            "bid is {bid_coin} coins, above ask, {ask_coin} coins",
        ),
    ),
    OPTION_TRADES.name: (
        _present("ts_ms"),
        _required("price_coin", "amount", "index_price"),
        _positive("price_coin", "amount", "index_price"),
        _not_negative("iv"),
        _one_of("side", "buy", "sell"),
    ),
    INSTRUMENTS.name: (
        # Of what only its delivery tells, the terms are unknown.
        never(
            "contract_size expiry_ms tick_size listed_ms",
            lambda size, expiry, tick, listed: (
                absent(size) & (absent(expiry) | ~absent(tick) | ~absent(listed))
            ),
            "contract_size is missing",
        ),
        _positive("contract_size", "strike", "tick_size", "multiplier"),
        never(
            "kind strike is_call expiry_ms",
            lambda kind, *terms: (kind == "option") & np.any([absent(x) for x in terms], axis=0),
            "the option lacks its strike, type or expiry",
        ),
        never(
            "expiry_ms listed_ms",
            np.less_equal,
            "the instrument expires before it is listed",
        ),
    ),
    DEPTH.name: (
        _present("ts_ms"),
        _required("mid_price", "bid_depth_usd", "ask_depth_usd"),
        _positive("mid_price"),
        _not_negative("bid_depth_usd", "ask_depth_usd"),
    ),
    OPEN_INTEREST.name: (
        _present("ts_ms"),
        _not_negative("amount_base", "amount_usd"),
        never(
            "amount_base amount_usd",
            lambda base, usd: absent(base) & absent(usd),
            "the open interest is missing",
        ),
    ),
    LONG_SHORT_RATIO.name: (
        _present("ts_ms"),
        _required("ratio"),
        _not_negative("ratio"),
        never(
            "long_share short_share",
            lambda long, short: np.abs(long + short - 1) > 0.01,
            "long and short shares, {long_share} and {short_share}, do not add up to 1",
        ),
    ),
    VOLATILITY_INDEX.name: (
        _present("open_ms"),
        _required("close"),
        # Some recordings keep the close of a day alone; then the other three are absent together.
        never(
            "open high low",
            lambda *prices: np.isin(np.sum([absent(price) for price in prices], axis=0), (1, 2)),
            "open, high and low are there in part only",
        ),
        never(
            "open low close",
            lambda *prices: np.any([price <= 0 for price in prices], axis=0),
            "the index is not above 0",
        ),
        never(
            "close",
            lambda close: close > 10,
            "close is {close}, above 10 a year; is it in percent?",
        ),
        never("high", lambda high: high > 10, "high is {high}, above 10 a year; is it in percent?"),
        never("high low", np.less, "high is {high}, below low, {low}"),
    ),
    DELIVERY_PRICES.name: (
        _present("ts_ms"),
        _required("price_usd"),
        _positive("price_usd"),
    ),
    SETTLEMENTS.name: (
        _present("ts_ms"),
        _one_of("kind", "settlement", "delivery", "bankruptcy"),
        _positive("index_price"),
    ),
    BRACKETS.name: (
        _present("ts_ms"),
        _required("maintenance_rate"),
        _positive("initial_rate", "maintenance_rate"),
        never(
            "initial_rate maintenance_rate",
            lambda *rates: np.any([rate > 1 for rate in rates], axis=0),
            "the rates are {initial_rate} and {maintenance_rate}, above 1; are they in percent?",
        ),
        never(
            "upper lower",
            np.less_equal,
            "the tier ends at {upper}, not above its start, {lower}",
        ),
    ),
    TRADES.name: (
        _present("ts_ms"),
        _required("price", "amount_base"),
        _positive("price", "amount_base"),
        _one_of("side", "buy", "sell", required=True),
    ),
    ACCOUNT_FILLS.name: (
        _present("ts_ms"),
        _told("account"),
        _required("price", "amount_base"),
        _positive("price", "amount_base"),
        _one_of("side", "buy", "sell", required=True),
    ),
    LIQUIDATIONS.name: (
        _present("ts_ms"),
        never(
            "amount_base notional_usd",
            lambda amount, notional: absent(amount) & absent(notional),
            "neither the amount nor its worth in US dollars is there",
        ),
        _positive("price", "amount_base", "notional_usd", "debt_amount", "collateral_amount"),
        _not_negative("collateral_usd"),
        _one_of("side", "buy", "sell"),
    ),
    ACCOUNT_FLOWS.name: (
        _present("ts_ms"),
        _told("account"),
        _required("amount_usd"),
    ),
    SIGNALS.name: (
        _present("ts_ms", "known_ts_ms"),
        _told("name", "the signal has no name"),
        _required("value"),
        _one_of("kind", *SIGNAL_KINDS, required=True),
        never(
            "kind value",
            lambda kind, value: np.isin(kind, ("rate", "spread")) & (np.abs(value) > 1),
            "the {kind} is {value}, beyond 1 a year; is it in percent?",
        ),
    ),
    EVENTS.name: (
        _present("known_ts_ms"),
        _told("calendar", "the event names no calendar"),
        _told("event_id", "the event has no title to tell it by"),
        never(
            "ts_ms cancelled",
            lambda time, cancelled: absent(time) & ~(cancelled == 1),
            "ts_ms is missing or not a time",
        ),
        _one_of("kind", *EVENT_KINDS, required=True),
    ),
}

NO_FORECAST_RULES = (
    never(
        "known_ts_ms ts_ms",
        np.less,
        "it was known at {known_ts_ms} ms, before {ts_ms} ms, which it is about; say forecast: "
        "true if it is a forecast",
    ),
)
"""For signals that the mapping does not call forecasts."""

CHAIN_INSTRUMENT_RULES = (
    _present("expiry_ms"),
    _required("strike"),
    _positive("strike"),
    never(
        "expiry_ms ts_ms",
        np.less_equal,
        "the option's expiry precedes its mark",
    ),
    never("is_call", absent, "the option is neither a call nor a put"),
)
"""For recorded chains, whose rows carry the terms of their instrument."""


@cache
def schema_of(rules: tuple[RowRule, ...]) -> DataFrameSchema:
    """Build the pandera schema of some rules; each check is named by its rule's place."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        checks=[
            # Which rows are bad is in the check's output; pandera's list of them, with every
            # value of theirs, would cost seconds where a whole file is bad.
            pa.Check(rule.rows_good, name=str(place), n_failure_cases=1)
            for place, rule in enumerate(rules)
        ]
    )
