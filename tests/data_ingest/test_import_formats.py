"""Files in the layouts of vendors: bars of CryptoDataDownload and Binance, plain bars, packing."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ConfigError, DataError
from data_ingest.coverage import LedgerKey
from data_ingest.formats import format_names, load_format
from data_ingest.native_symbols import coins_sql, unified_symbol
from data_ingest.store import DataStore
from tests.data_ingest.vendor_files import (
    DAY_MS,
    HOUR_MS,
    KLINE_HEADER,
    MINUTE_MS,
    kline,
    load,
    write_csv,
    write_gz,
    write_zip,
)

UM = Path("data/futures/um/monthly")
BTC = "BTC/USDT:USDT"
CDD_HEADER = "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def cdd(index: int, scale: int = 1) -> str:
    at = (DAY_MS + index * HOUR_MS) // scale
    return f"{at},2024-01-01 0{index}:00:00,BTC/USDT,100,102,99,{101 + index / 4},2.5,252.5,7"


@pytest.mark.parametrize("scale", [1, 1000], ids=["ms", "s"])
def test_cryptodatadownload_is_read_newest_first_in_either_unit(
    store: DataStore, tmp_path: Path, scale: int
) -> None:
    rows = [cdd(index, scale) for index in (3, 2, 1, 0)]
    write_csv(
        tmp_path / "Binance_BTCUSDT_1h.csv", "https://www.CryptoDataDownload.com", CDD_HEADER, *rows
    )
    (report,) = load(store, tmp_path, "cryptodatadownload")
    assert (report.rows_read, report.market) == (4, "BTC/USDT")
    bars = store.rows("SELECT exchange, open_ms, close, volume_base FROM candles ORDER BY open_ms")
    assert bars[0] == ("binance", DAY_MS, 101.0, 2.5)
    assert bars[3] == ("binance", DAY_MS + 3 * HOUR_MS, 101.75, 2.5)
    key = LedgerKey("binance", "BTC/USDT", "trade_candles", HOUR_MS)
    assert store.covered(key) == [(DAY_MS, DAY_MS + 4 * HOUR_MS)]


def test_a_file_without_the_line_of_the_site_is_read_all_the_same(
    store: DataStore, tmp_path: Path
) -> None:
    header = CDD_HEADER.replace("unix", "Unix").replace("open", "Open")
    write_csv(tmp_path / "Binance_BTCUSDT_1h.csv", header, cdd(0))
    (report,) = load(store, tmp_path, "cryptodatadownload")
    assert report.rows_added == 1


def test_a_file_that_mixes_seconds_and_milliseconds_is_refused_by_row(
    store: DataStore, tmp_path: Path
) -> None:
    write_csv(tmp_path / "Binance_BTCUSDT_1h.csv", "site", CDD_HEADER, cdd(1), cdd(0, 1000))
    with pytest.raises(
        DataError, match=r"row 2: the time 1704067200\.0 is not in milliseconds, as that of the"
    ):
        load(store, tmp_path, "cryptodatadownload")
    (report,) = load(store, tmp_path, "cryptodatadownload", quarantine=True)
    assert (report.rows_added, report.rows_quarantined) == (1, 1)


def test_yearly_minute_files_and_an_unknown_site_name(store: DataStore, tmp_path: Path) -> None:
    write_csv(tmp_path / "Binance_BTCUSDT_2024_minute.csv", "site", CDD_HEADER, cdd(0))
    (report,) = load(store, tmp_path, "cryptodatadownload")
    assert report.windows == ((DAY_MS, DAY_MS + MINUTE_MS),)
    write_csv(tmp_path / "Binanse_BTCUSDT_1h.csv", "site", CDD_HEADER, cdd(0))
    with pytest.raises(DataError, match=r"exchange 'Binanse' is not .* Did you mean 'Binance'"):
        load(store, tmp_path, "cryptodatadownload")


@pytest.mark.parametrize("header", [True, False], ids=["header", "bare"])
@pytest.mark.parametrize("scale", [1, 1000], ids=["ms", "us"])
def test_binance_klines_are_read_with_and_without_header_in_either_unit(
    store: DataStore, tmp_path: Path, header: bool, scale: int
) -> None:
    lines = [KLINE_HEADER] * header + [kline(index, scale) for index in range(3)]
    path = tmp_path / UM / "klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
    write_zip(path, *lines)
    (report,) = load(store, tmp_path, "binance-vision")
    assert (report.rows_added, report.market) == (3, BTC)
    assert store.rows("SELECT open_ms, open, close, volume_base, volume_usd FROM candles")[2] == (
        DAY_MS + 2 * HOUR_MS, 100.5, 102.0, 10.0, 1005.0,
    )  # fmt: skip
    assert store.rows("SELECT source FROM batches") == [
        (f"{UM}/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip",)
    ]


def test_marks_and_indices_lie_under_the_same_name_and_are_told_apart(
    store: DataStore, tmp_path: Path
) -> None:
    for kind in ("klines", "markPriceKlines", "indexPriceKlines"):
        write_zip(tmp_path / UM / f"{kind}/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip", kline(0))
    load(store, tmp_path, "binance-vision")
    assert store.rows("SELECT kind, volume_base FROM candles ORDER BY 1") == [
        ("index", None),
        ("mark", None),
        ("trade", 10.0),
    ]


def test_coin_margined_volume_is_in_coins_and_not_in_contracts(
    store: DataStore, tmp_path: Path
) -> None:
    write_zip(
        tmp_path / "data/futures/cm/daily/klines/BTCUSD_PERP/1h/BTCUSD_PERP-1h-2024-01-01.zip",
        f"{DAY_MS},42000,42500,41900,42000,4200,{DAY_MS + HOUR_MS - 1},10.5,7,1,1,0",
    )
    load(store, tmp_path, "binance-vision")
    assert store.rows("SELECT exchange, symbol, volume_base, volume_usd FROM candles") == [
        ("binancecoinm", "BTC/USD:BTC", 10.5, 441_000.0)
    ]


def test_binance_funding_keeps_the_interval_that_each_row_states(
    store: DataStore, tmp_path: Path
) -> None:
    hours = (0, 8, 16, 20, 24)
    steps = (8, 8, 8, 4, 4)
    rows = [
        f"{DAY_MS + h * HOUR_MS + 7},{step},0.0001" for h, step in zip(hours, steps, strict=True)
    ]
    write_zip(
        tmp_path / UM / "fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip",
        "calc_time,funding_interval_hours,last_funding_rate",
        *rows,
    )
    load(store, tmp_path, "binance-vision")
    paid = store.rows("SELECT ts_ms, interval_ms, rate FROM funding ORDER BY 1")
    assert paid[3] == (DAY_MS + 20 * HOUR_MS, 4 * HOUR_MS, 0.0001)
    assert store.covered(LedgerKey("binanceusdm", BTC, "funding")) == [
        (DAY_MS, DAY_MS + 28 * HOUR_MS)
    ]


def test_a_payment_that_is_missing_by_its_own_interval_leaves_a_hole(
    store: DataStore, tmp_path: Path
) -> None:
    paid = ((0, 8), (8, 8), (12, 4), (20, 4))
    rows = [f"{DAY_MS + hour * HOUR_MS},{step},0.0001" for hour, step in paid]
    write_zip(tmp_path / UM / "fundingRate/BTCUSDT/BTCUSDT-fundingRate-2024-01.zip",
              "calc_time,funding_interval_hours,last_funding_rate", *rows)  # fmt: skip
    load(store, tmp_path, "binance-vision")
    # The row of 20:00 says four hours, and 16:00 is not there.
    assert store.covered(LedgerKey("binanceusdm", BTC, "funding")) == [
        (DAY_MS, DAY_MS + 16 * HOUR_MS),
        (DAY_MS + 20 * HOUR_MS, DAY_MS + 24 * HOUR_MS),
    ]


def test_binance_metrics_give_open_interest_and_ratio(store: DataStore, tmp_path: Path) -> None:
    store.connection.execute("SET TimeZone = 'Asia/Tokyo'")
    header = (
        "create_time,symbol,sum_open_interest,sum_open_interest_value,"
        "count_toptrader_long_short_ratio,sum_toptrader_long_short_ratio,count_long_short_ratio,"
        "sum_taker_long_short_vol_ratio"
    )
    write_zip(tmp_path / "data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-01-01.zip",
              header, "2024-01-01 00:05:00,BTCUSDT,80000,3400000000,1.1,1.2,1.3,0.9",
              "2024-01-01 00:10:00,BTCUSDT,80100,3404250000,,,,")  # fmt: skip
    interest, ratio = load(store, tmp_path, "binance-vision")
    assert (interest.rows_added, ratio.rows_added, ratio.rows_left_out) == (2, 1, 1)
    # The time has no zone, and is UTC whatever the machine's clock says.
    first = DAY_MS + 5 * MINUTE_MS
    assert store.rows("SELECT ts_ms, amount_base, amount_usd FROM open_interest ORDER BY 1")[0] == (
        first, 80_000.0, 3.4e9,
    )  # fmt: skip
    assert store.rows("SELECT ts_ms, ratio FROM long_short_ratio") == [(first, 1.3)]


def test_binance_trades_have_the_side_of_the_taker(store: DataStore, tmp_path: Path) -> None:
    write_zip(
        tmp_path / "data/futures/um/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2024-01-01.zip",
        f"11,42000,0.5,1,2,{DAY_MS},true",
        f"12,42001,0.1,3,3,{DAY_MS + 1},false",
    )
    write_zip(tmp_path / "data/spot/daily/aggTrades/BTCUSDT/BTCUSDT-aggTrades-2025-01-01.zip",
              f"7,42000,0.5,1,2,{DAY_MS * 1000},True,True")  # fmt: skip
    load(store, tmp_path, "binance-vision")
    assert store.rows("SELECT symbol, trade_id, ts_ms, side FROM trades ORDER BY 1, 2") == [
        ("BTC/USDT", "7", DAY_MS, "sell"),
        (BTC, "11", DAY_MS, "sell"),
        (BTC, "12", DAY_MS + 1, "buy"),
    ]


KLINES = UM / "klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"


def test_an_archive_that_differs_from_its_check_sum_is_refused(
    store: DataStore, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / KLINES, kline(0))
    path.with_name(path.name + ".CHECKSUM").write_text(f"{'ab' * 32}  {path.name}\n")
    with pytest.raises(DataError, match=r"2024-01\.zip: its sha256 .* says abababababab"):
        load(store, tmp_path, "binance-vision")
    assert store.is_empty()


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_archive_is_named(store: DataStore, tmp_path: Path, kept: float) -> None:
    path = write_zip(tmp_path / KLINES, *(kline(index) for index in range(50)), check_sum=False)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(DataError, match=r"2024-01\.zip: cannot be unpacked .*truncated, damaged"):
        load(store, tmp_path, "binance-vision")


def test_an_archive_of_two_files_is_refused(store: DataStore, tmp_path: Path) -> None:
    import zipfile

    path = write_zip(tmp_path / KLINES, kline(0), check_sum=False)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.csv", kline(1))
    with pytest.raises(DataError, match=r"has one \.csv, and this one has BTCUSDT-1h.*, more\.csv"):
        load(store, tmp_path, "binance-vision")


def test_a_disk_without_room_for_unpacking_is_named(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_zip(tmp_path / KLINES, kline(0))
    monkeypatch.setattr("shutil.copyfileobj", no_room)
    with pytest.raises(DataError, match=r"No space left on device\); make room there"):
        load(store, tmp_path, "binance-vision")


def test_nothing_that_was_unpacked_stays_behind(
    store: DataStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    write_zip(tmp_path / KLINES, kline(0))
    load(store, tmp_path, "binance-vision")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "flipped check sum"])
def test_a_damaged_gz_is_named(store: DataStore, tmp_path: Path, damage: str) -> None:
    lines = ("ts,open,high,low,close,volume", *(kline(i).rsplit(",", 6)[0] for i in range(40)))
    path = write_gz(tmp_path / "BTCUSDT_1h.csv.gz", *lines)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[-8] ^= 0xFF
        path.write_bytes(data)
    from data_ingest.mapping import ImportMapping

    plain = load_format("ohlcv", "binanceusdm").model_dump()
    plain["files"][0]["path"] = "{native}_{timeframe}.csv.gz"
    from data_ingest.recorded import import_recorded

    with pytest.raises(DataError, match=r"BTCUSDT_1h\.csv\.gz: cannot be unpacked"):
        import_recorded(store, ImportMapping.model_validate(plain), tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["time,open,high,low,close,volume", "1,2,3"], r"there is no column 'open_time'"),
        (["1704067200000,1,2,1,1"], r"has no header and 5 columns; this layout has 12"),
        ([KLINE_HEADER, kline(0), "1,2"], r"cannot be read as csv: .*Expected Number of Columns"),
        ([KLINE_HEADER, kline(0).replace("102", "99")], r"row 1: high is 99\.0 USD, below low"),
        ([KLINE_HEADER, kline(0), kline(0).replace("99.5", "98")], r"row 1: another row repeats"),
        (["soon" + kline(0)[4:]], r"there is no column 'open_time'"),
    ],
    ids=["header", "columns", "ragged", "bad bar", "contradiction", "garbage"],
)
def test_a_mistake_in_an_archive_is_one_sentence(
    store: DataStore, tmp_path: Path, lines: list[str], message: str
) -> None:
    write_zip(tmp_path / KLINES, *lines)
    with pytest.raises(DataError, match=message) as caught:
        load(store, tmp_path, "binance-vision")
    assert "\n" not in str(caught.value)
    assert "remargin-" not in str(caught.value)  # the folder that it was unpacked to
    assert store.is_empty()


def test_repeated_rows_count_once_and_a_second_import_changes_nothing(
    store: DataStore, tmp_path: Path
) -> None:
    write_zip(tmp_path / KLINES, kline(0), kline(1), kline(1))
    (first,) = load(store, tmp_path, "binance-vision")
    (again,) = load(store, tmp_path, "binance-vision")
    assert (first.rows_read, first.rows_repeated, again.rows_added) == (2, 1, 0)


def test_months_that_overlap_a_day_file_are_one_history(store: DataStore, tmp_path: Path) -> None:
    write_zip(tmp_path / KLINES, kline(0), kline(1))
    write_zip(
        tmp_path / "data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01-01.zip",
        kline(1), kline(2),
    )  # fmt: skip
    load(store, tmp_path, "binance-vision")
    assert store.rows("SELECT count(*) FROM candles") == [(3,)]


def test_bars_of_a_month_have_no_fixed_length(store: DataStore, tmp_path: Path) -> None:
    write_zip(tmp_path / UM / "klines/BTCUSDT/1mo/BTCUSDT-1mo-2024-01.zip", kline(0))
    with pytest.raises(DataError, match="bars of '1mo' have no fixed length"):
        load(store, tmp_path, "binance-vision")


def test_plain_bars_need_an_exchange_and_take_markets_by_name(
    store: DataStore, tmp_path: Path
) -> None:
    write_csv(tmp_path / "XBT_1h.csv", "ts,open,high,low,close,volume",
              f"{DAY_MS // 1000},100,102,99,101,3")  # fmt: skip
    with pytest.raises(DataError, match=r"XBT_1h\.csv: does not say whose it is; write --exchange"):
        load(store, tmp_path, "ohlcv")
    with pytest.raises(DataError, match="'XBT' is not a name that binanceusdm gives to a market"):
        load(store, tmp_path, "ohlcv", "binanceusdm")
    load(store, tmp_path, "ohlcv", "kraken_futures", markets={"XBT": BTC})
    assert store.rows("SELECT exchange, symbol, timeframe_ms, open_ms FROM candles") == [
        ("kraken_futures", BTC, HOUR_MS, DAY_MS)
    ]


def test_a_folder_without_any_file_of_the_layout_names_the_layout(
    store: DataStore, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no file in .* has a name of this layout: \*\*/\{native"):
        load(store, tmp_path, "ohlcv", "binanceusdm")


def test_a_format_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no format 'tardsi'\. Did you mean 'tardis'"):
        load_format("tardsi")
    with pytest.raises(ConfigError, match="omit --exchange"):
        load_format("tardis", "deribit")


def test_every_shipped_format_is_a_mapping_whose_groups_name_their_market() -> None:
    assert format_names() == [
        "binance-vision", "cryptodatadownload", "deribit-collector", "ohlcv", "tardis",
    ]  # fmt: skip
    for name in format_names():
        mapping = load_format(name)
        assert mapping.some
        for group in mapping.files:
            said = "native" in group.columns or "{native}" in group.path or group.feed == "chain"
            assert said, (name, group.path)


@pytest.mark.parametrize(
    ("exchange", "native", "symbol"),
    [
        ("binance", "BTCUSDT", "BTC/USDT"),
        ("binance", "ETHBTC", "ETH/BTC"),
        ("binanceusdm", "1000PEPEUSDT", "1000PEPE/USDT:USDT"),
        ("binanceusdm", "BTCUSDT_240628", "BTC/USDT:USDT-240628"),
        ("binancecoinm", "BTCUSD_PERP", "BTC/USD:BTC"),
        ("binancecoinm", "BTCUSD", "BTC/USD:BTC"),
        ("bybit", "BTCPERP", "BTC/USDC:USDC"),
        ("bybit", "BTCUSD", "BTC/USD:BTC"),
        ("deribit", "ETH-PERPETUAL", "ETH/USD:ETH"),
        ("deribit", "SOL_USDC-PERPETUAL", "SOL/USDC:USDC"),
        ("hyperliquid", "kPEPE", "kPEPE/USDC:USDC"),
        ("okx", "BTC-USDT-SWAP", "BTC/USDT:USDT"),
        ("okx", "BTC-USD-SWAP", "BTC/USD:BTC"),
    ],
)
def test_a_market_has_the_symbol_that_pulled_data_have(
    exchange: str, native: str, symbol: str
) -> None:
    assert unified_symbol(exchange, native) == symbol


@pytest.mark.parametrize(
    ("exchange", "symbol", "coins"),
    [
        ("binanceusdm", "BTC/USDT:USDT", "a"),
        ("binance", "BTC/USDT", "a"),
        ("deribit", "BTC/USD:BTC", "a / nullif(p, 0)"),
        ("bybit", "BTC/USDT:USDT", "a"),
        ("binancecoinm", "BTC/USD:BTC", "a * 100.0 / nullif(p, 0)"),
        ("binancecoinm", "XRP/USD:XRP", "a * 10.0 / nullif(p, 0)"),
        ("okx", "BTC/USDT:USDT", "a * 0.01"),
    ],
)
def test_lots_become_coins_by_what_the_exchange_counts(
    exchange: str, symbol: str, coins: str
) -> None:
    assert coins_sql(exchange, symbol, "a", "p") == coins


def test_a_contract_of_unknown_size_is_refused() -> None:
    with pytest.raises(DataError, match="contract of BTC/USD:BTC on okx is not known"):
        coins_sql("okx", "BTC/USD:BTC", "a", "p")
