"""Published numbers are answered by the project's own laws, or honestly not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from backtest.errors import ConfigError
from experiments.vectors import FAILED, NOT_COVERED, PASSED, Verdict, run_vectors, summary

# Hyperliquid documentation, margin tiers of BTC: 1.25 % up to 150 M USD, 2.5 % beyond.
TIER = {
    "id": "tier",
    "system": "Hyperliquid",
    "engine": "tiered_maintenance",
    "inputs": {"notional": 200e6, "tiers": [[0, 0.0125], [150e6, 0.025]]},
    "expected": {"MM": 3_125_000.0, "deduction": 1_875_000.0},
    "tolerance_rel": 1e-9,
}
# GMX `AdlOrder.ts`.
POOL = {
    "id": "pool",
    "system": "GMX v2",
    "engine": "adl_pool_factor",
    "inputs": {
        "oi_tokens": 400.0, "entry": 5000.0, "price": 10000.0, "pool_tokens": 1000.0,
        "max_factor": 0.1,
    },
    "expected": {"pnl_to_pool": 0.2, "adl": True},
    "tolerance_rel": 1e-9,
}  # fmt: skip
# Vega specification, acceptance criterion 0012-POSR-013.
DISPOSAL = {
    "id": "disposal",
    "system": "Vega protocol",
    "engine": "network_disposal",
    "inputs": {"qty": 280.0, "fraction": 0.5, "full": 50.0, "book": 10000.0, "max_frac": 0.01},
    "expected": {"trades": [100, 90, 45, 45]},
    "tolerance_rel": 1e-9,
}
# arXiv 2512.01112: half of a deficit of 15, by queue and pro rata.
WINNERS = {
    "id": "winners",
    "area": "adl",
    "kind": "published_worked_example",
    "inputs": {
        "cash": [2, 1, 0.5, 0, 0], "pnl": [8, 4, 0.5, -3, -12], "deficit": 15, "severity": 0.5,
        "queue_order_1based": [2, 1, 3, 5, 4],
    },
    "expected": {"queue_seized": [3.5, 4, 0, 0, 0], "prorata_factor": 0.6},
    "tolerance": {"abs": 1e-6},
}  # fmt: skip
# Deribit's own portfolio margin example has four buckets; here only the form matters.
SCAN = {
    "id": "matrix",
    "system": "Deribit S:PM extended risk matrix",
    "engine": "scenario_grid_portfolio_margin",
    "inputs": {
        "settlement": "BTC (inverse)", "price_range": 0.16, "buckets": 4, "pnl_offset": 0.0,
        "mm_factor": 0.8, "min_annualised_move": 0.01, "annualised_move_risk": 0.075,
        "index": 60_000.0, "positions": {"BTC-PERPETUAL": 0.3},
    },
    "expected": {"worst_case": 0.0},
    "tolerance_rel": 1e-9,
}  # fmt: skip
CASES = [TIER, POOL, DISPOSAL, WINNERS]


def write(folder: Path, *cases: dict[str, Any], **more: Any) -> Path:
    path = folder / "vectors.json"
    vectors = [case for case in cases if "system" in case]
    checks = [case for case in cases if "area" in case]
    path.write_text(json.dumps({"vectors": vectors, "checks": checks, **more}))
    return path


def run_one(folder: Path, case: dict[str, Any], **more: Any) -> Verdict:
    (verdict,) = run_vectors(write(folder, case, **more))
    return verdict


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["id"]))
def test_a_published_number_is_reproduced(tmp_path: Path, case: dict[str, Any]) -> None:
    verdict = run_one(tmp_path, case)
    assert verdict.status == PASSED, verdict.detail
    assert verdict.relative_error <= 1e-9


def _spoilt(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return [_spoilt(part) for part in value] if isinstance(value, list) else value * 1.001 + 0.001


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["id"]))
def test_a_number_that_is_off_fails_by_its_name(tmp_path: Path, case: dict[str, Any]) -> None:
    for key, value in case["expected"].items():
        wrong = {**case, "expected": {**case["expected"], key: _spoilt(value)}}
        verdict = run_one(tmp_path, wrong)
        assert verdict.status == FAILED
        assert verdict.detail.startswith(key)
        assert verdict.relative_error > 1e-4


@pytest.mark.parametrize("other", [[100, 90, 45], [100, 90, 45, 45, 0], 280, {"0": 100}, "100"])
def test_an_answer_of_another_form_is_no_answer(tmp_path: Path, other: Any) -> None:
    verdict = run_one(tmp_path, {**DISPOSAL, "expected": {"trades": other}})
    assert verdict.status == FAILED
    assert verdict.relative_error == math.inf


def test_a_published_zero_is_compared_on_the_scale_of_its_case(tmp_path: Path) -> None:
    """0.1 + 0.2 - 0.3 is not 0, but on the scale of 0.3 it is."""
    trader = {"deposit": 0.1, "qty": 0.3}
    case = {
        "id": "zero",
        "system": "dYdX v4 deleveraging",
        "engine": "adl_at_bankruptcy_price",
        "inputs": {"open": 1.1, "mark": 0.7, "loser": trader, "winner": {**trader, "qty": -0.3}},
        "expected": {"loser_left": 0.0, "bankruptcy_price": 1.1 - 0.1 / 0.3},
        "tolerance_rel": 1e-12,
    }
    assert run_one(tmp_path, case).status == PASSED
    case["expected"] = {"loser_left": 1e-6, "bankruptcy_price": 1.1 - 0.1 / 0.3}
    assert run_one(tmp_path, case).status == FAILED


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({**TIER, "engine": "weighted_health"}, "no model of weighted_health at Hyperliquid"),
        ({**TIER, "system": "Elsewhere"}, "no model of tiered_maintenance at Elsewhere"),
        ({**TIER, "inputs": {"notional": 1.0}}, "tiers: field required"),
        ({**TIER, "inputs": {**TIER["inputs"], "extra": 1.0}}, "extra: extra inputs"),
        ({**TIER, "inputs": {**TIER["inputs"], "notional": "1"}}, "notional: input should be"),
        ({**TIER, "inputs": {**TIER["inputs"], "notional": math.nan}}, "notional: input should"),
        ({**TIER, "inputs": {"notional": 1.0, "tiers": []}}, "must begin at 0"),
        ({**TIER, "expected": {**TIER["expected"], "fee": 0.0}}, "no model for fee"),
        ({**SCAN, "inputs": {**SCAN["inputs"], "buckets": 0}}, "no answer to these inputs"),
        ({**WINNERS, "area": "var_backtest"}, "no model of var_backtest"),
        ({**WINNERS, "inputs": {}}, "nothing to compute"),
        ({**WINNERS, "inputs": {"see": "W99"}}, "no inputs of 'W99'"),
        ({**WINNERS, "tolerance": {"order_of_magnitude": True}}, "neither 'abs' nor 'rel'"),
        ({**WINNERS, "inputs": {**WINNERS["inputs"], "queue_order_1based": [1]}}, "same accounts"),
    ],
)
def test_what_has_no_model_is_not_covered_and_never_passed(
    tmp_path: Path, case: dict[str, Any], said: str
) -> None:
    verdict = run_one(tmp_path, case)
    assert verdict.status == NOT_COVERED
    assert math.isnan(verdict.relative_error)
    assert said in verdict.detail.lower() or said in verdict.detail


@pytest.mark.parametrize(
    ("tolerance", "status"),
    [({"abs": 0.002}, PASSED), ({"abs": 0.0005}, FAILED), ({"rel": 0.002}, PASSED),
     ({"rel": 0.0005}, FAILED), ({"exact": True}, FAILED)],
)  # fmt: skip
def test_a_check_is_judged_by_its_own_kind_of_tolerance(
    tmp_path: Path, tolerance: dict[str, Any], status: str
) -> None:
    near = {**WINNERS, "expected": {"prorata_factor": 0.601}, "tolerance": tolerance}
    assert run_one(tmp_path, near).status == status


def test_a_check_may_point_to_the_inputs_of_another(tmp_path: Path) -> None:
    holders = {
        "A": {"q": 1, "cash": 2, "side": 1},
        "D": {"q": 1, "cash": 0.10526315789473684, "side": 1},
        "E": {"q": 2, "cash": 1.0, "side": -1},
    }
    first = {
        "id": "W04", "area": "waterfall", "tolerance": {"abs": 1e-9},
        "inputs": {
            "p0": 1.0, "positions": holders, "kappa": 1, "oracle": [1, 1.5], "mark": [1, 1.4]
        },
        "expected": {"gamma": [1.0 - 1.4 / 1.5]},
    }  # fmt: skip
    second = {
        **first, "id": "W05", "inputs": {"see": "W04", "mm": 0.5},
        "expected": {"liquidatable": ["D", "E"]},
    }  # fmt: skip
    verdicts = run_vectors(write(tmp_path, first, second))
    assert [verdict.status for verdict in verdicts] == [PASSED, PASSED]


def test_the_closing_line_counts_every_case_once(tmp_path: Path) -> None:
    wrong = {**TIER, "expected": {"MM": 1.0}}
    foreign = {**TIER, "engine": "none"}
    verdicts = run_vectors(write(tmp_path, TIER, POOL, wrong, foreign, WINNERS))
    assert summary(verdicts) == "3 passed, 1 failed, 1 not covered"


def case_of(**changes: Any) -> str:
    return json.dumps({"vectors": [{**TIER, **changes}]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "no list 'vectors'"),
        ("{}", "no list 'vectors'"),
        ('{"vectors": 1}', "vectors: must be a list"),
        ('{"vectors": [{}]}', "vectors.0: 'id' is missing"),
        ('{"vectors": [1]}', "vectors.0: 'id' is missing"),
        ('{"checks": [{"id": "a"}]}', "checks.0: 'area' is missing"),
        (case_of(inputs=[1]), "inputs: must be a mapping"),
        (case_of(expected={}), "expected: holds no number"),
        (case_of(tolerance_rel="small"), "tolerance_rel: must be a number"),
        (case_of(system=None), "system: must be text"),
        (case_of(params_ref="none"), "'none' is none of param_sets"),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run_vectors(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such vector file"):
        run_vectors(tmp_path / "none.json")
