"""Every preset: loads with one line, says what it is, and replays alike in both engines."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from backtest.instruments import InstrumentTable
from backtest.kernels.records import SERIES_NAMES
from backtest.reference import replay_reference
from backtest.replay import margin_path, run_loop
from backtest.venue import VenueRules
from strategies.portfolio import Portfolio, ask
from strategies.registry import PRESETS, policy
from tests.backtest.cases import random_book
from tests.tapes import make_tape

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))
VENUES_THAT_VOTE = {
    "derive-pmrm", "derive-pmrm2", "derive-standard", "deribit-standard", "deribit-portfolio",
    "paradex-portfolio", "paradex-cross", "dydx-v4", "drift-v2", "mango-v4", "synthetix-v3",
    "gmx-v2", "hyperliquid", "binance-usdm", "bybit", "okx-standard", "opyn-naked", "vega",
    "cme-span", "aevo",
}  # fmt: skip


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "preset_pages", ROOT / "docs" / "presets" / "generate.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_venues_that_vote_are_here_by_name():
    assert set(NAMES) >= VENUES_THAT_VOTE


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_where_it_comes_from_and_what_is_exact(name, generate):
    told = generate.read_preset(name)
    for key in ("about", "venue", "source", "formula"):
        assert str(told[key]).strip(), key
    assert str(told["read"]).startswith("20")
    assert told["exact"]
    assert told["simplified"]
    assert all(isinstance(line, str) for line in (*told["exact"], *told["simplified"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_page_is_what_the_file_says_today(name, generate):
    page = (generate.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page == generate.page(name), "run: python docs/presets/generate.py"


def test_the_list_of_presets_is_what_the_files_say_today(generate):
    readme = (generate.PAGES / "README.md").read_text(encoding="utf-8")
    assert generate.put_between(readme, "list", generate.listing()) == readme


def test_the_replayed_tables_name_every_preset(generate):
    readme = (generate.PAGES / "README.md").read_text(encoding="utf-8")
    for name in generate.REPLAYED:
        table = readme.partition(f"<!-- {name} -->")[2].partition(f"<!-- end of {name} -->")[0]
        named = [line.split("]")[0].split("[")[1] for line in table.splitlines() if "](" in line]
        assert named == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["elastic", "recorded"])
def test_a_preset_replays_alike_in_the_loop_and_in_its_specification(name, mode):
    tape = make_tape(
        rows=60, assets=("BTC", "ETH", "SOL"), options=True, inverse=True, futures=True, seed=5
    )
    book = random_book(tape, 5, accounts=10, groups=40, mode=mode, plain=False)
    chosen = policy(f"preset:{name}")
    venue = VenueRules(oracle={"confidence": {"width": "30%", "range_share": 2.0}})
    run = run_loop(tape, book, chosen.layers(tape), venue, slice(0, len(tape)))
    series, _, _ = replay_reference(tape, book, chosen, venue)
    for column in SERIES_NAMES:
        np.testing.assert_array_equal(run.series[column], series[column], err_msg=column)
    assert run.series["required_initial_usd"].max() > 0.0


def test_a_probe_has_paid_for_its_position_so_a_coin_settled_one_is_asked_like_any():
    """Derive counts coins with the position; without the coins it was paid with, nothing moves."""
    rates = []
    for inverse in (False, True):
        tape = make_tape(rows=20, assets=("BTC",), options=False, inverse=inverse, seed=1)
        keep = np.flatnonzero(tape.instruments.inverse == int(inverse))[0]
        rows = {k: v[[keep]] for k, v in tape.instruments.arrays()}
        only = InstrumentTable(symbols=(tape.instruments.symbols[keep],), **rows)
        layers = policy("preset:derive-pmrm2").layers(replace(tape, instruments=only))
        path = margin_path(replace(tape, instruments=only), layers, VenueRules(), slice(0, 20))
        rates.append(path.initial[5:, 0])
    haircut_on_the_coins = 0.10 + 0.05
    np.testing.assert_allclose(rates[0], 0.18 + 0.03 + 0.01, rtol=0.02)
    np.testing.assert_allclose(rates[1], rates[0] + haircut_on_the_coins, rtol=0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("assets", [("BTC",), ("ETH", "BTC"), ("DOGE", "XRP", "USDC")])
def test_a_preset_asks_something_finite_on_any_market(name, assets):
    told = {asset: {"index": 10.0 ** (3 - k), "open_interest_usd": "10M", "depth_usd": "1M",
                    "volume_usd": "5M"} for k, asset in enumerate(assets)}  # fmt: skip
    option = {"asset": assets[0], "kind": "option", "strike": 900.0, "iv": "80%",
              "expires_in": "20d"}  # fmt: skip
    legs = [
        {"asset": assets[-1], "quantity": -3.0},
        {"asset": assets[0], "quantity": 50.0, "settles_in": "coin", "contract_size": 10.0},
        {"asset": assets[0], "kind": "future", "quantity": 1.0, "expires_in": "60d",
         "forward": 1_020.0},
        option | {"quantity": -2.0, "call": True},
        option | {"quantity": 1.0, "settles_in": "coin"},
    ]  # fmt: skip
    portfolio = Portfolio.model_validate(
        {"assets": told, "cash_usd": 500.0, "coins": {assets[0]: 2.0}, "positions": legs}
    )
    asked = ask(policy(f"preset:{name}"), portfolio)
    assert np.isfinite(asked.initial_usd)
    assert asked.initial_usd >= asked.maintenance_usd > 0.0
    parts = np.array([part[2:] for part in asked.parts])
    np.testing.assert_allclose(
        parts.sum(axis=0), [asked.initial_usd, asked.maintenance_usd], rtol=1e-9, atol=1e-6
    )
