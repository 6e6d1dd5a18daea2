"""An import that is killed keeps what was stored, and ends as an undisturbed one when run again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from data_ingest.formats import load_format
from data_ingest.inventory import inventory
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore
from tests.data_ingest.vendor_files import kline, write_zip

FILES = 12
BARS = 4_000
KILLS = 3
IMPORT = """
import sys
from pathlib import Path
from data_ingest.formats import load_format
from data_ingest.recorded import import_recorded
from data_ingest.store import DataStore
with DataStore(sys.argv[1]) as store:
    import_recorded(store, load_format("binance-vision"), Path(sys.argv[2]),
                    progress=lambda done, total: print(done, total, flush=True))
"""


def write_months(folder: Path) -> None:
    for month in range(FILES):
        lines = [kline(month * BARS + index, step_ms=60_000) for index in range(BARS)]
        name = f"BTCUSDT-1m-2024-{month + 1:02}.zip"
        write_zip(folder / "futures/um/monthly/klines/BTCUSDT/1m" / name, *lines)


def stored(path: Path) -> list[tuple[str, int, int, str]]:
    with DataStore(path, read_only=True) as store:
        return [(row.feed, row.rows, row.gaps, row.sha256) for row in inventory(store)]


def test_a_killed_import_loses_no_file_that_was_stored_and_ends_as_a_clean_one(
    tmp_path: Path,
) -> None:
    write_months(tmp_path)
    clean, killed = tmp_path / "clean.duckdb", tmp_path / "killed.duckdb"
    with DataStore(clean) as store:
        import_recorded(store, load_format("binance-vision"), tmp_path)
    kept = 0
    for kill in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORT, str(killed), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(1 + 2 + 3 * kill):
            assert process.stdout.readline()
        time.sleep(0.01 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        ((_, rows, gaps, _),) = stored(killed)
        # Whole files, in their order: none in part, none lost again.
        assert rows % BARS == 0
        assert rows >= max(kept, (2 + 3 * kill) * BARS)
        assert gaps == 0
        kept = rows
    with DataStore(killed) as store:
        import_recorded(store, load_format("binance-vision"), tmp_path)
    assert stored(killed) == stored(clean)
