"""``remargin policy``: what there is, what it asks of a portfolio, what it keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from strategies.registry import names
from strategies.testing.suite import CHECKS
from tests.remargin.desk import Desk

ROOT = Path(__file__).resolve().parents[2]
PORTFOLIOS = sorted((ROOT / "configs" / "portfolios").glob("*.yaml"))
FAULTY = ROOT / "tests" / "strategies" / "faulty_policies.py"
TWO_PERPETUALS: dict[str, Any] = {
    "assets": {"BTC": {"index": 50_000, "mark": 50_000}},
    "balance_usd": "10k",
    "positions": [
        {"asset": "BTC", "quantity": 2, "entry": 48_000},
        {"asset": "BTC", "quantity": -100, "settles_in": "coin", "contract_size": 100},
    ],
}
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"assets": {"BTC": {"index": -1}}}, "assets.BTC.index: -1 is too low; it must be above 0."),
    ({"assets": {"BTC": {"indx": 1}}}, "assets.BTC.index: is missing."),
    ({"cash_usd": 5}, "cash_usd: there is no such key. Did you mean 'balance_usd'?"),
    ({"positions": [{"asset": "BCT", "quantity": 1}]}, "no asset 'BCT'. Did you mean 'BTC'?"),
    (
        {"positions": [{"asset": "BTC", "quantity": float("nan")}]},
        "positions.0.quantity is not a finite number.",
    ),
    ({"balances": {"ETH": 1}}, "balances: there is no asset 'ETH'. Valid: BTC."),
    (
        {"positions": [{"asset": "BTC", "quantity": 1, "kind": "optin"}]},
        "positions.0.kind: 'optin' is not a choice. Did you mean 'option'?",
    ),
    (
        {"positions": [{"asset": "BTC", "quantity": 1, "kind": "option", "iv": "50%"}]},
        "an option needs its strike, in USD",
    ),
]


def test_list_tells_kind_inputs_size_and_source_of_every_policy(desk: Desk) -> None:
    code, out, _ = desk.run("policy", "list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert list(rows) == names()
    assert rows["scenario"]["generation"] == "scenario grid"
    assert "implied volatility" in rows["scenario"]["needs"]
    assert rows["volatility"]["parameters"] == 8
    assert all(row["source"] and row["generation"] and row["needs"] for row in rows.values())
    code, out, _ = desk.run("policy", "list")
    assert code == 0
    assert all(name in out for name in rows)


def test_margin_of_a_portfolio_can_be_followed_by_hand(desk: Desk) -> None:
    file = desk.folder / "portfolio.yaml"
    file.write_text(yaml.safe_dump(TWO_PERPETUALS))
    code, out, _ = desk.run("policy", "margin", "dydx-v4", file, "--json")
    assert code == 0
    told = json.loads(out)
    # 2 BTC bought 2,000 USD lower; net of 10,000 USD short in coin, 90,000 USD are long.
    assert told["equity_usd"] == pytest.approx(10_000 + 2 * 2_000)
    assert told["initial_usd"] == pytest.approx(0.02 * 90_000)
    assert told["maintenance_usd"] == pytest.approx(0.6 * 0.02 * 90_000)
    assert told["equity_over_maintenance"] == pytest.approx(14_000 / 1_080)
    assert sum(part["initial_usd"] for part in told["components"]) == pytest.approx(1_800)
    code, out, _ = desk.run("policy", "margin", "preset:dydx-v4", file)
    assert code == 0
    for text in ("1,800.00", "1,080.00", "14,000.00", "12.96x", "BTC · 2 positions"):
        assert text in " ".join(out.split())


def test_a_perpetual_settled_in_coin_earns_what_its_price_moved(desk: Desk) -> None:
    file = desk.folder / "portfolio.yaml"
    leg = {"asset": "BTC", "quantity": 100, "settles_in": "coin", "contract_size": 100}
    held = {
        "assets": {"BTC": {"index": 50_000}},
        "balances": {"BTC": 1},
        "positions": [leg | {"entry": 40_000}],
    }
    file.write_text(yaml.safe_dump(held))
    told = json.loads(desk.run("policy", "margin", "fixed", file, "--json")[1])
    assert told["equity_usd"] == pytest.approx(50_000 * (1 + 10_000 * (1 / 40_000 - 1 / 50_000)))


@pytest.mark.parametrize("file", PORTFOLIOS, ids=lambda path: path.stem)
def test_every_policy_prices_every_example_portfolio(desk: Desk, file: Path) -> None:
    for name in names():
        code, out, err = desk.run("policy", "margin", name, file, "--json")
        assert code == 0, (name, err)
        told = json.loads(out)
        assert told["initial_usd"] >= told["maintenance_usd"] > 0.0, name
        parts = sum(part["initial_usd"] for part in told["components"])
        assert parts == pytest.approx(told["initial_usd"]), name
        assert told["equity_usd"] > 0.0


def test_there_are_example_portfolios() -> None:
    assert len(PORTFOLIOS) >= 3


@pytest.mark.parametrize(("changes", "advice"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_slip_in_a_portfolio_is_answered_in_one_sentence(
    desk: Desk, changes: dict[str, Any], advice: str
) -> None:
    file = desk.folder / "portfolio.yaml"
    file.write_text(yaml.safe_dump({**TWO_PERPETUALS, **changes}))
    said = desk.refuses("policy", "margin", "fixed", file)
    assert said.startswith(f"{file}: ")
    assert advice in said


def test_a_missing_portfolio_and_a_missing_volatility_are_said(desk: Desk) -> None:
    assert "no such portfolio file" in desk.refuses("policy", "margin", "fixed", "nowhere.yaml")
    file = desk.folder / "portfolio.yaml"
    option = {"asset": "BTC", "quantity": 1, "kind": "option", "strike": 50_000, "value": 900}
    leg = option | {"expires_in": "30d", "call": True}
    file.write_text(yaml.safe_dump({**TWO_PERPETUALS, "positions": [leg]}))
    # A rate of notional looks at no volatility; a grid cannot do without.
    assert desk.run("policy", "margin", "fixed", file)[0] == 0
    said = desk.refuses("policy", "margin", "scenario", file)
    assert "positions.0.iv: is missing; scenario reads implied volatility." in said


def test_check_says_what_is_kept_and_exits_with_zero(desk: Desk) -> None:
    code, out, _ = desk.run("policy", "check", f"{FAULTY}:Sound", "--json")
    assert code == 0
    findings = json.loads(out)["findings"]
    assert [finding["name"] for finding in findings] == list(CHECKS)
    assert all(finding["passed"] is True for finding in findings)
    code, out, _ = desk.run("policy", "check", "hyperliquid")
    assert code == 0
    assert " 0 broken" in out


def test_check_of_a_broken_bracket_exits_with_one_and_says_where(desk: Desk) -> None:
    code, out, _ = desk.run("policy", "check", f"{FAULTY}:Jumps")
    assert code == 1
    assert "FAIL  brackets meet at their edges" in out
    assert "jumps at 1,000,000.00 USD" in " ".join(out.split())
    code, out, _ = desk.run("policy", "check", f"{FAULTY}:Jumps", "--json")
    assert code == 1
    broken = [finding for finding in json.loads(out)["findings"] if finding["passed"] is False]
    assert [finding["name"] for finding in broken] == ["continuous"]
    assert broken[0]["counterexample"]["notional_usd"] == pytest.approx(1e6)


def test_check_answers_a_users_mistake_in_one_sentence(desk: Desk) -> None:
    assert "there is no file nowhere.py" in desk.refuses("policy", "check", "nowhere.py")
    assert "Did you mean 'volatility'?" in desk.refuses("policy", "check", "volatilty")
    assert "several policy classes" in desk.refuses("policy", "check", FAULTY)
    half = desk.folder / "half.py"
    half.write_text(
        "from strategies.contract import MarginPolicy\n"
        "class Half(MarginPolicy):\n    name = 'half'\n"
    )
    said = desk.refuses("policy", "check", half)
    assert f"{half}:Half lacks requirement, parameters, signals." in said
