from __future__ import annotations

import pytest

from backtest.units import MS_PER_DAY
from data_ingest.surfaces.arbitrage import Violation
from data_ingest.surfaces.stored import ExpirySummary
from data_ingest.surfaces.surface import Surface
from remargin.commands.surface import _show

NOW = 1_704_067_200_000


@pytest.mark.parametrize("columns", [80, 100])
def test_a_row_of_the_fits_stands_on_one_line_of_a_narrow_screen(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    expiry = NOW + 30 * MS_PER_DAY
    row = ExpirySummary("BTC", expiry, 1_234, 56, 14.0, 0.0123, 0.0456, 0.1234, 0.654, 12, 3, 7)
    found = Violation("calendar", "BTC", NOW, expiry, -0.123, 0.0512, quoted=True)
    surface = Surface("BTC", NOW, (), (), (found,))
    _show([surface], [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[1].split() == [
        *("BTC", "2024-01-31", "1,234", "of", "1,290", "14", "65.4", "1.23", "4.56", "12.3"),
        *("12", "+", "3"),
    ]
    assert any("5.12 points" in line for line in lines)
