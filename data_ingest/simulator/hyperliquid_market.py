"""Hyperliquid's market data, asked of the same `/info` endpoint as its accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.perpetual import Perpetual

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.simulator.crowd import Crowd
    from data_ingest.simulator.market import SimulatedMarket

Request = dict[str, Any]
MAX_LEVERAGE = 40
SIZE_DECIMALS = 5
KEPT_CANDLES = 5_000
FUNDING_PAGE = 500
BOOK_LEVELS = 20
INTERVALS_MS = {
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": MS_PER_HOUR,
    "2h": 2 * MS_PER_HOUR,
    "4h": 4 * MS_PER_HOUR,
    "8h": 8 * MS_PER_HOUR,
    "12h": 12 * MS_PER_HOUR,
    "1d": MS_PER_DAY,
}
FIRST_TABLE = 51
TIERS_USD = {"BTC": 150_000_000.0}
OTHER_TIER_USD = 100_000_000.0
"""Notional from which only half of the largest leverage is left."""


class HyperliquidError(Exception):
    """A refusal in the exchange's own words, sent with HTTP status 422."""


NOT_UNDERSTOOD = "Failed to deserialize the JSON body into the target type"


class HyperliquidMarket:
    """Perpetuals of the exchange: tables, candles, hourly funding, books.

    Parameters
    ----------
    market
        What the exchange trades.
    crowd
        Who holds it.
    """

    def __init__(self, market: SimulatedMarket, crowd: Crowd) -> None:
        self._perpetuals = {
            name: Perpetual(market, crowd, name, "hyperliquid") for name in market.assets
        }
        self.types: dict[str, Callable[[Request, int], Any]] = {
            "meta": lambda _request, _now_ms: self._meta(),
            "metaAndAssetCtxs": lambda _request, now_ms: [self._meta(), self._contexts(now_ms)],
            "spotMeta": lambda _request, _now_ms: {"tokens": _TOKENS, "universe": []},
            "spotMetaAndAssetCtxs": lambda _request, _now_ms: [
                {"tokens": _TOKENS, "universe": []},
                [],
            ],
            # The first place stands for the exchange's own perpetuals.
            "perpDexs": lambda _request, _now_ms: [None],
            "allMids": lambda _request, now_ms: {
                name: _price(perpetual.mark_usd(now_ms))
                for name, perpetual in self._perpetuals.items()
            },
            "candleSnapshot": self._candles,
            "fundingHistory": self._funding,
            "l2Book": self._book,
        }

    def mark_usd(self, name: str, at_ms: int) -> float:
        """Return a perpetual's mark price, to the cent."""
        return self._perpetuals[name].mark_usd(at_ms)

    def _meta(self) -> dict[str, Any]:
        tables = {name: FIRST_TABLE + place for place, name in enumerate(self._perpetuals)}
        return {
            "universe": [
                {
                    "name": name,
                    "szDecimals": SIZE_DECIMALS,
                    "maxLeverage": MAX_LEVERAGE,
                    "marginTableId": table,
                }
                for name, table in tables.items()
            ]
            + [_DELISTED],
            "marginTables": [
                [
                    table,
                    {
                        "description": f"tiered {MAX_LEVERAGE}x",
                        "marginTiers": [
                            {"lowerBound": "0.0", "maxLeverage": MAX_LEVERAGE},
                            {
                                "lowerBound": f"{TIERS_USD.get(name, OTHER_TIER_USD):.1f}",
                                "maxLeverage": MAX_LEVERAGE // 2,
                            },
                        ],
                    },
                ]
                for name, table in tables.items()
            ],
            "collateralToken": 0,
        }

    def _contexts(self, now_ms: int) -> list[dict[str, Any]]:
        rows = []
        for perpetual in self._perpetuals.values():
            mark, index = perpetual.mark_usd(now_ms), perpetual.index_usd(now_ms)
            held = perpetual.open_interest_usd(now_ms) / mark
            _, rates = perpetual.funding(1, now_ms)
            rows.append(
                {
                    "markPx": _price(mark),
                    "midPx": _price(mark),
                    "oraclePx": _price(index),
                    "openInterest": f"{held:.{SIZE_DECIMALS}f}",
                    "funding": f"{rates[-1] if len(rates) else 0.0:.10f}",
                    "premium": f"{mark / index - 1.0:.8f}",
                    "prevDayPx": _price(perpetual.mark_usd(now_ms - MS_PER_DAY)),
                    "dayNtlVlm": f"{perpetual.last_day(now_ms).volume_usd:.1f}",
                }
            )
        return [*rows, _DELISTED_CONTEXT]

    def _candles(self, request: Request, now_ms: int) -> list[dict[str, Any]]:
        asked = request.get("req")
        if not isinstance(asked, dict):
            raise HyperliquidError(NOT_UNDERSTOOD)
        perpetual = self._perpetual(asked)
        length_ms = INTERVALS_MS.get(str(asked.get("interval")))
        if length_ms is None:
            raise HyperliquidError(NOT_UNDERSTOOD)
        # Whatever is asked for, only the newest candles of an interval exist.
        kept_ms = now_ms // length_ms * length_ms - (KEPT_CANDLES - 1) * length_ms
        bars = perpetual.bars(
            "trade",
            length_ms,
            max(_instant(asked, "startTime"), kept_ms),
            _instant(asked, "endTime", now_ms),
            now_ms,
            KEPT_CANDLES,
        )
        return [
            {
                "t": opened,
                "T": opened + length_ms - 1,
                "s": perpetual.asset,
                "i": asked["interval"],
                "o": _price(bar[0]),
                "c": _price(bar[3]),
                "h": _price(bar[1]),
                "l": _price(bar[2]),
                "v": f"{usd / bar[3]:.{SIZE_DECIMALS}f}",
                "n": int(usd / 4_000.0),
            }
            for opened, bar, usd in zip(
                bars.opens.tolist(), bars.prices.tolist(), bars.volume_usd.tolist(), strict=True
            )
        ]

    def _funding(self, request: Request, now_ms: int) -> list[dict[str, Any]]:
        perpetual = self._perpetual(request)
        first_ms, last_ms = _instant(request, "startTime"), _instant(request, "endTime", now_ms)
        times, rates = perpetual.funding(1, now_ms)
        # Hours are stamped some milliseconds late; a reader must round them.
        stamps = times + (times // MS_PER_HOUR * 37) % 97
        rows = []
        for at_ms, stamp, rate in zip(times.tolist(), stamps.tolist(), rates.tolist(), strict=True):
            if first_ms <= stamp <= min(last_ms, now_ms):
                premium = perpetual.mark_usd(at_ms) / perpetual.index_usd(at_ms) - 1.0
                rows.append(
                    {
                        "coin": perpetual.asset,
                        "fundingRate": f"{rate:.10f}",
                        "premium": f"{premium:.10f}",
                        "time": stamp,
                    }
                )
                if len(rows) == FUNDING_PAGE:
                    break
        return rows

    def _book(self, request: Request, now_ms: int) -> dict[str, Any]:
        perpetual = self._perpetual(request)
        levels = [
            [
                {"px": _price(price), "sz": f"{usd / price:.{SIZE_DECIMALS}f}", "n": 1}
                for price, usd in side.tolist()
            ]
            for side in perpetual.book(now_ms, BOOK_LEVELS)
        ]
        return {"coin": perpetual.asset, "time": now_ms, "levels": levels}

    def _perpetual(self, request: Request) -> Perpetual:
        perpetual = self._perpetuals.get(str(request.get("coin")))
        if perpetual is None:
            raise HyperliquidError(NOT_UNDERSTOOD)
        return perpetual


_TOKENS = [
    {
        "name": "USDC",
        "szDecimals": 8,
        "weiDecimals": 8,
        "index": 0,
        "tokenId": "0x" + "0" * 32,
        "isCanonical": True,
        "fullName": None,
    }
]


def _instant(request: Request, name: str, default: int | None = None) -> int:
    given = request.get(name, default)
    if not isinstance(given, int) or isinstance(given, bool):
        raise HyperliquidError(NOT_UNDERSTOOD)
    return given


_DELISTED = {
    "name": "RNDR",
    "szDecimals": 1,
    "maxLeverage": 20,
    "marginTableId": 20,
    "isDelisted": True,
}
"""A coin that trades no more: it stays in the list, and has no history here."""
_DELISTED_CONTEXT = {
    "markPx": "7.25",
    "midPx": None,
    "oraclePx": "7.25",
    "openInterest": "0.0",
    "funding": "0.0",
    "premium": None,
    "prevDayPx": "7.25",
    "dayNtlVlm": "0.0",
}


def _price(price: float) -> str:
    return f"{price:.2f}"
