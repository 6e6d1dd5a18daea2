"""The two configs on recorded data, over a few weeks and with few accounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backtest.instruments import OPTION
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore
from experiments.config import RunConfig, config_from, load_config
from experiments.importing import plan_import
from experiments.reproduce import reproduce
from experiments.run import Inputs, inputs_of, run_replay, run_study
from experiments.track import Tracker
from experiments.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / "configs" / "real"
DATA = Path(os.environ.get("REMARGIN_DATA") or ROOT.parent / "shared" / "data")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data on this machine")

SHORT = {
    "perps-2020-2024": {
        "market": {"start": "2022-10-01", "end": "2022-11-25"},
        "windows": {
            "search": ["2022-10-01", "2022-10-31"],
            "holdout": ["2022-11-01", "2022-11-24"],
        },
    },
    "options-2026": {
        "market": {"start": "2026-04-01", "end": "2026-05-01"},
        "windows": {
            "search": ["2026-04-01", "2026-04-15"],
            "holdout": ["2026-04-16", "2026-04-30"],
        },
    },
}


def shortened(name: str) -> RunConfig:
    path = REAL / f"{name}.yaml"
    raw: dict[str, Any] = load_config(path).raw
    book = {"generate": {**raw["book"]["generate"], "accounts": 200}}
    market = {**raw["market"], **SHORT[name]["market"]}
    changes = {"market": market, "windows": SHORT[name]["windows"], "book": book}
    return config_from({**raw, **changes, "trials": 3, "batch": 2}, path)


@pytest.fixture(scope="module", params=sorted(SHORT))
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunConfig, Inputs, Workspace]:
    name: str = request.param
    home = tmp_path_factory.mktemp(name)
    store = home / "store.duckdb"
    plan = plan_import(REAL / f"{name}.yaml", DATA, store)
    with DataStore(store) as opened:
        for mapping in plan.mappings:
            import_recorded(opened, mapping, plan.data)
    config = shortened(name)
    return config, inputs_of(config, store), Workspace(home)


def test_a_recorded_market_is_replayed_searched_and_reproduced(
    case: tuple[RunConfig, Inputs, Workspace],
) -> None:
    config, inputs, workspace = case
    tracker = Tracker(workspace=workspace)
    replayed = run_replay(config, inputs=inputs, tracker=tracker)
    assert replayed.result.metrics["open_notional_usd"] > 0
    assert replayed.result.metrics["ledger_imbalance_usd"] < 1e-3
    assert not replayed.result.synthetic_market
    assert replayed.result.synthetic_book
    study = run_study(config, inputs=inputs, tracker=tracker, workspace=workspace, workers=2)
    assert len(study.study.trials) == 4
    assert str(reproduce("latest", tracker, inputs=inputs)).startswith("MATCH")


def test_the_book_trades_only_what_the_recorded_market_lists(
    case: tuple[RunConfig, Inputs, Workspace],
) -> None:
    config, inputs, _ = case
    rows = inputs.book.tape_rows(inputs.tape)[inputs.book.order_instrument]
    options = inputs.tape.instruments.kind[rows] == OPTION
    assert bool(options.any()) == (config.market.options is not None)
    expiry = inputs.tape.instruments.expiry_ms[rows]
    assert np.all(inputs.book.order_ts[options] < expiry[options])


def test_what_was_not_recorded_is_said(case: tuple[RunConfig, Inputs, Workspace]) -> None:
    _, inputs, _ = case
    assert any("funding is unknown" in note for note in inputs.tape.notes)
    assert any("depth is" in note for note in inputs.tape.notes)
