"""Policies with one fault each: the contract suite has to find it, and nothing else."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numba
import numpy as np

from backtest.instruments import OPTION
from backtest.kernels.types import requirement_kernel
from backtest.requirement import Explanation, RequirementRule
from strategies.contract import Knob, MarginPolicy, knob

(
    SOUND,
    JUMPS,
    SILENT,
    RETURNS_NAN,
    SWALLOWS_NAN,
    UPSIDE_DOWN,
    TOUCHES,
    GROSS,
    DEAR,
    CURVED,
    ADDS,
    DRIFTS,
    DELTA,
) = (float(k) for k in range(13))
RATIO = 0.6
EDGE_USD = 1e6


def _risk(net: float, rate: float, fault: float) -> float:
    risk = rate * abs(net)
    if fault == JUMPS and abs(net) > EDGE_USD:
        risk *= 1.5
    if fault == CURVED:
        risk += 1e-9 * net * net
    if fault == SWALLOWS_NAN and not abs(net) > 0.0:
        risk = 0.0
    if fault == RETURNS_NAN and abs(net) > 0.3 * EDGE_USD:
        risk = math.nan
    return risk


_compiled_risk = numba.njit(_risk)


@requirement_kernel
def faulty_kernel(given, market, holdings, accounts, requirement):
    fault, rate = given.constants[0], given.parameters[0]
    for n, account in enumerate(accounts):
        net, options = 0.0, 0.0
        first = holdings.start[account]
        for slot in range(first, first + holdings.count[account]):
            i, quantity = holdings.instrument[slot], holdings.quantity[slot]
            if market.kind[i] == OPTION and quantity > 0.0:
                worth = 1.5 if fault == DEAR else 1.0
                options += worth * quantity * market.value_usd[i]
            elif market.kind[i] == OPTION and fault == DELTA:
                options += rate * abs(quantity * market.delta_usd[i])
            elif market.kind[i] == OPTION:
                options += rate * -quantity * market.notional_usd[i]
            else:
                net += (abs(quantity) if fault == GROSS else quantity) * market.notional_usd[i]
        initial = _compiled_risk(net, rate, fault) + options
        if fault == DRIFTS:
            initial *= 1.0 + 1e-12
        if fault == TOUCHES and n > 0:
            initial *= 1.0 + 1e-12
        maintenance = RATIO * initial
        if fault == UPSIDE_DOWN and net < 0.0:
            maintenance += rate * -net
        if fault == ADDS:
            requirement.initial[account] += initial
            requirement.maintenance[account] += maintenance
        else:
            requirement.initial[account] = initial
            requirement.maintenance[account] = maintenance
        requirement.worst_scenario[account] = -1


def faulty_reference(given, market, holdings, accounts, requirement):
    drifts = given.constants[0] == DRIFTS
    sound = given._replace(constants=np.zeros(1)) if drifts else given
    faulty_kernel.py_func(sound, market, holdings, accounts, requirement)


def _explain(given: Any, market: Any, holdings: Any, account: int) -> Explanation:
    from backtest.kernels.types import empty_requirement

    asked = empty_requirement(len(holdings.start))
    faulty_kernel(given, market, holdings, np.array([account]), asked)
    initial, maintenance = float(asked.initial[account]), float(asked.maintenance[account])
    lost = 1.01 if given.constants[0] == SILENT else 1.0
    return Explanation({"risk": lost * initial}, {"risk": maintenance})


class Sound(MarginPolicy):
    """A rate of net notional; options by themselves."""

    name: ClassVar[str] = "sound"
    requirement = RequirementRule("faulty", faulty_kernel, faulty_reference, explain=_explain)
    scale_law = "homogeneous"
    nets = "perpetuals"
    caps_longs = True
    fault: ClassVar[float] = SOUND

    rate: Knob = knob("5%", low="0.1%", high="50%", unit="of notional", stress="up")

    def signals(self, tape):
        return np.full((len(tape), 1), self.rate)

    def parameters(self, signals):
        return signals

    def constants(self, tape):
        return np.array([self.fault])


class Jumps(Sound):
    """Charges the whole position at the rate of its bracket."""

    scale_law = "superlinear"
    fault = JUMPS


class ReturnsNaN(Sound):
    scale_law = "superlinear"
    fault = RETURNS_NAN


class SwallowsNaN(Sound):
    fault = SWALLOWS_NAN


class TrustsTheDelta(Sound):
    """Charges short options by their delta, which is zero where nobody quoted them."""

    fault = DELTA


class Adds(Sound):
    """A base that adds to whatever stands in the requirement."""

    fault = ADDS


class MaintenanceAboveInitial(Sound):
    fault = UPSIDE_DOWN


class TouchesItsNeighbours(Sound):
    fault = TOUCHES


class KernelDiffers(Sound):
    fault = DRIFTS


class PartsAreMissing(Sound):
    fault = SILENT


class NetsNothing(Sound):
    fault = GROSS


class LongOptionsAreDear(Sound):
    fault = DEAR


class NotHomogeneous(Sound):
    fault = CURVED


class StatesNoLaw(Sound):
    scale_law = None


class Peeks(Sound):
    """Knows the tape's largest price from the start."""

    def signals(self, tape):
        return np.full((len(tape), 1), self.rate * tape.index.max() / 1e5)


class PeeksOneRow(Sound):
    """Posts for a bar what only the next one shows; the same from any later row on."""

    def signals(self, tape):
        move = np.abs(np.diff(np.log(tape.index[:, :1]), axis=0))
        return self.rate + np.vstack([move, move[-1:]])


class PeeksAtVolatility(Sound):
    """Reads option snapshots when they were quoted, not when they were known."""

    def signals(self, tape):
        if tape.iv.size == 0:
            return np.full((len(tape), 1), self.rate)
        level = np.nan_to_num(tape.iv).max(axis=1)
        known = np.searchsorted(tape.vol_ts, tape.ts, side="right") - 1
        return self.rate * level[np.clip(known, 0, len(level) - 1)][:, None]


class Falls(Sound):
    """Calls a knob a stress that lowers margin."""

    calm: Knob = knob("10%", low=0, high="90%", unit="of the rate", stress="up")

    def parameters(self, signals):
        return signals * (1.0 - self.calm)


class CountsThreads(Sound):
    """Sums in as many parts as there are threads."""

    def signals(self, tape):
        # The sum of a constant, which differs in its last bits from one splitting to another.
        parts = np.array_split(np.full(1_001, self.rate / 1_001), numba.get_num_threads())
        return np.full((len(tape), 1), sum(float(np.cumsum(part)[-1]) for part in parts))


class TakesNaN(Sound):
    """A knob without bounds, behind a maximum that swallows NaN."""

    least: float = 0.01

    def parameters(self, signals):
        return np.fmax(signals, self.least)


class NeedsTwoAssets(Sound):
    """Divides by how many other assets there are."""

    def signals(self, tape):
        return np.full((len(tape), 1), self.rate / (len(tape.assets) - 1))


class PostsNaN(Sound):
    def parameters(self, signals):
        return signals * np.nan
