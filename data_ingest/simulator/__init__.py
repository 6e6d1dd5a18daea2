"""The built-in exchange simulator: a deterministic market behind five exchanges' public REST."""

from data_ingest.simulator.crises import Crisis
from data_ingest.simulator.faults import Fault, FaultPlan, FaultSchedule, FiredFault
from data_ingest.simulator.market import SimulatedMarket
from data_ingest.simulator.parameters import MarketParameters
from data_ingest.simulator.server import ExchangeSimulator, serve_forever

__all__ = [
    "Crisis",
    "ExchangeSimulator",
    "Fault",
    "FaultPlan",
    "FaultSchedule",
    "FiredFault",
    "MarketParameters",
    "SimulatedMarket",
    "serve_forever",
]
