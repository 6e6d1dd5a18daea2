"""The simulator's HTTP: reads a request, sends its answer, and breaks what a fault breaks."""

from __future__ import annotations

import json
import os
import socket
import struct
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from backtest.errors import ConfigError
from data_ingest.simulator.dialects import HYPERLIQUID_PATH, Answer
from data_ingest.simulator.faults import PAGE_FAULTS, STATUS_FAULTS, Fault, FaultSchedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from data_ingest.simulator.server import ExchangeSimulator

CLOCK_PATH = "/simulator/clock"
FAULTS_PATH = "/simulator/faults"
_THROTTLES = ("429", "418")


class SimulatorHttp(ThreadingHTTPServer):
    """A listening socket with a thread for each connection.

    Parameters
    ----------
    address
        Host and port.
    simulator
        Who answers.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], simulator: ExchangeSimulator) -> None:
        self.simulator = simulator
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: SimulatorHttp
    protocol_version = "HTTP/1.1"
    # Without this, Nagle's algorithm holds every answer on a kept-alive connection for 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer an exchange path, tell the clock, or tell what goes wrong."""
        path = urlsplit(self.path).path
        simulator = self.server.simulator
        if path == CLOCK_PATH:
            self._send(Answer(200, {"now_ms": simulator.now_ms}))
        elif path == FAULTS_PATH:
            self._send(Answer(200, _told(simulator)))
        else:
            self._respond(None)

    def do_POST(self) -> None:
        """Answer what an exchange is asked in a body, move the clock, or set what goes wrong."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path == HYPERLIQUID_PATH:
            self._respond(body)
        elif path == CLOCK_PATH:
            self._control(body, self._set_clock)
        elif path == FAULTS_PATH:
            self._control(body, self._set_faults)
        else:
            only = f"only {HYPERLIQUID_PATH}, {CLOCK_PATH} and {FAULTS_PATH} can be posted to"
            self._send(Answer(404, {"error": only}))

    def _control(self, body: bytes, change: Callable[[Any], Any]) -> None:
        try:
            self._send(Answer(200, change(json.loads(body))))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            self._send(Answer(400, {"error": str(error) or "give now_ms"}))

    def _set_clock(self, given: Any) -> dict[str, int]:
        self.server.simulator.set_clock(int(given["now_ms"]))
        return {"now_ms": self.server.simulator.now_ms}

    def _set_faults(self, given: Any) -> dict[str, Any]:
        self.server.simulator.faults = FaultSchedule.parse(given, "faults")
        return _told(self.server.simulator)

    def _respond(self, body: bytes | None) -> None:
        url = urlsplit(self.path)
        answer, fault = self.server.simulator.answer(
            url.path, dict(parse_qsl(url.query)), body, dict(self.headers.items())
        )
        if fault is None or fault.kind in PAGE_FAULTS:
            self._send(answer)
        else:
            self._fail(fault, answer)

    def _fail(self, fault: Fault, answer: Answer) -> None:
        body = _encode(answer.body)
        match fault.kind:
            case kind if kind in STATUS_FAULTS:
                asked = {"Retry-After": str(fault.retry_after_s)} if kind in _THROTTLES else {}
                self._write(int(kind), b"fault injected", asked)
            case "clock_skew":
                self._send(answer, fault.skew_ms)
            case "timeout":
                self.server.simulator.hold(fault.hang_s)
                self.close_connection = True
            case "reset":
                self._reset()
            case "truncated":
                self._write(200, body, cut=len(body) // 2)
                self.close_connection = True
            case "empty":
                self._write(200, b"")
            case "html":
                self._write(200, b"<html>busy</html>", {"Content-Type": "text/html"})
            case _:
                self._write(200, body[:-1])

    def _reset(self) -> None:
        """Drop the connection as a crashed host does: with a reset instead of a farewell."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closed below the socket, since its own way of closing says farewell first.
        os.close(self.connection.detach())
        self.close_connection = True

    def _send(self, answer: Answer, skew_ms: int = 0) -> None:
        now_s = (self.server.simulator.now_ms + skew_ms) / 1_000
        headers = {"Date": formatdate(now_s, usegmt=True), **answer.headers}
        self._write(answer.status, _encode(answer.body), headers)

    def _write(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        cut: int | None = None,
    ) -> None:
        named = {
            "Date": formatdate(self.server.simulator.now_ms / 1_000, usegmt=True),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        self.send_response_only(status)
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the server silent."""


def _encode(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _told(simulator: ExchangeSimulator) -> dict[str, Any]:
    return {
        **simulator.faults.model_dump(mode="json"),
        "fired": [fault.model_dump() for fault in simulator.fired],
    }
