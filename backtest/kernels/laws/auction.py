"""A Dutch auction for a share of an account, as Derive's `DutchAuction.sol` holds it.

Bidders pay a falling share of the account's value for a fraction of it; once the account is
worth less than nothing they are paid instead, and ever more.
"""

from __future__ import annotations

from backtest.cache import formula


@formula
def price_share(
    elapsed_ms: float, fast_ms: float, slow_ms: float, start: float, cut: float
) -> float:
    """Price of a solvent account as a share of its value.

    Parameters
    ----------
    elapsed_ms
        Time since the auction began.
    fast_ms, slow_ms
        Length of the fall from ``start`` to ``cut``, and of the one from there to nothing.
    start, cut
        First price, and the one at which the slow fall begins.

    Returns
    -------
    float
        ``start`` down to 0.
    """
    if elapsed_ms < fast_ms:
        return start - (start - cut) * elapsed_ms / fast_ms
    return cut - cut * min(elapsed_ms - fast_ms, slow_ms) / slow_ms


@formula
def buffered_margin(value: float, margin_net: float, buffer: float) -> float:
    """Net margin that a bid may at most restore to nothing: ``N + (N - V) * buffer``.

    Parameters
    ----------
    value
        Marked value of the account, US dollars.
    margin_net
        Value less maintenance margin; negative in an auction.
    buffer
        Share of maintenance margin to be restored beyond it.

    Returns
    -------
    float
        US dollars.
    """
    return margin_net + (margin_net - value) * buffer


@formula
def largest_fraction(
    value: float, margin_net: float, price_share: float, reserved: float, buffer: float
) -> float:
    """Largest fraction of an account that one bid may take.

    Parameters
    ----------
    value, margin_net, buffer
        As for `buffered_margin`.
    price_share
        From the function of that name.
    reserved
        Cash from earlier bids, which is not sold, US dollars.

    Returns
    -------
    float
        ``BM / (BM - V d - R (1 - d))``, 0 to 1; 1 where the denominator vanishes.
    """
    buffered = buffered_margin(value, margin_net, buffer)
    denominator = buffered - value * price_share - reserved * (1.0 - price_share)
    if denominator == 0.0:
        return 1.0
    return min(max(buffered / denominator, 0.0), 1.0)


@formula
def insolvent_pay(maintenance: float, elapsed_ms: float, ramp_ms: float) -> float:
    """Pay for taking over an insolvent account beyond its own debt.

    Parameters
    ----------
    maintenance
        Maintenance margin, US dollars.
    elapsed_ms, ramp_ms
        Time since the auction began, and until the pay is in full.

    Returns
    -------
    float
        0 up to ``maintenance``.
    """
    return maintenance * min(elapsed_ms / ramp_ms, 1.0)


@formula
def insolvent_payout(value: float, margin_net: float, elapsed_ms: float, ramp_ms: float) -> float:
    """Cash for whoever takes an insolvent account: its debt, then up to its whole requirement.

    Parameters
    ----------
    value
        Marked value, not positive.
    margin_net
        Value less maintenance margin.
    elapsed_ms, ramp_ms
        As for `insolvent_pay`.

    Returns
    -------
    float
        ``-value`` rising to ``-margin_net``.
    """
    return insolvent_pay(value - margin_net, elapsed_ms, ramp_ms) - value
