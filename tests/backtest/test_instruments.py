"""Every kind of contract can be listed, and one that contradicts itself cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backtest.errors import DataError
from backtest.instruments import FUTURE, NEVER_MS, OPTION, InstrumentTable
from tests.tapes import make_tape

FUTURE_ROW = {
    "symbol": "BTC-5JAN24",
    "asset": 0,
    "kind": FUTURE,
    "expiry_ms": 1_704_441_600_000,
    "expiry_column": 0,
}


def test_a_dated_future_needs_an_expiry_and_no_strike():
    table = InstrumentTable.from_rows([FUTURE_ROW, FUTURE_ROW | {"symbol": "X", "inverse": 1}])
    assert table.kind.tolist() == [FUTURE, FUTURE]
    assert table.strike.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expiry_column": -1}, "expiry_column -1 is not valid; it must be a column of the tape's"),
        ({"expiry_ms": NEVER_MS}, "it must be the instant at which the future is settled"),
        ({"kind": 3}, r"kind 3 is not valid; it must be 0 \(perpetual\), 1 \(option\) or 2"),
    ],
)
def test_a_future_that_contradicts_itself_is_refused(change, said):
    with pytest.raises(DataError, match=f"instrument BTC-5JAN24: .*{said}"):
        InstrumentTable.from_rows([FUTURE_ROW | change])


def test_there_is_no_early_exercise():
    option = FUTURE_ROW | {"kind": OPTION, "strike": 4e4, "iv_column": 0}
    assert len(InstrumentTable.from_rows([option | {"style": "european"}])) == 1
    with pytest.raises(DataError, match="options here are European, there is no early exercise"):
        InstrumentTable.from_rows([option | {"style": "american"}])


@pytest.mark.parametrize("options", [True, False])
def test_a_future_is_listed_for_each_asset_and_expiry_and_changes_nothing_else(options):
    plain = make_tape(rows=100, options=options)
    dated = make_tape(rows=100, options=options, futures=True)
    table = dated.instruments
    future = table.kind == FUTURE
    expiries = {(a, t) for a, t in zip(table.asset, table.expiry_ms, strict=True) if t < NEVER_MS}
    assert future.sum() == 2 * len(expiries)
    assert table.inverse[future].tolist() == [0, 1] * len(expiries)
    assert table.symbols[: len(plain.instruments)] == plain.instruments.symbols
    for name in ("index", "mark", "funding", "volume_usd", "depth_usd"):
        np.testing.assert_array_equal(getattr(dated, name), getattr(plain, name))
    if options:
        np.testing.assert_array_equal(dated.iv, plain.iv)
    assert dated.iv.shape[0] == dated.forward_ratio.shape[0] > 0


def test_a_tape_of_futures_must_hold_their_forwards():
    tape = make_tape(rows=100, options=False, futures=True)
    with pytest.raises(DataError, match="dated futures but holds no snapshot of forwards"):
        replace(
            tape, vol_ts=tape.vol_ts[:0], vol_known_ts=tape.vol_known_ts[:0],
            iv=tape.iv[:0], forward_ratio=tape.forward_ratio[:0],
        )  # fmt: skip
    with pytest.raises(DataError, match="an expiry column that the tape lacks"):
        replace(tape, forward_ratio=tape.forward_ratio[:, :1])


def test_before_the_first_snapshot_is_known_a_future_s_forward_is_the_index():
    tape = make_tape(rows=100, options=False, futures=True, latency_ms=3_600_000)
    early = replace(tape, vol_known_ts=tape.vol_known_ts + 7_200_000).upto(int(tape.known_ts[1]))
    assert len(early) == 2
    assert (early.forward_ratio == 1.0).all()
    assert early.forward_ratio.shape == (1, tape.forward_ratio.shape[1])
