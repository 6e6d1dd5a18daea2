"""The event loop in plain Python: the specification, and the twin of the compiled one.

Read `backtest.reference.loop` to know what a replay does, and follow its calls. The package
shares nothing with the compiled loop but the inputs that `backtest.arrays.prepare` lays out, the
option formula and the names of what is recorded; tests demand that both give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from backtest.reference.loop import run
from backtest.reference.world import World

if TYPE_CHECKING:
    import numpy as np

    from backtest.book import AccountBook
    from backtest.requirement import Policy
    from backtest.tape import MarketTape
    from backtest.venue import VenueRules


class Twin(NamedTuple):
    """What a replay recorded beside its series and its liquidations."""

    adl_log: np.ndarray  # (D, len(ADL_NAMES))
    ledger: np.ndarray  # (accounts of the book, len(LEDGER_NAMES)), US dollars
    world: World  # as the replay left it


def replay_reference(
    tape: MarketTape, book: AccountBook, policy: Policy, venue: VenueRules
) -> tuple[dict[str, np.ndarray], np.ndarray, Twin]:
    """Replay a whole tape.

    Returns
    -------
    tuple
        The series by name ``(bars,)``, the liquidation log ``(L, len(LIQUIDATION_NAMES))``, and
        the rest.
    """
    world = World(tape, book, policy, venue)
    run(world)
    records = world.records
    twin = Twin(records.adl_log(), records.ledger(), world)
    return records.series_by_bar(), records.liquidation_log(), twin
