"""The add-ons that any policy can wear."""

from __future__ import annotations

from strategies.concentration import Concentration
from strategies.short_options import ShortOptions

ADDONS = (Concentration, ShortOptions)
