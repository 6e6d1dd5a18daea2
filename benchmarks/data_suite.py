"""The benchmarks of the data path: imports, a tape of minutes, memory against history."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data_job import ASSETS, MINUTES_A_YEAR
from benchmarks.exchange import ROOT, running_exchange
from benchmarks.measure import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable


def data_path(quick: bool) -> list[Measurement]:
    """Measure everything but the feeds' rates.

    Parameters
    ----------
    quick : bool
        A twentieth of the rows of the imports, and shorter histories.
    """
    share = 20 if quick else 1
    lines = []
    for measure in (
        lambda folder: imports(folder, "candles", 10_000_000 // share),
        lambda folder: imports(folder, "trades", 5_000_000 // share),
        year_of_minutes,
        lambda folder: snapshot_and_verify(folder, 10_000_000 // share, 5_000_000 // share),
        lambda folder: import_memory(folder, 2_000_000 // share),
        lambda folder: pull_memory(folder, 20_000 // (4 if quick else 1)),
    ):
        lines += _in_folder(measure)
    return lines


def _in_folder(measure: Callable[[Path], list[Measurement]]) -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder))


def imports(folder: Path, what: str, rows: int) -> list[Measurement]:
    """Import one file of rows, beside DuckDB's own copy with and without the key."""
    file = folder / f"{what}.parquet"
    job(f"{what.removesuffix('s')}_file", file, rows)
    natives = ["BTC"] if what == "candles" else []
    ours = job(f"import_{what}", folder / "ours.duckdb", folder, file.name, *natives)
    keyed = job(f"bare_{what}", folder / "keyed.duckdb", file, "keys")
    bare = job(f"bare_{what}", folder / "bare.duckdb", file, "no keys")
    _same([ours, keyed, bare], "rows")
    rate, unit = rows / ours["seconds"], "M rows/s"
    name = f"import of {rows / 1e6:g} M {'candles' if what == 'candles' else 'option trades'}"
    return [
        Measurement(f"{name}, remargin", rate / 1e6, unit),
        *(
            Measurement(f"{name}, {told}", rows / found["seconds"] / 1e6, unit,
                        found["seconds"] / ours["seconds"])
            for told, found in (("bare with key", keyed), ("bare, no key", bare))
        ),
    ]  # fmt: skip


def year_of_minutes(folder: Path) -> list[Measurement]:
    """Build the tape of ten assets, beside pandas and a bare scan."""
    store = folder / "year.duckdb"
    for asset in ASSETS:
        job("candle_file", folder / f"{asset}.parquet", MINUTES_A_YEAR)
    job("import_candles", store, folder, "{native}.parquet", *ASSETS)
    rounds = [[job(name, store) for name in ("year_tape", "year_pandas", "year_scan")]
              for _ in range(3)]  # fmt: skip
    ours, pandas, scan = (
        sorted(column, key=lambda found: float(found["seconds"]))[1]
        for column in zip(*rounds, strict=True)
    )
    _same([ours, pandas, scan], "rows")
    _same([ours, pandas], "digest")
    name, unit = "tape of a year of minutes, 10 assets", "M bars/s"
    rate = ours["rows"] / ours["seconds"]
    return [
        Measurement(f"{name}", rate / 1e6, unit),
        *(
            Measurement(f"{name}, {told}", found["rows"] / found["seconds"] / 1e6, unit,
                        found["seconds"] / ours["seconds"])
            for told, found in (("pandas", pandas), ("bare scan", scan))
        ),
        Measurement(f"{name}, peak", ours["peak_mb"], "MB"),
        Measurement(f"{name}, pandas", pandas["peak_mb"], "MB",
                    pandas["peak_mb"] / ours["peak_mb"]),
    ]  # fmt: skip


def snapshot_and_verify(folder: Path, candles: int, trades: int) -> list[Measurement]:
    """Freeze, check and open a snapshot of a store, and look for what is odd in the store."""
    store, frozen = folder / "store.duckdb", folder / "frozen"
    rows = job("fill", store, candles, trades)["rows"]
    bare = job("bare_copy", store, folder / "copy.duckdb")
    made, checked, opened = (
        job("freeze_store", store, frozen),
        job("check_snapshot", frozen),
        job("open_frozen", frozen),
    )
    _same([made, checked, opened], "digest")
    looked = job("verify_store", store)
    name, unit = f"{rows / 1e6:g} M rows", "M rows/s"
    return [
        Measurement(f"snapshot of {name}, remargin", rows / made["seconds"] / 1e6, unit),
        Measurement(f"snapshot of {name}, bare copy with keys", rows / bare["seconds"] / 1e6, unit,
                    bare["seconds"] / made["seconds"]),
        Measurement(f"snapshot of {name}, peak memory", made["peak_mb"], "MB"),
        Measurement(f"snapshot of {name}, digested again", rows / checked["seconds"] / 1e6, unit),
        Measurement(f"snapshot of {name}, opened", opened["seconds"], "seconds"),
        Measurement(f"verify of {name}", rows / looked["seconds"] / 1e6, unit),
        Measurement(f"verify of {name}, peak memory", looked["peak_mb"], "MB"),
    ]  # fmt: skip


def import_memory(folder: Path, rows: int) -> list[Measurement]:
    """Import a file, and one eight times as long, and compare the peaks."""
    peaks = []
    for times in (1, 8):
        file = folder / f"{times}.parquet"
        job("candle_file", file, times * rows)
        store = folder / f"{times}.duckdb"
        peaks.append(job("import_candles", store, folder, file.name, "BTC")["peak_mb"])
    return _memory(f"import of {rows / 1e6:g} M candles", peaks)


def pull_memory(folder: Path, bars: int) -> list[Measurement]:
    """Pull a history, and one eight times as long, and compare the peaks."""
    with running_exchange() as url:
        peaks = [
            job("pull", folder / f"{times}.duckdb", url, "binanceusdm", times * bars)["peak_mb"]
            for times in (1, 8)
        ]
    return _memory(f"pull of {bars:,} candles", peaks)


def _memory(name: str, peaks: list[float]) -> list[Measurement]:
    one, eight = peaks
    return [
        Measurement(f"{name}, peak memory", one, "MB"),
        Measurement("eight times as many, peak memory", eight / one, "of that", aim=1.3,
                    at_most=True),
    ]  # fmt: skip


def job(name: str, *arguments: object) -> dict[str, Any]:
    """Run one job in a process of its own and return what it found and cost."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.data_job", name, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"{name} failed: {answer.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _same(found: list[dict[str, Any]], what: str) -> None:
    if len({each[what] for each in found}) > 1:
        raise RuntimeError(f"the competitors differ in {what}: {[each[what] for each in found]}")
