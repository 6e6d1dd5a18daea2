"""Who pays for a deficit, in which order: fund, winners, everybody."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from backtest.rules.base import Rules
from backtest.units import Fraction, Usd

DUST_USD = 1e-9
"""A deficit smaller than this is what rounding leaves, and nobody is asked to cover it."""
DUST_SHARE = 1e-12
"""What is left of all deficits so far below this share is rounding too; the venue books it."""
NO_ADL, ADL_QUEUE, ADL_PRO_RATA = range(3)
ADL_MODES = ("none", "queue", "pro_rata")
BY_EQUITY, BY_PROFIT, BY_FUNDING, BY_WITHDRAWAL = range(4)
SOCIALISED_BY = ("equity", "profit", "funding", "withdrawal")


class InsuranceFund(Rules):
    """What stands between a deficit and the other accounts."""

    start_usd: Usd = Field(1_000_000.0, ge=0.0, description="balance at the start, USD")
    target_usd: Usd | None = Field(
        None, gt=0.0, description="income beyond this balance goes to the venue, USD"
    )
    market_cap_usd: dict[str, Usd] = Field(
        default_factory=dict, description="most that one asset's deficits may ever draw, USD"
    )
    fee_share: Fraction = Field(0.0, ge=0.0, le=1.0, description="share of trading fees it gets")


class AutoDeleveraging(Rules):
    """Winners give up gains to cover what the fund cannot."""

    mode: Literal["none", "queue", "pro_rata"] = Field(
        "none", description="queue: by profit times leverage; pro_rata: by gain"
    )
    severity: Fraction = Field(
        1.0, gt=0.0, le=1.0, description="share of the deficit that winners are asked for"
    )


class SocialisedLoss(Rules):
    """What is left after the fund and the winners."""

    by: Literal["equity", "profit", "funding", "withdrawal"] = Field(
        "equity",
        description="shared by equity, by unrealised profit, per contract through the funding "
        "index, or taken from withdrawals until it is paid",
    )


class Fees(Rules):
    """What trades pay."""

    taker: Fraction = Field(0.0005, ge=0.0, le=0.1, description="share of the traded notional")
    maker: Fraction = Field(
        0.0, ge=0.0, le=0.1, description="share of the notional of a resting order when it fills"
    )
    option_cap: Fraction | None = Field(
        None, gt=0.0, le=1.0, description="an option's fee is at most this share of its value"
    )
