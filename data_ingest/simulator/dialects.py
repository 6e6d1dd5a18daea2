"""Which exchange a request is for, and how each wraps its answers, refusals and throttling."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backtest.units import MS_PER_DAY
from data_ingest.simulator.binance import BinanceApi
from data_ingest.simulator.binance_rules import BinanceError
from data_ingest.simulator.binance_statistics import BinanceStatistics, leverage_brackets
from data_ingest.simulator.bybit import BybitApi
from data_ingest.simulator.bybit_rules import BybitError
from data_ingest.simulator.crowd import Crowd
from data_ingest.simulator.deribit import DeribitApi, DeribitError
from data_ingest.simulator.deribit_options import OptionDesk
from data_ingest.simulator.hyperliquid import HyperliquidApi
from data_ingest.simulator.hyperliquid_market import HyperliquidError
from data_ingest.simulator.okx import OkxApi
from data_ingest.simulator.okx_rules import OkxError
from data_ingest.simulator.options import OptionListing

if TYPE_CHECKING:
    from data_ingest.simulator.market import SimulatedMarket

HYPERLIQUID_PATH = "/info"
PREFIXES = {
    "/api/v2/public/": "deribit",
    "/archive/api/v2/public/": "deribit",
    "/fapi/v1/": "binance",
    "/futures/data/": "binance",
    "/sapi/v1/": "binance",
    "/dapi/v1/": "binance_coinm",
    "/dapi/v2/": "binance_coinm",
    "/api/v5/": "okx",
    "/v5/market/": "bybit",
}


@dataclass(frozen=True)
class Request:
    """One question to an exchange.

    ``path`` names a posted question too: ``/info/candleSnapshot``. ``now_ms`` is the clock, and
    ``stated_ms`` what the exchange says it is.
    """

    exchange: str
    path: str
    params: dict[str, str]
    now_ms: int
    stated_ms: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """Status, JSON and headers of one answer."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Exchanges:
    """Every exchange over one market.

    Parameters
    ----------
    market
        What they trade.
    deribit_keeps_a_day
        Let Deribit's trading host serve trades of the last day only, as the real one does.
    """

    def __init__(self, market: SimulatedMarket, deribit_keeps_a_day: bool = False) -> None:
        crowd = Crowd(market)
        desks = {name: OptionDesk(OptionListing(market, name)) for name in market.assets}
        kept_ms = MS_PER_DAY if deribit_keeps_a_day else None
        self.deribit = DeribitApi(market, crowd, desks, kept_ms)
        self.deribit_archive = DeribitApi(market, crowd, desks, archive=True)
        self.binance = BinanceApi(market, crowd)
        self.binance_coinm = BinanceApi(market, crowd, inverse=True)
        self.binance_statistics = BinanceStatistics(self.binance, self.binance_coinm)
        self.okx = OkxApi(market, crowd, desks)
        self.bybit = BybitApi(market, crowd, desks)
        self.hyperliquid = HyperliquidApi(market, crowd)

    @staticmethod
    def find(path: str, body: bytes | None = None) -> tuple[str, str, Any] | None:
        """Return exchange, path and posted question of a request; None if it is for none."""
        if path == HYPERLIQUID_PATH and body is not None:
            try:
                question = json.loads(body)
            except ValueError:
                return "hyperliquid", f"{path}/", ValueError
            kind = question.get("type") if isinstance(question, dict) else None
            return "hyperliquid", f"{path}/{kind}", question
        for prefix, exchange in PREFIXES.items():
            if path.startswith(prefix):
                return exchange, path, None
        return None

    def answer(self, request: Request) -> Answer:
        """Answer a request as its exchange does."""
        return _ANSWERS[request.exchange](self, request)

    def _deribit(self, request: Request) -> Answer:
        root, method = _split(request.path)
        host = self.deribit_archive if root.startswith("/archive") else self.deribit
        try:
            result = host.call(method, request.params, request.now_ms)
        except DeribitError as refusal:
            error = {"code": refusal.code, "message": refusal.message, "data": refusal.data}
            return Answer(400, {**_deribit_envelope(request), "error": error})
        if method == "get_time":
            result = request.stated_ms
        return Answer(200, {**_deribit_envelope(request), "result": result})

    def _binance(self, request: Request) -> Answer:
        now_ms = request.stated_ms if request.path.endswith("/time") else request.now_ms
        try:
            return Answer(200, self._binance_body(request, now_ms))
        except BinanceError as refusal:
            return Answer(refusal.status, {"code": refusal.code, "msg": refusal.message})

    def _binance_body(self, request: Request, now_ms: int) -> Any:
        root, name = _split(request.path)
        api = self.binance_coinm if request.exchange == "binance_coinm" else self.binance
        if root == "/futures/data/":
            return self.binance_statistics.call(name, request.params, now_ms)
        if root == "/sapi/v1/":
            # A client with a key asks for wallets and margin pairs first; there are none.
            return []
        if name == "leverageBracket":
            return leverage_brackets(api.contracts, request.params, request.headers)
        return api.call(name, request.params, now_ms)

    def _okx(self, request: Request) -> Answer:
        path = _split(request.path)[1]
        now_ms = request.stated_ms if path == "public/time" else request.now_ms
        try:
            data = self.okx.call(path, request.params, now_ms)
        except OkxError as refusal:
            body = {"code": refusal.code, "msg": refusal.message, "data": []}
            return Answer(refusal.status, body)
        return Answer(200, {"code": "0", "msg": "", "data": data})

    def _bybit(self, request: Request) -> Answer:
        path = _split(request.path)[1]
        now_ms = request.stated_ms if path == "time" else request.now_ms
        try:
            result = self.bybit.call(path, request.params, now_ms)
        except BybitError as refusal:
            return Answer(refusal.status, _bybit_envelope(request, refusal.code, refusal.message))
        return Answer(200, _bybit_envelope(request, 0, "OK", result))

    def _hyperliquid(self, request: Request) -> Answer:
        if request.body is ValueError:
            return Answer(400, "Failed to parse the request body as JSON")
        try:
            return Answer(200, self.hyperliquid.call(request.body, request.now_ms))
        except HyperliquidError as refusal:
            return Answer(422, str(refusal))


def _split(path: str) -> tuple[str, str]:
    """Return the root of a path and what follows it."""
    root = next(prefix for prefix in PREFIXES if path.startswith(prefix))
    return root, path.removeprefix(root)


def throttled(request: Request, wait_s: float) -> Answer:
    """Refuse a request that came too early, in its exchange's own words."""
    seconds = str(max(1, math.ceil(wait_s)))
    match request.exchange:
        case "deribit":
            error = {"code": 10028, "message": "too_many_requests", "data": {"wait": int(seconds)}}
            return Answer(429, {**_deribit_envelope(request), "error": error})
        case "okx":
            return Answer(429, {"code": "50011", "msg": "Too Many Requests", "data": []})
        case "bybit":
            headers = {
                "X-Bapi-Limit-Status": "0",
                "X-Bapi-Limit-Reset-Timestamp": str(request.stated_ms + math.ceil(1_000 * wait_s)),
            }
            return Answer(200, _bybit_envelope(request, 10006, "Too many visits!"), headers)
        case "hyperliquid":
            return Answer(429, None)
        case _:
            said = "Too many requests; current limit of IP is 2400 requests per minute."
            return Answer(429, {"code": -1003, "msg": said}, {"Retry-After": seconds})


def _deribit_envelope(request: Request) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "usIn": request.stated_ms * 1_000,
        "usOut": request.stated_ms * 1_000,
        "usDiff": 0,
        "testnet": False,
    }


def _bybit_envelope(
    request: Request, code: int, message: str, result: Any = None
) -> dict[str, Any]:
    return {
        "retCode": code,
        "retMsg": message,
        "result": {} if result is None else result,
        "retExtInfo": {},
        "time": request.stated_ms,
    }


_ANSWERS = {
    "deribit": Exchanges._deribit,
    "binance": Exchanges._binance,
    "binance_coinm": Exchanges._binance,
    "okx": Exchanges._okx,
    "bybit": Exchanges._bybit,
    "hyperliquid": Exchanges._hyperliquid,
}
