"""The desk where the policy is asked: it sees what the venue sees, and no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backtest.kernels.types import PROTOCOL_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from backtest.arrays import TapeArrays
    from backtest.reference.accounts import Position
    from backtest.reference.quotes import Quote
    from backtest.requirement import RequirementLayer


class _MarketSeen:
    """What a requirement rule is shown; the names of `backtest.kernels.types.Market`."""

    def __init__(self, tape: TapeArrays) -> None:
        for name in ("asset", "kind", "inverse", "contract_size", "strike", "is_call"):
            setattr(self, name, getattr(tape, name))
        instruments, assets = len(tape.asset), tape.index.shape[1]
        self.tick = np.zeros(1, np.int64)
        self.index, self.mark = np.zeros(assets), np.zeros(assets)
        self.protocol = np.zeros((PROTOCOL_ROWS, assets))
        self.index_confidence = np.ones(assets)
        self.value_usd, self.notional_usd = np.zeros(instruments), np.zeros(instruments)
        self.forward, self.sigma = np.zeros(instruments), np.zeros(instruments)
        self.years, self.delta_usd = np.zeros(instruments), np.zeros(instruments)
        self.rate, self.settled = np.zeros(instruments), np.zeros(instruments)
        self.confidence = np.ones(instruments)


@dataclass
class _Given:
    """The numbers of one rule; the names of `backtest.kernels.types.KernelInput`."""

    parameters: np.ndarray
    constants: np.ndarray
    scratch: np.ndarray
    scratch_tick: np.ndarray


@dataclass
class _Portfolios:
    """Portfolios in slots; the names of `backtest.kernels.types.Holdings`."""

    start: np.ndarray
    count: np.ndarray
    instrument: np.ndarray
    quantity: np.ndarray
    entry: np.ndarray
    cash: np.ndarray


@dataclass
class _Asked:
    """What a rule fills; the names of `backtest.kernels.types.Requirement`."""

    initial: np.ndarray
    maintenance: np.ndarray
    worst_scenario: np.ndarray


class PolicyDesk:
    """A policy's layers, the parameters in force, and the market as they see it."""

    def __init__(self, layers: tuple[RequirementLayer, ...], tape: TapeArrays) -> None:
        self.layers = layers
        self.market = _MarketSeen(tape)
        self._asset = tape.asset
        count = len(tape.asset)
        self.given = [
            _Given(
                np.zeros(layer.parameters.shape[1]),
                layer.constants,
                np.zeros((count, layer.rule.scratch_columns(layer.constants))),
                np.full(count, -1, np.int64),
            )
            for layer in layers
        ]

    def post(self, row: int) -> None:
        """Put the parameters of a row in force."""
        for layer, given in zip(self.layers, self.given, strict=True):
            given.parameters[:] = layer.parameters[row]

    def show_prices(self, index: list[float], mark: list[float], confidence: list[float]) -> None:
        """Show prices per asset; whatever a rule kept of the old ones is void."""
        self.market.tick[0] += 1
        self.market.index[:], self.market.mark[:] = index, mark
        self.market.index_confidence[:] = confidence

    def require(
        self,
        portfolios: list[list[Position]],
        cash: list[list[float]] | None,
        seen: Callable[[int], Quote],
    ) -> list[tuple[float, float]]:
        """Ask for initial and maintenance margin of each portfolio, in US dollars.

        Legs that are margined one by one share their account's cash, so none of them has any.
        """
        legs = [p for portfolio in portfolios for p in portfolio]
        for i in {p.instrument for p in legs}:
            known = seen(i)
            self.market.value_usd[i] = known.value_usd
            self.market.notional_usd[i] = known.notional_usd
            self.market.forward[i] = known.forward
            self.market.sigma[i] = known.sigma
            self.market.years[i] = known.years
            self.market.delta_usd[i] = known.delta_usd
            self.market.rate[i] = known.rate
            self.market.settled[i] = known.settled
            self.market.confidence[i] = self.market.index_confidence[self._asset[i]]
        counts = [len(portfolio) for portfolio in portfolios]
        holdings = _Portfolios(
            np.cumsum([0, *counts])[: len(counts)].astype(np.int64),
            np.array(counts, np.int64),
            np.array([p.instrument for p in legs], np.int64),
            np.array([p.quantity for p in legs]),
            np.array([p.entry_unit for p in legs]),
            np.array(cash or np.empty((0, 1 + len(self.market.index)))).T,
        )
        rows = len(portfolios)
        asked = _Asked(np.zeros(rows), np.zeros(rows), np.full(rows, -1, np.int64))
        for layer, given in zip(self.layers, self.given, strict=True):
            layer.rule.reference(given, self.market, holdings, np.arange(rows), asked)
        return list(zip(asked.initial.tolist(), asked.maintenance.tolist(), strict=True))
