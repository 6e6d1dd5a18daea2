"""A pull that is killed at random while everything goes wrong ends as an undisturbed one does."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from backtest.units import MS_PER_DAY
from data_ingest.schema import FEED_TABLES
from data_ingest.simulator import ExchangeSimulator, Fault, FaultSchedule, MarketParameters
from data_ingest.store import DataStore

PARAMETERS = MarketParameters(start="2024-01-01", end="2024-02-01")
START = PARAMETERS.start + 5 * MS_PER_DAY
DAYS = 8
KILLS = 10
FAULTS = 30

# Every kind that an answer can have wrong: a bar or payment that is missing leaves a hole in the
# grid, a trade does in its numbers, in the count of its page or between two pages.
SCHEDULE = FaultSchedule(
    faults=(
        Fault(kind="429", first=5, every=37, retry_after_s=0),
        Fault(kind="502", first=9, every=37),
        Fault(kind="html", first=13, every=37),
        Fault(kind="empty", first=17, every=37),
        Fault(kind="malformed", first=21, every=37),
        Fault(kind="truncated", first=25, every=37),
        Fault(kind="reset", first=29, every=37),
        Fault(kind="418", first=33, every=37, retry_after_s=0),
        Fault(kind="missing_rows", path="*lines", first=2, every=3),
        Fault(kind="duplicated_rows", path="*lines", first=3, every=5),
        Fault(kind="reversed_page", path="*last_trades*", first=2, every=4),
        Fault(kind="duplicated_rows", path="*last_trades*", first=3, every=4),
        Fault(kind="repeated_page", path="*last_trades*", first=4, every=4),
        Fault(kind="missing_row", path="*last_trades*", first=1, every=8),
        Fault(kind="other_end", path="*last_trades*", first=5, every=8),
    )
)

PULL = """
import sys
import data_ingest.pull as pulling
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
path, url, start, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
opened = pulling.open_exchange
def at_once(*arguments, **named):
    client = opened(*arguments, **named)
    client.sleep = lambda _: None
    client.ccxt.enableRateLimit = False
    return client
pulling.open_exchange = at_once
market = MarketSpec.model_validate({
    "exchange": "binanceusdm", "assets": ["BTC"], "start": start, "end": end, "clock": "5min",
    "depth": {"recorded": True, "poll": "12h"}, "options": {"poll": "12h", "trades": True},
    "feeds": ["open_interest", "long_short_ratio", "delivery_prices"],
})
with DataStore(path) as store:
    reports = pulling.pull_market(store, market, url, simulate_clock=True)
failures = [report.failure for report in reports if report.failure]
sys.exit("; ".join(failures) or 0)
"""


def pulling(path: Path, url: str, code: str = PULL) -> subprocess.Popen[bytes]:
    end = START + DAYS * MS_PER_DAY
    words = [sys.executable, "-c", code, str(path), url, str(START), str(end)]
    return subprocess.Popen(words, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a pull; return its status and what it said."""
    _, said = process.communicate(timeout=180)
    return process.returncode, said.decode()


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with DataStore(path, read_only=True) as store:
        names = [*(table.name for table in FEED_TABLES), "coverage"]
        found = {}
        for name in names:
            without = "" if name == "coverage" else " EXCLUDE (batch_id)"
            found[name] = store.rows(f"SELECT *{without} FROM {name} ORDER BY ALL")
        found["shortfalls"] = store.rows("SELECT * EXCLUDE (noticed_at_ms) FROM shortfalls")
    return found


def test_ten_kills_and_thirty_faults_leave_the_tables_of_a_clean_pull(tmp_path: Path) -> None:
    chance = random.Random(7)
    kills, starts = 0, 0
    with ExchangeSimulator(PARAMETERS) as clean:
        assert finished(pulling(tmp_path / "clean.duckdb", clean.url)) == (0, "")
    with ExchangeSimulator(PARAMETERS, faults=SCHEDULE) as faulty:
        while True:
            process = pulling(tmp_path / "killed.duckdb", faulty.url)
            starts += 1
            until = faulty.requests + chance.randint(5, 15)
            while kills < KILLS and process.poll() is None and faulty.requests < until:
                time.sleep(0.002)
            if kills < KILLS and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                assert finished(process)[0] == -signal.SIGKILL
                kills += 1
                continue
            assert finished(process) == (0, "")
            break
        assert len(faulty.fired) >= FAULTS
        hit = {fault.kind for fault in faulty.fired}
        assert hit >= {"429", "html", "missing_rows", "missing_row"}
    assert (kills, starts) == (KILLS, KILLS + 1)
    expected = contents(tmp_path / "clean.duckdb")
    assert len(expected["candles"]) == 3 * DAYS * 288
    assert all(expected[name] for name in ("option_trades", "chain", "open_interest"))
    assert contents(tmp_path / "killed.duckdb") == expected


# A file that may not grow fails as a full disk does: at some write, in the middle of a pull.
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000,) * 2)\n" + PULL


def test_a_full_disk_stops_a_pull_with_a_sentence_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "full.duckdb"
    with ExchangeSimulator(PARAMETERS) as server:
        status, said = finished(pulling(path, server.url, FULL_DISK))
        assert (status, "StoreError: the store" in said) == (1, True), said
        assert "what was stored before is safe" in said
        with DataStore(path, read_only=True) as store:
            ((kept,),) = store.rows("SELECT sum(rows_added) FROM batches")
        assert kept > 0
        asked = server.requests
        server.set_clock(PARAMETERS.end)
        assert finished(pulling(path, server.url)) == (0, "")
        resumed = server.requests - asked
        server.set_clock(PARAMETERS.end)
        assert finished(pulling(tmp_path / "clean.duckdb", server.url)) == (0, "")
        assert resumed < server.requests - asked - resumed
    assert contents(path) == contents(tmp_path / "clean.duckdb")
