"""Replay real markets through a proposed margin policy: the public names.

>>> from remargin import compare, load_config, policy, replay  # doctest: +SKIP

Names are imported when first used, so that ``import remargin`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from remargin.rooms import claim_rooms

if TYPE_CHECKING:
    from backtest.book import AccountBook as AccountBook
    from backtest.book_files import load_book as load_book
    from backtest.errors import RemarginError as RemarginError
    from backtest.generate import BookSpec as BookSpec
    from backtest.generate import describe_book as describe_book
    from backtest.generate import generate_book as generate_book
    from backtest.replay import replay as replay
    from backtest.result import ReplayResult as ReplayResult
    from backtest.streams import PriceStream as PriceStream
    from backtest.streams import interleave as interleave
    from backtest.tape import MarketTape as MarketTape
    from backtest.venue import VenueRules as VenueRules
    from data_ingest.build import build_tape as build_tape
    from data_ingest.spec import MarketSpec as MarketSpec
    from data_ingest.store import DataStore as DataStore
    from experiments.config import load_config as load_config
    from experiments.run import compare as compare
    from strategies.contract import MarginPolicy as MarginPolicy
    from strategies.registry import policy as policy

__version__ = "0.1.0"

_HOMES = {
    "AccountBook": "backtest.book",
    "BookSpec": "backtest.generate",
    "DataStore": "data_ingest.store",
    "MarginPolicy": "strategies.contract",
    "MarketSpec": "data_ingest.spec",
    "MarketTape": "backtest.tape",
    "PriceStream": "backtest.streams",
    "RemarginError": "backtest.errors",
    "ReplayResult": "backtest.result",
    "VenueRules": "backtest.venue",
    "build_tape": "data_ingest.build",
    "compare": "experiments.run",
    "describe_book": "backtest.generate",
    "generate_book": "backtest.generate",
    "interleave": "backtest.streams",
    "load_book": "backtest.book_files",
    "load_config": "experiments.config",
    "policy": "strategies.registry",
    "replay": "backtest.replay",
}

__all__ = [*_HOMES, "__version__"]

claim_rooms()


def __getattr__(name: str) -> Any:
    """Import a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"module 'remargin' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
