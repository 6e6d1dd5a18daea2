"""Replay a case study under fixed margin at several leverages and print its table.

Run from the repository: ``python docs/case-studies/table.py CONFIG --store STORE``. Accounts,
market and venue are those of the config; only the rate of its ``fixed`` candidate changes, and
the cascade multiplier takes two more replays in which liquidations move prices.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import RunConfig, config_from, load_config
from experiments.run import Inputs, inputs_of, replay_role

if TYPE_CHECKING:
    from backtest.result import ReplayResult

LEVERAGES = (50, 20, 10, 5)
COLUMNS = (
    "leverage",
    "mean open notional",
    "liquidations",
    "gross bad debt",
    "of open notional",
    "from the fund",
    "lowest fund",
    "from winners (ADL)",
    "winners asked",
    "socialised",
    "uncovered",
    "coverage",
    "cascade multiplier",
)


def at_leverage(config: RunConfig, leverage: int, feedback: bool = False) -> RunConfig:
    """Return the config with a candidate that asks for ``1 / leverage`` of notional."""
    raw = dict(config.raw)
    raw["candidate"] = {**raw["candidate"], "rate": f"{100 / leverage:g}%"}
    if feedback:
        liquidation = raw["venue"]["liquidation"]
        impact = {**liquidation["impact"], "feedback": {}}
        raw["venue"] = {**raw["venue"], "liquidation": {**liquidation, "impact": impact}}
    return config_from(raw, config.file)


def numbers(result: ReplayResult) -> dict[str, float]:
    """Return what the table shows of one replay, US dollars and shares."""
    series, metrics = result.series, result.metrics
    return {
        "mean open notional": metrics["open_notional_usd"],
        "liquidations": metrics["liquidations"],
        "gross bad debt": metrics["gross_bad_debt_usd"],
        "of open notional": metrics["gross_bad_debt_usd"] / metrics["open_notional_usd"],
        "from the fund": metrics["insurance_drawdown_usd"],
        "lowest fund": float(series["fund_usd"].min()),
        "from winners (ADL)": float(series["adl_usd"].sum()),
        "winners asked": float(series["adl_accounts"].sum()),
        "socialised": float(series["socialised_usd"].sum()),
        "uncovered": float(series["deficit_usd"][-1]),
        "coverage": metrics["coverage"],
    }


def case_study(config: RunConfig, inputs: Inputs) -> dict[int, dict[str, float]]:
    """Replay a case study at every leverage.

    Returns
    -------
    dict
        By leverage, the numbers by column of the table.
    """
    table: dict[int, dict[str, float]] = {}
    for leverage in LEVERAGES:
        row = numbers(replay_role(at_leverage(config, leverage), "candidate", inputs))
        moved = replay_role(at_leverage(config, leverage, feedback=True), "candidate", inputs)
        table[leverage] = row | {"cascade multiplier": moved.metrics["cascade_multiplier"]}
    return table


def cell(column: str, value: float) -> str:
    """Write a number as the published table shows it."""
    if column in {"of open notional", "coverage"}:
        return f"{value:.2%}".replace("%", " %")
    if column == "cascade multiplier":
        return f"{value:.2f}"
    return f"{round(value):,}"


def markdown(table: dict[int, dict[str, float]]) -> str:
    """Lay the table out, one column per leverage."""
    head = ["", *(f"{leverage}x" for leverage in table)]
    lines = [head, ["---", *["---:"] * len(table)]]
    lines += [
        [column, *(cell(column, row[column]) for row in table.values())] for column in COLUMNS[1:]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Print the table of the config named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--store", type=Path, default=None)
    given: Any = parser.parse_args(arguments)
    config = load_config(given.config)
    sys.stdout.write(markdown(case_study(config, inputs_of(config, given.store))) + "\n")


if __name__ == "__main__":
    main()
