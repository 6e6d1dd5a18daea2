"""The store's tables: one descriptor per feed, from which the SQL is written.

Times are ``int64`` milliseconds UTC; prices are in the quote currency of the symbol unless the
column's name says otherwise; rates and volatilities are fractions (0.01 is one percent).
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 3

LEDGER_TABLES = """
CREATE SEQUENCE IF NOT EXISTS batch_ids;
CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL, applied_at_ms BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
    batch_id BIGINT PRIMARY KEY DEFAULT nextval('batch_ids'),
    exchange VARCHAR NOT NULL, feed VARCHAR NOT NULL, market VARCHAR NOT NULL,
    timeframe_ms BIGINT NOT NULL,
    source VARCHAR NOT NULL, source_sha256 VARCHAR,
    retrieved_at_ms BIGINT NOT NULL, client VARCHAR, is_synthetic BOOLEAN NOT NULL,
    rows_read BIGINT NOT NULL, rows_added BIGINT NOT NULL, rows_replaced BIGINT NOT NULL,
    rows_quarantined BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS coverage (
    exchange VARCHAR, market VARCHAR, feed VARCHAR, timeframe_ms BIGINT,
    start_ms BIGINT, end_ms BIGINT NOT NULL CHECK (end_ms > start_ms),
    PRIMARY KEY (exchange, market, feed, timeframe_ms, start_ms));
CREATE TABLE IF NOT EXISTS shortfalls (
    exchange VARCHAR, market VARCHAR, feed VARCHAR, timeframe_ms BIGINT,
    start_ms BIGINT, end_ms BIGINT NOT NULL CHECK (end_ms > start_ms),
    reason VARCHAR NOT NULL, detail VARCHAR NOT NULL, noticed_at_ms BIGINT NOT NULL,
    PRIMARY KEY (exchange, market, feed, timeframe_ms, start_ms));
CREATE TABLE IF NOT EXISTS quarantine (
    feed VARCHAR NOT NULL, source VARCHAR NOT NULL, row_number BIGINT NOT NULL,
    reason VARCHAR NOT NULL, raw_json VARCHAR NOT NULL, quarantined_at_ms BIGINT NOT NULL,
    PRIMARY KEY (source, row_number, reason, raw_json));
CREATE TABLE IF NOT EXISTS findings (
    rule VARCHAR NOT NULL, severity VARCHAR NOT NULL, feed VARCHAR NOT NULL,
    exchange VARCHAR NOT NULL, market VARCHAR NOT NULL, start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL, row_count BIGINT NOT NULL, detail VARCHAR NOT NULL,
    source VARCHAR NOT NULL, data_state VARCHAR NOT NULL, found_at_ms BIGINT NOT NULL);
"""


@dataclass(frozen=True)
class FeedTable:
    """One table of observations: its columns, and the natural key that names a row for ever.

    Parameters
    ----------
    name : str
        Table name in the store.
    key : dict of str to str
        Natural key columns and their DuckDB types.
    values : dict of str to str
        The observed columns and their DuckDB types.
    """

    name: str
    key: dict[str, str]
    values: dict[str, str]

    @property
    def columns(self) -> dict[str, str]:
        """Key and value columns, in the order of the table."""
        return {**self.key, **self.values}

    @property
    def time(self) -> str:
        """The column that says when a row happened, when its bar opened, or it was announced."""
        if "open_ms" in self.key:
            return "open_ms"
        # An event may have no time of its own any more; its announcement always has.
        return "known_ts_ms" if "known_ts_ms" in self.key and "ts_ms" not in self.key else "ts_ms"

    @property
    def create_sql(self) -> str:
        """The ``CREATE TABLE`` statement; each row also names the batch that brought it."""
        columns = [f"{name} {kind}" for name, kind in self.columns.items()]
        columns += ["batch_id BIGINT NOT NULL", f"PRIMARY KEY ({', '.join(self.key)})"]
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(columns)})"


_MARKET = {"exchange": "VARCHAR", "symbol": "VARCHAR"}
_OPTION = {"exchange": "VARCHAR", "native_id": "VARCHAR"}

CANDLES = FeedTable(
    "candles",
    {**_MARKET, "kind": "VARCHAR", "timeframe_ms": "BIGINT", "open_ms": "BIGINT"},
    {
        "open": "DOUBLE",
        "high": "DOUBLE",
        "low": "DOUBLE",
        "close": "DOUBLE",
        "volume_base": "DOUBLE",
        "volume_usd": "DOUBLE",
    },
)
FUNDING = FeedTable(
    "funding",
    {**_MARKET, "ts_ms": "BIGINT"},
    {"rate": "DOUBLE", "interval_ms": "BIGINT", "index_price": "DOUBLE"},
)
INSTRUMENTS = FeedTable(
    "instruments",
    _OPTION,
    {
        "symbol": "VARCHAR",
        "asset": "VARCHAR",
        "kind": "VARCHAR",
        "settlement": "VARCHAR",
        "contract_size": "DOUBLE",
        "strike": "DOUBLE",
        "is_call": "BOOLEAN",
        "expiry_ms": "BIGINT",
        "listed_ms": "BIGINT",
        "tick_size": "DOUBLE",
        "multiplier": "DOUBLE",
        "settle_asset": "VARCHAR",
    },
)
OPTION_TRADES = FeedTable(
    "option_trades",
    {"exchange": "VARCHAR", "trade_id": "VARCHAR"},
    {
        "native_id": "VARCHAR",
        "ts_ms": "BIGINT",
        "price_coin": "DOUBLE",
        "iv": "DOUBLE",
        "index_price": "DOUBLE",
        "amount": "DOUBLE",
        "side": "VARCHAR",
        "trade_seq": "BIGINT",
        "liquidation": "VARCHAR",
    },
)
CHAIN = FeedTable(
    "chain",
    {**_OPTION, "ts_ms": "BIGINT"},
    {
        "known_ts_ms": "BIGINT",
        "mark_coin": "DOUBLE",
        "mark_iv": "DOUBLE",
        "bid_coin": "DOUBLE",
        "ask_coin": "DOUBLE",
        "forward_price": "DOUBLE",
        "index_price": "DOUBLE",
        "open_interest": "DOUBLE",
        "volume_24h": "DOUBLE",
    },
)
DEPTH = FeedTable(
    "depth",
    {**_MARKET, "ts_ms": "BIGINT"},
    {"mid_price": "DOUBLE", "bid_depth_usd": "DOUBLE", "ask_depth_usd": "DOUBLE"},
)

OPEN_INTEREST = FeedTable(
    "open_interest",
    {**_MARKET, "timeframe_ms": "BIGINT", "ts_ms": "BIGINT"},
    {"amount_base": "DOUBLE", "amount_usd": "DOUBLE"},
)
LONG_SHORT_RATIO = FeedTable(
    "long_short_ratio",
    {**_MARKET, "timeframe_ms": "BIGINT", "ts_ms": "BIGINT"},
    {"ratio": "DOUBLE", "long_share": "DOUBLE", "short_share": "DOUBLE"},
)
VOLATILITY_INDEX = FeedTable(
    "volatility_index",
    {"exchange": "VARCHAR", "asset": "VARCHAR", "timeframe_ms": "BIGINT", "open_ms": "BIGINT"},
    {"open": "DOUBLE", "high": "DOUBLE", "low": "DOUBLE", "close": "DOUBLE"},
)
DELIVERY_PRICES = FeedTable(
    "delivery_prices",
    {"exchange": "VARCHAR", "native_id": "VARCHAR", "ts_ms": "BIGINT"},
    {"asset": "VARCHAR", "price_usd": "DOUBLE"},
)
SETTLEMENTS = FeedTable(
    "settlements",
    {**_OPTION, "kind": "VARCHAR", "ts_ms": "BIGINT"},
    {
        "asset": "VARCHAR",
        "mark_price": "DOUBLE",
        "index_price": "DOUBLE",
        "position": "DOUBLE",
        "profit_loss_coin": "DOUBLE",
        "funding_coin": "DOUBLE",
        "socialized_coin": "DOUBLE",
    },
)
BRACKETS = FeedTable(
    "brackets",
    {**_OPTION, "ts_ms": "BIGINT", "tier": "BIGINT"},
    {
        "unit": "VARCHAR",
        "lower": "DOUBLE",
        "upper": "DOUBLE",
        "initial_rate": "DOUBLE",
        "maintenance_rate": "DOUBLE",
        "max_leverage": "DOUBLE",
        "deduction": "DOUBLE",
    },
)

TRADES = FeedTable(
    "trades",
    {**_MARKET, "trade_id": "VARCHAR"},
    {
        "ts_ms": "BIGINT",
        "price": "DOUBLE",
        "amount_base": "DOUBLE",
        "side": "VARCHAR",
        "liquidation": "VARCHAR",
        "trade_seq": "BIGINT",
    },
)
ACCOUNT_FILLS = FeedTable(
    "account_fills",
    {**_MARKET, "fill_id": "VARCHAR"},
    {
        "ts_ms": "BIGINT",
        "account": "VARCHAR",
        "price": "DOUBLE",
        "amount_base": "DOUBLE",
        "side": "VARCHAR",
        "is_taker": "BOOLEAN",
    },
)
LIQUIDATIONS = FeedTable(
    "liquidations",
    {"exchange": "VARCHAR", "liquidation_id": "VARCHAR"},
    {
        "ts_ms": "BIGINT",
        "symbol": "VARCHAR",
        "account": "VARCHAR",
        "liquidator": "VARCHAR",
        "side": "VARCHAR",
        "price": "DOUBLE",
        "amount_base": "DOUBLE",
        "notional_usd": "DOUBLE",
        "account_value_usd": "DOUBLE",
        "margin_mode": "VARCHAR",
        "debt_asset": "VARCHAR",
        "debt_amount": "DOUBLE",
        "collateral_asset": "VARCHAR",
        "collateral_amount": "DOUBLE",
        "collateral_usd": "DOUBLE",
    },
)
ACCOUNT_FLOWS = FeedTable(
    "account_flows",
    {"exchange": "VARCHAR", "flow_id": "VARCHAR"},
    {"ts_ms": "BIGINT", "account": "VARCHAR", "amount_usd": "DOUBLE"},
)

# What is not traded: dated by what it is about and by when it was known. A revision, or an event
# that is put off, is a row of its own beside the earlier one.
SIGNALS = FeedTable(
    "signals",
    {"name": "VARCHAR", "ts_ms": "BIGINT", "known_ts_ms": "BIGINT"},
    {"value": "DOUBLE", "unit": "VARCHAR", "kind": "VARCHAR"},
)
EVENTS = FeedTable(
    "events",
    {"calendar": "VARCHAR", "event_id": "VARCHAR", "known_ts_ms": "BIGINT"},
    {
        "ts_ms": "BIGINT",
        "kind": "VARCHAR",
        "title": "VARCHAR",
        "assets": "VARCHAR",
        "detail": "VARCHAR",
        "cancelled": "BOOLEAN",
    },
)

FEED_TABLES = (
    CANDLES,
    FUNDING,
    INSTRUMENTS,
    OPTION_TRADES,
    CHAIN,
    DEPTH,
    OPEN_INTEREST,
    LONG_SHORT_RATIO,
    VOLATILITY_INDEX,
    DELIVERY_PRICES,
    SETTLEMENTS,
    BRACKETS,
    TRADES,
    ACCOUNT_FILLS,
    LIQUIDATIONS,
    ACCOUNT_FLOWS,
    SIGNALS,
    EVENTS,
)

# What brings a store of version v to v + 1, as statements run in one transaction with the new
# version row. Tables that a version adds are made anyway; only altered ones stand here.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE instruments ADD COLUMN IF NOT EXISTS tick_size DOUBLE",
        "ALTER TABLE instruments ADD COLUMN IF NOT EXISTS multiplier DOUBLE",
        "ALTER TABLE instruments ADD COLUMN IF NOT EXISTS settle_asset VARCHAR",
        "ALTER TABLE option_trades ADD COLUMN IF NOT EXISTS trade_seq BIGINT",
        "ALTER TABLE option_trades ADD COLUMN IF NOT EXISTS liquidation VARCHAR",
    ),
    2: (),
}
