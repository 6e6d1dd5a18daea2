"""Files of Tardis and of a collector of Deribit's chain: ticks, snapshots, what was known when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backtest.errors import DataError
from data_ingest.coverage import LedgerKey
from data_ingest.mapping import ImportMapping
from data_ingest.store import DataStore
from tests.data_ingest.vendor_files import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    OPTIONS_HEADER,
    TICKER_HEADER,
    TRADES_HEADER,
    load,
    write_csv,
    write_gz,
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def stamps(at_ms: int, late_us: int = 20_000) -> str:
    """Time of the exchange and of its receipt, in microseconds since the day began."""
    told = (DAY_MS + at_ms) * 1000 + 413
    return f"{told},{told + late_us}"


def test_trades_are_stored_in_coins_whatever_the_exchange_counts(
    store: DataStore, tmp_path: Path
) -> None:
    files = {
        "deribit BTC-PERPETUAL": "a,buy,40000,80",
        "binance-futures BTCUSDT": "b,sell,40000,0.5",
        "binance-delivery BTCUSD_PERP": "c,buy,40000,4",
        "okex-swap BTC-USDT-SWAP": "d,sell,40000,25",
    }
    for at_ms, (market, row) in enumerate(files.items(), start=1):
        exchange, native = market.split()
        write_gz(
            tmp_path / f"{exchange}_trades_2024-01-01_{native}.csv.gz",
            TRADES_HEADER,
            f"{exchange},{native},{stamps(at_ms)},{row}",
        )
    load(store, tmp_path, "tardis")
    traded = store.rows("SELECT exchange, symbol, trade_id, side, amount_base, ts_ms FROM trades "
                        "ORDER BY trade_id")  # fmt: skip
    assert traded == [
        ("deribit", "BTC/USD:BTC", "a", "buy", 0.002, DAY_MS + 1),
        ("binanceusdm", "BTC/USDT:USDT", "b", "sell", 0.5, DAY_MS + 2),
        ("binancecoinm", "BTC/USD:BTC", "c", "buy", 0.01, DAY_MS + 3),
        ("okx", "BTC/USDT:USDT", "d", "sell", 0.25, DAY_MS + 4),
    ]


def test_a_grouped_file_has_each_row_in_its_own_market_and_unit(
    store: DataStore, tmp_path: Path
) -> None:
    write_gz(tmp_path / "deribit_trades_2024-01-01_PERPETUALS.csv.gz", TRADES_HEADER,
             f"deribit,BTC-PERPETUAL,{stamps(1)},a,buy,40000,80",
             f"deribit,SOL_USDC-PERPETUAL,{stamps(2)},b,buy,100,7")  # fmt: skip
    load(store, tmp_path, "tardis")
    assert store.rows("SELECT symbol, amount_base FROM trades ORDER BY 1") == [
        ("BTC/USD:BTC", 0.002),
        ("SOL/USDC:USDC", 7.0),
    ]


def test_a_market_whose_name_says_nothing_is_refused_with_the_file(
    store: DataStore, tmp_path: Path
) -> None:
    write_gz(tmp_path / "deribit_trades_2024-01-01_OPTIONS.csv.gz", TRADES_HEADER,
             f"deribit,BTC-26JAN24-40000-C,{stamps(1)},a,buy,0.05,10")  # fmt: skip
    with pytest.raises(DataError, match=r"OPTIONS\.csv\.gz: 'BTC-26JAN24-40000-C' is not a name"):
        load(store, tmp_path, "tardis")


def test_liquidations_without_identifier_are_each_kept_beside_those_with(
    store: DataStore, tmp_path: Path
) -> None:
    bare = f"binance-futures,BTCUSDT,{stamps(5)},,sell,40000,0.5"
    named = f"binance-futures,BTCUSDT,{stamps(6)},17,sell,40000,0.25"
    path = tmp_path / "binance-futures_liquidations_2024-01-01_BTCUSDT.csv.gz"
    write_gz(path, TRADES_HEADER, bare, named, bare, named)
    (report,) = load(store, tmp_path, "tardis")
    assert (report.rows_read, report.rows_repeated) == (3, 1)
    assert store.rows("SELECT sum(amount_base), count(*) FROM liquidations") == [(1.25, 3)]
    assert store.rows("SELECT liquidation_id FROM liquidations WHERE ts_ms % 10 = 6") == [("17",)]


def ticker(at_ms: int, funding_ms: int | None, rate: str, index: str, mark: str) -> str:
    due = "" if funding_ms is None else str((DAY_MS + funding_ms) * 1000)
    return f"binance-futures,BTCUSDT,{stamps(at_ms)},{due},{rate},,80000,{mark or 1},{index},{mark}"


def write_ticker(folder: Path, *rows: str) -> None:
    write_gz(
        folder / "binance-futures_derivative_ticker_2024-01-01_BTCUSDT.csv.gz", TICKER_HEADER, *rows
    )


def test_the_rate_that_is_paid_is_the_last_one_before_the_payment(
    store: DataStore, tmp_path: Path
) -> None:
    eight = 8 * HOUR_MS
    write_ticker(
        tmp_path,
        ticker(0, eight, "0.0003", "42000", "42010"),
        ticker(eight - MINUTE_MS, eight, "0.0001", "42100", "42110"),
        ticker(eight - 1000, eight, "0.0002", "42101", "42111"),
        # After the payment the feed may say the old time once more; and the next is far away.
        ticker(eight + 500, eight, "0.0009", "42102", "42112"),
        ticker(eight + 1000, 2 * eight, "0.0005", "42103", "42113"),
        ticker(eight + 2000, None, "", "42104", "42114"),
    )
    reports = load(store, tmp_path, "tardis")
    assert store.rows("SELECT ts_ms, rate, index_price FROM funding") == [
        (DAY_MS + eight, 0.0002, 42_101.0)
    ]
    funding = next(report for report in reports if report.feed == "funding")
    assert (funding.rows_read, funding.rows_left_out) == (1, 5)


def test_marks_and_indices_become_minute_bars_of_the_ticks_that_have_them(
    store: DataStore, tmp_path: Path
) -> None:
    write_ticker(
        tmp_path,
        ticker(0, None, "", "42000", "42010"),
        ticker(30_000, None, "", "42005", "41990"),
        ticker(30_000, None, "", "41999", ""),
        ticker(59_999, None, "", "", "42020"),
        ticker(60_000, None, "", "42001", "42000"),
    )
    load(store, tmp_path, "tardis")
    bars = store.rows("SELECT kind, open_ms, open, high, low, close, volume_base FROM candles "
                      "ORDER BY kind, open_ms")  # fmt: skip
    assert bars == [
        ("index", DAY_MS, 42_000.0, 42_005.0, 41_999.0, 41_999.0, None),
        ("index", DAY_MS + MINUTE_MS, 42_001.0, 42_001.0, 42_001.0, 42_001.0, None),
        ("mark", DAY_MS, 42_010.0, 42_020.0, 41_990.0, 42_020.0, None),
        ("mark", DAY_MS + MINUTE_MS, 42_000.0, 42_000.0, 42_000.0, 42_000.0, None),
    ]
    key = LedgerKey("binanceusdm", "BTC/USDT:USDT", "mark_candles", MINUTE_MS)
    assert store.covered(key) == [(DAY_MS, DAY_MS + 2 * MINUTE_MS)]


def option(at_ms: int, name: str, iv: str, forward: float, late_us: int = 20_000) -> str:
    kind = "call" if name.endswith("C") else "put"
    return (
        f"deribit,{name},{stamps(at_ms, late_us)},{kind},40000,0,12.5,0.05,0.049,1,55,0,0,0,"
        f"0.05,{iv},SYN,{forward},0.5,0,0,0,0"
    )


def test_a_chain_of_ticks_becomes_hourly_snapshots_of_the_last_quotes(
    store: DataStore, tmp_path: Path
) -> None:
    call, far = "BTC-2JAN24-40000-C", "BTC-28JUN24-40000-C"
    write_gz(
        tmp_path / "deribit_options_chain_2024-01-01_OPTIONS.csv.gz",
        OPTIONS_HEADER,
        option(10, call, "50.0", 42_000),
        option(1000, far, "61.0", 43_500),
        option(HOUR_MS - 5, call, "52.5", 42_100, late_us=90_000),
        option(HOUR_MS + 7, call, "53.0", 42_200),
        option(HOUR_MS + 9, far, "", 43_600),
    )
    (report,) = load(store, tmp_path, "tardis")
    assert (report.rows_read, report.rows_left_out) == (3, 2)
    quotes = store.rows("SELECT native_id, ts_ms, known_ts_ms, mark_iv, index_price, bid_coin, "
                        "ask_coin FROM chain ORDER BY ts_ms, native_id")  # fmt: skip
    one, two = DAY_MS + HOUR_MS, DAY_MS + 2 * HOUR_MS
    # Received after the hour, the call was known only then; 0 is no ask; the forward of the
    # nearest expiry stands for the index of its snapshot.
    assert quotes == [
        (far, one, one, 0.61, 42_100.0, 0.049, None),
        (call, one, one + 85, 0.525, 42_100.0, 0.049, None),
        (call, two, two, 0.53, 42_200.0, 0.049, None),
    ]
    assert store.rows("SELECT native_id, expiry_ms FROM instruments ORDER BY 2")[0] == (
        call,
        DAY_MS + 32 * HOUR_MS,
    )


COLLECTED = (
    "timestamp,instrument_name,underlying,underlying_name,option_type,strike,expiry_datetime,"
    "time_to_maturity,bid_price,ask_price,mark_price,mid_price,futures_price,"
    "futures_instrument_name,implied_volatility,delta,vega,open_interest,volume,bid_ask_spread,"
    "currency,index_price,volume_usd"
)


def test_a_collected_snapshot_has_the_time_of_its_run_and_was_known_after_it(
    store: DataStore, tmp_path: Path
) -> None:
    at = "2024-01-01T04:04:05.787910+00:00"
    write_csv(
        tmp_path / "deribit_options_snapshot_20240101T040405Z.csv",
        COLLECTED,
        f"{at},BTC-26JAN24-75000-C,42100,BTC-26JAN24,call,75000.0,2024-01-26T08:00:00+00:00,0.07,"
        "0.0005,,0.0007,,42100,BTC-26JAN24,0.61,0.01,3,256.5,3.4,,BTC,42000.5,53",
    )
    load(store, tmp_path, "deribit-collector")
    told = DAY_MS + 4 * HOUR_MS + 4 * MINUTE_MS + 5_787
    assert store.rows("SELECT ts_ms, known_ts_ms, bid_coin, ask_coin, mark_iv FROM chain") == [
        (told, told + 2 * MINUTE_MS, 0.0005, None, 0.61)
    ]
    assert store.rows("SELECT asset, strike, is_call, expiry_ms FROM instruments") == [
        ("BTC", 75_000.0, True, DAY_MS + (25 * 24 + 8) * HOUR_MS)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"side": "s", "amount_base": {"column": "a", "unit": "lots"}, "price": "p"},
          "markets": {}}, "need markets"),
        ({"columns": {"side": "s", "amount_base": {"value": 1, "column": "a"}, "price": "p"}},
         "either the name of a column or one value"),
        ({"columns": {"open": "o", "price": "p"}, "feed": "candles", "timeframe": "1h"},
         "a candles file has no 'open'"),
        ({"exchange": None}, "exchange is missing"),
    ],
)  # fmt: skip
def test_a_mapping_that_leaves_a_question_open_is_refused(
    change: dict[str, Any], message: str
) -> None:
    group = {
        "feed": "trades", "path": "a.csv", "markets": {"BTC": "BTC/USD:BTC"},
        "time": {"column": "t", "means": "instant"},
        "columns": {"side": "s", "amount_base": "a", "price": "p"},
    }  # fmt: skip
    exchange = change.pop("exchange", "deribit")
    with pytest.raises(ValueError, match=message):
        ImportMapping.model_validate({"name": "x", "exchange": exchange, "files": [group | change]})
