"""The command line: which commands there are, what they cost to ask, and that JSON is JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from remargin.__main__ import main
from remargin.policy_text import policy_line
from remargin.show import amount
from remargin.terminal import number, plain, short, write_remarks, write_table
from strategies.registry import load_policy

COMMANDS = (
    "data", "book", "policy", "replay", "optimize", "compare", "report", "runs", "reproduce",
    "vectors", "demo", "simulate-exchange",
)  # fmt: skip
HEAVY = ("numba", "mlflow", "ccxt", "duckdb", "optuna", "pandas", "matplotlib", "scipy", "pyarrow")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f" {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "Usage: remargin" in out


@pytest.mark.parametrize("words", [["--help"], ["replay", "--help"], ["--version"]])
def test_asking_for_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from remargin.__main__ import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        f"sys.stderr.write(','.join(m for m in {HEAVY!r} if m in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert done.stderr == ""


def test_an_unknown_command_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "replya")
    assert code == 2
    assert "replya" in err


def test_policy_list_and_show_give_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "policy", "list", "--json")
    assert (code, err) == (0, "")
    assert {"fixed", "volatility", "tail", "scenario"} <= {row["name"] for row in json.loads(out)}
    code, out, err = run(capsys, "policy", "show", "volatility", "--json")
    assert (code, err) == (0, "")
    knobs = {row["name"]: row for row in json.loads(out)}
    assert knobs["multiplier"]["unit"] == "sigmas"


def test_a_failing_vector_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tier = {
        "id": "tier",
        "system": "Hyperliquid",
        "engine": "tiered_maintenance",
        "inputs": {"notional": 1e6, "tiers": [[0, 0.01]]},
        "expected": {"MM": 10_000.0},
        "tolerance_rel": 1e-9,
    }
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps({"vectors": [tier]}))
    code, out, _ = run(capsys, "vectors", str(path))
    assert code == 0
    assert "tier" in out
    assert out.splitlines()[-1] == "1 passed, 0 failed, 0 not covered"
    path.write_text(json.dumps({"vectors": [{**tier, "expected": {"MM": 11_000.0}}]}))
    code, out, _ = run(capsys, "vectors", str(path))
    assert code == 1
    assert "FAIL" in out
    assert out.splitlines()[-1] == "0 passed, 1 failed, 0 not covered"


def test_numbers_that_json_cannot_hold_become_null() -> None:
    assert plain({"a": float("nan"), "b": (1.5, float("inf")), "c": Path("x")}) == {
        "a": None,
        "b": [1.5, None],
        "c": "x",
    }


def test_a_table_aligns_numbers_on_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("feed", "rows"), [("candles", "31,973"), ("funding", "9")], right="lr")
    assert capsys.readouterr().out.splitlines() == [
        "  feed       rows",
        "  candles  31,973",
        "  funding       9",
    ]


def test_a_table_that_is_too_wide_breaks_texts_at_words_and_keeps_its_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    row = ("binanceusdm", "12", "how far back returns count in the estimate")
    write_table(("exchange", "rows", "meaning"), [row], right="lr")
    assert capsys.readouterr().out.splitlines() == [
        "  exchange     rows  meaning",
        "  binanceusdm    12  how far back",
        "                     returns count in",
        "                     the estimate",
    ]


def test_a_remark_hangs_under_its_label_and_a_pipe_gets_no_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    write_remarks(["funding is unknown in two stretches, and held at zero."])
    assert capsys.readouterr().out.splitlines() == [
        "  note      funding is unknown in two stretches, and",
        "            held at zero.",
    ]


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"policy": "fixed"}, "fixed (rate 5%)"),
        (
            {
                "policy": "volatility",
                "multiplier": 4,
                "horizon": "1h",
                "estimator": {"ewma": {"halflife": "5d"}},
                "update": {"keeper": {"threshold": "5%", "latency": "30s"}},
                "addons": ["concentration"],
            },
            "volatility (ewma 5d, multiplier 4 sigmas) · with concentration · keeper 5%",
        ),
        (
            {"policy": "fixed", "rates": {"BTC": "4%", "ETH": "6%"}, "maintenance_ratio": "60%"},
            "fixed (rate 5%, rates for BTC ETH, maintenance ratio 60%)",
        ),
        ({"policy": "scenario", "tails": []}, "scenario (fixed 16%, no tails)"),
    ],
)
def test_a_policy_is_told_in_one_line_by_what_differs(spec: dict[str, object], line: str) -> None:
    assert policy_line(load_policy(spec)) == line


def test_a_policy_with_many_settings_still_fits_in_its_line() -> None:
    chosen = load_policy("preset:paradex-portfolio")
    assert len(policy_line(chosen, 60)) <= 60
    assert policy_line(chosen, 60).endswith("…)")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("gross_bad_debt_usd", 1_314_159.0, "1.31 M USD"),
        ("gross_bad_debt_usd", -2.5e9, "-2.50 bn USD"),
        ("gross_bad_debt_usd", 91_342.0, "91,342 USD"),
        ("coverage", 0.9956, "99.56 %"),
    ],
)
def test_large_sums_are_written_short(key: str, value: float, text: str) -> None:
    assert amount(key, value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(31973, "31,973"), (0.0123456, "0.01235"), (2.5, "2.500"), (12345.6, "12,346")],
)
def test_numbers_keep_about_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_digest_is_shortened_to_what_an_eye_compares() -> None:
    assert short("5e1c" + "0" * 58 + "9a") == "5e1c…9a"
