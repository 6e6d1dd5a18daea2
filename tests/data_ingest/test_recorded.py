from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from backtest.errors import ConfigError, DataError
from data_ingest.coverage import LedgerKey
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore, StoreError
from tests.data_ingest.samples import (
    BTC,
    HOUR_MS,
    START_MS,
    candle_frame,
    candle_mapping,
    chain_mapping,
    chain_row,
    funding_mapping,
    mapping_of,
)

TRADE = LedgerKey("binanceusdm", BTC, "trade_candles", HOUR_MS)
ALL_CANDLES = "SELECT * EXCLUDE (batch_id) FROM candles ORDER BY open_ms"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def test_parquet_and_csv_of_one_table_give_one_store(tmp_path: Path) -> None:
    frame = candle_frame()
    frame.to_parquet(tmp_path / "candles.parquet")
    frame.to_csv(tmp_path / "candles.csv", index=False)
    rows = []
    for name in ("candles.parquet", "candles.csv"):
        with DataStore(tmp_path / f"{name}.duckdb") as opened:
            import_recorded(opened, candle_mapping(path=name), tmp_path)
            rows.append(opened.rows(ALL_CANDLES))
    assert len(rows[0]) == 48
    assert rows[0] == rows[1]


def test_an_import_records_file_digest_coverage_and_dollar_volume(
    store: DataStore, tmp_path: Path
) -> None:
    candle_frame(3).to_parquet(tmp_path / "candles.parquet")
    (report,) = import_recorded(store, candle_mapping(), tmp_path)
    assert (report.rows_read, report.rows_added) == (3, 3)
    assert store.covered(TRADE) == [(START_MS, START_MS + 3 * HOUR_MS)]
    ((source, digest, synthetic),) = store.rows(
        "SELECT source, source_sha256, is_synthetic FROM batches"
    )
    assert (source, len(digest), synthetic) == ("candles.parquet", 64, False)
    assert store.rows("SELECT volume_usd = volume_base * close FROM candles") == [(True,)] * 3


@pytest.mark.parametrize(
    ("unit", "scale"), [("ms", 1), ("s", 1000), ("us", 1 / 1000)], ids=["ms", "s", "us"]
)
def test_each_time_unit_gives_the_same_instants(
    store: DataStore, tmp_path: Path, unit: str, scale: float
) -> None:
    frame = candle_frame(4)
    expected = list(frame["ts_utc_ms"])
    frame["ts_utc_ms"] = (frame["ts_utc_ms"] / scale).astype("int64")
    frame.to_parquet(tmp_path / "candles.parquet")
    stamp = {"column": "ts_utc_ms", "unit": unit, "means": "bar_open"}
    import_recorded(store, candle_mapping(time=stamp), tmp_path)
    assert [row[0] for row in store.rows("SELECT open_ms FROM candles ORDER BY 1")] == expected


def test_iso_times_and_closing_stamps_are_read_as_bar_opens(
    store: DataStore, tmp_path: Path
) -> None:
    frame = candle_frame(2)
    frame["closed"] = ["2023-11-15T01:00:00Z", "2023-11-15T04:00:00+02:00"]
    frame.to_csv(tmp_path / "candles.csv", index=False)
    stamp = {"column": "closed", "unit": "iso", "means": "bar_close"}
    import_recorded(store, candle_mapping(path="candles.csv", time=stamp), tmp_path)
    assert store.rows("SELECT open_ms FROM candles ORDER BY 1") == [
        (START_MS,),
        (START_MS + HOUR_MS,),
    ]


def test_a_rate_in_percent_is_stored_as_a_fraction(store: DataStore, tmp_path: Path) -> None:
    pd.DataFrame({"ts_utc_ms": [START_MS], "funding_rate": [0.01]}).to_parquet(
        tmp_path / "funding.parquet"
    )
    columns = {"rate": {"column": "funding_rate", "unit": "percent"}}
    import_recorded(store, funding_mapping(columns=columns), tmp_path)
    assert store.rows("SELECT rate FROM funding")[0][0] == pytest.approx(0.0001, rel=1e-12)


def test_two_recordings_of_one_payment_with_jitter_are_one_row(
    store: DataStore, tmp_path: Path
) -> None:
    for name, late_ms in (("a", 7), ("b", 13)):
        pd.DataFrame({"ts_utc_ms": [START_MS + late_ms], "funding_rate": [0.0001]}).to_parquet(
            tmp_path / f"{name}.parquet"
        )
        import_recorded(store, funding_mapping(path=f"{name}.parquet"), tmp_path)
    assert store.rows("SELECT ts_ms FROM funding") == [(START_MS,)]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("low", -1.0, "low is -1.0 USD; it must be above 0"),
        ("close", 0.0, "close is 0.0 USD; it must be above 0"),
        ("open", float("nan"), "open is missing or not a number"),
        ("open", float("inf"), "open is missing or not a number"),
        ("high", 1.0, "high is 1.0 USD, below low, 97.0 USD"),
        ("high", 98.0, "high is 98.0 USD, below open or close, 100.0 and 100.0 USD"),
        ("low", 101.0, "low is 101.0 USD, above open or close, 100.0 and 100.0 USD"),
        ("volume", -1.0, "volume_base is -1.0 coins; it must not be negative"),
        ("ts_utc_ms", START_MS + 1, f"opens at {START_MS + 1} ms, off its timeframe's grid"),
    ],
)
def test_a_bad_candle_is_refused_by_file_row_and_reason(
    store: DataStore, tmp_path: Path, column: str, value: float, reason: str
) -> None:
    frame = candle_frame(5).astype({"ts_utc_ms": "int64"})
    frame.loc[3, ["open", "high", "low", "close"]] = [100.0, 102.0, 97.0, 100.0]
    frame.loc[3, column] = value
    frame.to_parquet(tmp_path / "candles.parquet")
    with pytest.raises(DataError, match=rf"^candles\.parquet: row 4: .*{reason}"):
        import_recorded(store, candle_mapping(), tmp_path)
    assert store.is_empty()
    assert store.covered(TRADE) == []


def test_text_where_a_number_belongs_is_refused_by_row(store: DataStore, tmp_path: Path) -> None:
    frame = candle_frame(3).astype(object)
    frame.loc[1, "close"] = "n/a"
    frame.to_csv(tmp_path / "candles.csv", index=False)
    with pytest.raises(DataError, match="row 2: close is missing or not a number"):
        import_recorded(store, candle_mapping(path="candles.csv"), tmp_path)


def test_repeated_times_with_other_values_are_refused(store: DataStore, tmp_path: Path) -> None:
    frame = pd.concat([candle_frame(3), candle_frame(3).iloc[[1]].assign(close=98.5)])
    frame.to_parquet(tmp_path / "candles.parquet")
    with pytest.raises(DataError, match=r"row 2: another row repeats .*\(2 such rows"):
        import_recorded(store, candle_mapping(), tmp_path)


def test_identical_repeats_count_once(store: DataStore, tmp_path: Path) -> None:
    pd.concat([candle_frame(3), candle_frame(3).iloc[[1]]]).to_parquet(tmp_path / "candles.parquet")
    import_recorded(store, candle_mapping(), tmp_path)
    assert len(store.rows(ALL_CANDLES)) == 3


def test_quarantine_keeps_the_good_rows_and_the_bad_rows_text(
    store: DataStore, tmp_path: Path
) -> None:
    frame = candle_frame(6)
    frame.loc[2, "low"] = -5.0
    frame.to_parquet(tmp_path / "candles.parquet")
    (report,) = import_recorded(store, candle_mapping(), tmp_path, quarantine=True)
    assert (report.rows_added, report.rows_quarantined) == (5, 1)
    ((source, number, reason, raw),) = store.rows(
        "SELECT source, row_number, reason, raw_json FROM quarantine"
    )
    assert (source, number, reason) == (
        "candles.parquet",
        3,
        "low is -5.0 USD; it must be above 0",
    )
    assert json.loads(raw)["low"] == -5.0
    assert store.covered(TRADE) == [
        (START_MS, START_MS + 2 * HOUR_MS),
        (START_MS + 3 * HOUR_MS, START_MS + 6 * HOUR_MS),
    ]


def test_a_renamed_column_is_named_with_the_nearest(store: DataStore, tmp_path: Path) -> None:
    candle_frame(2).rename(columns={"close": "closing"}).to_parquet(tmp_path / "candles.parquet")
    with pytest.raises(DataError, match=r"no column 'close'\. Did you mean 'closing'"):
        import_recorded(store, candle_mapping(), tmp_path)


def test_a_missing_file_and_a_missing_folder_are_named(store: DataStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file matches candles\.parquet"):
        import_recorded(store, candle_mapping(), tmp_path)
    with pytest.raises(DataError, match="no data folder"):
        import_recorded(store, candle_mapping(), tmp_path / "absent")


def test_a_truncated_file_is_named(store: DataStore, tmp_path: Path) -> None:
    path = tmp_path / "candles.parquet"
    candle_frame().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"candles\.parquet: cannot be read as parquet"):
        import_recorded(store, candle_mapping(), tmp_path)


def test_a_file_that_contradicts_an_earlier_one_is_refused_and_the_earlier_stays(
    store: DataStore, tmp_path: Path
) -> None:
    candle_frame(3).to_parquet(tmp_path / "candles.parquet")
    import_recorded(store, candle_mapping(), tmp_path)
    before = store.rows(ALL_CANDLES)
    frame = candle_frame(4)
    frame.loc[1, "high"] += 0.5
    frame.to_parquet(tmp_path / "candles.parquet")
    with pytest.raises(StoreError, match=r"high .* contradicts .* already stored"):
        import_recorded(store, candle_mapping(), tmp_path)
    assert store.rows(ALL_CANDLES) == before


def test_a_chain_brings_its_instruments_and_when_it_was_known(
    store: DataStore, tmp_path: Path
) -> None:
    rows = [chain_row(START_MS), chain_row(START_MS, kind="put", strike=25_000.0)]
    pd.DataFrame(rows).to_parquet(tmp_path / "chain.parquet")
    import_recorded(store, chain_mapping(), tmp_path)
    assert store.rows(
        "SELECT strike, is_call, settlement, contract_size, kind FROM instruments ORDER BY strike"
    ) == [(25_000.0, False, "inverse", 1.0, "option"), (30_000.0, True, "inverse", 1.0, "option")]
    assert store.rows("SELECT DISTINCT known_ts_ms - ts_ms FROM chain") == [(120_000,)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expiry_ms": START_MS}, "the option's expiry precedes its mark"),
        ({"mark_iv": 60.0}, "is it in percent"),
        ({"mark_iv": 0.0}, "mark_iv is 0.0 a year; it must be above 0"),
        ({"mark": -0.1}, "mark_coin is -0.1 coins; it must not be negative"),
        ({"option_type": "future"}, "neither a call nor a put"),
        ({"index_price": None}, "index_price is missing"),
    ],
)
def test_a_bad_option_mark_is_refused(
    store: DataStore, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    pd.DataFrame([chain_row(START_MS, strike=20_000.0), chain_row(START_MS, **changes)]).to_parquet(
        tmp_path / "chain.parquet"
    )
    with pytest.raises(DataError, match=rf"row 2: .*{reason}"):
        import_recorded(store, chain_mapping(), tmp_path)


def test_an_option_whose_terms_change_is_refused(store: DataStore, tmp_path: Path) -> None:
    row = chain_row(START_MS)
    moved = chain_row(START_MS + HOUR_MS) | {"strike": 31_000.0}
    pd.DataFrame([row, moved]).to_parquet(tmp_path / "chain.parquet")
    with pytest.raises(DataError, match="disagree on its strike"):
        import_recorded(store, chain_mapping(), tmp_path)
    assert store.is_empty()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"open": "open"}}, "lack high, low, close"),
        ({"timeframe": None}, "need a timeframe"),
        ({"markets": {}}, "need markets"),
        ({"time": {"column": "t", "means": "instant"}}, "bar_open or bar_close"),
        ({"markets": {"A": "A", "B": "B"}}, "path needs {native}"),
    ],
)
def test_a_mapping_that_would_guess_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        candle_mapping(**changes)


def test_a_mapping_file_names_its_wrong_field(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("name: x\nexchange: deribit\nfiles: [{feed: candels, path: a}]\n")
    with pytest.raises(ConfigError, match=r"mapping\.yaml: files\.0\.feed: "):
        ImportMapping.load(path)
    with pytest.raises(ConfigError, match="no such import mapping"):
        ImportMapping.load(tmp_path / "absent.yaml")


def test_option_trades_are_stored_once_per_trade_id(store: DataStore, tmp_path: Path) -> None:
    trade = {
        "ts_utc_ms": START_MS, "instrument": "BTC-2JAN22-48000-C", "price": 0.004, "iv": 0.67,
        "index_price": 46_219.8, "amount": 0.1, "side": "sell", "trade_id": 1,
    }  # fmt: skip
    pd.DataFrame([trade, trade, trade | {"trade_id": 2}]).to_parquet(tmp_path / "trades.parquet")
    names = ("price_coin:price", "iv:iv", "index_price:index_price", "amount:amount",
             "side:side", "trade_id:trade_id", "native_id:instrument")  # fmt: skip
    mapping = mapping_of(
        {
            "feed": "option_trades",
            "path": "trades.parquet",
            "time": {"column": "ts_utc_ms", "means": "instant"},
            "columns": dict(name.split(":") for name in names),
        },
        exchange="deribit",
    )
    import_recorded(store, mapping, tmp_path)
    assert store.rows("SELECT trade_id FROM option_trades ORDER BY 1") == [("1",), ("2",)]
