from __future__ import annotations

from pathlib import Path

from data_ingest.simulator.dialects import Exchanges
from data_ingest.simulator.faults import FAULTS, FaultSchedule
from data_ingest.simulator.market import SimulatedMarket
from data_ingest.simulator.parameters import MarketParameters, parameter_table
from data_ingest.simulator.throttle import RATE_LIMITS

PAGE = Path(__file__).parents[2] / "docs" / "exchange-simulator.md"


def test_the_page_lists_every_parameter_as_the_code_has_it() -> None:
    table = parameter_table()
    assert table in PAGE.read_text(encoding="utf-8")
    assert "None" not in table


def test_the_page_names_every_method_that_is_served() -> None:
    page = PAGE.read_text(encoding="utf-8")
    market = SimulatedMarket(MarketParameters(start="2024-01-01", end="2024-01-15"))
    exchanges = Exchanges(market)
    served = (
        *exchanges.deribit.methods,
        *exchanges.binance.paths,
        *exchanges.binance_coinm.paths,
        *exchanges.binance_statistics.paths,
        *exchanges.okx.paths,
        *exchanges.bybit.paths,
        *exchanges.hyperliquid.types,
    )
    assert [name for name in served if f"`{name}`" not in page] == []


def test_the_page_names_every_fault_and_its_example_is_a_schedule(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [kind for kind in FAULTS if f"`{kind}`" not in page] == []
    example = page.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "faults.yaml"
    path.write_text(example, encoding="utf-8")
    assert len(FaultSchedule.from_yaml(path).faults) == 3


def test_the_page_states_the_limits_that_are_kept() -> None:
    rows = PAGE.read_text(encoding="utf-8").split("### Refusals and rate limits")[1]
    for exchange, said in (("deribit", "50,000 credits"), ("binance", "2,400 weight"),
                           ("okx", "20 requests"), ("bybit", "600 requests"),
                           ("hyperliquid", "1,200 weight")):  # fmt: skip
        assert said in rows
        assert RATE_LIMITS[exchange][0].pool == int(said.split()[0].replace(",", ""))
