"""A loopback HTTP server that speaks the public REST of Deribit, Binance USD-M and Hyperliquid.

The real `ccxt` clients pull from it with their own rate limiter and parser. The simulator has
a clock: nothing after it is served, and a collector of "current only" data moves it with
``POST /simulator/clock {"now_ms": ...}``, which is the one thing no exchange has.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from backtest.errors import ConfigError
from backtest.units import iso_utc
from data_ingest.simulator.binance import BinanceApi, BinanceError
from data_ingest.simulator.deribit import DeribitApi, DeribitError
from data_ingest.simulator.faults import FaultSchedule
from data_ingest.simulator.hyperliquid import HyperliquidApi, HyperliquidError
from data_ingest.simulator.market import SimulatedMarket

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from data_ingest.simulator.faults import FaultKind, FaultPlan
    from data_ingest.simulator.parameters import MarketParameters

DERIBIT_PATH = "/api/v2/public/"
BINANCE_PATH = "/fapi/v1/"
HYPERLIQUID_PATH = "/info"
CLOCK_PATH = "/simulator/clock"


class ExchangeSimulator:
    """All exchanges over one simulated market, served from a background thread.

    Parameters
    ----------
    parameters
        The market; the default is BTC and ETH through 2024.
    host, port
        Where to listen; port 0 takes a free one.
    faults
        Requests that fail on purpose; none by default.

    Examples
    --------
    >>> with ExchangeSimulator() as simulator:  # doctest: +SKIP
    ...     client = ccxt.deribit({"urls": {"api": {"rest": simulator.url}}})
    """

    def __init__(
        self,
        parameters: MarketParameters | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: FaultPlan | None = None,
    ) -> None:
        self.market = SimulatedMarket(parameters)
        self.deribit = DeribitApi(self.market)
        self.binance = BinanceApi(self.market)
        self.hyperliquid = HyperliquidApi(self.market)
        self.requests = 0
        self._host, self._port = host, port
        self._faults = FaultSchedule(faults) if faults else None
        self._lock = threading.Lock()
        self._now_ms = self.market.parameters.end
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base address of the running server."""
        if self._server is None:
            raise RuntimeError("the exchange simulator is not running")
        return f"http://{self._host}:{self._server.server_port}"

    @property
    def now_ms(self) -> int:
        """The simulator's clock, milliseconds UTC; at first the end of the span."""
        return self._now_ms

    def set_clock(self, now_ms: int) -> None:
        """Move the clock, forward or back.

        Raises
        ------
        ConfigError
            If the time lies outside the simulated span.
        """
        span = self.market.parameters
        if not span.start <= now_ms <= span.end:
            raise ConfigError(
                f"simulator clock: {iso_utc(now_ms)} is outside the simulated span, "
                f"{iso_utc(span.start)} to {iso_utc(span.end)} UTC."
            )
        with self._lock:
            self._now_ms = now_ms

    def start(self) -> ExchangeSimulator:
        """Listen and answer in a background thread.

        Raises
        ------
        ConfigError
            If the port is taken or not allowed.
        """
        self._listen()
        assert self._server is not None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="exchange-simulator", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and free the port; harmless when not running."""
        if self._server is None:
            return
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def answer(self, path: str, params: dict[str, str]) -> tuple[int, Any]:
        """Return HTTP status and JSON of one exchange request at the current clock."""
        with self._lock:
            self.requests += 1
            now_ms = self._now_ms
            if path.startswith(DERIBIT_PATH):
                return self._answer_deribit(path.removeprefix(DERIBIT_PATH), params, now_ms)
            if path.startswith(BINANCE_PATH):
                return self._answer_binance(path.removeprefix(BINANCE_PATH), params, now_ms)
        return 404, {"error": f"no exchange serves {path}"}

    def answer_posted(self, body: bytes) -> tuple[int, Any]:
        """Return HTTP status and JSON of one question that is posted rather than asked by path."""
        with self._lock:
            self.requests += 1
            try:
                return 200, self.hyperliquid.call(json.loads(body), self._now_ms)
            except ValueError:
                return 400, "Failed to parse the request body as JSON"
            except HyperliquidError as refusal:
                return 422, str(refusal)

    def next_fault(self) -> FaultKind | None:
        """Return how the next exchange request must fail, if it must."""
        with self._lock:
            return self._faults.next() if self._faults else None

    @property
    def retry_after_s(self) -> int:
        """Seconds that a throttled client is told to wait."""
        return self._faults.plan.retry_after_s if self._faults else 1

    def _answer_deribit(
        self, method: str, params: dict[str, str], now_ms: int
    ) -> tuple[int, dict[str, Any]]:
        envelope: dict[str, Any] = {
            "jsonrpc": "2.0",
            "usIn": now_ms * 1_000,
            "usOut": now_ms * 1_000,
            "usDiff": 0,
            "testnet": False,
        }
        try:
            return 200, {**envelope, "result": self.deribit.call(method, params, now_ms)}
        except DeribitError as refusal:
            error = {"code": refusal.code, "message": refusal.message, "data": refusal.data}
            return 400, {**envelope, "error": error}

    def _answer_binance(self, path: str, params: dict[str, str], now_ms: int) -> tuple[int, Any]:
        try:
            return 200, self.binance.call(path, params, now_ms)
        except BinanceError as refusal:
            return 400, {"code": refusal.code, "msg": refusal.message}

    def _listen(self) -> None:
        try:
            self._server = _Server((self._host, self._port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {self._host} port {self._port}: {error}; "
                "choose another port, or 0 for a free one."
            ) from error
        self._server.simulator = self

    def run(self, announce: Callable[[str], None] | None = None) -> None:
        """Listen, call ``announce`` with what is served, and answer until interrupted."""
        self._listen()
        assert self._server is not None
        if announce:
            span = self.market.parameters
            announce(f"serving Deribit, Binance USD-M and Hyperliquid on {self.url}")
            announce(f"span {iso_utc(span.start)} to {iso_utc(span.end)} UTC, seed {span.seed}")
            for crisis in self.market.crises:
                announce(f"crisis {crisis}")
        try:
            self._server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()


def serve_forever(
    parameters: MarketParameters | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve all exchanges until interrupted, for the command line.

    Parameters
    ----------
    parameters
        The market.
    host, port
        Where to listen.
    announce
        Called with each line that tells the user what is served, once it is.

    Raises
    ------
    ConfigError
        If the port is taken or not allowed.
    """
    ExchangeSimulator(parameters, host, port).run(announce)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    simulator: ExchangeSimulator


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Without this, Nagle's algorithm holds every answer on a kept-alive connection for 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer an exchange path or tell the clock."""
        url = urlsplit(self.path)
        simulator = self.server.simulator
        if url.path == CLOCK_PATH:
            self._send(200, _encode({"now_ms": simulator.now_ms}))
            return
        self._respond(*simulator.answer(url.path, dict(parse_qsl(url.query))))

    def do_POST(self) -> None:
        """Answer what an exchange is asked in a body, or move the clock."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path == HYPERLIQUID_PATH:
            self._respond(*self.server.simulator.answer_posted(body))
            return
        if urlsplit(self.path).path != CLOCK_PATH:
            only = f"only {HYPERLIQUID_PATH} and {CLOCK_PATH} can be posted to"
            self._send(404, _encode({"error": only}))
            return
        try:
            self.server.simulator.set_clock(int(json.loads(body)["now_ms"]))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            self._send(400, _encode({"error": str(error) or "give now_ms"}))
            return
        self._send(200, _encode({"now_ms": self.server.simulator.now_ms}))

    def _respond(self, status: int, answer: Any) -> None:
        fault = self.server.simulator.next_fault()
        self._fail(fault, _encode(answer)) if fault else self._send(status, _encode(answer))

    def _fail(self, fault: FaultKind, body: bytes) -> None:
        if fault.isdigit():
            self._send(int(fault), b"fault injected", retry=fault in ("429", "418"))
        elif fault == "reset":
            self.close_connection = True
        elif fault == "truncated":
            self._send(200, body, cut=len(body) // 2)
            self.close_connection = True
        else:
            broken = {"empty": b"", "html": b"<html>busy</html>", "malformed": body[:-1]}
            self._send(200, broken[fault])

    def _send(self, status: int, body: bytes, retry: bool = False, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if retry:
            self.send_header("Retry-After", str(self.server.simulator.retry_after_s))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the server silent."""


def _encode(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
