"""What a feed is: how it is asked for, how its pages follow one another, and what to beware of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from data_ingest.schema import CANDLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from data_ingest.schema import FeedTable

    Params = Callable[["Ask"], dict[str, Any]]

Row = tuple[Any, ...]
OLDEST, NEWEST = "oldest first", "newest first"


def native_name(market: Mapping[str, Any]) -> str:
    """Return an exchange's own name of a market; Hyperliquid's, which ccxt numbers, is the coin."""
    return str(market.get("baseName") or market["id"])


@dataclass(frozen=True)
class Ask:
    """One question: what, and which half-open window of it.

    Parameters
    ----------
    exchange, target : str
        Where, and the unified symbol or the asset that is asked for.
    kind : str
        Which candles: trade, mark or index; empty for other feeds.
    timeframe_ms : int
        Bar length; 0 for feeds without bars.
    start_ms, end_ms : int
        Half-open, milliseconds UTC.
    limit : int
        Rows per page.
    market : mapping
        ccxt's description of the market; empty for an asset.
    token : str, optional
        The exchange's own mark for the next page.
    offset : int
        How many rows to pass over.
    """

    exchange: str
    target: str
    kind: str
    timeframe_ms: int
    start_ms: int
    end_ms: int
    limit: int
    market: Mapping[str, Any] = field(default_factory=dict)
    token: str | None = None
    offset: int = 0

    @property
    def native(self) -> str:
        """The exchange's own name of the market."""
        return native_name(self.market)

    @property
    def info(self) -> Mapping[str, Any]:
        """The market as the exchange itself describes it."""
        found: Mapping[str, Any] = self.market["info"]
        return found

    @property
    def last_ms(self) -> int:
        """Last millisecond of the window, for exchanges that include it."""
        return self.end_ms - 1


class Paging(StrEnum):
    """How pages follow one another."""

    WINDOW = "window"
    """One page answers a window that is cut to fit it."""
    FORWARD = "forward"
    """Oldest first: go on from the last row, whose millisecond is asked for again."""
    BACKWARD = "backward"
    """Newest first: go on before the oldest row, whose millisecond is asked for again."""
    CONTINUATION = "continuation"
    """Newest first: go on with the mark that the last answer gave."""
    OFFSET = "offset"
    """Newest first: go on after so many rows, of which the last is asked for again."""
    NOW = "now"
    """The present only; a history is gathered by asking again and again."""


@dataclass(frozen=True)
class Numbering:
    """Events that an exchange numbers one by one, instrument by instrument.

    A number that was passed over is an event that was not served; it can be asked for alone.

    Parameters
    ----------
    column, instrument : str
        The table's columns that hold the number, and what is numbered.
    endpoint : str
        ccxt's name of the raw endpoint that answers for a range of numbers.
    ask : callable
        Words a question from the instrument's native name, the first and the last number.
    page_limit : int
        Most rows that one answer has.
    """

    column: str
    instrument: str
    endpoint: str
    ask: Callable[[str, int, int], dict[str, Any]]
    page_limit: int


@dataclass(frozen=True)
class Feed:
    """One feed of one exchange.

    Parameters
    ----------
    exchange, name : str
        Its ccxt id, and the feed's name in the coverage ledger.
    table : FeedTable
        Where its rows go.
    endpoint : str or tuple of str
        ccxt's name of the raw endpoint; several where one snapshot takes several questions.
    paging : Paging
        How pages follow one another.
    page_limit : int
        Most rows that one page has.
    order : {"oldest first", "newest first"}
        How the rows of a page lie; a full page that lies otherwise was cut elsewhere.
    ask : callable, or tuple of callables
        Words a question for each endpoint.
    read : callable
        Reads an answer into rows; of a snapshot, the answers of all its endpoints.
    periods : mapping of int to str, optional
        Bar lengths in milliseconds and the exchange's words for them; None for feeds without.
    step_ms : int
        Longest regular step between rows of a feed without bars; 0 where rows are events.
    steps_vary : bool
        The interval between payments changes over time and is found from their spacing.
    per_asset : bool
        Asked for by asset, not by market.
    longest_window_ms : int, optional
        Longest window that one question may span.
    kept_ms, kept_rows : int, optional
        How far back the exchange remembers, in time or in bars.
    more : callable, optional
        Reads from an answer whether a further page exists; without it a page that brings
        nothing new is the last.
    token : callable, optional
        Reads the mark of the next page from an answer.
    numbering : Numbering, optional
        How its events are numbered, where they are.
    archived : bool
        The exchange's usual host forgets within a day; a host of archives keeps all.
    accrual : str
        Which of the exchange's fields becomes ``rate``.
    signed : bool
        Answered to holders of a key only.
    trap : str
        What goes wrong there silently.
    """

    exchange: str
    name: str
    table: FeedTable
    endpoint: str | tuple[str, ...]
    paging: Paging
    page_limit: int
    order: str
    ask: Params | tuple[Params, ...]
    read: Callable[[Any, Ask], list[Row]]
    periods: Mapping[int, str] | None = None
    step_ms: int = 0
    steps_vary: bool = False
    per_asset: bool = False
    longest_window_ms: int | None = None
    kept_ms: int | None = None
    kept_rows: int | None = None
    more: Callable[[Any], bool] | None = None
    token: Callable[[Any], str | None] | None = None
    numbering: Numbering | None = None
    archived: bool = False
    accrual: str = ""
    signed: bool = False
    trap: str = ""

    @property
    def newest_first(self) -> bool:
        """Whether the newest rows of a window are served first, and its oldest cut off."""
        return self.paging in (Paging.BACKWARD, Paging.CONTINUATION, Paging.OFFSET)

    @property
    def kind(self) -> str:
        """Which candles these are; empty for other feeds."""
        return self.name.removesuffix("_candles") if self.table is CANDLES else ""

    def step(self, timeframe_ms: int) -> int:
        """Longest regular step between rows; 0 where rows are events."""
        return timeframe_ms or self.step_ms

    def period(self, clock_ms: int) -> int:
        """Return the bar length that fits a clock best: the longest not above it, or the shortest.

        A feed without bars has 0.
        """
        if self.periods is None:
            return 0
        return max((p for p in self.periods if p <= clock_ms), default=min(self.periods))
