"""Published numbers are answered by the project's own kernels, or honestly not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ConfigError
from experiments.vector_models import NotCoveredError, adapter
from experiments.vectors import FAILED, NOT_COVERED, PASSED, run_vectors, summary

# Hyperliquid documentation, margin tiers of BTC: 1.25 % up to 150 M USD, 2.5 % beyond.
HYPERLIQUID_TIER = {
    "id": "tier",
    "system": "Hyperliquid",
    "engine": "tiered_maintenance",
    "inputs": {"notional": 200e6, "tiers": [[0, 0.0125], [150e6, 0.025]]},
    "expected": {"MM": 3_125_000.0, "deduction": 1_875_000.0},
    "tolerance_rel": 1e-9,
}
# Binance USD-M futures guide, isolated ETHUSDT position at a maintenance rate of 10 %.
BINANCE_LIQUIDATION = {
    "id": "liquidation",
    "system": "Binance USD-M",
    "engine": "tiered_maintenance",
    "inputs": {
        "wallet": 1_535_443.01, "mm_other": 0.0, "upnl_other": 0.0, "cum": 135_365.0,
        "side": 1, "qty": 3_683.979, "entry": 1_456.84, "mmr": 0.1,
    },
    "expected": {"liq_price": 1_114.78},
    "tolerance_rel": 1e-5,
}  # fmt: skip
# CME SPAN risk array of a long call: the fourteenth scenario loses most.
SPAN_CALL = {
    "id": "array",
    "system": "CME SPAN",
    "engine": "span_scan",
    "inputs": {
        "positions": [
            {
                "qty": 1,
                "array_pnl": [
                    460, -610, 2640, 1730, -1270, -2340, 5210, 4540,
                    -2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500,
                ],
            }
        ]
    },
    "expected": {"scan_risk": 3_990.0, "scenario": 14},
    "tolerance_rel": 1e-9,
}  # fmt: skip
# Deribit's documentation of standard margin: 15 % and 7.5 % of the underlying plus the mark.
DERIBIT_CALL = {
    "id": "call",
    "system": "Deribit standard margin",
    "engine": "static_option_formula",
    "inputs": {"underlying": 10_000.0, "strike": 9_000.0, "mark": 0.025, "call": True},
    "expected": {"IM": 1_750.0, "MM": 1_000.0},
    "tolerance_rel": 1e-9,
}
COVERED = [HYPERLIQUID_TIER, BINANCE_LIQUIDATION, SPAN_CALL, DERIBIT_CALL]


def write(folder: Path, *vectors: dict[str, Any]) -> Path:
    path = folder / "vectors.json"
    path.write_text(json.dumps({"vectors": vectors}))
    return path


@pytest.mark.parametrize("vector", COVERED, ids=lambda v: str(v["id"]))
def test_a_published_number_is_reproduced(tmp_path: Path, vector: dict[str, Any]) -> None:
    (verdict,) = run_vectors(write(tmp_path, vector))
    assert verdict.status == PASSED, verdict.detail
    assert verdict.relative_error <= vector["tolerance_rel"]


@pytest.mark.parametrize("vector", COVERED, ids=lambda v: str(v["id"]))
def test_a_number_that_is_off_by_a_thousandth_fails(tmp_path: Path, vector: dict[str, Any]) -> None:
    for key, value in vector["expected"].items():
        wrong = {**vector, "expected": {**vector["expected"], key: value * 1.001}}
        (verdict,) = run_vectors(write(tmp_path, wrong))
        assert verdict.status == FAILED
        assert verdict.detail.startswith(key)
        assert verdict.relative_error == pytest.approx(1e-3, rel=0.02)


def test_an_engine_without_a_model_is_not_covered(tmp_path: Path) -> None:
    foreign = {**HYPERLIQUID_TIER, "engine": "weighted_health", "system": "Mango v4 health"}
    (verdict,) = run_vectors(write(tmp_path, foreign))
    assert verdict.status == NOT_COVERED
    assert math.isnan(verdict.relative_error)
    assert "weighted_health" in verdict.detail


def test_a_vector_of_which_only_a_part_can_be_answered_is_not_covered(tmp_path: Path) -> None:
    more = {**SPAN_CALL, "expected": {**SPAN_CALL["expected"], "short_option_minimum": 0.0}}
    (verdict,) = run_vectors(write(tmp_path, more))
    assert verdict.status == NOT_COVERED
    assert "short_option_minimum" in verdict.detail


def test_out_of_the_money_maintenance_is_declined_rather_than_guessed() -> None:
    deribit = adapter("Deribit standard margin", "static_option_formula")
    otm = {"underlying": 10_000.0, "strike": 11_000.0, "mark": 0.01, "call": True}
    answer = deribit(otm)
    assert answer == {"IM": pytest.approx(0.10 * 10_000 + 100)}
    with pytest.raises(NotCoveredError):
        deribit({"underlying": 10_000.0, "strike": 30_000.0, "mark": 2.0, "call": False})


def test_the_coin_settled_risk_matrix_matches_the_documented_worst_case() -> None:
    """Deribit's own portfolio margin example: 0.31335 BTC net, 16 % range, four buckets."""
    matrix = adapter("Deribit S:PM extended risk matrix", "scenario_grid_portfolio_margin")
    inputs = {
        "settlement": "BTC (inverse)", "price_range": 0.16, "buckets": 4, "mm_factor": 0.8,
        "index": 65_666.19,
        "positions": {"BTC-PERPETUAL": 0.314538364, "BTC-28JUN24": -0.001187534},
    }  # fmt: skip
    assert matrix(inputs)["worst_case"] == pytest.approx(0.05968587238095239, rel=1e-12)


def test_a_future_scans_to_its_range_and_its_extremes_count_in_part() -> None:
    span = adapter("CME SPAN", "span_scan")
    inputs = {"qty": -3, "scan_range": 1_000.0, "extreme_mult": 3.0, "extreme_cover": 0.33}
    assert span(inputs) == {"scan_risk": pytest.approx(3_000.0), "scenario": 11}
    harsher = span({**inputs, "extreme_cover": 0.35})
    assert harsher == {"scan_risk": pytest.approx(3_150.0), "scenario": 15}


def test_the_closing_line_counts_every_vector_once(tmp_path: Path) -> None:
    wrong = {**DERIBIT_CALL, "expected": {"IM": 1.0}}
    foreign = {**DERIBIT_CALL, "engine": "none"}
    verdicts = run_vectors(write(tmp_path, DERIBIT_CALL, SPAN_CALL, wrong, foreign))
    assert summary(verdicts) == "2 passed, 1 failed, 1 not covered"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no list 'vectors'"),
        ('{"vectors": [{}]}', "'id' is missing"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        run_vectors(path)
    assert str(path) in str(caught.value)
