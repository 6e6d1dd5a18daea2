"""What recorded files can hold: one line per feed, with the columns that a mapping may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_ingest.schema import (
    ACCOUNT_FILLS,
    ACCOUNT_FLOWS,
    CANDLES,
    CHAIN,
    EVENTS,
    FUNDING,
    LIQUIDATIONS,
    LONG_SHORT_RATIO,
    OPEN_INTEREST,
    OPTION_TRADES,
    SIGNALS,
    TRADES,
    VOLATILITY_INDEX,
)

if TYPE_CHECKING:
    from data_ingest.schema import FeedTable

OPTION_TERMS = ("asset", "strike", "option_type", "expiry")
"""What a row of a chain says about its instrument, or the instrument's name does."""

NATIVE = "native"
"""The column in which each row names its market, where a file holds several."""

PRICE = "price"
"""The column of which candles are made, where a file holds ticks and no bars."""


@dataclass(frozen=True)
class RecordedFeed:
    """One kind of recorded rows.

    Parameters
    ----------
    table : FeedTable
        Where the rows go.
    required, optional : tuple of str
        Columns that a mapping must or may name.
    bars : bool
        Each row is a bar of a fixed length.
    identifier : str or None
        The key column that a source may lack; it is then made from the row's own content.
    """

    table: FeedTable
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    bars: bool = False
    identifier: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that a mapping may name, but for the one that names the market."""
        return (*self.required, *self.optional)

    @property
    def market(self) -> str | None:
        """The table's column that a file's or a row's market goes to."""
        return next((name for name in ("symbol", "asset") if name in self.table.columns), None)


RECORDED_FEEDS = {
    "candles": RecordedFeed(
        CANDLES, ("open", "high", "low", "close"), ("volume_base", "volume_usd"), bars=True
    ),
    "funding": RecordedFeed(FUNDING, ("rate",), ("index_price", "interval")),
    "chain": RecordedFeed(
        CHAIN,
        ("native_id", *OPTION_TERMS, "mark_coin", "mark_iv", "forward_price", "index_price"),
        ("bid_coin", "ask_coin", "open_interest", "volume_24h"),
    ),
    "option_trades": RecordedFeed(
        OPTION_TRADES,
        ("trade_id", "native_id", "price_coin", "iv", "index_price", "amount", "side"),
        ("trade_seq", "liquidation"),
    ),
    "volatility_index": RecordedFeed(
        VOLATILITY_INDEX, ("close",), ("open", "high", "low"), bars=True
    ),
    "open_interest": RecordedFeed(OPEN_INTEREST, (), ("amount_base", "amount_usd")),
    "long_short_ratio": RecordedFeed(LONG_SHORT_RATIO, ("ratio",), ("long_share", "short_share")),
    "trades": RecordedFeed(
        TRADES,
        ("price", "amount_base", "side"),
        ("trade_id", "liquidation", "trade_seq"),
        identifier="trade_id",
    ),
    "account_fills": RecordedFeed(
        ACCOUNT_FILLS,
        ("account", "price", "amount_base", "side"),
        ("fill_id", "is_taker"),
        identifier="fill_id",
    ),
    "liquidations": RecordedFeed(
        LIQUIDATIONS,
        (),
        (
            "liquidation_id", "account", "liquidator", "side", "price", "amount_base",
            "notional_usd", "account_value_usd", "margin_mode", "debt_asset", "debt_amount",
            "collateral_asset", "collateral_amount", "collateral_usd",
        ),
        identifier="liquidation_id",
    ),
    "account_flows": RecordedFeed(
        ACCOUNT_FLOWS, ("account", "amount_usd"), ("flow_id",), identifier="flow_id"
    ),
    "signals": RecordedFeed(SIGNALS, ("name", "kind", "value")),
    "events": RecordedFeed(
        EVENTS,
        ("calendar", "kind", "title"),
        ("event_id", "assets", "detail", "cancelled"),
        identifier="event_id",
    ),
}  # fmt: skip
