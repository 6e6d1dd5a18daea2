"""What a pull holds in memory is a page, not the history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Linux counts in ru_maxrss what the parent held when it forked; a process's own mark it keeps here.
STATUS = Path("/proc/self/status")

PULL = """
import sys
import tracemalloc
from pathlib import Path
from tests.data_ingest.fake_exchange import MINUTE_MS, SYMBOL, FakeExchange, fake_client, fake_feed
from data_ingest.downloader import download
from data_ingest.feed import Paging
from data_ingest.store import DataStore

class Endless(FakeExchange):
    '''Makes up each page when it is asked for, so that the exchange itself holds no history.'''
    def rows(self, query):
        first = -(-query["start"] // MINUTE_MS)
        last = min(-(-query["end"] // MINUTE_MS), first + self.limit)
        rows = [[at * MINUTE_MS, str(at)] for at in range(first, last)]
        self.last_json_response = {"rows": rows, "more": False, "token": None}
        return self.last_json_response

pages = int(sys.argv[2])
exchange = Endless([], Paging.WINDOW, limit=200)
feed = fake_feed(exchange, 200, grid=True)
with DataStore(sys.argv[1]) as store:
    client, page_ms = fake_client(exchange), 200 * MINUTE_MS
    # The first page brings in the libraries, which are not what is measured.
    download(store, client, feed, SYMBOL, (0, page_ms), MINUTE_MS)
    tracemalloc.start()
    report = download(store, client, feed, SYMBOL, (0, pages * page_ms), MINUTE_MS)
    assert (report.stored, report.shortfalls) == (pages * 200, ()), report
peak = next(line for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
print(peak.split()[1], tracemalloc.get_traced_memory()[1] // 1024)
"""


def peaks_kb(store: Path, pages: int) -> tuple[int, int]:
    """Return the peak of a whole process that pulls so many pages, and of its Python objects."""
    words = [sys.executable, "-c", PULL, str(store), str(pages)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, objects = map(int, done.stdout.split())
    return whole, objects


@pytest.mark.skipif(not STATUS.exists(), reason="the peak of a process is read from Linux")
def test_twelve_times_the_history_takes_hardly_more_memory(tmp_path: Path) -> None:
    short = peaks_kb(tmp_path / "short.duckdb", 10)
    long = peaks_kb(tmp_path / "long.duckdb", 120)
    # The database caches what it wrote, up to a bound of its own; rows in Python are let go.
    assert long[0] < 1.3 * short[0]
    assert long[1] < 3 * short[1]
