"""A Dutch auction of a share of an account; the longer nobody bids, the cheaper it gets.

A bidder closes the share at the market and is paid a discount for it. A solvent account is sold
at a falling share of its value; for an insolvent one the venue pays, and pays ever more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.reference.execution import estimate_slippage

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World


def price_share(world: World, elapsed_ms: int) -> float:
    """Return the price asked, as a share of value: fast down to the cut, then slowly to none."""
    venue = world.venue
    if elapsed_ms < venue.auction_fast_ms:
        fall = (venue.auction_start - venue.auction_cut) * elapsed_ms / venue.auction_fast_ms
        return venue.auction_start - fall
    slow = min(elapsed_ms - venue.auction_fast_ms, venue.auction_slow_ms)
    return venue.auction_cut - venue.auction_cut * slow / venue.auction_slow_ms


def share_on_offer(
    world: World, account: Account, equity: float, maintenance: float, price: float
) -> float:
    """Return the share whose sale at a price restores margin with the auction's buffer.

    The value sold earlier for ``reserved`` is not on offer again.
    """
    net = equity - maintenance
    buffered = net + (net - equity) * world.venue.auction_buffer
    denominator = buffered - equity * price - account.reserved_usd * (1.0 - price)
    if denominator == 0.0:
        return 1.0
    return min(max(buffered / denominator, 0.0), 1.0)


def offer(
    world: World, account: Account, equity: float, maintenance: float
) -> tuple[float, float, float]:
    """Return the share on offer, what a bidder is paid for it, and what it reserves, USD."""
    assert account.liquidated_since is not None
    elapsed_ms = world.clock - account.liquidated_since
    if equity <= 0.0:
        return 1.0, maintenance * min(elapsed_ms / world.venue.auction_ramp_ms, 1.0), 0.0
    price = price_share(world, elapsed_ms)
    share = share_on_offer(world, account, equity, maintenance, price)
    left = max(equity - account.reserved_usd, 0.0)
    return share, share * left * (1.0 - price), share * left * price


def is_worth_bidding(world: World, account: Account, share: float, pay: float) -> bool:
    """Say whether a keeper would bid: nobody works at a loss, if the venue says so."""
    if not world.venue.keeper_participation:
        return True
    gain = pay - estimate_slippage(world, account, share)
    return not gain < world.tape.keeper_cost_usd[world.row]
