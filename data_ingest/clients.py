"""Real ccxt clients, and the calls to them that survive a bad hour of an exchange.

Two of ccxt's habits would corrupt a history silently. A malformed or empty answer with status
200 comes back as an empty list, not as an error; and its retry has no back-off. So every call
goes through `ExchangeClient.call`, which keeps the last parsed answer, treats "nothing parsed"
as a failure, waits longer each time, and honours ``Retry-After``.
"""

from __future__ import annotations

import importlib
import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from backtest.errors import ConfigError, DataError, nearest
from data_ingest.symbols import EXCHANGES

if TYPE_CHECKING:
    from collections.abc import Callable

DERIBIT_HISTORY_URL = "https://history.deribit.com"
"""Host of Deribit's archive; the trading host serves only the last day of trades, and answers
an older question with an empty list."""

LONGEST_WAIT_S = 60.0
_PERMANENT_STATUS = re.compile(r"\b(?:GET|POST) \S+ (400|403|404|451)\b")


class FeedError(DataError):
    """An exchange that does not answer, or answers nonsense."""


def ccxt_client(exchange_id: str, base_url: str | None = None) -> Any:
    """Build a ccxt client with its own rate limiter on.

    Parameters
    ----------
    exchange_id : str
        ``deribit`` or ``binanceusdm``.
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

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call a ccxt method until it answers.

        Parameters
        ----------
        method : str
            Name of a unified or implicit ccxt method.
        *arguments, **named
            Its arguments.

        Returns
        -------
        object
            What the method returned; its raw answer is ``ccxt.last_json_response``.

        Raises
        ------
        FeedError
            After ``attempts`` failures, or at once where asking again cannot help.
        """
        ccxt = importlib.import_module("ccxt")
        wait_s = self.first_wait_s
        failure = ""
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(max(wait_s, self._asked_to_wait_s()))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            self.ccxt.last_json_response = None
            self.ccxt.last_response_headers = None
            try:
                answer = getattr(self.ccxt, method)(*arguments, **named)
            except ccxt.OperationFailed as error:
                failure = _one_line(error)
                if _PERMANENT_STATUS.search(failure):
                    break
            except ccxt.BaseError as error:
                failure = _one_line(error)
                break
            else:
                if self.ccxt.last_json_response is not None:
                    return answer
                failure = "the answer is empty or not JSON"
        raise FeedError(
            f"{self.exchange_id} at {self.source} did not answer {method} after {attempt + 1} "
            f"attempt{'s' if attempt else ''}: {failure}."
        )

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

    def _asked_to_wait_s(self) -> float:
        headers = self.ccxt.last_response_headers or {}
        asked = {name.lower(): value for name, value in headers.items()}.get("retry-after", "0")
        try:
            return min(float(asked), LONGEST_WAIT_S)
        except ValueError:  # an HTTP date; our own wait has to do
            return 0.0


def open_exchange(
    exchange_id: str, base_url: str | None = None, *, archive: bool = False
) -> ExchangeClient:
    """Open an exchange, or whatever speaks its protocol at ``base_url``.

    Parameters
    ----------
    exchange_id : str
        ``deribit`` or ``binanceusdm``.
    base_url : str, optional
        A server on loopback counts as a simulator, and its data as synthetic.
    archive : bool
        Ask Deribit's archive host, which has option trades older than a day.
    """
    if base_url is None and archive and exchange_id == "deribit":
        return ExchangeClient(ccxt_client(exchange_id, DERIBIT_HISTORY_URL), DERIBIT_HISTORY_URL)
    client = ccxt_client(exchange_id, base_url)
    if base_url is None:
        return ExchangeClient(client, EXCHANGES[exchange_id].home)
    if urlsplit(base_url).hostname in {"127.0.0.1", "localhost", "::1"}:
        return ExchangeClient(client, f"exchange simulator ({exchange_id})", is_synthetic=True)
    return ExchangeClient(client, base_url)


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
