"""Outside signals and calendars: imported, kept in every revision, on the tape when known."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, DataError
from data_ingest.build import build_tape
from data_ingest.coverage import LedgerKey
from data_ingest.inventory import inventory
from data_ingest.mapping import ImportMapping
from data_ingest.outside import last_known_observation
from data_ingest.parquet import export_parquet, import_parquet
from data_ingest.recorded import import_recorded
from data_ingest.schema import CANDLES
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore, StoreError
from strategies.event_window import near_event
from tests.data_ingest.samples import BTC, HOUR_MS, REPOSITORY, write

PAGE = (REPOSITORY / "docs" / "outside.md").read_text(encoding="utf-8")
DAY = 24 * HOUR_MS


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def blocks() -> dict[str, str]:
    """The page's files by their titles."""
    return dict(re.findall(r'```\w+ title="([\w.]+)"\n(.*?)```', PAGE, flags=re.S))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in blocks().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with DataStore(tmp_path / "market.duckdb") as opened:
        yield opened


def mapping(**changes: Any) -> ImportMapping:
    """The page's mapping, its first file changed; None takes a key away."""
    written = yaml.safe_load(blocks()["outside.yaml"])
    first = written["files"][0] | changes
    written["files"][0] = {key: value for key, value in first.items() if value is not None}
    return ImportMapping.model_validate(written)


def market(hours: int = 24 * 5, **changes: Any) -> MarketSpec:
    start = ms("2024-01-02")
    return MarketSpec.model_validate(
        {
            "exchange": "binanceusdm",
            "assets": ["BTC", "ETH"],
            "start": start,
            "end": start + hours * HOUR_MS,
            "depth": {"usd": {"BTC": "5M", "ETH": "5M"}},
            "signals": ["tbill-3m"],
            "calendars": ["governance"],
        }
        | changes
    )


def add_candles(store: DataStore, hours: int = 24 * 5) -> None:
    start = ms("2024-01-02")
    for symbol in (BTC, "ETH/USDT:USDT"):
        rows = [
            ("binanceusdm", symbol, "trade", HOUR_MS, start + i * HOUR_MS, *[100.0] * 4, 1.0, 100.0)
            for i in range(hours)
        ]
        write(store, CANDLES, rows, LedgerKey("binanceusdm", symbol, "trade_candles", HOUR_MS))


def test_the_pages_files_import_and_say_what_the_page_says(folder: Path, store: DataStore) -> None:
    loaded = ImportMapping.load(folder / "outside.yaml")
    reports = import_recorded(store, loaded, folder)
    assert [(r.feed, r.market, r.rows_added) for r in reports] == [
        ("signals", "tbill-3m", 4), ("events", "governance", 4),
    ]  # fmt: skip
    add_candles(store)
    tape = build_tape(store, market())
    rate = tape.signal("tbill-3m")
    for text, value in [
        ("2024-01-02T21:00", np.nan),
        ("2024-01-02T22:00", 0.0524),
        ("2024-01-03T22:00", 0.0525),
        ("2024-01-04T22:00", 0.0523),
        ("2024-01-06T00:00", 0.0523),
    ]:
        row = int(np.searchsorted(tape.ts, ms(text)))
        assert tape.ts[row] == ms(text)
        assert rate[row] == pytest.approx(value, rel=1e-12, nan_ok=True)
    (note,) = [note for note in tape.notes if note.startswith("tbill-3m")]
    assert "not known at the first 21 of 120 rows" in note
    inside = near_event(tape, DAY, 0, kinds=["upgrade"])
    assert not inside[:, 0].any()
    hours = tape.ts[inside[:, 1]]
    # Ahead of the fourth until it is put off on the third at 18:00; then ahead of the sixth.
    assert hours.tolist() == [
        *range(ms("2024-01-03T14:00"), ms("2024-01-03T18:00"), HOUR_MS),
        *range(ms("2024-01-05T14:00"), ms("2024-01-06T14:00") + 1, HOUR_MS),
    ]
    assert "governance: 4 announcements of 3 events." in tape.notes
    assert {s.feed for s in tape.sources} >= {"signals", "events"}


def test_importing_twice_adds_nothing_and_a_contradiction_is_refused(
    folder: Path, store: DataStore
) -> None:
    import_recorded(store, mapping(), folder)
    again = import_recorded(store, mapping(), folder)
    assert [report.rows_added for report in again] == [0, 0]
    path = folder / "tbill.csv"
    path.write_text(path.read_text().replace("5.24", "5.34"))
    with pytest.raises(StoreError, match=r"value 0\.0534 contradicts 0\.0524"):
        import_recorded(store, mapping(), folder)


def test_a_market_that_names_nothing_from_outside_keeps_its_tape(
    folder: Path, store: DataStore
) -> None:
    add_candles(store)
    plain = market(signals=(), calendars=())
    assert not {"signals", "calendars"} & set(plain.model_dump(mode="json"))
    before = build_tape(store, plain)
    import_recorded(store, mapping(), folder)
    assert build_tape(store, plain).digest == before.digest
    assert build_tape(store, market()).digest != before.digest


def test_what_becomes_known_after_the_tape_changes_nothing_on_it(
    folder: Path, store: DataStore
) -> None:
    import_recorded(store, mapping(), folder)
    add_candles(store)
    digest = build_tape(store, market()).digest
    with (folder / "tbill.csv").open("a") as file:
        file.write("2024-01-03,2024-02-01T14:00,9.99\n2024-01-08,2024-01-08T21:15,5.2\n")
    with (folder / "votes.csv").open("a") as file:
        file.write("dencun,2024-01-04T15:00,2024-01-08T00:00,Dencun again,fork,ETH\n")
    assert [r.rows_added for r in import_recorded(store, mapping(), folder)] == [2, 1]
    assert build_tape(store, market()).digest == digest


def test_a_delay_stands_in_for_a_column_of_publication(folder: Path, store: DataStore) -> None:
    path = folder / "tbill.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    import_recorded(store, mapping(known=None, known_delay="36h"), folder)
    known = store.rows("SELECT known_ts_ms - ts_ms FROM signals")
    assert known == [(36 * HOUR_MS,)] * 3


def test_a_time_without_a_zone_is_utc_wherever_the_import_runs(
    folder: Path, store: DataStore
) -> None:
    store.connection.execute("SET TimeZone = 'America/New_York'")
    import_recorded(store, mapping(), folder)
    assert store.rows("SELECT min(ts_ms) FROM signals") == [(ms("2024-01-02"),)]


def test_a_signal_known_before_its_time_is_a_forecast_or_a_mistake(
    folder: Path, store: DataStore
) -> None:
    path = folder / "tbill.csv"
    path.write_text("date,published,rate\n2024-01-04,2024-01-03T00:00,5.5\n")
    with pytest.raises(DataError, match=r"tbill\.csv: row 1: it was known at .* say forecast: tru"):
        import_recorded(store, mapping(), folder)
    assert store.rows("SELECT count(*) FROM signals") == [(0,)]
    import_recorded(store, mapping(forecast=True), folder)
    add_candles(store)
    rate = build_tape(store, market(calendars=())).signal("tbill-3m")
    row = int(np.argmax(~np.isnan(rate)))
    assert row * HOUR_MS + ms("2024-01-02T01:00") == ms("2024-01-04")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2024-01-02,2024-01-02T21:15,524", "row 1: the rate is 5.24, beyond 1 a year; is it in"),
        ("2024-01-02,soon,5.24", "row 1: known_ts_ms is missing or not a time"),
        ("2024-01-02,2024-01-02T21:15,n/a", "row 1: value is missing or not a number"),
        (",2024-01-02T21:15,5.24", "row 1: ts_ms is missing or not a time"),
    ],
)
def test_a_bad_row_of_a_signal_is_refused_with_its_number(
    folder: Path, store: DataStore, line: str, sentence: str
) -> None:
    (folder / "tbill.csv").write_text(f"date,published,rate\n{line}\n")
    with pytest.raises(DataError, match=re.escape(sentence)):
        import_recorded(store, mapping(), folder)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "a,2024-01-04,2024-01-01,Dencun,picnic,ETH",
            "row 1: kind is ''; it must be governance_vote",
        ),
        ("a,,2024-01-01,Dencun,fork,ETH", "row 1: ts_ms is missing or not a time"),
        ("a,2024-01-04,,Dencun,fork,ETH", "row 1: known_ts_ms is missing or not a time"),
    ],
)
def test_a_bad_row_of_a_calendar_is_refused_with_its_number(
    folder: Path, store: DataStore, line: str, sentence: str
) -> None:
    (folder / "votes.csv").write_text(f"id,when,announced,what,kind,assets\n{line}\n")
    with pytest.raises(DataError, match=re.escape(sentence)):
        import_recorded(store, mapping(), folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"known": None}, "signals files need known, the column that says when"),
        ({"known_delay": "1d"}, "and not both"),
        (
            {"columns": {"name": {"value": "x"}, "kind": {"value": "rates"}, "value": "rate"}},
            "signals have no kind 'rates'. Did you mean 'rate'?",
        ),
        ({"columns": {"name": {"value": "x"}, "value": "rate"}}, "signals file lack kind"),
    ],
)
def test_a_mapping_that_says_too_little_is_refused_in_words(
    folder: Path, changes: dict[str, Any], sentence: str
) -> None:
    written = yaml.safe_load(blocks()["outside.yaml"])
    first = written["files"][0] | changes
    written["files"][0] = {key: value for key, value in first.items() if value is not None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(written))
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        ImportMapping.load(folder / "mine.yaml")


def test_an_event_can_be_called_off_without_a_time(folder: Path, store: DataStore) -> None:
    (folder / "votes.csv").write_text(
        "id,when,announced,what,kind,assets,off\n"
        "a,2024-01-05T00:00,2024-01-01,Vote,vote,BTC,false\n"
        "a,,2024-01-04T06:00,Withdrawn,vote,BTC,true\n"
    )
    written = mapping().model_dump(mode="json", exclude_unset=True)
    written["files"][1]["columns"]["cancelled"] = "off"
    import_recorded(store, ImportMapping.model_validate(written), folder)
    add_candles(store)
    tape = build_tape(store, market(signals=()))
    hours = tape.ts[near_event(tape, DAY, DAY)[:, 0]]
    assert hours.tolist() == [*range(ms("2024-01-04"), ms("2024-01-04T06:00"), HOUR_MS)]


def test_rows_without_an_id_are_events_of_their_own(folder: Path, store: DataStore) -> None:
    written = mapping().model_dump(mode="json", exclude_unset=True)
    del written["files"][1]["columns"]["event_id"]
    for _ in range(2):
        import_recorded(store, ImportMapping.model_validate(written), folder)
    assert store.rows("SELECT count(*), count(DISTINCT event_id) FROM events") == [(4, 4)]


def test_a_signal_or_calendar_that_the_store_lacks_is_named(folder: Path, store: DataStore) -> None:
    import_recorded(store, mapping(), folder)
    add_candles(store)
    with pytest.raises(DataError, match=r"holds no signal 'tbill-3n' .* Did you mean 'tbill-3m'"):
        build_tape(store, market(signals=["tbill-3n"]))
    with pytest.raises(DataError, match=r"no calendar 'votes' of which anything was known by 2024"):
        build_tape(store, market(calendars=["votes"]))


def test_the_inventory_lists_every_signal_and_calendar(folder: Path, store: DataStore) -> None:
    import_recorded(store, mapping(), folder)
    told = [(row.feed, row.market, row.rows, row.origins) for row in inventory(store)]
    assert told == [
        ("signals", "tbill-3m", 4, ("tbill.csv",)),
        ("events", "governance", 4, ("votes.csv",)),
    ]


ROWS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 30), st.floats(-1, 1)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, now=st.integers(0, 40), later=ROWS)
def test_the_last_known_observation_is_what_a_reader_of_that_day_would_name(
    rows: list[tuple[int, int, float]], now: int, later: list[tuple[int, int, float]]
) -> None:
    # One vintage has one value, as the store's key demands.
    vintages = {(at, known): value for at, known, value in rows}
    future = {(at, known + now + 1): value for at, known, value in later}
    readable = {
        (at, known): value for (at, known), value in vintages.items() if max(at, known) <= now
    }
    expected = readable[max(readable)] if readable else np.nan
    for told in (vintages, {**future, **vintages}):
        at, known = (np.array([key[k] for key in told], dtype=np.int64) for k in (0, 1))
        values = np.array(list(told.values()), dtype=float)
        held, about = last_known_observation(at, known, values, np.array([now]))
        assert held[0] == pytest.approx(expected, nan_ok=True, abs=0)
        assert np.isnan(about[0]) == np.isnan(expected)


def test_an_export_keeps_every_revision_and_an_event_without_a_time(
    folder: Path, store: DataStore, tmp_path: Path
) -> None:
    path = folder / "votes.csv"
    lines = path.read_text().splitlines()
    lines = [lines[0] + ",off", *(line + ",false" for line in lines[1:])]
    path.write_text("\n".join([*lines, "risk-12,,2024-01-04T06:00,Withdrawn,vote,BTC,true\n"]))
    written = mapping().model_dump(mode="json", exclude_unset=True)
    written["files"][1]["columns"]["cancelled"] = "off"
    import_recorded(store, ImportMapping.model_validate(written), folder)
    manifest = export_parquet(store, tmp_path / "export")
    named = {tuple(group.group.values()): group.rows for group in manifest.contents.observations}
    assert named == {("tbill-3m",): 4, ("governance",): 5}
    with DataStore(tmp_path / "other.duckdb") as other:
        import_parquet(other, tmp_path / "export")
        for table in ("signals", "events"):
            query = f"SELECT * FROM {table} ORDER BY ALL"
            assert other.rows(query) == store.rows(query)
