"""The exchange simulator in a process of its own, so that it takes no time from who is measured."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_ingest.clients import open_exchange
from data_ingest.simulator import ExchangeSimulator, MarketParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_ingest.clients import ExchangeClient

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = MarketParameters(start="2023-01-01", end="2024-07-01")


@contextmanager
def running_exchange() -> Iterator[str]:
    """Start the simulator and return its address; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.exchange"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def hurried_client(exchange: str, url: str) -> ExchangeClient:
    """Return a client without a rate limit, which asks as fast as it is answered."""
    client = open_exchange(exchange, url)
    client.ccxt.enableRateLimit = False
    client.load_markets()
    return client


def main() -> None:
    """Serve until the standard input ends."""
    with ExchangeSimulator(PARAMETERS) as simulator:
        sys.stdout.write(f"{simulator.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
