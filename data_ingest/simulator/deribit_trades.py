"""What a question for Deribit's trades asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TradePage:
    """A page of trades: when, how many, which end first, and which of an instrument's numbers.

    Both ends of the window and of the numbers belong to it.
    """

    start_ms: int
    end_ms: int
    count: int
    ascending: bool
    first: int
    last: int
