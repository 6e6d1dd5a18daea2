"""Surfaces from stored chains and trades: what is gathered, fitted, stored, summarised, printed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from backtest.errors import DataError
from backtest.units import MS_PER_DAY, MS_PER_YEAR
from data_ingest.coverage import LedgerKey
from data_ingest.mapping import ImportMapping
from data_ingest.recorded import import_recorded
from data_ingest.schema import OPTION_TRADES
from data_ingest.simulator.surface import black_76_coin
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from data_ingest.surfaces.arbitrage import Violation
from data_ingest.surfaces.smiles import chain_smiles, implied_forward, smile_of, trade_smiles
from data_ingest.surfaces.stored import market_surfaces, store_surfaces, summarise
from data_ingest.surfaces.svi import SVI
from data_ingest.surfaces.terms import named_terms
from tests.data_ingest.samples import (
    HOUR_MS,
    REPOSITORY,
    START_MS,
    chain_mapping,
    chain_row,
    real_data,
    write,
)
from tests.remargin.conftest import desk as desk
from tests.remargin.desk import Desk

EXPIRIES = {30: START_MS + 30 * MS_PER_DAY, 60: START_MS + 60 * MS_PER_DAY}
STRIKES = np.arange(20_000.0, 44_000.0, 2_000.0)
SLICES = {30: SVI(0.01, 0.08, -0.3, 0.01, 0.12), 60: SVI(0.03, 0.1, -0.3, 0.01, 0.2)}


def chain_rows(
    slices: dict[int, SVI] = SLICES, strikes: np.ndarray = STRIKES, steps: int = 2
) -> list[dict[str, Any]]:
    rows = []
    for step in range(steps):
        at = START_MS + step * 6 * HOUR_MS
        for days, svi in slices.items():
            years = (EXPIRIES[days] - at) / MS_PER_YEAR
            for strike in strikes:
                sigma = float(svi.volatility(math.log(strike / 30_300.0), years))
                rows += [
                    chain_row(at, strike, kind, EXPIRIES[days], mark_iv=sigma)
                    for kind in ("call", "put")
                ]
    return rows


def chain_store(folder: Path, rows: list[dict[str, Any]]) -> DataStore:
    store = DataStore(folder / "market.duckdb")
    pd.DataFrame(rows).to_parquet(folder / "chain.parquet")
    import_recorded(store, chain_mapping(), folder)
    return store


MARKET: dict[str, Any] = {
    "exchange": "deribit",
    "assets": ["BTC"],
    "start": "2023-11-15T00:00",
    "end": "2023-11-15T12:00",
    "clock": "snapshots",
    "depth": {"usd": {"BTC": "5M"}},
    "options": {},
}


def market(**changes: Any) -> MarketSpec:
    return MarketSpec.model_validate(MARKET | changes)


def test_a_chain_gives_one_smile_per_snapshot_and_expiry_and_a_point_per_strike(
    tmp_path: Path,
) -> None:
    with chain_store(tmp_path, chain_rows()) as store:
        smiles = list(chain_smiles(store, "deribit", ["BTC"], START_MS, START_MS + HOUR_MS * 12))
    assert [(s.ts_ms, s.expiry_ms) for s in smiles] == [
        (START_MS + step, expiry) for step in (0, 6 * HOUR_MS) for expiry in EXPIRIES.values()
    ]
    assert all(len(s.volatility) == len(STRIKES) for s in smiles)
    assert smiles[0].forward_usd == 30_300.0


def test_stored_chains_give_back_the_slices_that_made_them(tmp_path: Path) -> None:
    with chain_store(tmp_path, chain_rows()) as store:
        surfaces = market_surfaces(store, market())
    assert [(s.asset, s.ts_ms, len(s.slices)) for s in surfaces] == [
        ("BTC", START_MS, 2),
        ("BTC", START_MS + 6 * HOUR_MS, 2),
    ]
    for held, true in zip(surfaces[0].slices, SLICES.values(), strict=True):
        found = (held.svi.a, held.svi.b, held.svi.rho, held.svi.m, held.svi.sigma)
        assert found == pytest.approx((true.a, true.b, true.rho, true.m, true.sigma), abs=1e-6)
        assert held.points == len(STRIKES)
    assert not surfaces[0].violations


def test_quotes_that_are_worth_nothing_are_left_out_of_the_fit(tmp_path: Path) -> None:
    rows = chain_rows()
    rows.append(chain_row(START_MS, 900_000.0, "call", EXPIRIES[30], mark_iv=3.0))
    with chain_store(tmp_path, rows) as store:
        first = market_surfaces(store, market())[0].slices[0]
    assert first.points == len(STRIKES)
    assert first.max_error < 1e-9


def test_an_expiry_with_too_few_strikes_is_listed_as_unfitted(tmp_path: Path) -> None:
    rows = [
        row
        for row in chain_rows()
        if row["expiry_utc_ms"] != EXPIRIES[60] or row["strike"] in STRIKES[3:7]
    ]
    with chain_store(tmp_path, rows) as store:
        surfaces = market_surfaces(store, market())
    assert [len(s.slices) for s in surfaces] == [1, 1]
    assert [smile.expiry_ms for smile in surfaces[0].unfitted] == [EXPIRIES[60]]
    one, two = summarise(surfaces)
    assert (one.fits, one.unfitted, two.fits, two.unfitted) == (2, 0, 0, 2)
    assert math.isnan(two.rmse)


def test_calendar_arbitrage_of_a_chain_is_found_and_counted_where_it_is_quoted(
    tmp_path: Path,
) -> None:
    crossed = {30: SLICES[60], 60: SLICES[30]}
    with chain_store(tmp_path, chain_rows(crossed)) as store:
        surfaces = market_surfaces(store, market())
    inside = [v for v in surfaces[0].violations if v.quoted]
    assert {(v.kind, v.expiry_ms) for v in inside} == {("calendar", EXPIRIES[60])}
    early, late = summarise(surfaces)
    assert (early.calendars, early.butterflies) == (0, 0)
    assert late.calendars == 2 * len(inside)


def test_slices_are_stored_in_place_of_those_of_the_same_instants(tmp_path: Path) -> None:
    with chain_store(tmp_path, chain_rows()) as store:
        surfaces = market_surfaces(store, market())
        fewer = replace(surfaces[1], slices=(replace(surfaces[1].slices[0], rmse=1.0),))
        assert store_surfaces(store, "deribit", "chain", surfaces) == 4
        store_surfaces(store, "deribit", "trades", surfaces[:1])
        assert store_surfaces(store, "deribit", "chain", [fewer]) == 1
        kept = store.rows(
            "SELECT origin, ts_ms, expiry_ms, round(rmse, 6), round(b, 6), points "
            "FROM surfaces ORDER BY ALL"
        )
    early, late = START_MS, START_MS + 6 * HOUR_MS
    assert kept == [
        ("chain", early, EXPIRIES[30], 0.0, 0.08, 12),
        ("chain", early, EXPIRIES[60], 0.0, 0.1, 12),
        ("chain", late, EXPIRIES[30], 1.0, 0.08, 12),
        ("trades", early, EXPIRIES[30], 0.0, 0.08, 12),
        ("trades", early, EXPIRIES[60], 0.0, 0.1, 12),
    ]


def test_violations_are_stored_with_their_slice_where_they_are_quoted(tmp_path: Path) -> None:
    found = tuple(
        Violation(kind, "BTC", START_MS, EXPIRIES[60], 0.0, 0.1, quoted)
        for kind, quoted in (
            ("butterfly", True), ("calendar", True), ("calendar", True), ("calendar", False),
        )
    )  # fmt: skip
    with chain_store(tmp_path, chain_rows()) as store:
        first = replace(market_surfaces(store, market())[0], violations=found)
        store_surfaces(store, "deribit", "chain", [first])
        kept = store.rows("SELECT butterflies, calendars FROM surfaces ORDER BY expiry_ms")
    assert kept == [(0, 0), (1, 2)]


def test_a_store_with_surfaces_opens_again_and_nothing_to_store_is_no_error(tmp_path: Path) -> None:
    with chain_store(tmp_path, chain_rows()) as store:
        assert store_surfaces(store, "deribit", "chain", []) == 0
    with DataStore(tmp_path / "market.duckdb", read_only=True) as store:
        assert store.rows("SELECT count(*) FROM surfaces") == [(0,)]


def test_smiles_average_quotes_of_a_strike_by_size() -> None:
    smile = smile_of(
        "BTC", 0, MS_PER_DAY, 100.0, np.array([110.0, 90.0, 110.0]), np.array([0.5, 0.7, 0.8]),
        np.array([3.0, 1.0, 1.0]),
    )  # fmt: skip
    assert smile.volatility == pytest.approx([0.7, 0.575])
    assert smile.size[1] == 4 * smile.size[0]
    assert smile.log_moneyness == pytest.approx(np.log([0.9, 1.1]))


def test_a_trades_price_and_volatility_tell_its_forward() -> None:
    forward = np.array([31_000.0, 29_500.0, 30_400.0])
    strike, is_call = np.array([30_000.0, 28_000.0, 36_000.0]), np.array([True, False, True])
    deviation = np.array([0.1, 0.2, 0.3])
    price = black_76_coin(forward, strike, deviation, is_call)
    index = np.full(3, 30_000.0)
    told = implied_forward(price, deviation, strike, is_call, index)
    assert told == pytest.approx(forward, rel=1e-9)
    assert np.isnan(implied_forward(price * 20, deviation, strike, is_call, index)).all()


def trades(
    move: float = 1.0, start_usd: float = 30_000.0, late_ms: int = 0
) -> list[tuple[Any, ...]]:
    """Trades of an hour, while the index moves; the forward stays 2 % above it."""
    rows: list[tuple[Any, ...]] = []
    svi = SLICES[30]
    expiry_ms = named_terms("BTC-15DEC23-30000-C")[3]
    for i, strike in enumerate(np.tile(STRIKES, 2)):
        at = START_MS + late_ms + i * 60_000
        index = start_usd * (1.0 + (move - 1.0) * i / 24)
        forward = 1.02 * index
        years = (expiry_ms - START_MS - HOUR_MS) / MS_PER_YEAR
        sigma = float(svi.volatility(math.log(strike / forward), years))
        is_call = strike > forward
        deviation = sigma * math.sqrt((expiry_ms - at) / MS_PER_YEAR)
        price = black_76_coin(
            np.array([forward]), np.array([strike]), np.array([deviation]), np.array([is_call])
        )[0]
        name = f"BTC-15DEC23-{strike:.0f}-{'C' if is_call else 'P'}"
        rows.append(
            (
                "deribit",
                f"{late_ms}-{i}",
                name,
                at,
                price,
                sigma,
                index,
                1.0 + i % 3,
                "buy",
                i,
                None,
            )
        )
    return rows


@pytest.mark.parametrize("move", [1.0, 1.03])
def test_trades_give_back_the_slice_that_priced_them(tmp_path: Path, move: float) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        held = trades(move)
        broken = (
            "deribit",
            "x",
            "BTC-15DEC23-30000-C",
            START_MS,
            0.9,
            5.0,
            30_000.0,
            9.0,
            "buy",
            99,
            None,
        )
        write(store, OPTION_TRADES, [*held, broken], LedgerKey("deribit", "BTC", "option_trades"))
        (surface,) = market_surfaces(store, market(), trades_window_ms=HOUR_MS)
    (fitted,) = surface.slices
    assert surface.ts_ms == START_MS + HOUR_MS
    assert fitted.forward_usd == pytest.approx(1.02 * held[-1][6], rel=1e-6)
    true = SLICES[30]
    found = (fitted.svi.a, fitted.svi.b, fitted.svi.rho, fitted.svi.m, fitted.svi.sigma)
    assert found == pytest.approx((true.a, true.b, true.rho, true.m, true.sigma), abs=1e-5)


def test_each_window_sees_its_own_trades_only(tmp_path: Path) -> None:
    later = trades(start_usd=33_000.0, late_ms=HOUR_MS)
    with DataStore(tmp_path / "market.duckdb") as store:
        key = LedgerKey("deribit", "BTC", "option_trades")
        write(store, OPTION_TRADES, trades(), key)
        (alone,) = market_surfaces(store, market(), trades_window_ms=HOUR_MS)
        write(store, OPTION_TRADES, later, key)
        first, second = market_surfaces(store, market(), trades_window_ms=HOUR_MS)
    assert first == alone
    assert second.ts_ms == START_MS + 2 * HOUR_MS
    forwards = first.slices[0].forward_usd, second.slices[0].forward_usd
    assert forwards == pytest.approx((1.02 * 30_000.0, 1.02 * 33_000.0), rel=1e-6)


def test_trades_whose_terms_nobody_knows_are_refused(tmp_path: Path) -> None:
    with DataStore(tmp_path / "market.duckdb") as store:
        key = LedgerKey("deribit", "BTC", "option_trades")
        odd = ("deribit", "1", "BTC-ODD", START_MS, 0.1, 0.5, 3e4, 1.0, "buy", 1, None)
        write(store, OPTION_TRADES, [odd], key)
        with pytest.raises(DataError, match=r"has trades of BTC-ODD on deribit but not its terms"):
            market_surfaces(store, market(), trades_window_ms=HOUR_MS)


@pytest.mark.parametrize("window", [None, HOUR_MS])
def test_a_window_without_quotes_is_refused(tmp_path: Path, window: int | None) -> None:
    eth = market(assets=["ETH"], depth={"usd": {"ETH": "1M"}})
    with (
        chain_store(tmp_path, chain_rows()) as store,
        pytest.raises(DataError, match=r"holds no option (chain|trade) of deribit ETH"),
    ):
        market_surfaces(store, eth, trades_window_ms=window)


def test_the_command_prints_a_row_per_expiry_and_json_holds_every_slice(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    chain_store(tmp_path, chain_rows({30: SLICES[60], 60: SLICES[30]})).close()
    (tmp_path / "market.duckdb").rename(desk.store)
    desk.write_config({"market": MARKET})
    code, out, err = desk.run("data", "surface", desk.config)
    assert (code, [line.split()[:4] for line in out.splitlines()[1:3]]) == (
        0, [["BTC", "2023-12-15", "2", "12"], ["BTC", "2024-01-14", "2", "12"]],
    ), err  # fmt: skip
    assert "calendar  BTC 2024-01-14 at 2023-11-15" in out
    code, out, _ = desk.run("data", "surface", desk.config, "--json")
    told = json.loads(out)
    assert (code, len(told["expiries"]), len(told["slices"])) == (0, 2, 4)
    wings = told["slices"][0]["jump_wings"]
    assert wings["atm_variance"] == pytest.approx(
        SLICES[60].jump_wings(30 / 365).atm_variance, rel=1e-6
    )
    assert {found["kind"] for found in told["violations"]} >= {"calendar"}
    with DataStore(desk.store, read_only=True) as store:
        assert store.rows("SELECT count(*) FROM surfaces") == [(4,)]


def test_the_command_refuses_what_it_cannot_do_in_one_sentence(desk: Desk) -> None:
    assert "market.options is missing" in desk.refuses("data", "surface", desk.config)
    text = yaml.safe_load(desk.config.read_text())
    text["market"]["options"] = {}
    desk.config.write_text(yaml.safe_dump(text))
    assert "--trades: " in desk.refuses("data", "surface", desk.config, "--trades", "soon")


def test_real_chains_fit_to_the_accuracy_that_the_documentation_states(tmp_path: Path) -> None:
    mapping = ImportMapping.load(REPOSITORY / "configs" / "import" / "deribit-chain-2026.yaml")
    august = [group.model_copy(update={"path": group.path.replace("*", "2026-08")})
              for group in mapping.files]  # fmt: skip
    folder = real_data()
    window = {"start": "2026-08-10", "end": "2026-08-12", "assets": ["BTC", "ETH"]}
    wanted = market(**window, depth={"usd": {"BTC": "1M", "ETH": "1M"}})
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, mapping.model_copy(update={"files": tuple(august)}), folder)
        surfaces = market_surfaces(store, wanted)
    slices = [held for surface in surfaces for held in surface.slices]
    assert len(slices) > 100
    rmse = np.array([held.rmse for held in slices])
    assert np.median(rmse) < 0.004
    assert np.quantile(rmse, 0.99) < 0.02


def test_real_trades_show_the_forwards_curve(tmp_path: Path) -> None:
    name = "deribit-option-trades-2022.yaml"
    mapping = ImportMapping.load(REPOSITORY / "configs" / "import" / name)
    with DataStore(tmp_path / "market.duckdb") as store:
        import_recorded(store, mapping, real_data())
        start = 1_640_995_200_000
        smiles = trade_smiles(store, "deribit", ["BTC"], start, start + 2 * HOUR_MS, 2 * HOUR_MS)
        forwards = [smile.forward_usd for smile in smiles]
    # The index was 46,220 to 47,520 USD that day, and futures traded above it.
    assert len(forwards) > 5
    assert 46_220 < forwards[0] < 47_520
    assert forwards[0] * 1.02 < forwards[-1] < forwards[0] * 1.2
