"""Rate limits: a token bucket per exchange, refused in each exchange's own words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class RateLimit:
    """What one exchange lets an address ask for.

    Parameters
    ----------
    pool : float
        Credits of a full bucket.
    refill_per_s : float
        Credits that come back each second.
    cost : float
        Credits of a request that no pattern names.
    costs : tuple of (str, float)
        Path patterns (``*`` matches anything) and their credits; the first that fits counts.
    """

    pool: float
    refill_per_s: float
    cost: float = 1.0
    costs: tuple[tuple[str, float], ...] = ()

    def cost_of(self, path: str) -> float:
        """Return the credits of one request."""
        for pattern, cost in self.costs:
            if fnmatchcase(path, pattern):
                return cost
        return self.cost


RATE_LIMITS: dict[str, tuple[RateLimit, ...]] = {
    # 50,000 credits refilled at 10,000 a second; a request costs 500, so 20 a second.
    "deribit": (RateLimit(50_000, 10_000, 500, (("*get_instruments", 10_000),)),),
    "binance": (
        RateLimit(2_400, 40, 1, (("*lines", 5), ("*depth", 10))),
        # Funding has a limit of its own: 500 requests in five minutes.
        RateLimit(500, 500 / 300, 0, (("*/fundingRate", 1), ("*/fundingInfo", 1))),
    ),
    "binance_coinm": (RateLimit(2_400, 40, 1, (("*lines", 5), ("*depth", 10))),),
    # Twenty requests in two seconds to a path, a quarter of that to the statistics.
    "okx": (RateLimit(20, 10, 1, (("*/rubik/*", 4), ("*/funding-rate-history", 2))),),
    # Six hundred requests in five seconds from an address.
    "bybit": (RateLimit(600, 120),),
    # A weight of 1,200 in a minute; most questions weigh 20.
    "hyperliquid": (
        RateLimit(1_200, 20, 20, (("*/l2Book", 2), ("*/allMids", 2), ("*learinghouseState", 2))),
    ),
}
"""Each exchange's published limit for one address, as far as a bucket or two can hold it."""


@dataclass
class TokenBucket:
    """Credits of one exchange, refilled as real time passes.

    Parameters
    ----------
    limit : RateLimit
        The exchange's rule.
    clock : callable
        Seconds; replaced by tests.
    """

    limit: RateLimit
    clock: Callable[[], float] = time.monotonic
    _credits: float = field(init=False)
    _seen_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Begin full."""
        self._credits, self._seen_s = self.limit.pool, self.clock()

    def take(self, path: str) -> float:
        """Pay for a request; return 0, or the seconds until it could be paid."""
        now_s = self.clock()
        earned = (now_s - self._seen_s) * self.limit.refill_per_s
        self._credits, self._seen_s = min(self.limit.pool, self._credits + earned), now_s
        cost = self.limit.cost_of(path)
        if self._credits < cost:
            return (cost - self._credits) / self.limit.refill_per_s
        self._credits -= cost
        return 0.0
