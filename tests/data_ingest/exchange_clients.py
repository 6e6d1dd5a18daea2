"""Real ccxt clients that talk to a simulator on loopback, as fast as it answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import ccxt

from data_ingest.simulator import ExchangeSimulator


def client_of(simulator: ExchangeSimulator, exchange: str, **options: Any) -> Any:
    """Return a ccxt client whose every address is the simulator's, and whose now is its clock."""
    client = getattr(ccxt, exchange)({"enableRateLimit": False, **options})
    client.urls["api"] = {
        name: simulator.url + urlsplit(address).path
        for name, address in client.urls["api"].items()
        if isinstance(address, str)
    }
    client.enableLastJsonResponse = True
    client.milliseconds = lambda: simulator.now_ms
    return client
