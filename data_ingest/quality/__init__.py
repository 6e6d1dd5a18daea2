"""Quality: which rows are refused at the door, and what is odd about the rows that came in."""

from data_ingest.quality.arrivals import keep_arrivals
from data_ingest.quality.boundary import BadRow, bad_rows, put_aside
from data_ingest.quality.row_rules import (
    CHAIN_INSTRUMENT_RULES,
    NO_FORECAST_RULES,
    OUTSIDE_KINDS,
    RowRule,
    absent,
    never,
)

__all__ = [
    "CHAIN_INSTRUMENT_RULES",
    "NO_FORECAST_RULES",
    "OUTSIDE_KINDS",
    "BadRow",
    "RowRule",
    "absent",
    "bad_rows",
    "keep_arrivals",
    "never",
    "put_aside",
]
