"""Double entry: every transfer leaves one place and arrives in another.

What the market receives is collected in ``world.flow`` and posted once per instant, so that its
balance does not gather a rounding error per transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backtest.instruments import OPTION
from backtest.reference.accounts import sum_by_halves
from backtest.rules.waterfall import BY_WITHDRAWAL

if TYPE_CHECKING:
    from backtest.reference.accounts import Account
    from backtest.reference.world import World


def charge(world: World, account: Account, usd: float, entry: str) -> None:
    """Take US dollars out of the collateral currency at the index; the caller books them.

    ``entry`` names the column of the account's ledger.
    """
    coins = usd / world.rate(account.currency)
    account.cash[account.currency] -= coins
    if account.currency:
        world.flow[account.currency] += coins
        world.flow[0] -= usd
    world.enter(account, entry, -usd)


def exchange(world: World, account: Account, i: int, quantity: float, unit: float) -> None:
    """Trade contracts with the market at a unit value."""
    currency = world.settles_in(i)
    paid = quantity * unit
    account.cash[currency] -= paid
    world.flow[currency] += paid
    world.enter(account, "trading_usd", -(paid * world.rate(currency)))
    account.trade(i, quantity, unit)


def pay_slippage(world: World, account: Account, i: int, usd: float) -> None:
    """Pay the market for the depth that an execution took, in the contract's currency."""
    currency = world.settles_in(i)
    coins = usd / world.rate(currency)
    account.cash[currency] -= coins
    world.flow[currency] += coins
    world.enter(account, "slippage_usd", -usd)


def deposit(world: World, account: Account, usd: float, rate: float) -> None:
    """Move money from wallet to account: US dollars at a rate, at most the wallet."""
    coins = min(usd / rate, world.wallets[account.owner])
    world.wallets[account.owner] -= coins
    account.cash[account.currency] += coins
    moved = coins * world.rate(account.currency)
    world.record("deposits_usd", moved)
    world.enter(account, "deposits_usd", moved)


def withdraw(world: World, account: Account, usd: float, rate: float) -> None:
    """Move money from account to wallet: US dollars at a rate."""
    usd -= keep_for_deficit(world, account, usd)
    coins = usd / rate
    account.cash[account.currency] -= coins
    world.wallets[account.owner] += coins
    moved = coins * world.rate(account.currency)
    world.record("withdrawals_usd", moved)
    world.enter(account, "withdrawals_usd", -moved)


def keep_for_deficit(world: World, account: Account, usd: float) -> float:
    """Charge what leaves with its share of an uncovered deficit; return the charge."""
    if world.venue.socialised_by != BY_WITHDRAWAL or world.deficit >= 0.0:
        return 0.0
    share = min(-world.deficit / world.client_funds, 1.0) if world.client_funds > 0.0 else 0.0
    cut = share * usd
    socialise(world, account, cut)
    return cut


def socialise(world: World, account: Account, usd: float) -> None:
    """Let an account pay for the uncovered deficit."""
    charge(world, account, usd, "socialised_usd")
    world.deficit += usd
    world.record("socialised_usd", usd)


def close_out(world: World, account: Account) -> float:
    """Settle an account without positions; return what is missing.

    Its margin call, its liquidation and its resting orders end. All its currencies are exchanged
    at the index for its own. What is left goes to the wallet (in a recorded book it stays); what
    is missing becomes a deficit here and nowhere else, so that bad debt is a flow, counted once
    per account.
    """
    account.called_at = None
    if not account.queued:
        account.leave_liquidation()
    for order in account.resting:
        world.live[order] = False
    equity = world.equity_now(account)
    if equity > 0.0 and not world.recorded:
        equity -= keep_for_deficit(world, account, equity)
    for c in range(1 + world.assets):
        world.flow[c] += account.cash[c]
        account.cash[c] = 0.0
    world.flow[0] -= equity
    if equity < 0.0:
        world.deficit += equity
        world.record("gross_bad_debt_usd", -equity)
        world.enter(account, "bad_debt_usd", -equity)
        return -equity
    coins = equity / world.rate(account.currency)
    if account.currency:
        world.flow[0] += equity
        world.flow[account.currency] -= coins
    if world.recorded:
        account.cash[account.currency] = coins
        return 0.0
    world.wallets[account.owner] += coins
    world.record("withdrawals_usd", equity)
    world.enter(account, "withdrawals_usd", -equity)
    return 0.0


def end_flat_account(world: World, account: Account, i: int, held: float) -> None:
    """Settle an account that held an instrument last; its asset and side owe what is missing."""
    shortfall = close_out(world, account)
    is_put = world.tape.kind[i] == OPTION and not world.tape.is_call[i]
    long = held < 0.0 if is_put else held >= 0.0
    world.owed[world.tape.asset[i]][0 if long else 1] += shortfall


def fund_income(world: World, usd: float) -> None:
    """Pay into the insurance fund up to its target; the venue earns the rest."""
    kept = min(usd, max(world.venue.fund_target_usd - world.fund, 0.0))
    world.fund += kept
    world.fees += usd - kept


def balance(world: World) -> None:
    """Post what the market received, count all money there is, and record the levels."""
    for c, received in enumerate(world.flow):
        world.outside[c] += received
        world.flow[c] = 0.0
    leaked = gross = 0.0
    for c in range(1 + world.assets):
        held, size, outside, wallets = [0.0] * 8, [0.0] * 8, world.outside[c], 0.0
        for account in world.accounts:
            held[account.number % 8] += account.cash[c]
            size[account.number % 8] += abs(account.cash[c])
        for wallet, currency in zip(world.wallets, world.wallet_currency, strict=True):
            if currency == c:
                wallets += wallet
        total = sum_by_halves(held) + (outside + wallets)
        scale = sum_by_halves(size) + (abs(outside) + wallets)
        if c == 0:
            for purse in (world.fund, world.liquidators, world.fees, world.deficit, world.vault):
                total += purse
                scale += abs(purse)
        leaked += abs(total - world.opening[c]) * world.rate(c)
        gross += scale * world.rate(c)
    worst, its_gross = world.level("ledger_imbalance_usd"), world.level("ledger_scale_usd")
    if not leaked * its_gross < worst * gross:
        world.set_level("ledger_imbalance_usd", leaked)
        world.set_level("ledger_scale_usd", gross)
    record_purses(world)
    largest = max(abs(shift) for shift in world.shift)
    world.set_level("shift", max(world.level("shift"), largest))


def record_purses(world: World) -> None:
    """Write down what fund, vault and deficit stand at."""
    world.set_level("fund_usd", world.fund)
    world.set_level("vault_usd", world.vault)
    world.set_level("deficit_usd", 0.0 - world.deficit)
