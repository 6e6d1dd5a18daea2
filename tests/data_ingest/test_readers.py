"""Readers and a writer of one store, as processes of their own."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_ingest import turns
from data_ingest.store import DataStore, StoreError
from data_ingest.turns import FileLock, LockedError, WriterTurn, read_in_turn
from tests.data_ingest.samples import REPOSITORY

PAGES, ROWS = 150, 400

WRITER = f"""
import sys, time
from data_ingest.coverage import LedgerKey
from data_ingest.store import Batch, DataStore
from data_ingest.schema import FUNDING
key = LedgerKey("binanceusdm", "BTC/USDT:USDT", "funding")
with DataStore(sys.argv[1]) as store:
    print("open", flush=True)
    for page in range(int(sys.argv[2])):
        window = (page * {ROWS}, (page + 1) * {ROWS})
        with store.transaction() as cursor:
            cursor.execute(
                "CREATE OR REPLACE TEMP TABLE page AS SELECT 'binanceusdm' AS exchange, "
                "'BTC/USDT:USDT' AS symbol, range AS ts_ms, 0.0001 AS rate, "
                "28800000::BIGINT AS interval_ms, NULL::DOUBLE AS index_price "
                "FROM range(?, ?)", list(window))
            store.upsert(cursor, FUNDING, "page", Batch(key, "page"), {{key: [window]}})
        time.sleep(0.02)
print("done", flush=True)
"""

READER = """
import json, sys, time
from data_ingest.store import DataStore
seen = []
for _ in range(int(sys.argv[2])):
    with DataStore(sys.argv[1], read_only=True) as store:
        rows = store.rows("SELECT count(*), count(DISTINCT batch_id), "
                          "(SELECT max(end_ms) FROM coverage) FROM funding")[0]
        time.sleep(float(sys.argv[3]))
    seen.append(rows)
print(json.dumps(seen))
"""

HOLDER = """
import sys
from data_ingest.store import DataStore
with DataStore(sys.argv[1], read_only=True) as store:
    print("open", flush=True)
    input()
"""


def start(script: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str], say: str | None = None) -> tuple[str, str]:
    out, err = process.communicate(say, timeout=120)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.duckdb"
    DataStore(path).close()
    return path


def test_readers_get_in_while_a_writer_works_and_both_see_everything(store: Path) -> None:
    writer = start(WRITER, store, PAGES)
    assert line_of(writer) == "open"
    readers = [start(READER, store, 12, 0.01) for _ in range(3)]
    seen = [json.loads(ended(reader)[0]) for reader in readers]
    assert writer.poll() is None, "the writer ended before the readers; nothing was tested"
    assert ended(writer)[0] == "done\n"
    for turns_of_one in seen:
        counts = [rows for rows, _, _ in turns_of_one]
        assert counts == sorted(counts)
        for rows, batches, covered in turns_of_one:
            # Whole pages only, each with its batch and the window that it completes.
            assert (rows, covered or 0) == (batches * ROWS, batches * ROWS)
    assert max(rows for one in seen for rows, _, _ in one) > 0
    with DataStore(store, read_only=True) as whole:
        assert whole.rows("SELECT count(*), max(batch_id) FROM funding") == [(PAGES * ROWS, PAGES)]


def test_a_writer_is_the_only_one_even_while_it_lets_readers_in(store: Path) -> None:
    writer = start(WRITER, store, PAGES)
    assert line_of(writer) == "open"
    with pytest.raises(StoreError, match="in use by another process; wait for it or close it"):
        DataStore(store)
    reader = start(HOLDER, store)
    assert line_of(reader) == "open"
    with pytest.raises(StoreError, match="in use by another process; wait for it or close it"):
        DataStore(store)
    with DataStore(store, read_only=True):  # a second reader is no trouble
        pass
    time.sleep(1.5)
    ended(reader, "\n")
    out, err = ended(writer)
    assert out == "done\n"
    assert err.strip() == f"waiting to write {store}, which is being read"


def test_readers_that_come_one_upon_the_other_cannot_keep_a_writer_out(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody always reads; after a courtesy, further readers find the gate shut."""
    monkeypatch.setattr(turns, "COURTESY_S", 0.2)
    right = WriterTurn(store)
    gate = FileLock(store.with_name("store.duckdb.gate"))
    entered = 0
    shut = False

    def read_by_others() -> str:
        nonlocal entered, shut
        if gate.take():
            gate.release()
            entered += 1
            raise LockedError
        if not shut:  # the reader that is in leaves, and nobody has come after it
            shut = True
            raise LockedError
        return "back"

    assert right.get_back(read_by_others, patience_s=10.0) == "back"
    assert entered
    assert shut
    assert gate.take(), "the gate stayed shut behind the writer"
    gate.close()
    right.close()


def test_a_reader_waits_at_a_gate_that_is_shut(store: Path) -> None:
    gate = FileLock(store.with_name("store.duckdb.gate"))
    assert gate.take()
    opened: list[float] = []
    reader = threading.Thread(
        target=lambda: read_in_turn(store, lambda: opened.append(time.monotonic()))
    )
    reader.start()
    time.sleep(0.3)
    assert opened == []
    gate.close()
    reader.join(timeout=10)
    assert len(opened) == 1


def test_the_right_to_write_is_kept_while_the_file_is_closed_for_readers(store: Path) -> None:
    right = FileLock(store.with_name("store.duckdb.writer"))
    assert right.take()
    with pytest.raises(StoreError, match="in use by another process; wait for it or close it"):
        DataStore(store)
    right.close()
    DataStore(store).close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_a_killed_writer_or_reader_leaves_nothing_that_blocks(store: Path) -> None:
    writer = start(WRITER, store, PAGES)
    assert line_of(writer) == "open"
    reader = start(HOLDER, store)
    assert line_of(reader) == "open"
    reader.send_signal(signal.SIGKILL)
    reader.communicate()
    with DataStore(store, read_only=True) as opened:
        before = opened.rows("SELECT count(*) FROM funding")[0][0]
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    with DataStore(store, read_only=True) as opened:
        assert opened.rows("SELECT count(*) FROM funding")[0][0] >= before
    assert ended(start(WRITER, store, PAGES))[0] == "open\ndone\n"


def test_a_wait_is_told_once(
    store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TELL_AFTER_S", 0.05)
    calls = 0

    def opens_late() -> str:
        nonlocal calls
        calls += 1
        if calls < 20:
            raise LockedError
        return "open"

    writer = FileLock(store.with_name("store.duckdb.writer"))
    assert writer.take()
    with caplog.at_level(logging.WARNING):
        assert read_in_turn(store, opens_late) == "open"
    writer.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for a turn to read {store}, which is being written"
    ]


def test_a_process_that_takes_no_turns_is_not_waited_for(store: Path) -> None:
    holder = start(
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()",
        store,
    )
    assert line_of(holder) == "open"
    with pytest.raises(StoreError, match="in use by another process"):
        DataStore(store, read_only=True)
    ended(holder, "\n")


def test_a_reader_gets_in_while_a_writer_sleeps_between_two_questions(store: Path) -> None:
    with DataStore(store) as writer:
        reader = start(READER, store, 1, 0)
        for _ in range(300):  # an exchange has asked for a pause
            if reader.poll() is not None:
                break
            writer.rest(0.1)
        else:
            reader.kill()
        assert json.loads(ended(reader)[0]) == [[0, 0, None]]
        assert writer.rows("SELECT count(*) FROM funding") == [(0,)]


def test_a_store_in_a_folder_that_takes_no_files_is_read(store: Path) -> None:
    for beside in (".gate", ".writer"):
        store.with_name(store.name + beside).unlink()
    with DataStore(store, read_only=True):
        assert sorted(path.name for path in store.parent.iterdir()) == ["store.duckdb"]


def test_temporary_tables_stay_where_nobody_waits(store: Path) -> None:
    with DataStore(store) as opened:
        opened.connection.execute("CREATE TEMP TABLE mine (x BIGINT)")
        with opened.transaction() as cursor:
            cursor.execute("INSERT INTO mine VALUES (1)")
        assert opened.rows("SELECT x FROM mine") == [(1,)]


def test_a_lock_is_free_again_when_its_holder_is_closed(tmp_path: Path) -> None:
    one, two = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert one.take()
    assert not two.take()
    one.release()
    assert two.take()
    two.close()
    assert one.take()
    one.close()
    assert (tmp_path / "l").stat().st_size == 0


def test_a_snapshot_is_taken_while_a_writer_works(store: Path, tmp_path: Path) -> None:
    from data_ingest.snapshot import freeze, verify_snapshot

    writer = start(WRITER, store, PAGES)
    assert line_of(writer) == "open"
    time.sleep(1.0)
    manifest = freeze(store, tmp_path / "frozen")
    assert writer.poll() is None
    assert ended(writer)[0] == "done\n"
    assert verify_snapshot(tmp_path / "frozen") == manifest
    assert manifest.contents.rows % ROWS == 0
    assert 0 < manifest.contents.rows < PAGES * ROWS
