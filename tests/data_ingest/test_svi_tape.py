"""Strikes without a quote: priced from the surface of their snapshot, and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backtest.errors import DataError
from backtest.tape import MarketTape
from backtest.units import MS_PER_YEAR
from data_ingest.build import build_tape
from data_ingest.recorded import import_recorded
from data_ingest.spec import MarketSpec
from data_ingest.store import DataStore
from data_ingest.surfaces.svi import SVI
from tests.data_ingest.samples import HOUR_MS, START_MS, chain_mapping, chain_row

EXPIRY_MS = START_MS + 40 * 24 * HOUR_MS
STRIKES = np.arange(22_000.0, 42_000.0, 2_000.0)
FORWARD_USD = 30_300.0
LOST = 32_000.0
UNQUOTED = f"BTC-X{EXPIRY_MS // HOUR_MS}-31000-C"


def true_volatility(step: int, strike: np.ndarray | float, forward: float = FORWARD_USD) -> Any:
    svi = SVI(a=0.01 + 0.002 * step, b=0.09, rho=-0.3, m=0.02, sigma=0.15)
    years = (EXPIRY_MS - START_MS - step * 12 * HOUR_MS) / MS_PER_YEAR
    return svi.volatility(np.log(np.asarray(strike) / forward), years)


def rows(strikes: np.ndarray = STRIKES, lost_from: int = 2) -> list[dict[str, Any]]:
    """Five snapshots of one smile; the strike in its midst is not quoted in the last three."""
    return [
        chain_row(
            START_MS + step * 12 * HOUR_MS,
            strike=strike,
            expiry_ms=EXPIRY_MS,
            mark_iv=float(true_volatility(step, strike)),
        )
        for step in range(5)
        for strike in strikes
        if strike != LOST or step < lost_from
    ]


def built(folder: Path, chain: list[dict[str, Any]], **options: Any) -> MarketTape:
    folder.mkdir(exist_ok=True)
    pd.DataFrame(chain).to_parquet(folder / "chain.parquet")
    market = MarketSpec.model_validate(
        {
            "exchange": "deribit",
            "assets": ["BTC"],
            "start": START_MS,
            "end": START_MS + 48 * HOUR_MS,
            "clock": "snapshots",
            "depth": {"usd": {"BTC": "5M"}},
            "options": options,
        }
    )
    with DataStore(folder / "market.duckdb") as store:
        if store.is_empty():
            import_recorded(store, chain_mapping(), folder)
        return build_tape(store, market)


def column(tape: MarketTape, strike: float) -> np.ndarray:
    (at,) = np.flatnonzero(tape.instruments.strike == strike)
    return np.asarray(tape.iv[:, tape.instruments.iv_column[at]])


def test_a_missing_quote_is_read_off_its_snapshots_surface(tmp_path: Path) -> None:
    tape = built(tmp_path, rows(), surface="svi")
    expected = [float(true_volatility(step, LOST)) for step in range(5)]
    assert column(tape, LOST) == pytest.approx(expected, abs=1e-7)
    (note,) = [note for note in tape.notes if "SVI" in note]
    assert note.startswith("3 of 50 volatilities come from the SVI surface of their snapshot, 0 of")


def test_without_a_surface_a_missing_quote_holds_its_last_value_and_no_note_speaks_of_svi(
    tmp_path: Path,
) -> None:
    tape = built(tmp_path, rows())
    held = [float(true_volatility(step, LOST)) for step in (0, 1, 1, 1, 1)]
    assert column(tape, LOST) == pytest.approx(held, abs=1e-12)
    assert not any("SVI" in note for note in tape.notes)


def test_quotes_are_never_replaced_by_the_surface(tmp_path: Path) -> None:
    chain = rows()
    chain[3]["mark_iv"] += 0.05
    with_surface = built(tmp_path, chain, surface="svi")
    plain = built(tmp_path, chain)
    for strike in STRIKES[STRIKES != LOST]:
        assert np.array_equal(column(with_surface, strike), column(plain, strike))
    assert with_surface.digest != plain.digest


def test_a_strike_that_was_never_quoted_is_listed_and_priced(tmp_path: Path) -> None:
    tape = built(tmp_path, rows(lost_from=9), surface="svi", extra=[UNQUOTED])
    expected = [float(true_volatility(step, 31_000.0)) for step in range(5)]
    assert column(tape, 31_000.0) == pytest.approx(expected, abs=1e-7)
    table = tape.instruments
    at = table.index_of()[UNQUOTED]
    like = table.index_of()[UNQUOTED.replace("31000", "30000")]
    for name in ("asset", "inverse", "contract_size", "is_call", "listed_ms", "expiry_ms"):
        assert getattr(table, name)[at] == getattr(table, name)[like], name
    assert list(table.strike[1:]) == sorted(table.strike[1:])
    assert any("5 of 55 volatilities" in note for note in tape.notes)


@pytest.mark.parametrize("strike", [18_000, 48_000])
def test_a_strike_beyond_the_quoted_ones_is_counted_as_extrapolated(
    tmp_path: Path, strike: int
) -> None:
    outer = UNQUOTED.replace("31000", str(strike))
    tape = built(tmp_path, rows(lost_from=9), surface="svi", extra=[outer])
    expected = [float(true_volatility(step, strike)) for step in range(5)]
    assert column(tape, strike) == pytest.approx(expected, abs=1e-6)
    (note,) = [note for note in tape.notes if "SVI" in note]
    assert note.startswith("5 of 55")
    assert note.endswith("snapshot, 5 of them beyond the strikes that it was fitted to.")


def test_a_strike_far_from_the_forward_is_read_between_the_quotes_about_it(tmp_path: Path) -> None:
    chain = rows(lost_from=9)
    for row in rows(np.array([100_000.0, 400_000.0])):
        chain.append(row | {"mark_iv": 1.0 if row["strike"] == 100_000.0 else 2.0})
    names = [UNQUOTED.replace("31000", strike) for strike in ("200000", "800000")]
    tape = built(tmp_path, chain, surface="svi", extra=names)
    assert column(tape, 200_000.0) == pytest.approx([np.sqrt((1 + 4) / 2)] * 5)
    assert column(tape, 800_000.0) == pytest.approx([2.0] * 5)
    (note,) = [note for note in tape.notes if "SVI" in note]
    assert note.startswith("0 of 70")
    assert "10 more, over 6 deviations from the forward, are read between the quotes" in note


def test_too_few_strikes_leave_the_last_known_value_and_are_counted(tmp_path: Path) -> None:
    tape = built(tmp_path, rows(STRIKES[3:8]), surface="svi")
    held = [float(true_volatility(step, LOST)) for step in (0, 1, 1, 1, 1)]
    assert column(tape, LOST) == pytest.approx(held, abs=1e-12)
    (note,) = [note for note in tape.notes if "SVI" in note]
    assert "0 of 25" in note
    assert "3 more were not quoted while their expiry had too few strikes to fit" in note


def test_what_is_filled_does_not_depend_on_later_snapshots(tmp_path: Path) -> None:
    chain = rows()
    changed = [
        row | {"mark_iv": row["mark_iv"] * 2} if row["ts_utc_ms"] > START_MS + 36 * HOUR_MS else row
        for row in chain
    ]
    one, other = (
        built(tmp_path / name, held, surface="svi", extra=[UNQUOTED])
        for name, held in (("a", chain), ("b", changed))
    )
    assert np.array_equal(one.iv[:4], other.iv[:4])
    assert not np.array_equal(one.iv[4], other.iv[4])


@pytest.mark.parametrize(
    ("extra", "options", "message"),
    [
        (UNQUOTED, {}, r"31000-C was never quoted in the window; set .*surface to svi"),
        ("BTC-NEVER-31000-C", {"surface": "svi"}, "is not an option of an expiry that is quoted"),
        (UNQUOTED[:-1] + "X", {"surface": "svi"}, "Did you mean 'BTC-X"),
        (UNQUOTED.replace("31000", "3e4"), {"surface": "svi"}, "is not an option of an expiry"),
    ],
)
def test_an_option_that_cannot_be_priced_is_refused(
    tmp_path: Path, extra: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        built(tmp_path, rows(), extra=[extra], **options)


def test_a_quoted_option_can_be_named_past_the_filters(tmp_path: Path) -> None:
    name = UNQUOTED.replace("31000", "40000")
    near = built(tmp_path, rows(), strikes=["90%", "110%"])
    named = built(tmp_path, rows(), strikes=["90%", "110%"], extra=[name])
    assert set(named.instruments.symbols) - set(near.instruments.symbols) == {name}
    assert any("4 of 10 options pass the filters or are named" in note for note in named.notes)


def test_naming_an_option_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="extra names an option twice"):
        MarketSpec.model_validate(
            {
                "exchange": "deribit", "assets": ["BTC"], "start": 0, "end": 1,
                "clock": "snapshots", "depth": {"usd": {"BTC": "5M"}},
                "options": {"surface": "svi", "extra": [UNQUOTED, UNQUOTED]},
            }
        )  # fmt: skip
