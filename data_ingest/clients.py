"""Real ccxt clients, and the calls to them that survive a bad hour of an exchange.

Two of ccxt's habits would corrupt a history silently. A malformed or empty answer with status
200 comes back as an empty list, not as an error; and its retry has no back-off. So every call
goes through `ExchangeClient.call`, which keeps the last parsed answer, treats "nothing parsed"
and "parsed into another shape" as failures, waits longer each time, and honours
``Retry-After``. What asking again cannot help is a `RefusedError`, at once.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import time
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from backtest.errors import ConfigError, DataError, nearest
from data_ingest.symbols import EXCHANGES, native_future, parse_future

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DERIBIT_HISTORY_URL = "https://history.deribit.com"
"""Host of Deribit's archive; the trading host serves only the last day of trades, and answers
an older question with an empty list."""

LONGEST_WAIT_S = 60.0
"""Where our own doubling waits stop."""

LONGEST_BAN_S = 900.0
"""An exchange that asks for a longer pause is not waited for; the next pull goes on."""

BAN_WAIT_S = 30.0
"""Shortest pause after a 418: asking again during a ban makes it longer."""

_BANNED = re.compile(r"\b(?:GET|POST) \S+ 418\b")
_PERMANENT_STATUS = re.compile(r"\b(?:GET|POST) \S+ (400|403|404|451)\b")


_OTHER_SHAPE = (KeyError, TypeError, ValueError, IndexError, AttributeError)


class FeedError(DataError):
    """An exchange that does not answer, or answers nonsense."""


class RefusedError(FeedError):
    """A question that the exchange refuses for good; others may still be asked."""


def ccxt_client(exchange_id: str, base_url: str | None = None) -> Any:
    """Build a ccxt client with its own rate limiter on.

    Parameters
    ----------
    exchange_id : str
        One of `EXCHANGES`.
    base_url : str, optional
        Scheme and host that replace the exchange's own, for example a simulator on loopback.

    Returns
    -------
    ccxt.Exchange
        The synchronous client.
    """
    if exchange_id not in EXCHANGES:
        raise ConfigError(f"there is no feed for exchange {exchange_id!r}."
                          f"{nearest(exchange_id, EXCHANGES)}")  # fmt: skip
    ccxt = importlib.import_module("ccxt")
    client = getattr(ccxt, exchange_id)({"enableRateLimit": True})
    client.enableLastJsonResponse = True
    if kinds := EXCHANGES[exchange_id].market_kinds:
        # Spot markets, and those that users deploy, cost requests and are never pulled.
        client.options["fetchMarkets"] = {**client.options["fetchMarkets"], "types": list(kinds)}
    if base_url is not None:
        root = base_url.rstrip("/")
        api = client.urls["api"]
        client.urls["api"] = {name: root + urlsplit(url).path for name, url in api.items()}
    return client


@dataclass
class ExchangeClient:
    """A ccxt client, where its answers come from, and how patient we are with it.

    Parameters
    ----------
    ccxt : ccxt.Exchange
        The client.
    source : str
        Written into every batch.
    is_synthetic : bool
        True where the answers come from a simulator.
    attempts : int
        Calls made before giving up.
    first_wait_s : float
        Pause after the first failure; it doubles with each further one.
    sleep : callable
        Replaced by tests.
    """

    ccxt: Any
    source: str
    is_synthetic: bool = False
    attempts: int = 8
    first_wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep

    @property
    def exchange_id(self) -> str:
        """The ccxt id of the exchange."""
        return str(self.ccxt.id)

    @property
    def software(self) -> str:
        """The client's name and version, for provenance."""
        return f"ccxt {importlib.import_module('ccxt').__version__}"

    def call(
        self,
        method: str,
        *arguments: Any,
        read: Callable[[Any], Any] = lambda answer: answer,
        **named: Any,
    ) -> Any:
        """Call a ccxt method until it answers.

        Parameters
        ----------
        method : str
            Name of a unified or implicit ccxt method.
        *arguments, **named
            Its arguments.
        read : callable
            Turns the answer into what is returned. If it finds another shape than it knows
            (``KeyError``, ``TypeError``, ``ValueError``, ``IndexError``), it is asked again.

        Returns
        -------
        object
            What ``read`` made of the answer; the raw one is ``ccxt.last_json_response``.

        Raises
        ------
        RefusedError
            Where asking again cannot help.
        FeedError
            After ``attempts`` failures, or if the exchange asks for a very long pause.
        """
        ccxt = importlib.import_module("ccxt")
        wait_s = self.first_wait_s
        failure = ""
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self._pause_s(wait_s, failure, method))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            self.ccxt.last_json_response = None
            self.ccxt.last_response_headers = None
            try:
                answer = getattr(self.ccxt, method)(*arguments, **named)
            except ccxt.OperationFailed as error:
                failure = _one_line(error)
                if _PERMANENT_STATUS.search(failure):
                    raise self._refused(method, attempt, failure) from error
            except ccxt.BaseError as error:
                raise self._refused(method, attempt, _one_line(error)) from error
            except _OTHER_SHAPE as error:
                # ccxt's own parser met a document that it does not know.
                failure = f"the answer has another shape ({type(error).__name__}: {error})"
            else:
                if self.ccxt.last_json_response is None:
                    failure = "the answer is empty or not JSON"
                    continue
                try:
                    return read(answer)
                except _OTHER_SHAPE as error:
                    failure = f"the answer has another shape ({type(error).__name__}: {error})"
        raise FeedError(self._told(method, attempt, failure))

    def _told(self, method: str, attempt: int, failure: str) -> str:
        return (
            f"{self.exchange_id} at {self.source} did not answer {method} after {attempt + 1} "
            f"attempt{'s' if attempt else ''}: {failure}."
        )

    def _refused(self, method: str, attempt: int, failure: str) -> RefusedError:
        return RefusedError(self._told(method, attempt, failure))

    def now_ms(self, symbol: str | None = None) -> int:
        """Return the time, milliseconds UTC, by the earlier of the exchange's clock and ours.

        A bar is over when both say so: if either runs ahead, no open bar is stored. An exchange
        that does not tell its time stamps its order books with it, for which ``symbol`` is;
        one that has neither, as an archive of trades, has no open bars either.
        """
        ours = time.time_ns() // 1_000_000
        try:
            theirs = int(self.call("fetch_time", read=int))
        except RefusedError:
            if symbol is None:
                return ours
            theirs = self.call("fetch_order_book", symbol, read=lambda book: int(book["timestamp"]))
        return min(theirs, ours)

    def market(self, symbol: str) -> Mapping[str, Any]:
        """Return what ccxt knows of a market.

        A dated future that has been delivered is listed nowhere. Its name and its perpetual's
        terms are enough to ask for its bars, which most exchanges keep.

        Raises
        ------
        RefusedError
            If the exchange does not list it.
        """
        self.load_markets()
        known = self.ccxt.markets
        perpetual, _, expiry = symbol.partition("-")
        if symbol not in known and perpetual in known and expiry:
            future = parse_future(symbol)
            native = native_future(self.exchange_id, future)
            terms = {"id": native, "symbol": symbol, "expiry": future.expiry_ms, "created": None}
            return {**known[perpetual], **terms}
        if symbol not in known:
            raise RefusedError(
                f"{self.exchange_id} lists no market {symbol!r}.{nearest(symbol, known)}"
            )
        found: Mapping[str, Any] = known[symbol]
        return found

    def sign_in(self) -> None:
        """Use the user's key from here on; markets are loaded first, since a key changes that.

        Raises
        ------
        RefusedError
            If the environment holds none.
        """
        self.load_markets()
        names = [f"REMARGIN_{self.exchange_id.upper()}_{part}" for part in ("KEY", "SECRET")]
        key, secret = map(os.environ.get, names)
        if not key or not secret:
            raise RefusedError(
                f"{self.exchange_id} answers this to holders of a key only; set {names[0]} and "
                f"{names[1]} (a key that may only read is enough)."
            )
        self.ccxt.apiKey, self.ccxt.secret = key, secret

    def load_markets(self) -> None:
        """Load the exchange's markets; ccxt turns a malformed answer into no markets at all."""
        if self.ccxt.markets:
            return
        for _ in range(self.attempts):
            self.call("load_markets", True)
            if self.ccxt.markets:
                return
            self.sleep(self.first_wait_s)
        raise FeedError(f"{self.exchange_id} at {self.source} lists no markets.")

    def _pause_s(self, own_wait_s: float, failure: str, method: str) -> float:
        """Return how long to wait now: our own back-off, or longer if the exchange asks for it."""
        asked_s = self._asked_to_wait_s()
        if asked_s > LONGEST_BAN_S:
            raise FeedError(
                f"{self.exchange_id} at {self.source} asks to wait {asked_s:,.0f} s before "
                f"{method} is asked again; pull again then."
            )
        if asked_s == 0.0 and _BANNED.search(failure):
            asked_s = BAN_WAIT_S
        return max(own_wait_s, asked_s)

    def _asked_to_wait_s(self) -> float:
        headers = self.ccxt.last_response_headers or {}
        asked = {name.lower(): value for name, value in headers.items()}.get("retry-after", "0")
        try:
            return max(0.0, float(asked))
        except ValueError:
            pass
        try:  # an HTTP date
            return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
        except ValueError:
            return 0.0


def open_exchange(
    exchange_id: str,
    base_url: str | None = None,
    *,
    archive: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> ExchangeClient:
    """Open an exchange, or whatever speaks its protocol at ``base_url``.

    Parameters
    ----------
    exchange_id : str
        One of `EXCHANGES`.
    base_url : str, optional
        A server on loopback counts as a simulator, and its data as synthetic.
    archive : bool
        Ask Deribit's archive host, which has option trades older than a day.
    sleep : callable
        How to spend a pause before asking again; `DataStore.rest` lets readers in meanwhile.
    """
    if base_url is None and archive and exchange_id == "deribit":
        base_url, source = DERIBIT_HISTORY_URL, DERIBIT_HISTORY_URL
    elif base_url is None:
        source = EXCHANGES[exchange_id].home
    else:
        source = base_url
    client = ccxt_client(exchange_id, base_url)
    if base_url is not None and urlsplit(base_url).hostname in {"127.0.0.1", "localhost", "::1"}:
        source = f"exchange simulator ({exchange_id})"
        return ExchangeClient(client, source, is_synthetic=True, sleep=sleep)
    return ExchangeClient(client, source, sleep=sleep)


def simulator_clock(base_url: str) -> Callable[[int], None]:
    """Return a function that moves the clock of the exchange simulator at ``base_url``."""

    def set_clock(now_ms: int) -> None:
        request = urllib.request.Request(
            f"{base_url.rstrip('/')}/simulator/clock",
            data=json.dumps({"now_ms": now_ms}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
        except OSError as error:
            raise FeedError(f"{base_url} is not an exchange simulator: {error}.") from error

    return set_clock


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
