"""Every rule finds its planted fault, and a market without faults has no findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from backtest.units import MS_PER_HOUR
from data_ingest.quality.findings import FINDING_RULES, Finding
from data_ingest.quality.verify import verify
from data_ingest.store import DataStore
from tests.data_ingest.clean_market import Frames, clean_frames, import_frames

Plant = Callable[[Frames], None]


def drop(name: str, *rows: int) -> Plant:
    def plant(frames: Frames) -> None:
        frames[name] = frames[name].drop(index=list(rows)).reset_index(drop=True)

    return plant


def change(name: str, rows: slice, **values: float) -> Plant:
    def plant(frames: Frames) -> None:
        frames[name].loc[rows, list(values)] = list(values.values())

    return plant


def jump(frames: Frames) -> None:
    frame = frames["trade_1h"]
    frame.loc[700, "close"] *= 1.3
    frame.loc[700, "high"] = frame.loc[700, "close"]


def wick(frames: Frames) -> None:
    frames["trade_1h"].loc[700, "low"] *= 0.5


def stand_still(name: str) -> Plant:
    def plant(frames: Frames) -> None:
        price = frames[name].loc[600, "close"]
        change(name, slice(601, 604), open=price, high=price, low=price, close=price)(frames)

    return plant


def mark_off_trade(frames: Frames) -> None:
    frame = frames["mark_1h"]
    frame.loc[20, "close"] *= 1.05
    frame.loc[20, "high"] = frame.loc[20, "close"]


def mark_is_trade(frames: Frames) -> None:
    frames["mark_1h"][["high", "low"]] = frames["trade_1h"][["high", "low"]]
    frames["mark_1h"][["open", "close"]] = frames["trade_1h"][["open", "close"]]


def funding_interval(frames: Frames) -> None:
    paid = frames["funding"]
    more = paid.iloc[50:].assign(ts_utc_ms=paid["ts_utc_ms"].iloc[50:] - 4 * MS_PER_HOUR)
    frames["funding"] = pd.concat([paid, more]).sort_values("ts_utc_ms", ignore_index=True)


def out_of_order(frames: Frames) -> None:
    frames["trade_1h"] = frames["trade_1h"].iloc[::-1].reset_index(drop=True)


def repeated_rows(frames: Frames) -> None:
    frames["option_trades"] = pd.concat(
        [frames["option_trades"], frames["option_trades"].iloc[5:8]], ignore_index=True
    )


def of_snapshot(frames: Frames, number: int) -> pd.Series:
    times = frames["chain"]["ts_utc_ms"]
    return times == times.unique()[number]


def snapshot_gap(frames: Frames) -> None:
    frames["chain"] = frames["chain"][~of_snapshot(frames, 3)].reset_index(drop=True)


def chain_repeated(frames: Frames) -> None:
    chain = frames["chain"]
    before = chain[of_snapshot(frames, 3)].set_index("native_id")
    place = chain.index[of_snapshot(frames, 4)]
    names = chain.loc[place, "native_id"]
    for column in ("mark_coin", "mark_iv", "bid_coin", "ask_coin", "open_interest"):
        known = names.map(before[column])
        chain.loc[place, column] = known.fillna(chain.loc[place, column])


def forward_off_index(frames: Frames) -> None:
    chain = frames["chain"]
    chain.loc[chain["expiry"] == chain["expiry"].min(), "forward_price"] *= 1.05


def one_option(frames: Frames, distance: float = 0.0) -> pd.Index:
    """Return the rows of one call with both neighbours, near the forward."""
    chain = frames["chain"]
    calls = chain[of_snapshot(frames, 0) & (chain["option_type"] == "call")]
    calls = calls[calls["expiry"] == calls["expiry"].min()]
    above = calls[calls["strike"] > calls["forward_price"] * (1 + distance)]
    return chain.index[chain["native_id"] == above.iloc[1]["native_id"]]


def set_option(column: str, value: float, times: int | None = 1, shift: bool = False) -> Plant:
    def plant(frames: Frames) -> None:
        rows = one_option(frames)[:times]
        old = frames["chain"].loc[rows, column] if shift else 0.0
        frames["chain"].loc[rows, column] = old + value

    return plant


def stale_iv(frames: Frames) -> None:
    set_option("mark_iv", 0.61, times=None)(frames)
    chain = frames["chain"]
    chain.loc[~of_snapshot(frames, 0), "index_price"] *= 1.1
    chain.loc[~of_snapshot(frames, 0), "forward_price"] *= 1.1


def locked(frames: Frames) -> None:
    row = one_option(frames)[:1]
    frames["chain"].loc[row, "bid_coin"] = frames["chain"].loc[row, "ask_coin"]


def flat_smile(frames: Frames) -> None:
    chain = frames["chain"]
    chain.loc[of_snapshot(frames, 2) & (chain["expiry"] == chain["expiry"].min()), "mark_iv"] = 0.8


def calendar(frames: Frames) -> None:
    chain = frames["chain"]
    chain.loc[chain["expiry"] == chain["expiry"].min(), "mark_iv"] += 0.5


def trade_after_expiry(frames: Frames) -> None:
    frames["option_trades"].loc[3, "native_id"] = "BTC-31DEC23-42000-C"


def add_trade_numbers(store: DataStore) -> None:
    store.connection.execute(
        "UPDATE option_trades SET trade_seq = 2 * numbered.place FROM (SELECT trade_id, "
        "row_number() OVER (PARTITION BY native_id ORDER BY trade_id) AS place FROM option_trades) "
        "AS numbered WHERE numbered.trade_id = option_trades.trade_id"
    )


def sql(statement: str) -> Callable[[DataStore], None]:
    return lambda store: store.connection.execute(statement) and None


IN_FILES: dict[str, Plant] = {
    "gap": drop("trade_1h", 100, 101, 102),
    "quarantined": change("trade_1h", slice(5, 5), low=-1.0),
    "out_of_order": out_of_order,
    "repeated_rows": repeated_rows,
    "jump": jump,
    "wick": wick,
    "stale_price": stand_still("trade_1h"),
    "stale_mark": stand_still("mark_1h"),
    "no_trades": change("trade_1h", slice(7, 8), volume=0.0),
    "no_volume": change("trade_1h", slice(7, 8), volume=np.nan),
    "mark_off_trade": mark_off_trade,
    "mark_is_trade": mark_is_trade,
    "spans_differ": drop("mark_1h", 0, 1, 2),
    "timeframes_disagree": change("trade_5m", slice(1200, 1202), volume=0.5),
    "funding_gap": drop("funding", 20),
    "funding_interval": funding_interval,
    "funding_extreme": change("funding", slice(30, 30), rate=-0.009),
    "funding_unknown": drop("funding", *range(100, 121)),
    "snapshot_gap": snapshot_gap,
    "chain_repeated": chain_repeated,
    "index_lag": set_option("index_price", 100.0, shift=True),
    "forward_off_index": forward_off_index,
    "no_quote": set_option("bid_coin", np.nan),
    "crossed_quotes": locked,
    "mark_outside_quotes": set_option("mark_coin", 0.01, shift=True),
    "flat_smile": flat_smile,
    "iv_extreme": set_option("mark_iv", 3.5),
    "stale_iv": stale_iv,
    "mark_off_model": set_option("mark_iv", 0.2, shift=True),
    "parity": set_option("mark_coin", 0.002, shift=True),
    "butterfly": set_option("mark_coin", 0.004, shift=True),
    "calendar": calendar,
    "trade_without_iv": change("option_trades", slice(3, 3), iv=0.0),
    "trade_after_expiry": trade_after_expiry,
}
IN_STORE: dict[str, Callable[[DataStore], None]] = {
    "stored_row": sql("UPDATE candles SET low = -low WHERE open_ms = 1704070800000"),
    "false_coverage": sql(
        "DELETE FROM candles WHERE open_ms BETWEEN 1704070800000 AND 1704078000000"
    ),
    "terms_unknown": sql(
        "DELETE FROM instruments WHERE native_id IN (SELECT min(native_id) FROM chain)"
    ),
    "expired_mark": sql("UPDATE instruments SET expiry_ms = 1704500000000"),
    "shortfall": sql(
        "INSERT INTO shortfalls VALUES ('binanceusdm', 'BTC/USDT:USDT', 'trade_candles', 3600000, "
        "1704070800000, 1704078000000, 'not served', 'asked three times.', 0)"
    ),
    "open_interest_stale": sql("UPDATE chain SET open_interest = 42"),
    "trade_missing": add_trade_numbers,
}


def findings_of(tmp_path: Path, plant: Plant | None = None, alter: object = None) -> list[Finding]:
    frames = clean_frames()
    if plant:
        plant(frames)
    with DataStore(tmp_path / "market.duckdb") as store:
        import_frames(store, frames, tmp_path)
        if callable(alter):
            alter(store)
        return list(verify(store).findings)


def test_a_market_without_faults_has_no_findings(tmp_path: Path) -> None:
    assert findings_of(tmp_path) == []


def test_every_rule_has_a_fault_planted_for_it() -> None:
    assert set(IN_FILES) | set(IN_STORE) == set(FINDING_RULES)


@pytest.mark.parametrize("rule", IN_FILES)
def test_a_fault_in_a_file_is_found_where_it_is(rule: str, tmp_path: Path) -> None:
    found = [each for each in findings_of(tmp_path, plant=IN_FILES[rule]) if each.rule == rule]
    assert found
    assert all(each.detail.endswith(".") and "nan" not in each.detail for each in found)
    assert all(each.rows >= 0 and each.end_ms >= each.start_ms for each in found)


@pytest.mark.parametrize("rule", IN_STORE)
def test_a_fault_of_the_store_is_found(rule: str, tmp_path: Path) -> None:
    found = findings_of(tmp_path, alter=IN_STORE[rule])
    assert rule in {each.rule for each in found}
