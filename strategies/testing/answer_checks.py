"""Checks of single answers: compiled and plain, alone and in company, ordered, whole, defined."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from backtest.errors import RemarginError
from backtest.instruments import OPTION, PERPETUAL
from strategies.testing.knob_paths import numbers_of, with_value
from strategies.testing.markets import holdings_of, random_accounts, revalue
from strategies.testing.subject import with_outside
from strategies.testing.tapes import make_tape
from strategies.testing.verdict import Verdict, broken, kept, not_promised

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backtest.kernels.types import Holdings, Market
    from strategies.testing.subject import Scene, Subject

MANY = ("BTC", "ETH", "SOL", "XRP", "DOGE")
_VALUED = ("index", "mark", "forward", "sigma", "value_usd", "notional_usd", "delta_usd")
ROUNDS = 5
"""Books of random accounts at each instant."""
CLOSE = 1e-9
"""Relative; what rounding in another order may cost."""
_PRICES = ("index", "mark", "forward", "quoted volatility")
"""What instruments are valued by: a change of it is a change of values, notionals and deltas."""
_VENUE: dict[str, tuple[float, ...]] = {
    "rate": (-0.2, 0.01, 0.5),
    "confidence": (0.05, 0.5, 0.99, 1.0),
    "index_confidence": (0.05, 0.5, 0.99, 1.0),
    "protocol": (0.0, 1e3, 1e9, 1e12),
}
"""What comes from elsewhere, and the numbers it is tried at."""
_FACTORS = (1e-3, 0.5, 1.3, 1e3)


def books(subject: Subject) -> Iterator[tuple[Scene, Holdings]]:
    """Yield random accounts at every instant, single positions, and accounts without columns."""
    for scene in subject.scenes:
        for k in range(ROUNDS):
            yield scene, random_accounts(scene.market, scene.tradable, subject.seed + k)
    scene = subject.scenes[-1]
    alone = holdings_of(subject.singles(scene), scene.market)
    yield scene, alone
    yield scene, alone._replace(cash=np.empty((len(alone.cash), 0)))


def equals_plain_form(subject: Subject) -> Verdict:
    """Ask the compiled rule and its plain-Python form the same questions."""
    asked = 0
    for scene, holdings in books(subject):
        compiled = subject.ask(scene, holdings)
        plain = subject.ask(scene, holdings, plain=True)
        for name in ("initial", "maintenance", "worst_scenario"):
            mine, theirs = getattr(compiled, name), getattr(plain, name)
            for account in np.flatnonzero(~_same(mine, theirs))[:1]:
                return broken(
                    f"{name.replace('_', ' ')} of {subject.words(scene, holdings, account)} is "
                    f"{mine[account]:.17g} compiled and {theirs[account]:.17g} in plain Python.",
                    compiled=float(mine[account]),
                    plain=float(theirs[account]),
                )
        asked += len(holdings.start)
    return kept(f"{asked} accounts: equal to the bit.")


def asked_alone(subject: Subject) -> Verdict:
    """Ask for accounts one by one and in another order; others must be left untouched."""
    for scene, holdings in books(subject):
        count = len(holdings.start)
        together = subject.ask(scene, holdings)
        reverse = subject.ask(scene, holdings, np.arange(count)[::-1])
        for account in range(count):
            alone = subject.ask(scene, holdings, [account])
            others = np.arange(count) != account
            if not (
                np.isnan(alone.initial[others]).all() and np.isnan(alone.maintenance[others]).all()
            ):
                return broken("a kernel fills accounts that it was not asked about.")
            for name in ("initial", "maintenance"):
                values = [getattr(asked, name)[account] for asked in (alone, together, reverse)]
                if not all(_same(np.array(v), np.array(values[0])) for v in values):
                    return broken(
                        f"{name} of {subject.words(scene, holdings, account)} is "
                        f"{values[0]:.17g} USD alone, {values[1]:.17g} among others and "
                        f"{values[2]:.17g} in reverse order.",
                    )
    return kept("alone, among others and in reverse order: equal to the bit.")


def parts_add_up(subject: Subject) -> Verdict:
    """Compare what `explain` tells with what is asked."""
    untold = [layer.rule.name for layer in subject.layers if layer.rule.explain is None]
    if untold:
        return not_promised(f"no parts are told by {', '.join(untold)}.")
    asked = 0
    for scene, holdings in books(subject):
        total = subject.ask(scene, holdings)
        given = [(x.rule, subject.given(x, scene, scene.market)) for x in subject.layers]
        for account in range(len(holdings.start)):
            told = [
                rule.explain(n, scene.market, holdings, account)
                for rule, n in given
                if rule.explain
            ]
            for name in ("initial", "maintenance"):
                parts = sum(sum(getattr(t, name).values()) for t in told)
                margin = float(getattr(total, name)[account])
                if abs(parts - margin) > CLOSE * max(abs(margin), 1.0):
                    return broken(
                        f"the parts of {name} of {subject.words(scene, holdings, account)} add "
                        f"up to {parts:.12g} USD, but {margin:.12g} USD are asked.",
                        parts=float(parts),
                        margin=margin,
                    )
            asked += 1
    return kept(f"{asked} accounts: the parts are the margin.")


def initial_above_maintenance(subject: Subject) -> Verdict:
    """Demand initial >= maintenance >= 0 of every account."""
    asked = 0
    for scene, holdings in books(subject):
        answer = subject.ask(scene, holdings)
        wrong = (answer.initial < answer.maintenance) | (answer.maintenance < 0.0)
        for account in np.flatnonzero(wrong)[:1]:
            initial, maintenance = answer.initial[account], answer.maintenance[account]
            what = "is below zero" if maintenance < 0.0 else f"exceeds initial {initial:,.6f} USD"
            return broken(
                f"maintenance {maintenance:,.6f} USD of "
                f"{subject.words(scene, holdings, account)} {what}.",
                initial=float(initial),
                maintenance=float(maintenance),
            )
        asked += len(holdings.start)
    return kept(f"{asked} accounts.")


def works_on_any_market(subject: Subject) -> Verdict:
    """Ask on markets of one asset and of many, with few kinds of instruments and with all."""
    refused = []
    for assets, everything in ((("BTC",), False), (MANY, True)):
        tape = make_tape(
            len(subject.tape), assets, options=everything, inverse=everything, futures=everything
        )
        tape = with_outside(tape, subject.policy, subject.seed)
        try:
            elsewhere = replace(subject, tape=tape, layers=subject.policy.layers(tape))
        except RemarginError as error:
            refused.append(str(error))
            continue
        scene = elsewhere.scene(len(tape) - 1)
        holdings = random_accounts(scene.market, scene.tradable, subject.seed, accounts=24)
        answer = elsewhere.ask(scene, holdings)
        plain = elsewhere.ask(scene, holdings, plain=True)
        for name in ("initial", "maintenance"):
            mine, theirs = getattr(answer, name), getattr(plain, name)
            # A parameter read beyond the last one is garbage compiled, and an error in plain.
            for account in np.flatnonzero(np.abs(mine - theirs) > 1e-6 * np.abs(theirs))[:1]:
                return broken(
                    f"on a market of {len(assets)} asset(s), {name} of "
                    f"{elsewhere.words(scene, holdings, account)} is {mine[account]:.17g} "
                    f"compiled and {theirs[account]:.17g} in plain Python."
                )
    if refused:
        return not_promised(f"refuses a market: {refused[0]}")
    return kept("bitcoin perpetuals alone; five assets with futures and options.")


def nan_refused(subject: Subject) -> Verdict:
    """Put NaN into the market and the knobs; sound numbers must give sound margin."""
    for scene, holdings in books(subject):
        answer = subject.ask(scene, holdings)
        wrong = ~(np.isfinite(answer.initial) & np.isfinite(answer.maintenance))
        for account in np.flatnonzero(wrong)[:1]:
            return broken(
                f"sound prices, but {subject.words(scene, holdings, account)} is asked for "
                f"{answer.initial[account]} and {answer.maintenance[account]} USD."
            )
    for path, _ in numbers_of(subject.policy):
        try:
            subject.wearing(with_value(subject.policy, path, float("nan")))
        except (ValidationError, RemarginError, ValueError):
            continue
        return broken(f"{'.'.join(path)} accepts NaN.", knob=".".join(path))
    scene = subject.scenes[-1]
    accounts = [
        *(legs for legs in subject.singles(scene)),
        *_legs_of(random_accounts(scene.market, scene.tradable, subject.seed)),
    ]
    holdings = holdings_of(accounts, scene.market)
    expected = subject.ask(scene, holdings)
    for name in (*_PRICES, *_VENUE):
        for share in ("every asset", "one asset"):
            poisoned = _with(scene.market, name, share == "one asset", float("nan"))
            answer = subject.ask(scene, holdings, market=poisoned)
            for what in ("initial", "maintenance"):
                number = ~np.isnan(getattr(answer, what))
                if not number.any():
                    continue
                moved = _moved(subject, scene, holdings, name, what, share == "one asset")
                changed = ~_same(getattr(answer, what), getattr(expected, what))
                for account in np.flatnonzero(number & (moved | changed))[:1]:
                    return broken(
                        f"{name} of {share} is NaN, yet {subject.words(scene, holdings, account)} "
                        f"is asked for {getattr(answer, what)[account]:,.6f} USD ({what}); it "
                        f"was {getattr(expected, what)[account]:,.6f} USD with a number there.",
                        input=name,
                    )
    return kept("NaN in any price, volatility or knob is refused or handed on.")


def _moved(
    subject: Subject, scene: Scene, holdings: Holdings, name: str, what: str, one: bool
) -> np.ndarray:
    """Tell whose margin follows an input: those may not have a number where it is NaN."""
    expected = getattr(subject.ask(scene, holdings), what)
    moved = np.zeros(len(expected), dtype=bool)
    for other in _VENUE.get(name, _FACTORS):
        market = _with(scene.market, name, one, other)
        moved |= ~_same(getattr(subject.ask(scene, holdings, market=market), what), expected)
    return moved


def _with(market: Market, name: str, one_asset: bool, value: float) -> Market:
    """Return a market with another price (times ``value``) or another number (``value``)."""
    if name in _PRICES:
        return _with_price(market, name, one_asset, value)
    array = getattr(market, name).copy()
    if not one_asset:
        array[...] = value
    elif name == "protocol":
        array[:, 0] = value
    else:
        array[(market.asset if name != "index_confidence" else np.arange(len(array))) == 0] = value
    return market._replace(**{name: array})


def _with_price(market: Market, name: str, one_asset: bool, factor: float) -> Market:
    """Value everything anew; of an option that nobody quotes there is no delta, as in a replay."""
    other = market._replace(**{key: getattr(market, key).copy() for key in _VALUED})
    assets = np.arange(len(other.index)) < (1 if one_asset else len(other.index))
    held = assets[other.asset]
    perpetual, option = other.kind == PERPETUAL, other.kind == OPTION
    if name == "index":
        other.index[assets] *= factor
        other.forward[held & ~perpetual] *= factor
    elif name == "mark":
        other.mark[assets] *= factor
        other.forward[held & perpetual] *= factor
    elif name == "forward":
        other.forward[held & ~perpetual] *= factor
    else:
        other.sigma[held & option] *= factor
    revalue(other)
    other.delta_usd[np.isnan(other.value_usd)] = np.nan
    other.delta_usd[option & np.isnan(other.sigma)] = 0.0
    return other


def _legs_of(holdings: Holdings) -> list[list[tuple[int, float]]]:
    return [
        [
            (int(holdings.instrument[slot]), float(holdings.quantity[slot]))
            for slot in range(first, first + count)
        ]
        for first, count in zip(holdings.start.tolist(), holdings.count.tolist(), strict=True)
    ]


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one == other) | ((one != one) & (other != other)))
