"""What an account holds of perpetuals and dated futures, asset by asset, in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.instruments import OPTION

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings, Market


def perpetual_slots(market: Market, holdings: Holdings, account: int) -> list[int]:
    """List the slots of an account that hold no option."""
    first = int(holdings.start[account])
    slots = range(first, first + int(holdings.count[account]))
    return [slot for slot in slots if market.kind[holdings.instrument[slot]] != OPTION]


def net_notional_by_asset(market: Market, holdings: Holdings, account: int) -> list[float]:
    """Return the net notional of every asset, USD, options passed over."""
    net = [0.0] * len(market.index)
    for slot in perpetual_slots(market, holdings, account):
        i = int(holdings.instrument[slot])
        net[market.asset[i]] += float(holdings.quantity[slot]) * float(market.notional_usd[i])
    return net
