"""Binance's statistics (`/futures/data`) and its signed leverage brackets.

Both futures exchanges have their statistics under one path on hosts of their own. One simulator
has one host, so it tells them apart as their parameters do: USD-M is asked by ``symbol``, COIN-M
by ``pair``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY, MS_PER_HOUR
from data_ingest.simulator.binance_rules import (
    BinanceError,
    Contract,
    Params,
    find,
    limit_of,
    missing,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from data_ingest.simulator.binance import BinanceApi

KEPT_MS = 30 * MS_PER_DAY
PERIODS_MS = {
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": MS_PER_HOUR,
    "2h": 2 * MS_PER_HOUR,
    "4h": 4 * MS_PER_HOUR,
    "6h": 6 * MS_PER_HOUR,
    "12h": 12 * MS_PER_HOUR,
    "1d": MS_PER_DAY,
}
BRACKETS_USD = (
    (50_000, 125, 0.004),
    (600_000, 100, 0.005),
    (3_000_000, 75, 0.0065),
    (12_000_000, 50, 0.01),
    (70_000_000, 25, 0.02),
    (250_000_000, 10, 0.05),
    (1_000_000_000, 4, 0.125),
)
"""Largest notional, leverage and maintenance rate of each bracket."""


class BinanceStatistics:
    """Open interest and long/short ratios of the last thirty days.

    Parameters
    ----------
    usd_margined, coin_margined
        The two exchanges.
    """

    def __init__(self, usd_margined: BinanceApi, coin_margined: BinanceApi) -> None:
        self._usd_margined = usd_margined.contracts
        self._coin_margined = coin_margined.contracts
        self.paths: dict[str, Callable[[Params, int], Any]] = {
            # Each exchange knows its own pairs; of another one it knows nothing.
            "delivery-price": lambda params, now_ms: (
                usd_margined.deliveries(params, now_ms) + coin_margined.deliveries(params, now_ms)
            ),
            "openInterestHist": self._open_interest,
            "globalLongShortAccountRatio": lambda params, now_ms: self._ratio(
                params, now_ms, "accounts", ("longAccount", "shortAccount")
            ),
            "topLongShortAccountRatio": lambda params, now_ms: self._ratio(
                params, now_ms, "top-accounts", ("longAccount", "shortAccount")
            ),
            "topLongShortPositionRatio": lambda params, now_ms: self._ratio(
                params, now_ms, "top-positions", ("longPosition", "shortPosition")
            ),
        }

    def call(self, path: str, params: Params, now_ms: int) -> Any:
        """Answer one path at one time.

        Raises
        ------
        BinanceError
            If the path, the symbol or a parameter is unknown.
        """
        if path not in self.paths:
            raise BinanceError(-5000, f"Path /futures/data/{path}, Method GET is invalid", 404)
        return self.paths[path](params, now_ms)

    def _open_interest(self, params: Params, now_ms: int) -> list[dict[str, Any]]:
        contract = self._contract(params)
        inverse = contract.contract_usd is not None
        if inverse and not params.get("contractType"):
            raise missing("contractType")
        rows = []
        for at_ms in self._instants(params, now_ms, contract):
            usd, mark = (
                contract.perpetual.open_interest_usd(at_ms),
                contract.perpetual.mark_usd(at_ms),
            )
            named = (
                {"pair": contract.pair, "contractType": "PERPETUAL"}
                if inverse
                else {"symbol": contract.symbol}
            )
            rows.append(
                {
                    **named,
                    "sumOpenInterest": f"{contract.size(usd, mark):.8f}",
                    "sumOpenInterestValue": f"{contract.turnover(usd, mark):.8f}",
                    "timestamp": at_ms,
                }
            )
        return rows

    def _ratio(
        self, params: Params, now_ms: int, who: str, names: tuple[str, str]
    ) -> list[dict[str, Any]]:
        contract = self._contract(params)
        named = (
            {"symbol": contract.symbol}
            if contract.contract_usd is None
            else {"pair": contract.pair}
        )
        rows = []
        for at_ms in self._instants(params, now_ms, contract):
            share = round(contract.perpetual.long_share(at_ms, who), 4)
            rows.append(
                {
                    **named,
                    names[0]: f"{share:.4f}",
                    names[1]: f"{1.0 - share:.4f}",
                    "longShortRatio": f"{share / (1.0 - share):.4f}",
                    "timestamp": at_ms,
                }
            )
        return rows

    def _contract(self, params: Params) -> Contract:
        if "pair" in params:
            return find(self._coin_margined, params, "pair")
        return find(self._usd_margined, params, "symbol")

    @staticmethod
    def _instants(params: Params, now_ms: int, contract: Contract) -> list[int]:
        """Return the instants of a page, oldest first; of too many, the newest."""
        length_ms = PERIODS_MS.get(params.get("period", ""))
        if length_ms is None:
            raise missing("period")
        oldest_ms = now_ms - KEPT_MS
        if whole(params, "startTime", now_ms) < oldest_ms:
            raise BinanceError(-1130, "parameter 'startTime' is invalid.")
        last_ms = min(whole(params, "endTime", now_ms), now_ms)
        first_ms = max(whole(params, "startTime", oldest_ms), oldest_ms)
        instants = contract.perpetual.marks_of(length_ms, first_ms, last_ms)
        return list(instants)[-limit_of(params, 30, 500) :]


def leverage_brackets(
    contracts: dict[str, Contract], params: Params, headers: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the brackets of all symbols or of one, to whoever signs his question.

    Any key and any signature will do: the simulator knows no one's secret.

    Raises
    ------
    BinanceError
        If there is no key, no signature or no such symbol.
    """
    if not {name.lower(): key for name, key in headers.items()}.get("x-mbx-apikey"):
        raise BinanceError(-2014, "API-key format invalid.", 401)
    for name in ("timestamp", "signature"):
        if not params.get(name):
            raise missing(name)
    wanted = [find(contracts, params, "symbol")] if "symbol" in params else contracts.values()
    return [{"symbol": contract.symbol, "brackets": _brackets(contract)} for contract in wanted]


def _brackets(contract: Contract) -> list[dict[str, Any]]:
    inverse = contract.contract_usd is not None
    unit = contract.perpetual.index_usd(0) if inverse else 1.0
    kind = "qty" if inverse else "notional"
    rows: list[dict[str, Any]] = []
    floor, deduction, last_rate = 0.0, 0.0, 0.0
    for number, (usd, leverage, rate) in enumerate(BRACKETS_USD, start=1):
        # What makes the requirement continuous where a bracket begins.
        deduction += floor * (rate - last_rate)
        cap = float(round(usd / unit))
        rows.append(
            {
                "bracket": number,
                "initialLeverage": leverage,
                f"{kind}Cap": cap,
                f"{kind}Floor": floor,
                "maintMarginRatio": rate,
                "cum": round(deduction, 8),
            }
        )
        floor, last_rate = cap, rate
    return rows
