"""A loopback HTTP server that speaks the public REST of five exchanges.

The real `ccxt` clients pull from it with their own rate limiter and parser. The simulator has
a clock: nothing after it is served, and a collector of "current only" data moves it with
``POST /simulator/clock {"now_ms": ...}``. ``POST /simulator/faults`` says what must go wrong.
These two are the only things no exchange has.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from backtest.errors import ConfigError
from backtest.units import iso_utc
from data_ingest.simulator import pages
from data_ingest.simulator.dialects import Answer, Exchanges, Request, throttled
from data_ingest.simulator.faults import (
    PAGE_FAULTS,
    Fault,
    FaultDesk,
    FaultPlan,
    FaultSchedule,
    FiredFault,
)
from data_ingest.simulator.http_door import SimulatorHttp
from data_ingest.simulator.market import SimulatedMarket
from data_ingest.simulator.throttle import RATE_LIMITS, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from data_ingest.simulator.parameters import MarketParameters

NAMES = "Deribit, Binance USD-M and COIN-M, OKX, Bybit and Hyperliquid"


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
    rate_limits
        Refuse whoever asks faster than each exchange allows.
    deribit_keeps_a_day
        Let Deribit's trading host serve trades of the last day only, as the real one does; its
        archive is at ``/archive`` in either case.

    Attributes
    ----------
    market : SimulatedMarket
        What is traded.
    exchanges : Exchanges
        Who answers, without the HTTP.
    requests : int
        Exchange requests answered so far.
    buckets : dict of str to list of TokenBucket
        The rate limits of each exchange; empty without them.

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
        faults: FaultPlan | FaultSchedule | None = None,
        rate_limits: bool = False,
        deribit_keeps_a_day: bool = False,
    ) -> None:
        self.market = SimulatedMarket(parameters)
        self.exchanges = Exchanges(self.market, deribit_keeps_a_day)
        self.hyperliquid = self.exchanges.hyperliquid
        self.requests = 0
        self._host, self._port = host, port
        self._faults = FaultDesk(_schedule(faults))
        self._pages: dict[str, Answer] = {}
        limits = RATE_LIMITS if rate_limits else {}
        self.buckets = {
            name: [TokenBucket(limit) for limit in rules] for name, rules in limits.items()
        }
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._now_ms = self.market.parameters.end
        self._server: SimulatorHttp | None = None
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

    @property
    def faults(self) -> FaultSchedule:
        """What goes wrong; set it at any time, and counting begins anew."""
        return self._faults.schedule

    @faults.setter
    def faults(self, faults: FaultPlan | FaultSchedule | None) -> None:
        with self._lock:
            self._faults = FaultDesk(_schedule(faults))

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """What went wrong since the schedule was set, oldest first."""
        return tuple(self._faults.fired)

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
        self._stopped.set()
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

    def answer(
        self, path: str, params: dict[str, str], body: bytes | None, headers: dict[str, str]
    ) -> tuple[Answer, Fault | None]:
        """Answer one exchange request at the current clock, and say how it must fail, if it must.

        A fault of the page is in the answer already; all others are left to the caller.
        """
        with self._lock:
            found = self.exchanges.find(path, body)
            if found is None:
                return Answer(404, {"error": f"no exchange serves {path}"}), None
            self.requests += 1
            exchange, path, question = found
            wait_s = max((one.take(path) for one in self.buckets.get(exchange, ())), default=0.0)
            fault = None if wait_s else self._faults.next(path, self._now_ms)
            skew_ms = fault.skew_ms if fault and fault.kind == "clock_skew" else 0
            stated_ms = self._now_ms + skew_ms
            request = Request(exchange, path, params, self._now_ms, stated_ms, question, headers)
            if wait_s:
                return throttled(request, wait_s), None
            answer = self.exchanges.answer(request)
            if answer.status == 200:
                name = pages.list_name(path, params, question)
                last = self._pages.get(name, answer)
                if self._faults.needs_last_page:
                    self._pages[name] = answer
                if fault and fault.kind in PAGE_FAULTS:
                    answer = self._spoiled(fault.kind, request, answer, last)
            return answer, fault

    def _spoiled(self, kind: str, request: Request, answer: Answer, last: Answer) -> Answer:
        """Return an answer as a fault of its page leaves it; ``last`` is the page before it."""
        match kind:
            case "reversed_page":
                body = pages.reversed_page(answer.body)
            case "duplicated_rows":
                body = pages.duplicated_rows(answer.body)
            case "missing_rows":
                body = pages.missing_rows(answer.body)
            case "missing_row":
                body = pages.missing_row(answer.body)
            case "other_end" if "last_trades" in request.path:
                # The page that the other sorting cuts, in the order that was asked for.
                turned = {"asc": "desc"}.get(request.params.get("sorting", ""), "asc")
                other = replace(request, params={**request.params, "sorting": turned})
                body = pages.reversed_page(self.exchanges.answer(other).body)
            case "other_end":
                body = pages.without_first_half(answer.body)
            case "stuck_cursor":
                stuck = pages.stuck_cursor(answer.body, request.params)
                # Without a cursor, time is the cursor: the last page comes again.
                body = last.body if stuck is None else stuck
            case _:
                body = last.body
        return Answer(answer.status, body, answer.headers)

    def hold(self, seconds: float) -> None:
        """Wait, but not beyond the end of the simulator."""
        self._stopped.wait(seconds)

    def _listen(self) -> None:
        self._stopped.clear()
        try:
            self._server = SimulatorHttp((self._host, self._port), self)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {self._host} port {self._port}: {error}; "
                "choose another port, or 0 for a free one."
            ) from error

    def run(self, announce: Callable[[str], None] | None = None) -> None:
        """Listen, call ``announce`` with what is served, and answer until interrupted."""
        self._listen()
        assert self._server is not None
        if announce:
            span = self.market.parameters
            announce(f"serving {NAMES} on {self.url}")
            announce(f"span {iso_utc(span.start)} to {iso_utc(span.end)} UTC, seed {span.seed}")
            if self.faults.faults:
                kinds = sorted({fault.kind for fault in self.faults.faults})
                announce(f"some requests fail on purpose: {', '.join(kinds)}")
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
    faults: FaultSchedule | None = None,
    rate_limits: bool = False,
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
    faults
        Requests that fail on purpose.
    rate_limits
        Refuse whoever asks faster than each exchange allows.

    Raises
    ------
    ConfigError
        If the port is taken or not allowed.
    """
    ExchangeSimulator(parameters, host, port, faults, rate_limits).run(announce)


def _schedule(faults: FaultPlan | FaultSchedule | None) -> FaultSchedule:
    if isinstance(faults, FaultPlan):
        return faults.schedule
    return faults or FaultSchedule()
