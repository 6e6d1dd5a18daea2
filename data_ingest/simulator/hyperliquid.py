"""Hyperliquid's public `/info` endpoint: its accounts, and beside them its market data.

Every well-formed address has an account, drawn from the seed and the address: what it brought
in, when it opened which positions at what leverage. The market then moves what they are worth,
so that the same address shows other numbers at another time of the simulator's clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.seeds import stream
from data_ingest.simulator.crowd import Crowd
from data_ingest.simulator.hyperliquid_market import (
    MAX_LEVERAGE,
    NOT_UNDERSTOOD,
    SIZE_DECIMALS,
    HyperliquidError,
    HyperliquidMarket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.simulator.market import SimulatedMarket

Request = dict[str, Any]
SETTLED_IN = "USDC"
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
EMPTY_SHARE = 0.2
"""Share of addresses that hold no position; lists of addresses are full of them."""
ISOLATED_SHARE = 0.3
SECOND_POSITION_SHARE = 0.4
UNIFIED_SHARE = 0.05
_LOG_EQUITY = (7.09, 2.88)
_LOG_LEVERAGE = (0.7, 0.9)


@dataclass(frozen=True)
class _Position:
    """One position as it was opened; ``margin_usd`` is what an isolated one was given."""

    asset: str
    coins: float
    entry_usd: float
    leverage: int
    margin_usd: float
    is_isolated: bool


@dataclass(frozen=True)
class _Account:
    deposit_usd: float
    opened_ms: int
    positions: tuple[_Position, ...]


class HyperliquidApi:
    """The exchange's information endpoint over one market.

    Parameters
    ----------
    market
        What the exchange trades.
    crowd
        Who holds it.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd | None = None) -> None:
        self._market = market
        self._perpetuals = HyperliquidMarket(market, crowd or Crowd(market))
        self.types: dict[str, Callable[[Request, int], Any]] = {
            **self._perpetuals.types,
            "userAbstraction": self._abstraction,
            "clearinghouseState": self._state,
            "spotClearinghouseState": self._spot_state,
        }

    def call(self, request: Any, now_ms: int) -> Any:
        """Answer one request at one time.

        Raises
        ------
        HyperliquidError
            If the type or the address is unknown.
        """
        kind = request.get("type") if isinstance(request, dict) else None
        if kind not in self.types:
            raise HyperliquidError(NOT_UNDERSTOOD)
        return self.types[kind](request, now_ms)

    def _abstraction(self, request: Request, _now_ms: int) -> str:
        draws = stream(self._seed, "hyperliquid", "abstraction", _address(request))
        return "unifiedAccount" if draws.random() < UNIFIED_SHARE else "default"

    def _state(self, request: Request, now_ms: int) -> dict[str, Any]:
        account = self._account(_address(request))
        held = account.positions if account.opened_ms <= now_ms else ()
        rows = [self._position(position, now_ms) for position in held]
        values = [float(row["positionValue"]) for row in rows]
        profits = [float(row["unrealizedPnl"]) for row in rows]
        used = [float(row["marginUsed"]) for row in rows]
        crossed = [n for n, position in enumerate(held) if not position.is_isolated]
        total = account.deposit_usd + sum(profits)
        isolated = sum(used) - sum(used[n] for n in crossed)
        cross_used = sum(used[n] for n in crossed)
        return {
            "assetPositions": [{"position": row, "type": "oneWay"} for row in rows],
            "marginSummary": _summary(total, sum(used), sum(values)),
            "crossMarginSummary": _summary(
                total - isolated, cross_used, sum(values[n] for n in crossed)
            ),
            "crossMaintenanceMarginUsed": _usd(cross_used / 2.0),
            "withdrawable": _usd(max(total - isolated - cross_used, 0.0)),
            "time": now_ms,
        }

    def _spot_state(self, request: Request, _now_ms: int) -> dict[str, Any]:
        deposit = self._account(_address(request)).deposit_usd
        return {
            "balances": [
                {"coin": SETTLED_IN, "token": 0, "total": _usd(deposit), "hold": "0.0"},
            ]
        }

    def _position(self, held: _Position, now_ms: int) -> dict[str, Any]:
        mark = self._mark(held.asset, now_ms)
        value = abs(held.coins) * mark
        profit = held.coins * (mark - held.entry_usd)
        used = held.margin_usd + profit if held.is_isolated else value / held.leverage
        leverage: dict[str, Any] = {"type": "cross", "value": held.leverage}
        if held.is_isolated:
            raw = held.margin_usd - held.coins * held.entry_usd
            leverage = {"type": "isolated", "value": held.leverage, "rawUsd": _usd(raw)}
        return {
            "coin": held.asset,
            "szi": f"{held.coins:.{SIZE_DECIMALS}f}",
            "entryPx": _price(held.entry_usd),
            "positionValue": _usd(value),
            "unrealizedPnl": _usd(profit),
            "marginUsed": _usd(used),
            "returnOnEquity": f"{profit / (abs(held.coins) * held.entry_usd / held.leverage):.8f}",
            "liquidationPx": None,
            "leverage": leverage,
            "maxLeverage": MAX_LEVERAGE,
            "cumFunding": {"allTime": "0.0", "sinceOpen": "0.0", "sinceChange": "0.0"},
        }

    def _account(self, address: str) -> _Account:
        draws = stream(self._seed, "hyperliquid", "account", address)
        span = self._market.parameters
        deposit = round(float(np.exp(_LOG_EQUITY[0] + _LOG_EQUITY[1] * draws.standard_normal())), 2)
        # Young enough that most have not outlived their margin.
        opened = int(span.end - draws.exponential(2.0) * 86_400_000)
        names = list(self._market.assets)
        order = draws.permutation(len(names))
        count = 1 + int(len(names) > 1 and draws.random() < SECOND_POSITION_SHARE)
        count *= int(draws.random() >= EMPTY_SHARE)
        positions = []
        for place in range(count):
            name = names[order[place]]
            score = float(draws.standard_normal())
            exact = float(np.exp(_LOG_LEVERAGE[0] + _LOG_LEVERAGE[1] * score))
            leverage = int(np.clip(np.ceil(exact), 1, MAX_LEVERAGE))
            entry = self._mark(name, max(opened, span.start))
            notional = min(exact, leverage) * 0.9 * deposit / count
            side = 1.0 if draws.random() < 0.5 else -1.0
            coins = side * round(notional / entry, SIZE_DECIMALS)
            if coins:
                isolated = bool(draws.random() < ISOLATED_SHARE)
                margin = abs(coins) * entry / leverage
                positions.append(_Position(name, coins, entry, leverage, margin, isolated))
        return _Account(deposit, opened, tuple(positions))

    def _mark(self, name: str, at_ms: int) -> float:
        return self._perpetuals.mark_usd(name, at_ms)

    @property
    def _seed(self) -> int:
        return self._market.parameters.seed


def _address(request: Request) -> str:
    user = request.get("user")
    if not isinstance(user, str) or not ADDRESS.fullmatch(user):
        raise HyperliquidError(NOT_UNDERSTOOD)
    return user.lower()


def _summary(value: float, used: float, notional: float) -> dict[str, str]:
    return {
        "accountValue": _usd(value),
        "totalMarginUsed": _usd(used),
        "totalNtlPos": _usd(notional),
        "totalRawUsd": _usd(value),
    }


def _usd(amount: float) -> str:
    return f"{amount:.6f}"


def _price(price: float) -> str:
    return f"{price:.2f}"
