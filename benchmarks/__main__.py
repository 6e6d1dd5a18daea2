"""``python -m benchmarks``: one table, measured in one run on this machine.

``python -m benchmarks engine`` or ``data`` measures one part alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict

import duckdb
import numba
import numpy as np
import scipy
from numba.core import registry

from benchmarks.data_feeds import FeedRate, feed_rates
from benchmarks.data_suite import data_path
from benchmarks.measure import Measurement, met


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", choices=("engine", "data"), help="measure this alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="fewer rows in the data part")
    arguments = parser.parse_args()
    lines: list[Measurement] = []
    rates: list[FeedRate] = []
    if arguments.part != "data":
        lines += _engine()
    if arguments.part != "engine":
        lines += data_path(arguments.quick)
        rates = feed_rates(pages=5, rounds=1) if arguments.quick else feed_rates(30, rounds=3)
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "scipy": scipy.__version__,
        "duckdb": duckdb.__version__,
    }
    if arguments.json:
        rows = [asdict(line) | {"met": met(line)} for line in lines]
        found = {"machine": machine, "measurements": rows, "feeds": [asdict(one) for one in rates]}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    sys.stdout.write(" · ".join(f"{key} {value}" for key, value in machine.items()) + "\n\n")
    for line in lines:
        sys.stdout.write(_row(line) + "\n")
    if rates:
        sys.stdout.write(
            f"\n{'feed, rows/s':33s}{'remargin':>10s}{'ccxt':>10s}{'server':>10s}"
            f"{'of ccxt':>9s}{'of server':>10s}\n"
        )
    for rate in rates:
        sys.stdout.write(_feed_row(rate) + "\n")


def _engine() -> list[Measurement]:
    # Here, because it compiles the kernels, which the data part does without.
    from benchmarks.presets import one_portfolio, preset_costs
    from benchmarks.suite import (
        account_ticks,
        linear_account_ticks,
        option_prices,
        start,
        years_in_memory,
    )

    return [
        *option_prices(),
        *account_ticks(),
        *linear_account_ticks(),
        *preset_costs(),
        *one_portfolio(),
        *start(),
        *years_in_memory(),
    ]


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


def _feed_row(rate: FeedRate) -> str:
    return (
        f"{rate.exchange + ' ' + rate.feed:33s}{rate.ours:10,.0f}{rate.loop:10,.0f}"
        f"{rate.server:10,.0f}{rate.ours / rate.loop:9.0%}{rate.ours / rate.server:10.0%}"
    )


if __name__ == "__main__":
    main()
