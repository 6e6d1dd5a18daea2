"""``python -m benchmarks``: one table, measured in one run on this machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict

import numba
import numpy as np
import scipy
from numba.core import registry

from benchmarks.measure import Measurement, met
from benchmarks.presets import one_portfolio, preset_costs
from benchmarks.suite import (
    account_ticks,
    linear_account_ticks,
    option_prices,
    start,
    years_in_memory,
)


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    lines = [
        *option_prices(),
        *account_ticks(),
        *linear_account_ticks(),
        *preset_costs(),
        *one_portfolio(),
        *start(),
        *years_in_memory(),
    ]
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "scipy": scipy.__version__,
    }
    if arguments.json:
        rows = [asdict(line) | {"met": met(line)} for line in lines]
        sys.stdout.write(json.dumps({"machine": machine, "measurements": rows}, indent=2) + "\n")
        return
    sys.stdout.write(" · ".join(f"{key} {value}" for key, value in machine.items()) + "\n\n")
    for line in lines:
        sys.stdout.write(_row(line) + "\n")


def _processor() -> str:
    return str(registry.cpu_target.target_context.codegen().magic_tuple()[1])


def _row(line: Measurement) -> str:
    if line.value is None:
        return f"{line.name:44s}{line.unit:>10s}"
    ratio = f"{line.ratio:8.1f}x" if line.ratio is not None else " " * 9
    verdict = met(line)
    aim = ""
    if verdict is not None:
        sign, unit = "<=" if line.at_most else ">=", "" if line.ratio is None else "x"
        aim = f"  aim {sign} {line.aim:g}{unit}: {'met' if verdict else 'MISSED'}"
    return f"{line.name:44s}{line.value:10.2f} {line.unit:18s}{ratio}{aim}"


if __name__ == "__main__":
    main()
