from __future__ import annotations

from pathlib import Path

from data_ingest.simulator.binance import BinanceApi
from data_ingest.simulator.deribit import DeribitApi
from data_ingest.simulator.market import SimulatedMarket
from data_ingest.simulator.parameters import MarketParameters, parameter_table

PAGE = Path(__file__).parents[2] / "docs" / "exchange-simulator.md"


def test_the_page_lists_every_parameter_as_the_code_has_it() -> None:
    table = parameter_table()
    assert table in PAGE.read_text(encoding="utf-8")
    assert "None" not in table


def test_the_page_names_every_method_that_is_served() -> None:
    page = PAGE.read_text(encoding="utf-8")
    market = SimulatedMarket(MarketParameters(start="2024-01-01", end="2024-01-15"))
    for name in (*DeribitApi(market).methods, *BinanceApi(market).paths):
        assert f"`{name}`" in page
