"""The add-ons that any policy can wear.

Open orders need none: the event loop asks every policy for the worst of the portfolio as held,
with all bids filled and with all asks filled.
"""

from __future__ import annotations

from strategies.collateral import Collateral
from strategies.concentration import Concentration
from strategies.de_peg import DePeg
from strategies.event_window import EventWindow
from strategies.liquidity import Liquidity
from strategies.naked_shorts import NakedShorts
from strategies.oracle_confidence import OracleConfidence
from strategies.short_options import ShortOptions

ADDONS = (
    Concentration,
    Liquidity,
    Collateral,
    DePeg,
    OracleConfidence,
    NakedShorts,
    ShortOptions,
    EventWindow,
)
