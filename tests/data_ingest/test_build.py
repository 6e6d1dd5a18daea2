from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import DataError, GapError
from backtest.tape import MarketTape
from backtest.units import MS_PER_DAY
from data_ingest.build import build_tape
from data_ingest.coverage import LedgerKey
from data_ingest.inventory import inventory
from data_ingest.mapping import ImportMapping
from data_ingest.prices import as_of, last_known, modelled_depth
from data_ingest.pull import pull_market
from data_ingest.recorded import import_recorded
from data_ingest.schema import DEPTH
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore, StoreError
from tests.data_ingest.samples import (
    BTC,
    HOUR_MS,
    REPOSITORY,
    START_MS,
    candle_frame,
    candle_mapping,
    market,
    real_data,
    recorded_store,
    sample_chain,
    write,
)

FUNDING_KEY = LedgerKey("binanceusdm", BTC, "funding")


def test_a_row_describes_the_bar_that_ended_at_its_time(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        tape = build_tape(store, market(feed_delay="30s"))
    frame = candle_frame()
    assert tape.ts.tolist() == (frame["ts_utc_ms"] + HOUR_MS).tolist()
    assert (tape.known_ts - tape.ts).tolist() == [30_000] * 48
    for column, name in ((tape.mark, "close"), (tape.high, "high"), (tape.low, "low")):
        assert column[:, 0].tolist() == frame[name].tolist()
    assert tape.index.tolist() == tape.mark.tolist()
    assert tape.volume_usd[:, 0].tolist() == (frame["volume"] * frame["close"]).tolist()
    assert tape.depth_usd[0, 0] == 5e6
    assert not tape.synthetic


def test_mark_and_index_candles_take_precedence_over_trades(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        for shift, kind in ((1.0, "mark"), (-1.0, "index")):
            shifted = candle_frame()
            shifted[["open", "high", "low", "close"]] += shift
            shifted.to_parquet(tmp_path / f"{kind}.parquet")
            import_recorded(store, candle_mapping(path=f"{kind}.parquet", kind=kind), tmp_path)
        tape = build_tape(store, market())
    close = candle_frame()["close"]
    assert tape.mark[:, 0].tolist() == (close + 1).tolist()
    assert tape.index[:, 0].tolist() == (close - 1).tolist()
    assert tape.high[:, 0].tolist() == (candle_frame()["high"] + 1).tolist()
    assert not any("trade close" in note or "index is" in note for note in tape.notes)
    assert {source.feed for source in tape.sources} == {
        "trade candles 1h", "mark candles 1h", "index candles 1h",
    }  # fmt: skip


def test_what_stands_in_for_a_missing_feed_is_said(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        notes = build_tape(store, market()).notes
    assert "BTC: mark is the trade close, for want of gapless mark candles." in notes
    assert "BTC: index is the mark, for want of gapless index candles." in notes
    assert "BTC: depth is assumed constant at 5,000,000 USD." in notes


def test_what_holds_for_several_assets_alike_is_said_once(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        candles = "exchange, 'ETH/USDT:USDT' AS symbol, * EXCLUDE (exchange, symbol)"
        store.connection.execute(f"INSERT INTO candles SELECT {candles} FROM candles")
        ledger = "exchange, 'ETH/USDT:USDT' AS market, * EXCLUDE (exchange, market)"
        store.connection.execute(f"INSERT INTO coverage SELECT {ledger} FROM coverage")
        both = {"assets": ["BTC", "ETH"], "depth": {"usd": {"BTC": "5M", "ETH": "2M"}}}
        notes = build_tape(store, market(**both)).notes
    assert "BTC, ETH: index is the mark, for want of gapless index candles." in notes
    assert "BTC: depth is assumed constant at 5,000,000 USD." in notes
    assert "ETH: depth is assumed constant at 2,000,000 USD." in notes


def test_funding_falls_on_the_bar_that_ends_when_it_is_paid(tmp_path: Path) -> None:
    paid = {START_MS + h * HOUR_MS: 0.001 * (h + 1) for h in (0, 8, 16, 24, 32, 40, 48)}
    with recorded_store(tmp_path, funding=paid) as store:
        tape = build_tape(store, market())
    expected = np.zeros(48)
    for hour in (8, 16, 24, 32, 40, 48):
        expected[hour - 1] = 0.001 * (hour + 1)
    assert tape.funding[:, 0].tolist() == expected.tolist()
    assert not any("funding" in note for note in tape.notes)


def test_unknown_funding_is_zero_and_said_with_its_share(tmp_path: Path) -> None:
    paid = {START_MS + h * HOUR_MS: 0.001 for h in (24, 32, 40, 48)}
    with recorded_store(tmp_path, funding=paid) as store:
        tape = build_tape(store, market())
    assert not tape.funding[:23].any()
    (note,) = [note for note in tape.notes if "funding" in note]
    assert "unknown in 1 stretch, 50.0% of the window" in note
    assert "from 2023-11-15 00:00 to 2023-11-16 00:00 UTC" in note


def test_a_short_hole_holds_the_last_close_and_is_counted(tmp_path: Path) -> None:
    with recorded_store(tmp_path, candle_frame().drop([5, 6, 7])) as store:
        tape = build_tape(store, market(max_gap="3h"))
    close = candle_frame()["close"][4]
    for column in (tape.mark, tape.index, tape.high, tape.low):
        assert column[5:8, 0].tolist() == [close] * 3
    assert tape.volume_usd[5:8, 0].tolist() == [0.0] * 3
    assert "BTC: 3 of 48 trade bars were missing and hold the last close." in tape.notes


def test_a_long_hole_is_refused_by_its_time_and_length(tmp_path: Path) -> None:
    with (
        recorded_store(tmp_path, candle_frame().drop([5, 6, 7])) as store,
        pytest.raises(GapError, match=r"1 gap \(2023-11-15 05:00 for 3h\) longer than 2h"),
    ):
        build_tape(store, market(max_gap="2h"))


def test_many_holes_are_counted_and_ten_of_them_named(tmp_path: Path) -> None:
    with (
        recorded_store(tmp_path, candle_frame().drop(list(range(1, 48, 4)))) as store,
        pytest.raises(GapError, match=r"12 gaps \(.* and 2 more\)") as refusal,
    ):
        build_tape(store, market(max_gap=0))
    assert str(refusal.value).count(" for 1h") == 10


@pytest.mark.parametrize("missing", [[0], [47]], ids=["first", "last"])
def test_a_window_that_reaches_past_the_data_is_refused(tmp_path: Path, missing: list[int]) -> None:
    with recorded_store(tmp_path, candle_frame().drop(missing)) as store:
        if missing == [0]:
            with pytest.raises(GapError, match="2023-11-15 00:00 for 1h"):
                build_tape(store, market())
        with pytest.raises(GapError, match="gap"):
            build_tape(store, market(hours=96))


def test_a_market_that_the_store_lacks_is_named(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        eth = market(assets=["ETH"], depth={"usd": {"ETH": "1M"}})
        with pytest.raises(DataError, match="holds no trade candles of binanceusdm ETH/USDT:USDT"):
            build_tape(store, eth)


def test_an_empty_store_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with (
        DataStore(tmp_path / "market.duckdb") as store,
        pytest.raises(StoreError, match="is empty; import or pull data first"),
    ):
        build_tape(store, market())


def test_finer_candles_join_into_whole_bars_only(tmp_path: Path) -> None:
    fine = candle_frame(48 * 12, step_ms=300_000)
    with recorded_store(tmp_path / "whole", fine, timeframe="5min") as store:
        tape = build_tape(store, market())
    grouped = fine.groupby((fine["ts_utc_ms"] - START_MS) // HOUR_MS)
    assert tape.high[:, 0].tolist() == grouped["high"].max().tolist()
    assert tape.low[:, 0].tolist() == grouped["low"].min().tolist()
    assert tape.mark[:, 0].tolist() == grouped["close"].last().tolist()
    with recorded_store(tmp_path / "torn", fine.drop([30]), timeframe="5min") as store:
        torn = build_tape(store, market())
        with pytest.raises(GapError, match="02:00 for 1h"):
            build_tape(store, market(max_gap=0))
    assert torn.mark[2, 0] == torn.mark[1, 0]


def test_modelled_depth_is_a_share_of_median_daily_volume() -> None:
    volume = np.full(24 * 20, 10.0)
    volume[24 * 10 :] = 20.0
    depth = modelled_depth(volume, bars_per_day=24, share=0.5)
    assert depth[0] == depth[24 * 10] == 0.5 * 240
    assert depth[-1] == 0.5 * 480
    assert depth[24 * 13] == 0.5 * 240
    cut = modelled_depth(volume[:300], 24, 0.5)
    assert cut.tolist() == depth[:300].tolist()


def test_recorded_depth_is_the_thinner_side_last_seen(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        key = LedgerKey("binanceusdm", BTC, "depth")
        rows = [
            ("binanceusdm", BTC, START_MS, 100.0, 7e6, 9e6),
            ("binanceusdm", BTC, START_MS + 20 * HOUR_MS, 100.0, 5e6, 3e6),
        ]
        write(store, DEPTH, rows, key)
        tape = build_tape(store, market(depth={"recorded": True, "max_age": "30h"}))
        with pytest.raises(GapError, match=r"no polled book within 10h before 2023-11-15 11:00"):
            build_tape(store, market(depth={"recorded": True, "max_age": "10h"}))
    assert tape.depth_usd[:19, 0].tolist() == [7e6] * 19
    assert tape.depth_usd[19:, 0].tolist() == [3e6] * 29


def test_perpetuals_follow_their_exchange_unless_told(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        linear = build_tape(store, market()).instruments
        inverse = build_tape(store, market(settlement="inverse")).instruments
    assert (linear.symbols, linear.inverse[0], linear.contract_size[0]) == (("BTC-PERP",), 0, 1.0)
    assert (inverse.inverse[0], inverse.contract_size[0]) == (1, 1.0)


@given(
    cut=st.integers(min_value=4, max_value=47),
    closes=st.lists(st.floats(50, 200), min_size=48, max_size=48),
    gone=st.sets(st.integers(1, 46), max_size=6),
)
@settings(max_examples=12, deadline=None)
def test_no_row_depends_on_what_came_after_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int, closes: list[float], gone: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("causal")
    frame = candle_frame()
    frame["open"] = frame["close"] = closes
    frame["high"], frame["low"] = frame["close"] + 1, frame["close"] - 1
    paid = {START_MS + h * HOUR_MS: h / 1e5 for h in range(0, 49, 8)}
    known = {at: rate for at, rate in paid.items() if at <= START_MS + cut * HOUR_MS}
    late = START_MS + cut * HOUR_MS
    spec = {"depth": {"share_of_volume": "1%"}, "max_gap": "6h"}
    tapes: list[MarketTape] = []
    for name, candles, funding, chain in (
        ("whole", frame, paid, sample_chain()),
        ("early", frame[:cut], known, [r for r in sample_chain() if r["ts_utc_ms"] <= late]),
    ):
        kept = candles.drop([i for i in gone if i < len(candles)])
        with recorded_store(folder / name, kept, funding, chain) as store:
            hours = 48 if name == "whole" else cut
            tapes.append(build_tape(store, market(hours, options={}, **spec)))
    whole, early = tapes
    for name in ("ts", "index", "mark", "high", "low", "funding", "volume_usd", "depth_usd"):
        assert np.array_equal(getattr(whole, name)[:cut], getattr(early, name)), name
    snapshots = len(early.vol_ts)
    names = early.instruments.index_of()
    at = [names[s] - 1 for s in whole.instruments.symbols if names.get(s)]
    same = [i - 1 for i, s in enumerate(whole.instruments.symbols) if s in names and i]
    assert np.array_equal(whole.iv[:snapshots, same], early.iv[:, at], equal_nan=True)


def test_the_order_of_import_does_not_change_the_tape(tmp_path: Path) -> None:
    frame = candle_frame()
    digests = set()
    for order in ((frame[:20], frame[20:]), (frame[20:], frame[:20])):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        with DataStore(folder / "market.duckdb") as store:
            for part, piece in enumerate(order):
                piece.to_parquet(folder / f"{part}.parquet")
                import_recorded(store, candle_mapping(path=f"{part}.parquet"), folder)
            digests.add(build_tape(store, market()).digest)
            digests.add(build_tape(store, market()).digest)
    assert len(digests) == 1


def test_the_inventory_names_feed_span_rows_holes_and_digest(tmp_path: Path) -> None:
    paid = {START_MS + h * HOUR_MS: 0.001 for h in (0, 8)}
    frame = candle_frame().drop([5])
    with recorded_store(tmp_path / "a", frame, paid, sample_chain()) as store:
        rows = inventory(store)
    assert [(row.feed, row.rows, row.gaps) for row in rows] == [
        ("trade candles 1h", 47, 1),
        ("funding", 2, 0),
        ("instruments", 3, 0),
        ("chain", len(sample_chain()), 0),
    ]
    assert rows[0].origins == ("candles.parquet",)
    assert (rows[0].start_ms, rows[0].end_ms) == (START_MS, START_MS + 47 * HOUR_MS)
    frame.loc[7, "volume"] += 1
    with recorded_store(tmp_path / "b", frame, paid, sample_chain()) as store:
        other = inventory(store)
    assert [a.sha256 == b.sha256 for a, b in zip(rows, other, strict=True)] == [
        False, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exchange": "binance-usdm"}, "Did you mean 'binanceusdm'"),
        ({"end": START_MS}, "start must precede end"),
        ({"assets": ["BTC", "BTC"]}, "names an asset twice"),
        ({"clock": "7min"}, "must divide a day"),
        ({"clock": "snapshots"}, "needs options"),
        (
            {"clock": "snapshots", "options": {}, "depth": {"share_of_volume": "1%"}},
            "needs candles",
        ),
        ({"depth": {}}, "exactly one"),
        ({"depth": {"recorded": True, "usd": {"BTC": 1}}}, "exactly one"),
        ({"assets": ["BTC", "ETH"]}, "depth.usd lacks ETH"),
        ({"symbols": {"BTX": "x"}}, "Did you mean 'BTC'"),
        ({"options": {"strikes": [2, 1]}}, "lowest before its highest"),
        ({"clok": "1h"}, "clok"),
    ],
)
def test_a_market_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        market(**changes)


def test_last_known_values_are_carried_down_columns() -> None:
    nan = math.nan
    values = np.array([[nan, 1.0], [2.0, nan], [nan, nan], [3.0, 4.0]])
    expected = np.array([[nan, 1.0], [2.0, 1.0], [2.0, 1.0], [3.0, 4.0]])
    assert np.array_equal(last_known(values), expected, equal_nan=True)


def test_as_of_never_looks_ahead_nor_too_far_back() -> None:
    at, values = np.array([10, 20]), np.array([1.0, 2.0])
    found = as_of(at, values, np.array([9, 10, 19, 20, 26]), max_age_ms=5)
    assert np.array_equal(found, [math.nan, 1.0, math.nan, 2.0, math.nan], equal_nan=True)
    assert np.isnan(as_of(at[:0], values[:0], np.array([1]), 5)).all()


@pytest.mark.parametrize("exchange", ["binanceusdm", "deribit"])
def test_a_market_pulled_from_the_simulator_becomes_a_synthetic_tape(
    tmp_path: Path, exchange: str
) -> None:
    parameters = MarketParameters(start="2024-01-01", end="2024-03-11")
    start = parameters.start + 5 * MS_PER_DAY
    spec = MarketSpec.model_validate(
        {
            "exchange": exchange,
            "assets": ["BTC"],
            "start": start,
            "end": start + 2 * MS_PER_DAY,
            "depth": {"share_of_volume": "0.5%"},
            "options": {"poll": "12h"},
        }
    )
    with (
        ExchangeSimulator(parameters) as simulator,
        DataStore(tmp_path / "market.duckdb") as store,
    ):
        pull_market(store, spec, simulator.url, simulate_clock=True)
        tape = build_tape(store, spec)
    assert tape.synthetic
    assert len(tape) == 48
    assert len(tape.vol_ts) == 5
    assert not any("funding is unknown" in note for note in tape.notes)
    assert np.abs(tape.mark / tape.index - 1).max() < 0.02
    assert (tape.instruments.inverse[0] == 1) == (exchange == "deribit")
    (funding,) = [source for source in tape.sources if source.feed == "funding"]
    assert funding.rows == (48 if exchange == "deribit" else 6)
    assert np.count_nonzero(tape.funding) > 5


def test_the_recorded_perpetuals_become_a_tape(tmp_path: Path) -> None:
    mapping = ImportMapping.load(REPOSITORY / "configs/import/binance-perps-2020-2024.yaml")
    spec = MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC", "ETH"],
            "start": "2020-10-23T08:00",
            "end": "2024-06-16T13:00",
            "depth": {"share_of_volume": "0.5%"},
        }
    )
    folder = real_data()
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, mapping, folder)
        tape = build_tape(store, spec)
    assert len(tape) == 31_973
    # The low of the FTX collapse, as the data's own provenance states it.
    (ftx,) = np.flatnonzero(tape.ts == 1_668_031_200_000 + HOUR_MS)  # 2022-11-09 22:00 UTC
    assert tape.low[ftx, 0] == pytest.approx(15_462.6, abs=0.05)
    assert sum("funding is unknown" in note for note in tape.notes) == 2


def test_the_recorded_chain_becomes_a_tape(tmp_path: Path) -> None:
    mapping = ImportMapping.load(REPOSITORY / "configs/import/deribit-chain-2026.yaml")
    spec = MarketSpec.model_validate(
        {
            "exchange": "deribit",
            "assets": ["BTC", "ETH"],
            "start": "2026-04-01",
            "end": "2026-08-22T16:00",
            "clock": "snapshots",
            "depth": {"usd": {"BTC": "20M", "ETH": "10M"}},
            "options": {"min_open_interest": 200, "strikes": [0.6, 1.6], "max_expiry": "120d"},
        }
    )
    folder = real_data()
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, mapping, folder)
        tape = build_tape(store, spec)
    assert len(tape) == 572
    assert tape.index[:, 0].min() == pytest.approx(58_315, rel=0.01)
    assert 1_000 < len(tape.instruments) < 16_112
    assert 0.95 < tape.forward_ratio.min() <= tape.forward_ratio.max() < 1.1
