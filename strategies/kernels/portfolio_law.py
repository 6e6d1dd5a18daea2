"""The portfolio margin in plain Python: what `portfolio_grid` must agree with bit for bit.

`strategies.kernels.portfolio_grid` states the law and compiles it; this is its specification,
which also tells a requirement part by part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from backtest.instruments import OPTION, PERPETUAL
from backtest.kernels.black76 import exp_negative, price_from_moneyness
from backtest.requirement import Explanation
from strategies.kernels import portfolio_terms as terms

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings, KernelInput, Market, Requirement


class Rules:
    """Constants and parameters by their names' places.

    Attributes
    ----------
    one
        Single numbers.
    asset
        Numbers of each asset.
    scenarios
        ``(move, slope, weight, slope, direction, skewed, tail)`` of each column.
    ranges, funding
        Posted price range and expected funding of each asset, fractions.
    """

    def __init__(self, given: KernelInput, assets: int) -> None:
        numbers = [float(c) for c in given.constants]
        end = terms.SINGLES + assets * terms.ASSET_COLUMNS
        self.one = numbers[: terms.SINGLES]
        self.asset = np.reshape(numbers[terms.SINGLES : end], (assets, -1)).tolist()
        self.scenarios = np.reshape(numbers[end:], (terms.SCENARIO_ROWS, -1)).T.tolist()
        posted = [float(p) for p in given.parameters]
        self.peg, self.ranges = posted[terms.PEG], posted[terms.RANGES : terms.RANGES + assets]
        self.funding = posted[terms.RANGES + assets :]

    def move(self, asset: int, k: int) -> float:
        """Return the factor of a scenario on the price of an asset."""
        base, slope = self.scenarios[k][: terms.WEIGHT]
        return max(base + slope * self.ranges[asset], terms.LEAST_MOVE)

    def weight(self, asset: int, k: int) -> float:
        """Return the share of a scenario's profit that counts."""
        base, slope = self.scenarios[k][terms.WEIGHT : terms.DIRECTION]
        return float(base + slope * self.ranges[asset])

    def is_basis(self, k: int) -> bool:
        """Tell whether a column moves forwards alone."""
        first = int(self.one[terms.BASIS_COLUMN])
        return first >= 0 and first <= k < first + 2


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


def _factors(rules: Rules, years: float, rate: float) -> tuple[float, float, float]:
    """Return what an expiry's gain and debt are multiplied by, and its share of the basis."""
    one = rules.one
    rate = 0.0 if rate < 0.0 else rate
    time = exp_negative(-one[terms.TIME_DISCOUNT] * rate * years)
    gain = exp_negative(-years * (rate * one[terms.GAIN_RATE] + one[terms.GAIN_ADD]))
    debt = exp_negative(years * (rate * one[terms.DEBT_RATE] + one[terms.DEBT_ADD]))
    debt = one[terms.DEBT_BASE] * debt
    limit = 1.0 / time
    return (
        time * (one[terms.GAIN_BASE] * gain),
        time * (limit if limit < debt else debt),
        one[terms.BASIS_ADD] + one[terms.BASIS_PER_YEAR] * years,
    )


def _skew_factor(rules: Rules, log_strike: float, root: float, absolute: bool) -> float:
    """Return the factor on the volatility of a strike when the skew changes."""
    one = rules.one
    cap = one[terms.ABS_CAP] if absolute else one[terms.LINEAR_CAP]
    cap += (one[terms.ABS_SLOPE] if absolute else one[terms.LINEAR_SLOPE]) * root
    flat = root * one[terms.WIDTH] * (one[terms.WIDTH_STATIC] + root * one[terms.WIDTH_SLOPE])
    least = one[terms.LEAST_WIDTH]
    k = abs(log_strike) if absolute else log_strike
    tilt = k * cap / (least if flat < least else flat)
    if k >= 0.0:
        tilt = cap if cap < tilt else tilt
    else:
        tilt = -cap if tilt < -cap else tilt
    factor = 1.0 + tilt
    return 0.0 if factor < 0.0 else factor


def contract_row(i: int, rules: Rules, market: Market, coins_counted: bool) -> list[float]:
    """Return what one contract adds under every scenario, USD.

    Of an option the value where expiries are valued as a whole, else its profit; of any other
    contract its profit. Profits have their weight, values have none.
    """
    asset, inverse = int(market.asset[i]), int(market.inverse[i])
    settled, value = float(market.settled[i]), float(market.value_usd[i])
    moving = coins_counted and rules.asset[asset][terms.MOVES_WITH] == asset
    row = []
    if market.kind[i] != OPTION:
        edge, clamped = rules.ranges[asset], rules.one[terms.CLAMPED] > 0.5
        for k, scenario in enumerate(rules.scenarios):
            move, weight = rules.move(asset, k), rules.weight(asset, k)
            if clamped and scenario[terms.TAIL] > 0.0:
                move, weight = (1.0 - edge if move < 1.0 else 1.0 + edge), 1.0
            factor = move if settled == 0.0 else settled + (1.0 - settled) * move
            if inverse:
                factor = (move if moving else 1.0) / factor
            row.append(weight * (value * (factor - 1.0)))
        return row
    years, sigma = float(market.years[i]), float(market.sigma[i])
    forward, strike = float(market.forward[i]), float(market.strike[i])
    is_call, size = float(market.is_call[i]), float(market.contract_size[i])
    moneyness, root = math.log(forward / strike), math.sqrt(years)
    kept = sigma * root
    lowered, raised = _shocked(rules, asset, years, sigma, root)
    scale = size * (float(market.index[asset]) / forward if inverse else 1.0)
    present = scale * price_from_moneyness(forward, strike, moneyness, kept, is_call)
    rate = float(market.rate[i])
    time = exp_negative(-rules.one[terms.TIME_DISCOUNT] * (0.0 if rate < 0.0 else rate) * years)
    by_expiry = rules.one[terms.BY_EXPIRY] > 0.5
    for k, scenario in enumerate(rules.scenarios):
        move, direction = rules.move(asset, k), scenario[terms.DIRECTION]
        factor = move if settled == 0.0 else settled + (1.0 - settled) * move
        log_move = math.log(factor)
        shocked = raised if direction > 0.0 else lowered
        shocked = kept if direction == 0.0 else shocked
        if scenario[terms.SKEWED] < 0.0:
            log_strike = -(moneyness + log_move)
            shocked = kept * _skew_factor(rules, log_strike, root, direction > terms.LINEAR)
        price = price_from_moneyness(
            forward * factor, strike, moneyness + log_move, shocked, is_call
        )
        index = move if moving and not rules.is_basis(k) else 1.0
        after = scale * price * (index / factor if inverse else 1.0)
        if not by_expiry:
            after = rules.weight(asset, k) * (after - value)
        elif rules.is_basis(k):
            after = time * (after - present)
        row.append(after)
    return row


def _shocked(
    rules: Rules, asset: int, years: float, sigma: float, root: float
) -> tuple[float, float]:
    """Return ``sigma * sqrt(years)`` with volatility shocked down and up."""
    one, own = rules.one, rules.asset[asset]
    days = years * 365.0
    days = one[terms.LEAST_DAYS] if days < one[terms.LEAST_DAYS] else days
    power = one[terms.POWER_NEAR] if days <= 30.0 else one[terms.POWER_FAR]
    stretch = exp_negative(power * math.log(30.0 / days))
    unit = 1.0 if one[terms.VOL_ADDED] > 0.5 else sigma
    raised = sigma + own[terms.VOL_UP] * stretch * unit
    lowered = sigma - own[terms.VOL_DOWN] * stretch * unit
    raised = own[terms.LEAST_VOL] if raised < own[terms.LEAST_VOL] else raised
    return (0.0 if lowered < 0.0 else lowered) * root, raised * root


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
                    expiry.factors = _factors(rules, expiry.years, float(market.rate[i]))
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


def _margins(given: KernelInput, parts: Parts) -> tuple[float, float]:
    """Put initial and maintenance margin together."""
    one = given.constants
    factor = float(one[terms.IM_FACTOR]) + float(given.parameters[terms.PEG])
    least, kept, beside = float(one[terms.MM_FACTOR]), parts.kept, parts.extra + parts.doubt
    if one[terms.CHARGES_INSIDE] > 0.5:
        return factor * (parts.loss + kept) + beside, least * (parts.loss + kept)
    return factor * parts.loss + kept + beside, least * parts.loss + kept


def portfolio_grid_reference(
    given: KernelInput,
    market: Market,
    holdings: Holdings,
    accounts: np.ndarray,
    requirement: Requirement,
) -> None:
    """Ask for margin as `portfolio_grid` describes, in plain Python.

    Parameters
    ----------
    given
        ``parameters``: what the factor of initial margin is raised by, then the price range of
        every asset, then the funding its longs are expected to pay. ``constants``: from
        `portfolio_constants`. The scratch table is not used.
    market, holdings, accounts, requirement
        As for every requirement kernel; a leg whose value, volatility, rate or confidence is
        NaN makes its account's requirement NaN where the policy's rules look at it.
    """
    for account in accounts:
        parts = scenario_parts(given, market, holdings, int(account))
        initial, maintenance = _margins(given, parts)
        requirement.maintenance[account] = maintenance
        requirement.initial[account] = maintenance if initial < maintenance else initial
        requirement.worst_scenario[account] = parts.worst[1]


def portfolio_grid_explain(
    given: KernelInput, market: Market, holdings: Holdings, account: int
) -> Explanation:
    """Split one account's requirement into the parts of the law.

    Parts of the loss are shown after the factor of the loss.
    """
    parts = scenario_parts(given, market, holdings, account)
    margins = _margins(given, parts)
    one = given.constants
    factors = (
        float(one[terms.IM_FACTOR]) + float(given.parameters[terms.PEG]),
        float(one[terms.MM_FACTOR]),
    )
    inside = one[terms.CHARGES_INSIDE] > 0.5
    told: list[dict[str, float]] = []
    for factor in factors:
        row: dict[str, float] = {}
        for losses in parts.losses.values():
            for name, usd in losses.items():
                row[name] = row.get(name, 0.0) + factor * usd
        row["offset"] = -factor * parts.offset
        row["charges"] = (factor if inside else 1.0) * parts.kept
        told.append(row)
    told[0]["charges"] += parts.extra
    told[0]["doubt"] = parts.doubt
    if margins[0] < margins[1]:
        told[0]["at least maintenance"] = margins[1] - margins[0]
    shown = [{name: usd for name, usd in row.items() if usd != 0.0} for row in told]
    return Explanation(shown[0], shown[1], _words(given, market, parts))


def _words(given: KernelInput, market: Market, parts: Parts) -> str:
    asset, k = parts.worst
    if k < 0:
        return ""
    rules = Rules(given, len(market.index))
    move, weight = rules.move(asset, k) - 1.0, rules.weight(asset, k)
    directions = {
        terms.DOWN: "volatility down",
        terms.SAME: "volatility unchanged",
        terms.UP: "volatility up",
        terms.LINEAR: "volatility tilted",
        terms.ABSOLUTE: "far strikes' volatility up",
    }
    words = f"price {100.0 * move:+.4g} %, {directions[rules.scenarios[k][terms.DIRECTION]]}"
    words = words if len(parts.losses) == 1 else f"asset {asset}: {words}"
    return words + (f", counted {100.0 * weight:.3g} %" if weight != 1.0 else "")
