"""A policy under examination: its layers along a made-up tape, asked about any portfolio.

Markets are rows of the tape, so that a policy's own parameters meet the prices they were posted
for, as in a replay. What a tape does not hold (the venue's own state, oracles' confidence) is
drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from pydantic import BaseModel

from backtest.events import EVENT_KINDS, EventTable
from backtest.instruments import FUTURE, NEVER_MS, OPTION, PERPETUAL
from backtest.kernels.types import Holdings, KernelInput, Requirement, empty_requirement
from backtest.seeds import stream
from strategies.layer import Netting, Promises, ScaleLaw
from strategies.testing.markets import market_of_tape
from strategies.testing.tapes import make_tape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backtest.kernels.types import Market
    from backtest.requirement import RequirementLayer
    from backtest.tape import MarketTape
    from strategies.contract import MarginPolicy
    from strategies.layer import RiskLayer

ROWS = 160
LATE_VOLATILITY_MS = 5_400_000
"""Volatilities of the tape are known this much later than they were quoted."""
SINGLE_USD = 50_000.0
_LAWS: tuple[Any, ...] = ("none", "superlinear", "homogeneous")
Legs = list[tuple[int, float]]
"""Instrument and contracts of each position of one account."""


def suite_tape(rows: int = ROWS, seed: int = 3) -> MarketTape:
    """Make the suite's market: BTC and ETH; perpetuals, futures and options of both currencies."""
    tape = make_tape(rows, futures=True, seed=seed)
    return replace(tape, vol_known_ts=tape.vol_ts + LATE_VOLATILITY_MS)


def with_outside(tape: MarketTape, policy: MarginPolicy, seed: int = 0) -> MarketTape:
    """Give a tape the outside signals and calendars that a policy's fields name.

    A field called ``signal`` names a signal, one called ``calendars`` several calendars; where
    it is empty, one is made up. Signals wander, unknown at first; every calendar has an event a
    day, announced at random times, some put off or called off.
    """
    signals, calendars = (sorted(names) for names in _named_outside(policy))
    draws, rows = stream(seed, "outside"), len(tape)
    if signals:
        values = np.cumsum(draws.normal(0.0, 1.0, (rows, len(signals))), axis=0)
        values[: rows // 20] = np.nan
        tape = replace(tape, signal_names=tuple(signals), signals=values)
    if not calendars:
        return tape
    count = 12 * len(calendars)
    at_ms = draws.choice(tape.ts, count)
    return replace(
        tape,
        events=EventTable(
            calendars=tuple(calendars),
            calendar=np.arange(count) % len(calendars),
            event=np.arange(count) // 2,
            kind=draws.integers(0, len(EVENT_KINDS), count),
            at_ms=np.where(draws.random(count) < 0.1, NEVER_MS, at_ms),
            known_ms=np.sort(draws.choice(tape.known_ts, count)),
            concerns=draws.random((count, len(tape.assets))) < 0.7,
        ),
    )


def _named_outside(model: BaseModel) -> tuple[set[str], set[str]]:
    signals: set[str] = set()
    calendars: set[str] = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name == "signal" and isinstance(value, str):
            signals.add(value)
        elif name == "calendars" and isinstance(value, tuple):
            calendars.update(value or ("calendar",))
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                more_signals, more_calendars = _named_outside(part)
                signals |= more_signals
                calendars |= more_calendars
    return signals, calendars


@dataclass(frozen=True, eq=False)
class Scene:
    """One instant of the tape: the market, what is posted then, and what can be traded."""

    row: int
    market: Market
    tradable: np.ndarray

    def of_kind(self, kind: int, inverse: int | None = None) -> np.ndarray:
        """Return the tradable instruments of a kind, and of a settlement if one is given."""
        table = self.market
        fits = table.kind[self.tradable] == kind
        if inverse is not None:
            fits &= table.inverse[self.tradable] == inverse
        return np.asarray(self.tradable[fits])


@dataclass(frozen=True, eq=False)
class Subject:
    """A policy and the made-up market it is examined on.

    Parameters
    ----------
    make
        Builds the policy; called anew wherever a second instance could differ from the first.
    policy
        The policy itself.
    tape
        The market.
    layers
        The policy's layers along it.
    seed
        Of every random portfolio.
    """

    make: Callable[[], MarginPolicy]
    policy: MarginPolicy
    tape: MarketTape
    layers: tuple[RequirementLayer, ...]
    seed: int

    @classmethod
    def of(cls, make: Callable[[], MarginPolicy], seed: int = 0) -> Subject:
        """Build the policy and its layers along the suite's tape."""
        policy = make()
        tape = with_outside(suite_tape(), policy, seed)
        return cls(make, policy, tape, policy.layers(tape), seed)

    def wearing(self, policy: MarginPolicy) -> Subject:
        """Return the same examination of another policy."""
        return replace(self, policy=policy, layers=policy.layers(self.tape))

    @property
    def risk_layers(self) -> tuple[RiskLayer, ...]:
        """The base, its parts and the add-ons."""
        return (self.policy, *self.policy.parts(), *self.policy.addons)

    @cached_property
    def promises(self) -> tuple[tuple[str, Promises], ...]:
        """The name of each layer and what it promises."""
        return tuple((layer.name, layer.promises()) for layer in self.risk_layers)

    @property
    def scale_law(self) -> ScaleLaw | None:
        """The weakest law that a layer states; None where one states nothing."""
        laws = [promised.scale_law for _, promised in self.promises]
        if None in laws:
            return None
        weakest: ScaleLaw = min((law for law in laws if law), key=_LAWS.index)
        return weakest

    @property
    def nets(self) -> Netting:
        """The least that a layer nets."""
        nets = [promised.nets for _, promised in self.promises]
        least: Netting = min(nets, key=get_args(Netting).index)
        return least

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """An early, a middle and a late instant of the tape."""
        return tuple(self.scene(row) for row in (20, ROWS // 2, ROWS - 5))

    def scene(self, row: int) -> Scene:
        """Show the market of one row."""
        market, tradable = market_of_tape(self.tape, row, self.seed)
        return Scene(row, market, tradable)

    def ask(
        self,
        scene: Scene,
        holdings: Holdings,
        accounts: Sequence[int] | np.ndarray | None = None,
        *,
        plain: bool = False,
        market: Market | None = None,
    ) -> Requirement:
        """Ask all layers, one after the other, as the loop does.

        Parameters
        ----------
        scene
            The instant whose parameters are in force.
        holdings
            Accounts and their positions.
        accounts
            Which are asked, in which order; all by default.
        plain
            Ask the plain-Python form instead of the compiled one.
        market
            Another market than the scene's, with the same instruments.

        Returns
        -------
        Requirement
            Rows that were not asked for hold NaN; a base kernel has to set its own.
        """
        count = len(holdings.start)
        who = np.arange(count) if accounts is None else np.array(accounts, dtype=np.int64)
        asked = empty_requirement(count)
        asked.initial[:] = asked.maintenance[:] = np.nan
        market = market or scene.market
        for layer in self.layers:
            call = layer.rule.reference if plain else layer.rule.kernel
            call(self.given(layer, scene, market), market, holdings, who, asked)
        return asked

    def given(self, layer: RequirementLayer, scene: Scene, market: Market) -> KernelInput:
        """Return one layer's numbers at an instant, with a fresh scratch table."""
        instruments = len(market.kind)
        return KernelInput(
            np.array(layer.parameters[scene.row]),
            layer.constants,
            np.zeros((instruments, layer.rule.scratch_columns(layer.constants))),
            np.full(instruments, -1, np.int64),
        )

    def words(self, scene: Scene, holdings: Holdings, account: int) -> str:
        """Say what an account holds: ``-1.25 BTC-PERP, 3 ETH-12JAN24-2300-C``."""
        first = int(holdings.start[account])
        slots = range(first, first + int(holdings.count[account]))
        symbols = self.tape.instruments.symbols
        told = [
            f"{holdings.quantity[slot]:.6g} {symbols[holdings.instrument[slot]]}" for slot in slots
        ]
        return ", ".join(told) or "nothing"

    def singles(self, scene: Scene, sample: int = 24) -> list[Legs]:
        """Hold each kind of instrument alone, long and short, in accounts of their own."""
        chosen = [*scene.of_kind(PERPETUAL), *scene.of_kind(FUTURE)]
        options = scene.of_kind(OPTION)
        chosen += list(options[:: max(1, len(options) // sample)])
        size = SINGLE_USD / scene.market.notional_usd
        return [[(int(i), float(side * size[i]))] for i in chosen for side in (1.0, -1.0)]
