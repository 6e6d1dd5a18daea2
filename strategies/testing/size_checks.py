"""Checks of how margin moves: with stress, with size, with hedges, with options bought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from backtest.errors import RemarginError
from backtest.instruments import OPTION
from strategies.testing.answer_checks import CLOSE, books
from strategies.testing.knob_paths import ladder, numbers_of, stress_of, value_at, with_value
from strategies.testing.markets import holdings_of, random_accounts
from strategies.testing.verdict import Verdict, broken, kept, not_promised

if TYPE_CHECKING:
    from backtest.kernels.types import Holdings
    from strategies.testing.subject import Legs, Scene, Subject

MULTIPLES = (0.01, 0.5, 2.0, 3.0, 1_000.0)
SIZES_USD = np.geomspace(1e2, 1e10, 161)
HALVINGS = 46
LEAST_JUMP = 1e-8
"""Of the notional: what is taken for a jump, and not for rounding."""
PORTFOLIOS = 8
_BOTH = ("initial", "maintenance")


def monotone_in_stress(subject: Subject) -> Verdict:
    """Turn every knob that is called a stress from its lowest to its highest value."""
    tried: list[str] = []
    for path, info in numbers_of(subject.policy):
        stress = stress_of(info)
        if not stress:
            continue
        tried.append(".".join(path))
        ascending = ladder(info, value_at(subject.policy, path))
        if stress.endswith("down"):
            ascending.reverse()
        before: tuple[float, Subject] | None = None
        for value in ascending:
            try:
                wearing = subject.wearing(with_value(subject.policy, path, value))
            except (ValidationError, RemarginError):
                continue  # a rule of the policy's own excludes this value beside the others
            if before is not None:
                verdict = _less(*before, value, wearing, tried[-1], stress.startswith("leg"))
                if verdict is not None:
                    return verdict
            before = value, wearing
    if not tried:
        return not_promised("no knob says stress='up' or 'down'.")
    return kept(f"{', '.join(tried)}.")


def _less(
    low: float, mild: Subject, high: float, harsh: Subject, knob: str, legs_only: bool
) -> Verdict | None:
    for scene in (mild.scenes[0], mild.scenes[-1]):
        held = [holdings_of(mild.singles(scene), scene.market)]
        if not legs_only:
            held.append(random_accounts(scene.market, scene.tradable, mild.seed, accounts=24))
        for holdings in held:
            asked = [subject.ask(scene, holdings) for subject in (mild, harsh)]
            for name in _BOTH:
                less, more = (getattr(answer, name) for answer in asked)
                for account in np.flatnonzero(more < less - CLOSE * np.abs(less))[:1]:
                    return broken(
                        f"{knob} from {low:.6g} to {high:.6g} lowers {name} of "
                        f"{mild.words(scene, holdings, account)} from {less[account]:,.6f} to "
                        f"{more[account]:,.6f} USD.",
                        knob=knob,
                        values=[low, high],
                        margins=[float(less[account]), float(more[account])],
                    )
    return None


def scale_law_kept(subject: Subject) -> Verdict:
    """Multiply whole accounts, money and coins included."""
    law = subject.scale_law
    if law is None:
        silent = next(name for name, said in subject.promises if said.scale_law is None)
        return broken(
            f"{silent} states no scale law; write scale_law = 'homogeneous', 'superlinear' or "
            "'none' into its class."
        )
    if law == "none":
        return not_promised("the policy states no relation between size and margin.")
    for scene, holdings in books(subject):
        gross = _gross_usd(scene, holdings)
        once = subject.ask(scene, holdings)
        for k in MULTIPLES:
            scaled = holdings._replace(quantity=k * holdings.quantity, cash=k * holdings.cash)
            asked = subject.ask(scene, scaled)
            for name in _BOTH:
                base, got = k * getattr(once, name), getattr(asked, name)
                if law == "superlinear":
                    excess = base - got if k > 1.0 else got - base
                else:
                    excess = np.abs(got - base)
                for account in np.flatnonzero(excess > CLOSE * np.abs(base) + 1e-12 * k * gross)[
                    :1
                ]:
                    return broken(
                        f"{law} is stated, but {k:g} times "
                        f"{subject.words(scene, holdings, account)} is asked for "
                        f"{got[account]:,.6f} USD ({name}), {k:g} times what it is asked for "
                        f"once is {base[account]:,.6f} USD.",
                        multiple=k,
                    )
    return kept(f"{law}: whole accounts times {', '.join(f'{k:g}' for k in MULTIPLES)}.")


def long_options_cost_their_value(subject: Subject) -> Verdict:
    """Buy one more option for every account: margin rises by no more than its value."""
    liable = [name for name, said in subject.promises if not said.caps_longs]
    if liable:
        return not_promised(f"no most for long options is promised by {', '.join(liable)}.")
    for scene in subject.scenes:
        options = scene.of_kind(OPTION)
        if not len(options):
            continue
        before = random_accounts(scene.market, scene.tradable, subject.seed, accounts=24)
        draws = np.random.default_rng(subject.seed)
        for _ in range(3):
            bought = _not_held(before, options, draws)
            contracts = (
                10.0 ** draws.uniform(3.0, 5.5, len(bought)) / scene.market.notional_usd[bought]
            )
            after = _with_leg(before, bought, contracts)
            premium = contracts * scene.market.value_usd[bought]
            asked = [subject.ask(scene, held) for held in (before, after)]
            gross = _gross_usd(scene, after)
            for name in _BOTH:
                less, more = (getattr(answer, name) for answer in asked)
                limit = less + premium + CLOSE * np.abs(less) + 1e-12 * gross
                for account in np.flatnonzero(more > limit)[:1]:
                    symbol = subject.tape.instruments.symbols[bought[account]]
                    return broken(
                        f"{contracts[account]:.6g} {symbol}, worth {premium[account]:,.6f} USD, "
                        f"bought to {subject.words(scene, before, account)} raises {name} by "
                        f"{more[account] - less[account]:,.6f} USD."
                    )
    return kept("no account is asked for more than the premium it paid.")


def opposites_net(subject: Subject) -> Verdict:
    """Hold positions together with their opposites."""
    if subject.nets == "nothing":
        silent = ", ".join(name for name, said in subject.promises if said.nets == "nothing")
        return not_promised(f"no netting is promised by {silent}.")
    for scene in subject.scenes:
        singles = subject.singles(scene)
        pairs: list[Legs] = [[*legs, (legs[0][0], -legs[0][1])] for legs in singles[::2]]
        hedged = subject.ask(scene, holdings_of(pairs, scene.market))
        apart = subject.ask(scene, holdings_of(singles, scene.market))
        for n, legs in enumerate(pairs):
            i, quantity = legs[0]
            symbol = subject.tape.instruments.symbols[i]
            if scene.market.kind[i] != OPTION:
                if hedged.initial[n] > CLOSE * abs(quantity) * scene.market.notional_usd[i]:
                    return broken(
                        f"{quantity:.6g} {symbol} and as many short ask for "
                        f"{hedged.initial[n]:,.6f} USD together; that is no risk at all."
                    )
            elif subject.nets == "portfolio":
                sum_usd = apart.initial[2 * n] + apart.initial[2 * n + 1]
                if sum_usd > 0.0 and hedged.initial[n] >= sum_usd:
                    return broken(
                        f"{quantity:.6g} {symbol} and as many short ask for "
                        f"{hedged.initial[n]:,.6f} USD together, no less than apart."
                    )
        if subject.nets == "portfolio":
            verdict = _mirrored(subject, scene)
            if verdict is not None:
                return verdict
    return kept(f"{subject.nets}: a position and its opposite ask nothing for their risk.")


def _mirrored(subject: Subject, scene: Scene) -> Verdict | None:
    """Demand of a portfolio and its mirror no more than of each leg beside its opposite."""
    held = random_accounts(scene.market, scene.tradable, subject.seed)
    market = scene.market
    for account in range(len(held.start)):
        first = int(held.start[account])
        slots = range(first, first + int(held.count[account]))
        legs = [(int(held.instrument[s]), float(held.quantity[s])) for s in slots]
        pairs: list[Legs] = [[(i, q), (i, -q)] for i, q in legs]
        whole = holdings_of([[leg for pair in pairs for leg in pair]], market)
        together = subject.ask(scene, whole).initial[0]
        floors = subject.ask(scene, holdings_of(pairs, market)).initial.sum() if pairs else 0.0
        if together > floors + CLOSE * _gross_usd(scene, whole)[0]:
            return broken(
                f"{subject.words(scene, held, account)} and its mirror ask for "
                f"{together:,.6f} USD, leg by leg only for {floors:,.6f} USD."
            )
    return None


def continuous_in_size(subject: Subject) -> Verdict:
    """Let positions grow from 100 USD to 10 bn USD and look for a jump, halving around it."""
    jumping = [name for name, said in subject.promises if not said.continuous]
    if jumping:
        return not_promised(f"{', '.join(jumping)} says that brackets jump.")
    scene = subject.scenes[-1]
    directions = 0
    for legs in _directions(subject, scene):
        gross = sum(abs(q) * float(scene.market.notional_usd[i]) for i, q in legs)
        unit = [(i, q / gross) for i, q in legs]
        directions += 1
        for name in _BOTH:
            verdict = _jump(subject, scene, unit, name)
            if verdict is not None:
                return verdict
    return kept(f"{directions} positions and portfolios grown from 100 USD to 10 bn USD.")


def _directions(subject: Subject, scene: Scene) -> list[Legs]:
    singles = subject.singles(scene, sample=4)
    drawn = random_accounts(scene.market, scene.tradable, subject.seed, PORTFOLIOS)
    portfolios = []
    for first, count in zip(drawn.start.tolist(), drawn.count.tolist(), strict=True):
        slots = range(first, first + count)
        legs = [(int(drawn.instrument[s]), float(drawn.quantity[s])) for s in slots]
        portfolios.append(legs)
    return [legs for legs in singles + portfolios if legs]


def _jump(subject: Subject, scene: Scene, unit: Legs, name: str) -> Verdict | None:
    def margin(sizes: np.ndarray) -> np.ndarray:
        holdings = holdings_of([unit] * len(sizes), scene.market)
        grown = holdings.quantity * np.repeat(sizes, len(unit))
        asked = subject.ask(scene, holdings._replace(quantity=grown))
        return np.asarray(getattr(asked, name))

    low, high = SIZES_USD[:-1].copy(), SIZES_USD[1:].copy()
    at_low, at_high = margin(low), margin(high)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        at_middle = margin(middle)
        left = np.abs(at_middle - at_low) >= np.abs(at_high - at_middle)
        high, at_high = np.where(left, middle, high), np.where(left, at_middle, at_high)
        low, at_low = np.where(left, low, middle), np.where(left, at_low, at_middle)
    for k in np.flatnonzero(np.abs(at_high - at_low) > LEAST_JUMP * high)[:1]:
        symbols = ", ".join(
            f"{'long' if q > 0 else 'short'} {subject.tape.instruments.symbols[i]}" for i, q in unit
        )
        return broken(
            f"{name} of {symbols} jumps at {high[k]:,.2f} USD of notional, from "
            f"{at_low[k]:,.2f} to {at_high[k]:,.2f} USD.",
            notional_usd=float(high[k]),
            below_usd=float(at_low[k]),
            above_usd=float(at_high[k]),
        )
    return None


def _gross_usd(scene: Scene, holdings: Holdings) -> np.ndarray:
    usd = np.abs(holdings.quantity) * scene.market.notional_usd[holdings.instrument]
    ends = holdings.start + holdings.count
    sums = [usd[a:b].sum() for a, b in zip(holdings.start, ends, strict=True)]
    money = np.abs(holdings.cash).sum(axis=0) if holdings.cash.shape[1] else 0.0
    return np.asarray(np.array(sums) + money)


def _not_held(holdings: Holdings, options: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """Choose for every account an option that it does not hold."""
    ends = holdings.start + holdings.count
    held = [holdings.instrument[a:b] for a, b in zip(holdings.start, ends, strict=True)]
    return np.array([draws.choice(np.setdiff1d(options, mine)) for mine in held])


def _with_leg(holdings: Holdings, bought: np.ndarray, contracts: np.ndarray) -> Holdings:
    """Append one leg to every account."""
    ends = holdings.start + holdings.count
    return holdings._replace(
        start=holdings.start + np.arange(len(ends)),
        count=holdings.count + 1,
        instrument=np.insert(holdings.instrument, ends, bought),
        quantity=np.insert(holdings.quantity, ends, contracts),
        entry=np.insert(holdings.entry, ends, 0.0),
    )
