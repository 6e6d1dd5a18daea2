"""The built-in exchange simulator: a deterministic market behind two exchanges' public REST."""

from data_ingest.simulator.market import Crisis, SimulatedMarket
from data_ingest.simulator.parameters import MarketParameters
from data_ingest.simulator.server import ExchangeSimulator, FaultPlan, serve_forever

__all__ = [
    "Crisis",
    "ExchangeSimulator",
    "FaultPlan",
    "MarketParameters",
    "SimulatedMarket",
    "serve_forever",
]
