"""The add-ons that any policy can wear."""

from __future__ import annotations

from strategies.concentration import Concentration

ADDONS = (Concentration,)
