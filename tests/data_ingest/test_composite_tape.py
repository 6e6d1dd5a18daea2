"""A tape on an index of its own: from stored candles, from the simulator, from the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, DataError, GapError
from data_ingest.build import build_tape
from data_ingest.composite import asset_index
from data_ingest.coverage import LedgerKey
from data_ingest.index_report import index_reports
from data_ingest.mapping import ImportMapping
from data_ingest.prices import as_of, candle_clock
from data_ingest.pull import pull_market
from data_ingest.recorded import import_recorded
from data_ingest.schema import CANDLES
from data_ingest.simulator import ExchangeSimulator, MarketParameters
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from remargin.__main__ import main
from tests.data_ingest.samples import BTC, HOUR_MS, REPOSITORY, START_MS, real_data, write

EXCHANGES = ("binanceusdm", "okx", "bybit")
SOURCES = [{"exchange": name} for name in EXCHANGES]
MINUTE_MS = 60_000


def market(hours: int = 6, index: dict[str, Any] | None = None, **changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC"],
            "start": START_MS,
            "end": START_MS + hours * HOUR_MS,
            "max_gap": "1h",
            "depth": {"usd": {"BTC": "5M"}},
            "index": {"sources": SOURCES} | (index or {}),
        }
        | changes
    )


def store_bars(
    store: DataStore,
    exchange: str,
    closes: list[float | None],
    volume_usd: float | None = 1e6,
    kind: str = "trade",
    step_ms: int = HOUR_MS,
    start_ms: int = START_MS,
) -> None:
    """Store one bar per close; None leaves a hole."""
    rows = [
        (exchange, BTC, kind, step_ms, start_ms + i * step_ms, *[close] * 4, 1.0, volume_usd)
        for i, close in enumerate(closes)
        if close is not None
    ]
    write(store, CANDLES, rows, LedgerKey(exchange, BTC, f"{kind}_candles", step_ms))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def test_the_tapes_index_is_the_composite_and_its_mark_is_the_exchanges(store: DataStore) -> None:
    store_bars(store, "binanceusdm", [100.0, 101.0, 102.0, 103.0, 104.0, 105.0], 2e6)
    store_bars(store, "okx", [100.2, 101.2, 150.0, None, 104.2, 105.2], 1e6)
    store_bars(store, "bybit", [100.4, 101.4, 102.4, 103.4, 104.4, 105.4], 1e6)
    store_bars(store, "binanceusdm", [99.0] * 6, kind="index")
    tape = build_tape(store, market())
    # All three: the middle one. Okx wild or absent: the two others by volume, two to one.
    expected = [100.2, 101.2, 102 + 0.4 / 3, 103 + 0.4 / 3, 104.2, 105.2]
    assert tape.index[:, 0] == pytest.approx(expected, rel=1e-12)
    assert tape.mark[:, 0].tolist() == [100.0, 101.0, 102.0, 103.0, 104.0, 105.0]
    (note,) = [note for note in tape.notes if "index" in note]
    assert note.startswith(
        "BTC: index is built from binanceusdm BTC/USDT:USDT, okx BTC/USDT:USDT, bybit "
        "BTC/USDT:USDT (trimmed mean, weights: volume); of 6 instants, sources counted: 3 at "
        "66.7%, 2 at 33.3%; left out: okx BTC/USDT:USDT stale at 1, okx BTC/USDT:USDT outlier at 1."
    )
    assert "binanceusdm's own index at the median and at most 626.3 bp, at 2023-11-15 06:00" in note
    read = [(s.feed, s.market) for s in tape.sources]
    assert ("index candles 1h", f"binanceusdm {BTC}") in read
    for exchange in EXCHANGES:
        assert ("index source: trade candles 1h", f"{exchange} {BTC}") in read


def test_an_index_moves_the_tapes_digest_only_where_it_is_asked_for(store: DataStore) -> None:
    for shift, exchange in enumerate(EXCHANGES):
        store_bars(store, exchange, [100.0 + shift / 4] * 6)
    plain = build_tape(store, market(index=None).model_copy(update={"index": None}))
    built = build_tape(store, market())
    assert plain.index[0, 0] == 100.0
    assert built.index[0, 0] == 100.25
    assert built.digest != plain.digest
    assert built.digest == build_tape(store, market(index={"sources": SOURCES[::-1]})).digest


def test_a_bar_without_volume_makes_its_source_no_younger(store: DataStore) -> None:
    store_bars(store, "binanceusdm", [100.0] * 3)
    store_bars(store, "okx", [100.4] * 3)
    for step, volume in ((0, 1e6), (1, 0.0), (2, 0.0)):
        store_bars(store, "bybit", [100.2], volume, start_ms=START_MS + step * HOUR_MS)
    built = build(store, market(3))
    assert built.composite.used.tolist() == [3, 2, 2]
    assert build(store, market(3, {"max_age": "1h"})).composite.used.tolist() == [3, 3, 2]


def build(store: DataStore, spec: MarketSpec) -> Any:
    return asset_index(store, spec, "BTC", candle_clock(spec))


def test_a_source_of_finer_bars_is_as_old_as_its_last_one(store: DataStore) -> None:
    for exchange in ("binanceusdm", "okx"):
        store_bars(store, exchange, [100.0] * 2)
    # Minute bars that stop at minute 55 of the first hour, and at minute 54 of the second.
    minutes: list[float | None] = [100.0 + i / 1000 for i in range(120)]
    minutes[55:60] = [None] * 5
    minutes[114:] = [None] * 6
    store_bars(store, "bybit", minutes, step_ms=MINUTE_MS)
    built = build(store, market(2))
    assert built.composite.used.tolist() == [3, 2]
    equal = build(store, market(2, {"weights": "equal", "method": "mean"}))
    assert equal.price[0] == pytest.approx((200 + 100.054) / 3, rel=1e-12)


def test_weights_follow_what_was_traded_in_the_window_before(store: DataStore) -> None:
    store_bars(store, "okx", [100.0] * 6, 3e6)
    store_bars(store, "bybit", [100.4] * 3, 1e6)
    store_bars(store, "bybit", [100.4] * 3, 9e6, start_ms=START_MS + 3 * HOUR_MS)
    store_bars(store, "binanceusdm", [100.0] * 6)
    two = {"sources": SOURCES[1:], "weight_window": "2h", "method": "mean"}
    shares = (build(store, market(6, two)).price - 100.0) / 0.4
    assert shares == pytest.approx([1 / 4, 1 / 4, 1 / 4, 10 / 16, 3 / 4, 3 / 4], rel=1e-9)


def test_a_short_want_of_sources_holds_the_last_price_and_a_long_one_is_refused(
    store: DataStore,
) -> None:
    store_bars(store, "binanceusdm", [100.0] * 6)
    store_bars(store, "okx", [100.2, None, 100.2, 100.2, None, 100.2])
    store_bars(store, "bybit", [100.4, None, 100.4, None, None, 100.4])
    built = build(store, market())
    assert built.price[1] == built.price[0]
    assert "2 hold the last value" in build_tape(store, market()).notes[0]
    with pytest.raises(GapError) as raised:
        build(store, market(max_gap=0))
    assert str(raised.value).startswith(
        "the BTC index of binanceusdm BTC/USDT:USDT, okx BTC/USDT:USDT, bybit BTC/USDT:USDT has 2 "
        "gaps (2023-11-15 01:00 for 1h, 2023-11-15 04:00 for 1h) longer than 0s in which fewer "
        "than 2 sources count (okx BTC/USDT:USDT stale at 2"
    )


def test_a_source_that_the_store_lacks_is_named(store: DataStore) -> None:
    store_bars(store, "binanceusdm", [100.0] * 6)
    store_bars(store, "okx", [100.0] * 6, None)
    with pytest.raises(DataError, match=r"holds no trade candles of bybit BTC/USDT:USDT from 2023"):
        build(store, market(index={"sources": SOURCES[::2]}))
    with pytest.raises(DataError, match=r"okx BTC/USDT:USDT has no recorded volume; write weights"):
        build(store, market(index={"sources": SOURCES[:2]}))
    equal = {"sources": SOURCES[:2], "weights": "equal"}
    assert build(store, market(index=equal)).price.tolist() == [100.0] * 6


def test_quotes_of_several_currencies_are_said_to_be_taken_one_for_one(store: DataStore) -> None:
    store_bars(store, "binanceusdm", [100.0] * 6)
    store.connection.execute(
        "INSERT INTO candles SELECT 'kraken', 'BTC/USD', * EXCLUDE (exchange, symbol) FROM candles"
    )
    sources = [SOURCES[0], {"exchange": "kraken", "symbol": "{asset}/USD"}]
    (note, *_) = build_tape(store, market(index={"sources": sources})).notes
    assert "USD and USDT are taken one for one" in note


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 23), seed=st.integers(0, 99))
def test_no_row_changes_when_the_future_is_hidden(
    tmp_path_factory: pytest.TempPathFactory, cut: int, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    spec = market(24, max_gap="24h")
    with DataStore(tmp_path_factory.mktemp("cut") / "market.duckdb") as opened:
        for exchange in EXCHANGES:
            closes = (100.0 * np.exp(draws.normal(0, 0.01, 24))).tolist()
            holes = draws.random(24) < 0.2
            holes[0] = False
            store_bars(
                opened, exchange,
                [None if hole else close for close, hole in zip(closes, holes, strict=True)],
                float(draws.uniform(1e5, 1e7)),
            )  # fmt: skip
        try:
            whole = build(opened, spec)
        except GapError:
            return  # the first row lacks sources: nothing to compare
        opened.connection.execute(
            "DELETE FROM candles WHERE open_ms >= ?", [START_MS + cut * HOUR_MS]
        )
        part = build(opened, spec)
    assert np.array_equal(whole.composite.price[:cut], part.composite.price[:cut], equal_nan=True)
    assert np.array_equal(whole.composite.fate[:cut], part.composite.fate[:cut])


def test_four_exchanges_pulled_together_agree_with_their_own_indices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    parameters = MarketParameters(start="2024-01-01", end="2024-03-11")
    config = study(tmp_path)
    path = tmp_path / "store.duckdb"
    with ExchangeSimulator(parameters) as simulator:
        words = [str(config), "--store", str(path)]
        run(["data", "pull", *words, "--simulator", simulator.url])
    said = capsys.readouterr().out
    for exchange in ("okx", "bybit", "deribit"):
        assert f"{exchange}" in said
    run(["data", "index", *words, "--json"])
    reports = json.loads(capsys.readouterr().out)
    assert [report["asset"] for report in reports] == ["BTC", "ETH"]
    for report in reports:
        assert report["by_count"] == {"4": 48}
        # Deribit serves no index candles; its index comes with funding, which is not pulled here.
        assert [row["exchange"] for row in report["beside"]] == list(EXCHANGES)
        assert max(row["largest_bps"] for row in report["beside"]) < 100.0
    run(["data", "index", *words])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert "48 instants: 4 sources at 100.0%" in shown
    with DataStore(path) as opened:
        assert build_tape(opened, spec_of(config)).synthetic


def run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0


def study(folder: Path) -> Path:
    """The demo's market for two days, on an index of four exchanges."""
    demo = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
    config: dict[str, Any] = yaml.safe_load(demo.read_text())
    four = [*SOURCES, {"exchange": "deribit"}]
    config["market"] |= {"end": "2024-01-03", "index": {"sources": four}}
    config["market"].pop("options", None)
    config["windows"] = {
        "search": ["2024-01-01", "2024-01-01"],
        "holdout": ["2024-01-02", "2024-01-02"],
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def spec_of(config: Path) -> MarketSpec:
    return MarketSpec.model_validate(yaml.safe_load(config.read_text())["market"])


def test_a_pull_asks_each_source_once_and_leaves_imports_alone(tmp_path: Path) -> None:
    parameters = MarketParameters(start="2024-01-01", end="2024-01-15")
    spec = market(
        start="2024-01-02",
        end="2024-01-03",
        index={"sources": [*SOURCES[:2], {"exchange": "binance", "symbol": "{asset}/USDT"}]},
    )
    with (
        ExchangeSimulator(parameters) as simulator,
        DataStore(tmp_path / "market.duckdb") as opened,
    ):
        reports = pull_market(opened, spec, simulator.url)
    for feed in ("trade_candles", "index_candles"):
        pulled = [(r.exchange, r.market) for r in reports if r.feed == feed]
        assert sorted(pulled) == [("binanceusdm", BTC), ("okx", BTC)]


def test_three_recorded_markets_agree_with_the_index_that_deribit_stamped_on_its_trades(
    tmp_path: Path,
) -> None:
    folder = real_data()
    mappings = ("binance-spot", "binance-perps-2019-2022", "ftx-presumed-btc-1m-2022-01",
                "deribit-option-trades-2022")  # fmt: skip
    sources = [
        {"exchange": "binanceusdm"},
        {"exchange": "binance", "symbol": "{asset}/USDT"},
        {"exchange": "ftx_presumed", "symbol": "BTC/USD:USD"},
    ]
    spec = market(
        start="2022-01-01", end="2022-01-02", index={"sources": sources, "max_deviation": "0.3%"}
    )
    with DataStore(tmp_path / "recorded.duckdb") as opened:
        for name in mappings:
            path = REPOSITORY / "configs" / "import" / f"{name}.yaml"
            import_recorded(opened, ImportMapping.load(path), folder)
        built = build(opened, spec)
        stamped = opened.columns(
            "SELECT ts_ms, index_price FROM option_trades WHERE native_id LIKE 'BTC-%' "
            "ORDER BY ts_ms"
        )
    assert built.composite.used.tolist() == [3] * 24
    ts = candle_clock(spec)
    # A quiet day: few hours end within two minutes of an option trade, and its stamp.
    deribit = as_of(stamped["ts_ms"], stamped["index_price"], ts, 2 * MINUTE_MS)
    apart = 1e4 * np.abs(built.price / deribit - 1)
    assert np.isfinite(apart).sum() == 9
    assert np.nanmedian(apart) == pytest.approx(3.9, abs=0.05)
    assert np.nanmax(apart) < 15.0


def test_a_market_without_an_index_has_none_to_report(store: DataStore) -> None:
    with pytest.raises(ConfigError, match=r"market\.index is missing"):
        index_reports(store, market().model_copy(update={"index": None}))
