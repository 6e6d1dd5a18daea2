"""Feeds whose recordings have no bars: fills, liquidations, flows, closes of an index, chains."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import DataError
from data_ingest.coverage import LedgerKey
from data_ingest.inventory import inventory
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore
from tests.data_ingest.samples import START_MS, mapping_of

DAY_MS = 86_400_000
INSTANT = {"column": "ts", "means": "instant"}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def write_file(folder: Path, rows: list[dict[str, Any]], name: str = "rows.csv") -> None:
    pd.DataFrame(rows).to_csv(folder / name, index=False)


def fill(at: int = 0, **changes: Any) -> dict[str, Any]:
    return {"ts": START_MS + at, "who": "0xa", "coin": "ETH", "side": "Bid", "px": 1600.0,
            "sz": 0.5, "crossed": True} | changes  # fmt: skip


def fill_mapping(**changes: Any) -> Any:
    columns = {
        "native": "coin", "account": "who", "price": "px", "amount_base": "sz",
        "side": {"column": "side", "values": {"Bid": "buy", "Ask": "sell"}}, "is_taker": "crossed",
    }  # fmt: skip
    group = {"feed": "account_fills", "path": "rows.csv", "time": INSTANT, "columns": columns,
             "markets": {"ETH": "ETH/USDC:USDC", "BTC": "BTC/USDC:USDC"}}  # fmt: skip
    return mapping_of(group | changes, exchange="hyperliquid")


def test_rows_that_name_their_market_are_stored_under_its_symbol(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [fill(), fill(5, coin="BTC", side="Ask", crossed=False)])
    import_recorded(store, fill_mapping(), tmp_path)
    assert store.rows("SELECT symbol, side, is_taker FROM account_fills ORDER BY ts_ms") == [
        ("ETH/USDC:USDC", "buy", True),
        ("BTC/USDC:USDC", "sell", False),
    ]
    key = LedgerKey("hyperliquid", "BTC/USDC:USDC", "account_fills")
    assert store.covered(key) == [(START_MS + 5, START_MS + 6)]


def test_a_market_that_the_mapping_does_not_know_is_refused_by_name(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [fill(), fill(coin="PEPE")])
    with pytest.raises(DataError, match=r"row 2: the market 'PEPE' has no symbol"):
        import_recorded(store, fill_mapping(), tmp_path)


def test_a_side_of_another_spelling_is_refused(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [fill(side="B")])
    with pytest.raises(DataError, match="row 1: side is ''; it must be buy or sell"):
        import_recorded(store, fill_mapping(), tmp_path)


def test_equal_fills_are_each_kept_and_imported_once(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [fill(), fill(), fill(1), fill()])
    (first,) = import_recorded(store, fill_mapping(), tmp_path)
    (again,) = import_recorded(store, fill_mapping(), tmp_path)
    assert (first.rows_added, again.rows_added) == (4, 0)
    assert store.rows("SELECT count(*) FROM account_fills") == [(4,)]


def test_a_longer_recording_adds_only_what_the_shorter_one_lacked(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [fill(), fill(), fill(1)])
    import_recorded(store, fill_mapping(), tmp_path)
    # Another order and another file name: the identifier is of the content alone.
    write_file(tmp_path, [fill(2), fill(1), fill(), fill()], "longer.csv")
    (report,) = import_recorded(store, fill_mapping(path="longer.csv"), tmp_path)
    assert (report.rows_read, report.rows_added) == (4, 1)


@settings(max_examples=12, deadline=None)
@given(
    minutes=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    cut=st.integers(0, 12),
    seed=st.randoms(use_true_random=False),
)
def test_overlapping_recordings_in_any_order_store_each_fill_once(
    minutes: list[int], cut: int, seed: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder, DataStore(Path(folder) / "m.duckdb") as opened:
        early = sorted(minutes)[:cut] or minutes
        # A cut among equal rows would count them once, as the documentation says.
        early = [minute for minute in minutes if minute < max(early)] or minutes
        for part in (early, minutes, early):
            rows = [fill(minute) for minute in part]
            seed.shuffle(rows)
            write_file(Path(folder), rows)
            import_recorded(opened, fill_mapping(), Path(folder))
        stored = opened.rows("SELECT ts_ms FROM account_fills ORDER BY 1")
    assert [ts - START_MS for (ts,) in stored] == sorted(minutes)


def test_an_identifier_is_the_digest_that_the_documentation_states(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [{"ts": START_MS, "who": "0xa", "usd": -1.5}])
    columns = {"account": "who", "amount_usd": "usd"}
    group = {"feed": "account_flows", "path": "rows.csv", "time": INSTANT, "columns": columns}
    import_recorded(store, mapping_of(group, exchange="hyperliquid"), tmp_path)
    digest = hashlib.md5(f"hyperliquid|{START_MS}|0xa|-1.5".encode()).hexdigest()
    assert store.rows("SELECT flow_id FROM account_flows") == [(f"{digest}-1",)]


def liquidation(**changes: Any) -> dict[str, Any]:
    return {"ts": START_MS, "user": "0xa", "debt": "USDC", "paid": 100.0, "usd": 100.2,
            "normal": True} | changes  # fmt: skip


def liquidation_mapping(**changes: Any) -> Any:
    columns = {"account": "user", "debt_asset": "debt", "debt_amount": "paid",
               "notional_usd": "usd"}  # fmt: skip
    group = {"feed": "liquidations", "path": "rows.csv", "time": INSTANT, "columns": columns,
             "only": {"column": "normal", "one_of": [True], "why": "others in wei"}}  # fmt: skip
    return mapping_of(group | changes, exchange="aave_v2")


def test_rows_that_are_not_meant_are_left_out_and_counted(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [liquidation(), liquidation(normal=False, paid=1e20), liquidation(ts=5)])
    (report,) = import_recorded(store, liquidation_mapping(), tmp_path)
    assert (report.rows_read, report.rows_added, report.rows_left_out) == (2, 2, 1)
    assert store.rows("SELECT max(debt_amount) FROM liquidations") == [(100.0,)]
    assert store.rows("SELECT count(*) FROM quarantine") == [(0,)]


def test_a_bad_row_keeps_its_number_in_the_file_where_others_are_left_out(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [liquidation(normal=False), liquidation(), liquidation(usd=-1.0)])
    with pytest.raises(DataError, match=r"row 3: notional_usd is -1\.0 USD; it must be above 0"):
        import_recorded(store, liquidation_mapping(), tmp_path)


def test_a_filter_on_a_column_that_is_not_there_is_refused(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [liquidation()])
    only = {"column": "normals", "one_of": [True], "why": "in wei"}
    with pytest.raises(DataError, match=r"no column 'normals'\. Did you mean 'normal'"):
        import_recorded(store, liquidation_mapping(only=only), tmp_path)


def test_a_filter_without_its_reason_is_refused() -> None:
    with pytest.raises(ValueError, match=r"only\.why"):
        liquidation_mapping(only={"column": "normal", "one_of": [True]})


def test_a_liquidation_without_any_amount_is_refused(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [liquidation(usd=None)])
    with pytest.raises(DataError, match="row 1: neither the amount nor its worth"):
        import_recorded(store, liquidation_mapping(), tmp_path)


def index_mapping(columns: dict[str, Any]) -> Any:
    group = {"feed": "volatility_index", "path": "{native}.csv", "markets": {"BTC": "BTC"},
             "timeframe": "1d", "time": {"column": "ts", "means": "bar_open"},
             "columns": columns}  # fmt: skip
    return mapping_of(group, exchange="deribit")


def test_closes_of_an_index_are_stored_without_inventing_the_rest_of_the_bar(
    store: DataStore, tmp_path: Path
) -> None:
    write_file(tmp_path, [{"ts": START_MS, "dvol": 55.0}], "BTC.csv")
    mapping = index_mapping({"close": {"column": "dvol", "unit": "percent"}})
    import_recorded(store, mapping, tmp_path)
    assert store.rows("SELECT * EXCLUDE (batch_id) FROM volatility_index") == [
        ("deribit", "BTC", DAY_MS, START_MS, None, None, None, pytest.approx(0.55))
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"close": 55.0, "high": 0.6, "low": 0.5, "open": 0.5}, "close is 55.0, above 10 a year"),
        ({"close": 0.5, "high": 0.6, "low": None, "open": 0.5}, "there in part only"),
        ({"close": None, "high": 0.6, "low": 0.5, "open": 0.5}, "close is missing"),
    ],
)
def test_a_bad_bar_of_an_index_is_refused(
    store: DataStore, tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    write_file(tmp_path, [{"ts": START_MS} | row], "BTC.csv")
    mapping = index_mapping({name: name for name in ("open", "high", "low", "close")})
    with pytest.raises(DataError, match=rf"BTC\.csv: row 1: .*{reason}"):
        import_recorded(store, mapping, tmp_path)


def quote(at: int, name: str = "BTC-13FEB21-37500-C", **changes: Any) -> dict[str, Any]:
    return {"ts": 1_613_068_000_000 + at, "instrument": name, "mark": 0.18, "iv": 1.2,
            "bid": 0.17, "ask": 0.19, "forward": 45_700.0, "index": 47_800.0} | changes  # fmt: skip


def quote_mapping(**changes: Any) -> Any:
    columns = {
        "native_id": "instrument", "mark_coin": "mark", "mark_iv": "iv", "forward_price": "forward",
        "index_price": "index", "bid_coin": {"column": "bid", "missing": [0]},
        "ask_coin": {"column": "ask", "missing": [0]},
    }  # fmt: skip
    group = {"feed": "chain", "path": "rows.csv", "time": INSTANT, "columns": columns,
             "instrument_names": "deribit", "snapshot_gap": "1min"}  # fmt: skip
    return mapping_of(group | changes, exchange="deribit")


def test_the_terms_of_an_option_are_read_from_its_name(store: DataStore, tmp_path: Path) -> None:
    names = ("BTC-13FEB21-37500-C", "BTC-5MAR21-500-P", "XRP-24SEP21-0d55-C")
    write_file(tmp_path, [quote(0, name) for name in names])
    import_recorded(store, quote_mapping(), tmp_path)
    # 08:00 UTC of each day, as Deribit's own expiration_timestamp says of them.
    assert store.rows("SELECT asset, strike, is_call, expiry_ms FROM instruments ORDER BY 4") == [
        ("BTC", 37_500.0, True, 1_613_203_200_000),
        ("BTC", 500.0, False, 1_614_931_200_000),
        ("XRP", 0.55, True, 1_632_470_400_000),
    ]


@pytest.mark.parametrize("name", ["BTC-PERPETUAL", "BTC-31FEB21-37500-C", "BTC-26FEB21-x-C"])
def test_a_name_that_is_no_option_of_deribit_is_refused(
    store: DataStore, tmp_path: Path, name: str
) -> None:
    write_file(tmp_path, [quote(0, name)])
    with pytest.raises(DataError, match=r"row 1: (expiry_ms|strike) is missing"):
        import_recorded(store, quote_mapping(), tmp_path)


def test_rows_of_one_run_are_one_snapshot_known_after_its_last_row(
    store: DataStore, tmp_path: Path
) -> None:
    put = "BTC-13FEB21-37500-P"
    write_file(tmp_path, [quote(40_000, put), quote(0), quote(200_000, put), quote(230_000)])
    import_recorded(store, quote_mapping(known_delay="1s"), tmp_path)
    first = 1_613_068_000_000
    assert store.rows("SELECT DISTINCT ts_ms, known_ts_ms FROM chain ORDER BY 1") == [
        (first, first + 41_000),
        (first + 200_000, first + 231_000),
    ]
    assert store.covered(LedgerKey("deribit", "BTC", "chain")) == [
        (first, first + 1),
        (first + 200_000, first + 200_001),
    ]


def test_an_option_that_is_twice_in_one_run_is_refused(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [quote(0), quote(30_000, mark=0.2)])
    with pytest.raises(DataError, match="row 1: another row repeats this key"):
        import_recorded(store, quote_mapping(), tmp_path)


def test_a_quote_written_as_zero_is_no_quote(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [quote(0, bid=0.0005, ask=0.0)])
    import_recorded(store, quote_mapping(), tmp_path)
    assert store.rows("SELECT bid_coin, ask_coin FROM chain") == [(0.0005, None)]


def test_the_inventory_lists_the_new_feeds(store: DataStore, tmp_path: Path) -> None:
    write_file(tmp_path, [fill(), fill(DAY_MS)])
    import_recorded(store, fill_mapping(), tmp_path)
    (row,) = inventory(store)
    assert (row.feed, row.exchange, row.rows) == ("account fills", "hyperliquid", 2)
    assert (row.start_ms, row.end_ms) == (START_MS, START_MS + DAY_MS)
