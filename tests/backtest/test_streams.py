"""Assets that keep their own time share a tape, and nothing is known early or made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import DataError
from backtest.streams import PriceStream, interleave
from tests.tapes import START_MS

MINUTE_MS = 60_000


def stream(asset: str, minutes: list[int], **columns: list[float]) -> PriceStream:
    ts = START_MS + MINUTE_MS * np.array(minutes, dtype=np.int64)
    if "known" in columns:
        columns["known_ts"] = START_MS + MINUTE_MS * np.array(columns.pop("known"))
    marks = [100.0 + m for m in minutes]
    given = {"mark": marks, "depth_usd": [1e6] * len(minutes)} | columns
    return PriceStream(asset, ts, **{name: np.array(value) for name, value in given.items()})


def test_bars_of_two_lengths_and_ticks_meet_on_one_clock():
    hourly = stream(
        "BTC", [0, 60, 120],
        mark=[10.0, 11.0, 12.0], high=[10.5, 11.5, 12.5], low=[9.5, 10.5, 11.5],
        funding=[1e-4, 2e-4, 3e-4], volume_usd=[5.0, 6.0, 7.0], index=[9.9, 10.9, 11.9],
    )  # fmt: skip
    ticks = stream("ETH", [20, 60, 61], mark=[1.0, 2.0, 3.0])
    tape = interleave([hourly, ticks])
    assert ((tape.ts - START_MS) // MINUTE_MS).tolist() == [20, 60, 61, 120]
    assert tape.assets == ("BTC", "ETH")
    assert tape.instruments.symbols == ("BTC-PERP", "ETH-PERP")
    assert tape.mark.tolist() == [[10.0, 1.0], [11.0, 2.0], [11.0, 3.0], [12.0, 3.0]]
    assert tape.index[:, 0].tolist() == [9.9, 10.9, 10.9, 11.9]
    assert tape.index[:, 1].tolist() == [1.0, 2.0, 3.0, 3.0]
    assert tape.high[:, 0].tolist() == [10.0, 11.5, 11.0, 12.5]
    assert tape.low[:, 0].tolist() == [10.0, 10.5, 11.0, 11.5]
    assert tape.funding[:, 0].tolist() == [0.0, 2e-4, 0.0, 3e-4]
    assert tape.volume_usd[:, 0].tolist() == [0.0, 6.0, 0.0, 7.0]


def test_a_row_is_known_when_the_last_of_its_values_is():
    slow = stream("BTC", [0, 60], known=[10, 75])
    fast = stream("ETH", [0, 5, 60, 70, 90])
    tape = interleave([slow, fast])
    assert ((tape.known_ts - START_MS) // MINUTE_MS).tolist() == [10, 10, 75, 75, 90]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True), min_size=1,
             max_size=4),
)  # fmt: skip
def test_every_row_shows_each_asset_s_last_price_and_keeps_all_of_its_volume(times):
    streams = [
        stream(f"C{k}", sorted(minutes), volume_usd=[1.0] * len(minutes))
        for k, minutes in enumerate(times)
    ]
    begins = max(min(minutes) for minutes in times)
    if any(max(minutes) < begins for minutes in times):
        with pytest.raises(DataError, match="before the one of"):
            interleave(streams)
        return
    tape = interleave(streams)
    rows = sorted({m for minutes in times for m in minutes if m >= begins})
    assert ((tape.ts - START_MS) // MINUTE_MS).tolist() == rows
    for k, minutes in enumerate(times):
        last = [max(m for m in minutes if m <= row) for row in rows]
        assert tape.mark[:, k].tolist() == [100.0 + m for m in last]
        assert tape.volume_usd[:, k].sum() == sum(m >= begins for m in minutes)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: interleave([]), "at least one asset"),
        (lambda: interleave([stream("BTC", [0]), stream("BTC", [1])]), "two streams of BTC"),
        (
            lambda: interleave([stream("BTC", [0, 1]), stream("ETH", [5])]),
            "stream of BTC ends at 2024-01-01 00:01 UTC, before the one of ETH begins at "
            "2024-01-01 00:05 UTC",
        ),
        (lambda: stream("BTC", []), "stream of BTC is empty"),
        (lambda: stream("BTC", [0, 3, 3]), "runs backwards at 2024-01-01 00:03 UTC"),
        (lambda: stream("BTC", [0, 1], mark=[1.0]), r"mark of the stream of BTC has shape \(1,\)"),
        (lambda: stream("BTC", [0, 1], known=[0, 0]), "at 2024-01-01 00:01 UTC was known before"),
        (lambda: stream("BTC", [0, 1], known=[5, 4]), "at 2024-01-01 00:01 UTC was known before"),
        (
            lambda: stream("ETH", [0, 7], low=[1.0, np.nan]),
            "low of the stream of ETH at 2024-01-01 00:07 UTC is nan; it must be finite and pos",
        ),
        (lambda: stream("ETH", [0], mark=[0.0]), "mark of the stream of ETH .* is 0.0"),
        (lambda: stream("ETH", [0], depth_usd=[-1.0]), "depth_usd of the stream of ETH .* -1.0"),
    ],
)
def test_an_impossible_stream_is_refused_with_asset_and_time(make, said):
    with pytest.raises(DataError, match=said):
        make()
