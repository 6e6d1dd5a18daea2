"""What OKX lists as a swap or a future, how it reads parameters and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_ingest.simulator.futures import DatedFuture

if TYPE_CHECKING:
    from data_ingest.simulator.futures import Life
    from data_ingest.simulator.perpetual import Perpetual

Params = dict[str, str]
FAR_MS = 1 << 62
NO_INSTRUMENT = "Instrument ID, Instrument ID code, or Spread ID doesn't exist."


class OkxError(Exception):
    """A refusal in the exchange's own terms."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


@dataclass(frozen=True)
class Swap:
    """One swap or dated future: its market and what a contract is."""

    perpetual: Perpetual
    inst_id: str
    family: str
    settled_in: str
    contract_value: float
    value_in: str

    @property
    def life(self) -> Life | None:
        """When a dated future is listed and delivered; None for a swap."""
        return self.perpetual.life if isinstance(self.perpetual, DatedFuture) else None

    @property
    def kind(self) -> str:
        """What the exchange calls it."""
        return "SWAP" if self.life is None else "FUTURES"

    def trades_at(self, at_ms: int) -> bool:
        """Whether it is listed at a time."""
        return self.life is None or self.life.holds(at_ms)

    @property
    def is_linear(self) -> bool:
        """Whether it settles in dollars."""
        return self.settled_in == "USDT"

    def contracts(self, usd: float, price_usd: float) -> float:
        """Return how many contracts a size in dollars is."""
        coins_or_usd = usd / price_usd if self.is_linear else usd
        return round(coins_or_usd / self.contract_value, 2)


def given(params: Params, name: str) -> str:
    """Return a parameter that must be there."""
    if not params.get(name):
        raise OkxError("50014", f"Parameter {name} can not be empty", 400)
    return params[name]


def whole(params: Params, name: str, default: int) -> int:
    """Return a whole number, or its default."""
    try:
        return int(params.get(name) or default)
    except ValueError:
        raise OkxError("51000", f"Parameter {name} error", 400) from None


def limit_of(params: Params, most: int) -> int:
    """Return the size of a page; more than the most is cut to it without a word."""
    limit = whole(params, "limit", min(100, most))
    if limit < 1:
        raise OkxError("51000", "Parameter limit error", 400)
    return min(limit, most)


def window_of(params: Params, newer_than: str, older_than: str) -> tuple[int, int]:
    """Return the first and last mark asked for, both included."""
    return whole(params, newer_than, -1) + 1, whole(params, older_than, FAR_MS) - 1
