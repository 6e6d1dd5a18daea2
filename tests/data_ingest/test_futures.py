"""Dated futures come from recorded candles or a chain's forwards, with their own terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from backtest.errors import DataError, GapError
from backtest.instruments import FUTURE, PERPETUAL
from backtest.timeline import settlement_prices
from backtest.units import MS_PER_DAY
from data_ingest.build import build_tape
from data_ingest.coverage import LedgerKey
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import import_recorded
from data_ingest.schema import INSTRUMENTS
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from data_ingest.symbols import parse_future
from tests.data_ingest.samples import (
    BTC,
    HOUR_MS,
    REPOSITORY,
    START_MS,
    candle_frame,
    candle_mapping,
    chain_mapping,
    chain_row,
    real_data,
    write,
)

FUTURE_SYMBOL = "BTC/USDT:USDT-231116"
EXPIRY_HOUR = 32
"""16 November 2023, 08:00 UTC, counted from the start of the sample."""


def market(**changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC"],
            "start": START_MS,
            "end": START_MS + 48 * HOUR_MS,
            "depth": {"usd": {"BTC": "5M"}},
            "futures": [FUTURE_SYMBOL],
        }
        | changes
    )


def future_frame(first: int = 5, last: int = EXPIRY_HOUR) -> pd.DataFrame:
    """Bars from listing to expiry, 2 % above the perpetual."""
    frame = candle_frame()
    for name in ("open", "high", "low", "close"):
        frame[name] *= 1.02
    return frame[first:last]


def store_with(folder: Path, future: pd.DataFrame) -> DataStore:
    store = DataStore(folder / "market.duckdb")
    for name, symbol, frame in (("p", BTC, candle_frame()), ("f", FUTURE_SYMBOL, future)):
        frame.to_parquet(folder / f"{name}.parquet")
        mapping = candle_mapping(path=f"{name}.parquet", markets={name: symbol})
        import_recorded(store, mapping, folder)
    return store


def test_a_recorded_future_is_listed_from_its_first_close_and_priced_by_each(
    tmp_path: Path,
) -> None:
    with store_with(tmp_path, future_frame()) as store:
        tape = build_tape(store, market(feed_delay="30s"))
    table = tape.instruments
    assert table.symbols == ("BTC-PERP", "BTC-16NOV23")
    assert table.kind.tolist() == [PERPETUAL, FUTURE]
    assert table.inverse.tolist() == [0, 0]
    assert table.listed_ms[1] == START_MS + 6 * HOUR_MS
    assert table.expiry_ms[1] == START_MS + EXPIRY_HOUR * HOUR_MS
    np.testing.assert_array_equal(tape.vol_ts, tape.ts)
    np.testing.assert_array_equal(tape.vol_known_ts, tape.known_ts)
    ratio = tape.forward_ratio[:, table.expiry_column[1]]
    assert ratio[:5].tolist() == [1.0] * 5
    assert ratio[5:] == pytest.approx([1.02] * 43)
    assert "BTC: BTC-16NOV23 is priced by its trade close." in tape.notes
    assert {source.market for source in tape.sources} >= {f"binanceusdm {FUTURE_SYMBOL}"}
    assert settlement_prices(tape, 0)[1] == tape.index[EXPIRY_HOUR - 1, 0]


def test_the_exchange_s_own_terms_outrank_the_symbol(tmp_path: Path) -> None:
    with store_with(tmp_path, future_frame()) as store:
        key = LedgerKey("binanceusdm", "BTC", "instruments")
        terms = ("binanceusdm", "BTCUSDT_231116", FUTURE_SYMBOL, "BTC", "future", "linear", 0.5,
                 None, None, START_MS + 33 * HOUR_MS, None, None, None, None)  # fmt: skip
        write(store, INSTRUMENTS, [terms], key)
        table = build_tape(store, market()).instruments
    assert table.contract_size[1] == 0.5
    assert table.expiry_ms[1] == START_MS + 33 * HOUR_MS


def test_beside_options_a_future_is_renewed_at_the_chain_s_snapshots(tmp_path: Path) -> None:
    chain = [chain_row(START_MS + h * HOUR_MS) for h in (0, 12, 24, 36, 48)]
    with store_with(tmp_path, future_frame()) as store:
        pd.DataFrame(chain).to_parquet(tmp_path / "chain.parquet")
        import_recorded(store, chain_mapping(), tmp_path)
        spec = market(options={"max_snapshot_gap": "14h"}, feed_delay="10min")
        tape = build_tape(store, spec)
    table = tape.instruments
    assert table.expiry_column.tolist() == [-1, 0, 1]
    assert tape.forward_ratio[:, 1] == pytest.approx([1.0, 1.02, 1.02, 1.02, 1.02])
    delays = ((tape.vol_known_ts - tape.vol_ts) // 60_000).tolist()
    assert delays == [2, 10, 10, 10, 10]


def test_each_future_has_its_own_forward_and_none_after_its_expiry(tmp_path: Path) -> None:
    later = "BTC/USDT:USDT-231117"
    beyond = future_frame(0, 48)
    beyond.loc[EXPIRY_HOUR:, ["open", "high", "low", "close"]] *= 3.0
    with store_with(tmp_path, beyond) as store:
        dearer = candle_frame()
        dearer[["open", "high", "low", "close"]] *= 1.05
        dearer.to_parquet(tmp_path / "later.parquet")
        mapping = candle_mapping(path="later.parquet", markets={"later": later})
        import_recorded(store, mapping, tmp_path)
        tape = build_tape(store, market(futures=[FUTURE_SYMBOL, later]))
    assert tape.instruments.symbols == ("BTC-PERP", "BTC-16NOV23", "BTC-17NOV23")
    assert tape.instruments.expiry_column.tolist() == [-1, 0, 1]
    np.testing.assert_allclose(tape.forward_ratio, [[1.02, 1.05]] * 48, rtol=1e-12)


def test_a_linear_future_counts_coins_even_where_the_perpetual_counts_dollars(
    tmp_path: Path,
) -> None:
    symbol = "BTC/USDC:USDC-231116"
    chain = [chain_row(START_MS + h * HOUR_MS, expiry_ms=START_MS + EXPIRY_HOUR * HOUR_MS)
             for h in (0, 12, 24)]  # fmt: skip
    with DataStore(tmp_path / "market.duckdb") as store:
        pd.DataFrame(chain).to_parquet(tmp_path / "chain.parquet")
        import_recorded(store, chain_mapping(), tmp_path)
        spec = snapshot_market(symbol).model_copy(update={"end": START_MS + 30 * HOUR_MS})
        table = build_tape(store, spec).instruments
    at = table.index_of()["BTC-16NOV23"]
    assert (table.inverse[at], table.contract_size[at]) == (0, 1.0)


def test_a_hole_in_a_future_s_life_is_refused_and_time_outside_it_is_not(tmp_path: Path) -> None:
    with (
        store_with(tmp_path, future_frame().drop([10, 11, 12, 13])) as store,
        pytest.raises(GapError, match=r"USDT-231116 .* 1 gap \(2023-11-15 10:00 for 4h\)"),
    ):
        build_tape(store, market())


def test_a_future_without_a_candle_before_expiry_is_named(tmp_path: Path) -> None:
    late = future_frame(EXPIRY_HOUR + 2, EXPIRY_HOUR + 4)
    with (
        store_with(tmp_path, late) as store,
        pytest.raises(DataError, match="no candle of binanceusdm BTC/USDT:USDT-231116 before it"),
    ):
        build_tape(store, market())


def snapshot_market(future: str) -> MarketSpec:
    options = {"min_open_interest": 1.0}
    return market(exchange="deribit", clock="snapshots", options=options, futures=[future])


def test_on_a_clock_of_snapshots_the_chain_s_forward_is_the_future_s(tmp_path: Path) -> None:
    soon = START_MS + 32 * HOUR_MS
    chain = [chain_row(START_MS + h * HOUR_MS) for h in (0, 12, 24, 36, 48)]
    chain += [
        chain_row(START_MS + h * HOUR_MS, expiry_ms=soon, open_interest=0.0,
                  underlying_price=30_000.0 + 10 * h)
        for h in (12, 24)
    ]  # fmt: skip
    with DataStore(tmp_path / "market.duckdb") as store:
        pd.DataFrame(chain).to_parquet(tmp_path / "chain.parquet")
        import_recorded(store, chain_mapping(), tmp_path)
        tape = build_tape(store, snapshot_market("BTC/USD:BTC-231116"))
        with pytest.raises(DataError, match="no forward of BTC/USD:BTC-231117"):
            build_tape(store, snapshot_market("BTC/USD:BTC-231117"))
    table = tape.instruments
    at = table.index_of()["BTC-16NOV23"]
    assert (table.inverse[at], table.contract_size[at]) == (1, 10.0)
    assert table.listed_ms[at] == START_MS + 12 * HOUR_MS
    ratio = tape.forward_ratio[:, table.expiry_column[at]]
    assert ratio == pytest.approx([1.0, 1.004, 1.008, 1.008, 1.008])
    assert len(table) == 3, "the option of that expiry does not pass the filter"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"futures": ["BTC-16NOV23"]}, "is not the symbol of a dated future"),
        ({"futures": ["BTC/USDT:USDT-231399"]}, "is not the symbol of a dated future"),
        ({"futures": ["ETH/USDT:USDT-231229"]}, "a future of ETH, which is not among the assets"),
        ({"futures": [FUTURE_SYMBOL] * 2}, "futures names a future twice"),
        ({"intrabar": "high_low", "clock": "snapshots", "options": {}}, "high_low needs candles"),
    ],
)
def test_a_market_that_cannot_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        market(**changes)


def test_an_inverse_future_settles_in_its_own_asset() -> None:
    future = parse_future("ETH/USD:ETH-240628")
    assert (future.asset, future.settlement, future.name) == ("ETH", "inverse", "ETH-28JUN24")
    assert future.expiry_ms % MS_PER_DAY == 8 * HOUR_MS
    assert parse_future("BTC/USDT:USDT-240105").name == "BTC-5JAN24"


def test_a_market_may_show_each_bar_s_extremes(tmp_path: Path) -> None:
    with store_with(tmp_path, future_frame()) as store:
        plain = build_tape(store, market())
        shown = build_tape(store, market(intrabar="high_low"))
    assert (plain.intrabar, shown.intrabar) == ("close", "high_low")
    assert plain.digest != shown.digest


def test_the_recorded_chain_of_2026_holds_dated_futures(tmp_path: Path) -> None:
    mapping = ImportMapping.load(REPOSITORY / "configs" / "import" / "deribit-chain-2026.yaml")
    july = mapping.model_copy(
        update={
            "files": tuple(
                group.model_copy(
                    update={"path": "deribit-chain-2026/deribit_chain_2026-07.parquet"}
                )
                for group in mapping.files
            )
        }
    )
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, july, real_data(), quarantine=True)
        tape = build_tape(
            store,
            MarketSpec.model_validate(
                {
                    "exchange": "deribit", "assets": ["BTC"], "clock": "snapshots",
                    "start": "2026-07-05", "end": "2026-07-20", "depth": {"usd": {"BTC": "40M"}},
                    "options": {"min_open_interest": 1000, "max_snapshot_gap": "14h"},
                    "futures": ["BTC/USD:BTC-260925"],
                }
            ),
        )  # fmt: skip
    table = tape.instruments
    at = table.index_of()["BTC-25SEP26"]
    ratio = tape.forward_ratio[:, table.expiry_column[at]]
    assert len(ratio) > 40
    assert np.all((ratio > 0.99) & (ratio < 1.05))
    assert np.ptp(ratio) > 1e-4
