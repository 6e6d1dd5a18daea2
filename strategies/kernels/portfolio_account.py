"""One account under a portfolio margin, added up in plain Python."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backtest.instruments import OPTION, PERPETUAL
from strategies.kernels import portfolio_terms as terms
from strategies.kernels.portfolio_rules import Rules, contract_row, expiry_factors

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings, KernelInput, Market


@dataclass
class Expiry:
    """Contracts of one expiry and settlement kind that an account holds."""

    asset: int
    inverse: int
    years: float
    factors: tuple[float, float, float] = (1.0, 1.0, 0.0)
    values: list[float] = field(default_factory=list)
    present: float = 0.0
    delta: float = 0.0
    options: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class Held:
    """What an account holds of one asset; US dollars but for confidence and contracts."""

    profits: tuple[list[float], list[float]]
    confidence: float
    net: float = 0.0
    gross: float = 0.0
    linear: float = 0.0
    shorts: float = 0.0
    contracts: float = 0.0
    naked: float = 0.0
    roll: float = 0.0
    basis: float = 0.0


@dataclass
class Parts:
    """A requirement before it is put together, USD; ``losses`` by asset and part."""

    scans: dict[int, list[float]] = field(default_factory=dict)
    losses: dict[int, dict[str, float]] = field(default_factory=dict)
    basis_usd: float = 0.0
    loss: float = 0.0
    offset: float = 0.0
    kept: float = 0.0
    extra: float = 0.0
    doubt: float = 0.0
    worst: tuple[int, int] = (-1, -1)


def scenario_parts(given: KernelInput, market: Market, holdings: Holdings, account: int) -> Parts:
    """Work out the parts of one account's requirement."""
    rules, parts = Rules(given, len(market.index)), Parts()
    held: dict[int, Held] = {}
    expiries: list[Expiry] = []
    _add_up(rules, market, holdings, account, held, expiries, parts)
    if holdings.cash.shape[1] > 0 and rules.one[terms.COINS_MATTER] > 0.5:
        _add_coins(rules, market, holdings, account, held, parts)
    for expiry in expiries:
        _close_expiry(rules, expiry, held[expiry.asset])
    joint = [0.0] * len(rules.scenarios)
    scanned = largest = 0.0
    for asset, own in held.items():
        row = _scan(rules, asset, own)
        parts.scans[asset] = row
        joint = [a + b for a, b in zip(joint, row, strict=True)]
        low = math.nan if any(math.isnan(p) for p in row) else min(row)
        loss = 0.0 if low >= 0.0 else -low
        if loss > largest:
            largest, parts.worst = loss, (asset, row.index(low))
        scanned += loss
        parts.basis_usd -= own.basis
        parts.losses[asset], total = _loss_usd(rules, own, loss)
        parts.loss += total
        _charge(rules, asset, own, float(market.index[asset]), parts)
    if rules.one[terms.DOUBT_RATE] > 0.0:
        _add_option_doubt(rules, market, holdings, account, held, parts)
    if rules.one[terms.OFFSET_BETWEEN] > 0.0:
        low = math.nan if any(math.isnan(p) for p in joint) else min(joint)
        together = 0.0 if low >= 0.0 else -low
        parts.offset = rules.one[terms.OFFSET_BETWEEN] * (scanned - together)
        parts.loss -= parts.offset
    return parts


def _legs(holdings: Holdings, account: int) -> list[tuple[int, float]]:
    first = int(holdings.start[account])
    slots = range(first, first + int(holdings.count[account]))
    return [(int(holdings.instrument[s]), float(holdings.quantity[s])) for s in slots]


def _place(rules: Rules, market: Market, held: dict[int, Held], asset: int) -> Held:
    if asset not in held:
        nothing = [0.0] * len(rules.scenarios)
        held[asset] = Held((nothing, [*nothing]), float(market.index_confidence[asset]))
    return held[asset]


def _add_up(
    rules: Rules,
    market: Market,
    holdings: Holdings,
    account: int,
    held: dict[int, Held],
    expiries: list[Expiry],
    parts: Parts,
) -> None:
    by_expiry = rules.one[terms.BY_EXPIRY] > 0.5
    notional = funding = 0.0
    for i, quantity in _legs(holdings, account):
        asset, inverse = int(market.asset[i]), int(market.inverse[i])
        size, value = abs(quantity), float(market.value_usd[i])
        own = _place(rules, market, held, asset)
        option, delta = market.kind[i] == OPTION, float(market.delta_usd[i])
        if option and inverse == 1:
            delta -= value
        delta *= quantity
        target = own.profits[inverse]
        expiry = _expiry(rules, expiries, asset, inverse, float(market.years[i]))
        expiry.delta += delta
        if option:
            contracts = quantity * float(market.contract_size[i])
            expiry.options.append((float(market.strike[i]), contracts))
            if by_expiry:
                if len(expiry.options) == 1:
                    expiry.factors = expiry_factors(rules, expiry.years, float(market.rate[i]))
                expiry.present += quantity * value
                target = expiry.values
        row = contract_row(i, rules, market, holdings.cash.shape[1] > 0)
        target[:] = [a + quantity * b for a, b in zip(target, row, strict=True)]
        usd = size * float(market.notional_usd[i])
        notional += usd
        own.net += delta
        own.gross += abs(delta)
        own.contracts += size
        if option:
            own.shorts += usd if quantity < 0.0 else 0.0
            continue
        if inverse == 0:
            usd = size * (float(market.contract_size[i]) * float(market.index[asset]))
        own.linear += usd
        if market.kind[i] == PERPETUAL:
            funding += quantity * float(market.notional_usd[i]) * rules.funding[asset]
        sure = float(market.confidence[i])
        if sure < own.confidence or sure != sure:
            own.confidence = sure
    parts.kept = rules.one[terms.FEE_RATE] * notional + (0.0 if funding < 0.0 else funding)


def _expiry(rules: Rules, expiries: list[Expiry], asset: int, inverse: int, years: float) -> Expiry:
    for expiry in expiries:
        if (expiry.asset, expiry.inverse, expiry.years) == (asset, inverse, years):
            return expiry
    expiries.append(Expiry(asset, inverse, years, values=[0.0] * len(rules.scenarios)))
    return expiries[-1]


def _add_coins(
    rules: Rules,
    market: Market,
    holdings: Holdings,
    account: int,
    held: dict[int, Held],
    parts: Parts,
) -> None:
    kept = extra = doubt = 0.0
    for coin, own in enumerate(rules.asset):
        amount = float(holdings.cash[1 + coin, account])
        if amount == 0.0:
            continue
        value, sure = amount * float(market.index[coin]), float(market.index_confidence[coin])
        driver = int(own[terms.MOVES_WITH])
        if driver >= 0:
            row = _place(rules, market, held, driver).profits[0]
            for k in range(len(row)):
                row[k] += rules.weight(driver, k) * (value * (rules.move(driver, k) - 1.0))
            other = float(market.index_confidence[driver])
            sure = sure if other >= sure else other
        kept += abs(value) * own[terms.COIN_MM]
        extra += abs(value) * own[terms.COIN_IM]
        doubt += abs(value) * _doubt(rules, sure)
    parts.kept += kept
    parts.extra += extra
    parts.doubt = doubt * rules.one[terms.COIN_DOUBT_RATE]


def _close_expiry(rules: Rules, expiry: Expiry, own: Held) -> None:
    if rules.one[terms.ROLLED] > 0.5:
        rolled = rules.one[terms.ROLL_PER_YEAR] * expiry.years
        least = rules.asset[expiry.asset][terms.LEAST_ROLL]
        own.roll += abs(expiry.delta) * (least if rolled < least else rolled)
    if not expiry.options:
        return
    if rules.one[terms.BY_EXPIRY] > 0.5:
        gain, debt, share = expiry.factors
        target = own.profits[expiry.inverse]
        for k, value in enumerate(expiry.values):
            profit = (value * debt if value < 0.0 else value * gain) - expiry.present
            if rules.scenarios[k][terms.SKEWED] < 0.0:
                profit = -abs(profit)
            target[k] += profit * rules.weight(expiry.asset, k)
        first = int(rules.one[terms.BASIS_COLUMN])
        if first >= 0:
            up, down = expiry.values[first : first + 2]
            own.basis += min(up, down, 0.0) * share
    if rules.one[terms.NAKED] < 0.5:
        return
    net: dict[float, float] = {}
    for strike, contracts in expiry.options:
        net[strike] = net.get(strike, 0.0) + contracts
    naked = 0.0
    for contracts in net.values():
        naked += 0.0 if contracts >= 0.0 else -contracts
    own.naked += naked


def _scan(rules: Rules, asset: int, own: Held) -> list[float]:
    """Return the profit of an asset under every scenario, gains and tails counted in part."""
    counted = rules.asset[asset][terms.GAIN_COUNTED]
    dampener = rules.asset[asset][terms.DAMPENER]
    row = []
    for k, (one, two) in enumerate(zip(*own.profits, strict=True)):
        profit = (one if one < 0.0 else one * counted) + (two if two < 0.0 else two * counted)
        if dampener > 0.0 and profit < 0.0:
            damped = profit + dampener * rules.scenarios[k][terms.TAIL]
            profit = damped if damped < 0.0 else 0.0
        row.append(profit)
    return row


def _at_least(loss: float, least: float) -> tuple[float, float]:
    """Return what lifts a loss to a least one, and the lifted loss."""
    excess = least - loss
    return (0.0, loss) if excess <= 0.0 else (excess, loss + excess)


def _loss_usd(rules: Rules, own: Held, scanned: float) -> tuple[dict[str, float], float]:
    one, parts = rules.one, {"scan": scanned}
    parts["basis"], loss = _at_least(scanned, -own.basis)
    net, hedged = one[terms.NET_DELTA_FLOOR], one[terms.HEDGED_DELTA_FLOOR]
    if net + hedged > 0.0:
        delta = abs(own.net)
        floor = net * delta + hedged * (0.5 * (own.gross - delta))
        parts["delta floor"], loss = _at_least(loss, floor)
    short, contract = one[terms.SHORT_MINIMUM], one[terms.CONTRACT_MINIMUM]
    if short + contract > 0.0:
        least = short * own.shorts + contract * own.contracts
        parts["minimum"], loss = _at_least(loss, least)
    parts["roll"] = own.roll
    loss += own.roll
    if one[terms.DELTA_RATE] > 0.0:
        delta = abs(own.net)
        beyond, cap = delta - one[terms.DELTA_FREE], one[terms.DELTA_CAP] * delta
        shock = one[terms.DELTA_RATE] * (0.0 if beyond < 0.0 else beyond)
        parts["delta"] = cap if cap < shock else shock
        loss += parts["delta"]
    return parts, loss


def _doubt(rules: Rules, confidence: float) -> float:
    return 0.0 if confidence >= rules.one[terms.CONFIDENCE_FLOOR] else 1.0 - confidence


def _charge(rules: Rules, asset: int, own: Held, index: float, parts: Parts) -> None:
    rates, naked = rules.asset[asset], own.naked * index
    parts.kept += own.linear * rates[terms.PERPETUAL_MM]
    parts.kept += naked * rates[terms.OPTION_MM]
    parts.extra += own.linear * rates[terms.PERPETUAL_IM]
    parts.extra += naked * rates[terms.OPTION_IM]
    if rules.one[terms.DOUBT_RATE] > 0.0:
        rate = rules.one[terms.DOUBT_RATE] * _doubt(rules, own.confidence)
        parts.doubt += rate * own.linear


def _add_option_doubt(
    rules: Rules,
    market: Market,
    holdings: Holdings,
    account: int,
    held: dict[int, Held],
    parts: Parts,
) -> None:
    doubt = 0.0
    for i, quantity in _legs(holdings, account):
        if market.kind[i] == OPTION:
            sure, own = held[int(market.asset[i])].confidence, float(market.confidence[i])
            sure = own if own < sure or own != own else sure
            doubt += _doubt(rules, sure) * (abs(quantity) * float(market.notional_usd[i]))
    parts.doubt += rules.one[terms.DOUBT_RATE] * doubt
