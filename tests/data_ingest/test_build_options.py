"""Options on a tape: volatilities, terms, filters, and snapshots as the clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backtest.errors import DataError, GapError
from backtest.instruments import OPTION, PERPETUAL
from backtest.units import MS_PER_DAY
from data_ingest.build import build_tape
from data_ingest.coverage import LedgerKey
from data_ingest.schema import CHAIN
from tests.data_ingest.samples import (
    HOUR_MS,
    START_MS,
    chain_row,
    market,
    option_market,
    recorded_store,
    sample_chain,
    write,
)


def test_volatility_is_unknown_before_the_first_quote_and_last_known_after(
    tmp_path: Path,
) -> None:
    with recorded_store(tmp_path, chain=sample_chain()) as store:
        tape = build_tape(store, option_market())
    names = [name.split("-", 2)[2] for name in tape.instruments.symbols[1:]]
    assert names == ["25000-P", "30000-C", "35000-C"]
    columns = {name: tape.iv[:, i] for i, name in enumerate(names)}
    assert columns["30000-C"] == pytest.approx([0.5, 0.51, 0.52, 0.53, 0.54])
    assert columns["25000-P"] == pytest.approx([0.8, 0.81, 0.82, 0.82, 0.84])
    assert np.isnan(columns["35000-C"][:2]).all()
    assert columns["35000-C"][2:] == pytest.approx([0.72, 0.73, 0.74])
    assert tape.forward_ratio[:, 0] == pytest.approx([1.01] * 5)
    assert (tape.vol_known_ts - tape.vol_ts).tolist() == [120_000] * 5


def test_an_option_is_listed_from_its_first_mark_and_carries_its_terms(tmp_path: Path) -> None:
    with recorded_store(tmp_path, chain=sample_chain()) as store:
        table = build_tape(store, option_market()).instruments
    assert table.kind.tolist() == [PERPETUAL, OPTION, OPTION, OPTION]
    assert table.inverse.tolist() == [0, 1, 1, 1]
    assert table.strike.tolist() == [0.0, 25_000.0, 30_000.0, 35_000.0]
    assert table.is_call.tolist() == [0, 0, 1, 1]
    assert table.listed_ms.tolist()[1:] == [START_MS, START_MS, START_MS + 24 * HOUR_MS]
    assert (table.expiry_ms[1:] == START_MS + 40 * MS_PER_DAY).all()


def test_the_snapshot_before_the_window_counts_if_it_is_fresh(tmp_path: Path) -> None:
    chain = [chain_row(START_MS + h * HOUR_MS) for h in (-100, -6, 6, 18, 30, 42)]
    with recorded_store(tmp_path, chain=chain) as store:
        tape = build_tape(store, option_market())
    assert tape.vol_ts[0] == START_MS - 6 * HOUR_MS
    assert len(tape.vol_ts) == 5


@pytest.mark.parametrize(
    ("hours", "where"),
    [((0, 12, 36, 48), "2023-11-15 12:00 for 1d"), ((0, 12), "2023-11-15 12:00 for 36h")],
)
def test_snapshots_too_far_apart_are_refused(
    tmp_path: Path, hours: tuple[int, ...], where: str
) -> None:
    chain = [chain_row(START_MS + hour * HOUR_MS) for hour in hours]
    with (
        recorded_store(tmp_path, chain=chain) as store,
        pytest.raises(GapError, match=rf"{where}\) longer than 14h between snapshots"),
    ):
        build_tape(store, option_market())


def test_filters_bound_the_instruments_and_say_how_many_pass(tmp_path: Path) -> None:
    chain = sample_chain()
    for row in chain:
        row["open_interest"] = 500.0 if row["strike"] == 35_000.0 else 5.0
    with recorded_store(tmp_path, chain=chain) as store:
        busy = build_tape(store, option_market(min_open_interest=100))
        near = build_tape(store, option_market(strikes=[0.9, 1.1]))
        with pytest.raises(DataError, match="no option of BTC passes the filters"):
            build_tape(store, option_market(max_expiry="2d"))
    assert busy.instruments.strike.tolist() == [0.0, 35_000.0]
    assert near.instruments.strike.tolist() == [0.0, 30_000.0]
    assert any("1 of 3 options pass the filters" in note for note in busy.notes)


def test_marks_of_an_option_without_terms_are_refused(tmp_path: Path) -> None:
    with recorded_store(tmp_path) as store:
        key = LedgerKey("deribit", "BTC", "chain")
        mark = ("deribit", "BTC-X", START_MS, START_MS, 0.1, 0.5, None, None, 1e4, 1e4, 1.0, 1.0)
        write(store, CHAIN, [mark], key)
        with pytest.raises(DataError, match=r"has marks of BTC-X but not its terms"):
            build_tape(store, option_market())


def test_snapshots_can_be_the_clock_where_no_candles_were_recorded(tmp_path: Path) -> None:
    chain = [
        chain_row(START_MS + h * HOUR_MS, index_price=30_000.0 + h) for h in (-6, 0, 12, 24, 36, 48)
    ]
    with recorded_store(tmp_path, chain=chain) as store:
        tape = build_tape(store, market(clock="snapshots", options={}))
    assert tape.ts.tolist() == [START_MS + h * HOUR_MS for h in (0, 12, 24, 36, 48)]
    assert (tape.known_ts - tape.ts).tolist() == [120_000] * 5
    assert tape.index[:, 0].tolist() == [30_000.0, 30_012.0, 30_024.0, 30_036.0, 30_048.0]
    assert any("moves between snapshots" in note for note in tape.notes)
