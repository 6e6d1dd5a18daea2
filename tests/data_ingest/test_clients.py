"""How long a client waits, and what it takes for an answer."""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import Any

import ccxt
import pytest

from data_ingest.clients import ExchangeClient, FeedError, RefusedError

SLOW_DOWN = "fake GET http://fake/x 429 Too Many Requests"
BANNED = "fake GET http://fake/x 418 I'm a teapot"


class Scripted:
    """Answers with one line of a script after another: an error, or what is returned."""

    id = "fake"
    last_json_response: Any = None
    last_response_headers: Any = None

    def __init__(self, *script: Any, retry_after: str | None = None) -> None:
        self.script, self.retry_after, self.asked = list(script), retry_after, 0

    def question(self) -> Any:
        self.asked += 1
        line = self.script.pop(0)
        self.last_response_headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        if isinstance(line, Exception):
            raise line
        self.last_json_response = line
        return line or []


def waits_of(exchange: Scripted) -> list[float]:
    waits: list[float] = []
    client = ExchangeClient(exchange, "fake", sleep=waits.append)
    assert client.call("question", read=lambda answer: answer["rows"]) == [1]
    return waits


def test_a_ban_is_waited_out_longer_than_a_throttle() -> None:
    throttled = Scripted(ccxt.RateLimitExceeded(SLOW_DOWN), {"rows": [1]})
    banned = Scripted(ccxt.DDoSProtection(BANNED), {"rows": [1]})
    assert waits_of(throttled) == [0.5]
    assert waits_of(banned) == [30.0]


def test_retry_after_is_heeded_as_seconds_and_as_a_date() -> None:
    error = ccxt.RateLimitExceeded(SLOW_DOWN)
    assert waits_of(Scripted(error, {"rows": [1]}, retry_after="90")) == [90.0]
    (wait,) = waits_of(
        Scripted(error, {"rows": [1]}, retry_after=formatdate(time() + 120, usegmt=True))
    )
    assert 100 < wait <= 120
    assert waits_of(Scripted(error, {"rows": [1]}, retry_after="soon")) == [0.5]


def test_an_hour_s_ban_is_not_sat_out_but_told() -> None:
    exchange = Scripted(ccxt.DDoSProtection(BANNED), {"rows": [1]}, retry_after="3600")
    client = ExchangeClient(exchange, "fake", sleep=lambda _: None)
    with pytest.raises(FeedError, match="asks to wait 3,600 s before question is asked again"):
        client.call("question")
    assert exchange.asked == 1


def test_an_answer_of_another_shape_is_asked_for_again() -> None:
    """A gateway's JSON error with status 200 is neither an exception nor an answer."""
    assert waits_of(Scripted({"message": "busy"}, [], None, {"rows": [1]})) == [0.5, 1.0, 2.0]


def test_what_asking_again_cannot_help_is_refused_at_once() -> None:
    for error in (
        ccxt.BadSymbol("no such market"),
        ccxt.ExchangeNotAvailable("fake GET http://fake/x 403 Forbidden"),
        ccxt.AuthenticationError("needs a key"),
    ):
        exchange = Scripted(error)
        with pytest.raises(RefusedError, match="after 1 attempt:"):
            ExchangeClient(exchange, "fake", sleep=lambda _: None).call("question")


def test_time_is_the_earlier_of_two_clocks_and_of_a_book_where_none_is_told() -> None:
    client = ExchangeClient(Scripted(), "fake", sleep=lambda _: None)

    def told(exchange: Any, name: str, answer: Any) -> None:
        def asked(*_: Any) -> Any:
            exchange.last_json_response = {"answer": str(answer)}
            if isinstance(answer, Exception):
                raise answer
            return answer

        setattr(exchange, name, asked)

    told(client.ccxt, "fetch_time", 5_000)
    assert client.now_ms() == 5_000
    told(client.ccxt, "fetch_time", 2**60)
    assert abs(client.now_ms() - time() * 1000) < 60_000
    told(client.ccxt, "fetch_time", ccxt.ExchangeError("no clock here"))
    told(client.ccxt, "fetch_order_book", {"timestamp": 7_000})
    assert client.now_ms("BTC/USDC:USDC") == 7_000
    assert abs(client.now_ms() - time() * 1000) < 60_000
