"""The store's tables: one descriptor per feed, from which the SQL is written.

Times are ``int64`` milliseconds UTC; prices are in the quote currency of the symbol unless the
column's name says otherwise; rates and volatilities are fractions (0.01 is one percent).
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1

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
CREATE TABLE IF NOT EXISTS quarantine (
    feed VARCHAR NOT NULL, source VARCHAR NOT NULL, row_number BIGINT NOT NULL,
    reason VARCHAR NOT NULL, raw_json VARCHAR NOT NULL, quarantined_at_ms BIGINT NOT NULL,
    PRIMARY KEY (source, row_number, reason, raw_json));
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

FEED_TABLES = (CANDLES, FUNDING, INSTRUMENTS, OPTION_TRADES, CHAIN, DEPTH)

# What brings a store of version v to v + 1, as statements run in one transaction with the new
# version row. Version 1 is the first.
MIGRATIONS: dict[int, tuple[str, ...]] = {}
