"""Checks of volatility surfaces: an SVI slice read in jump wings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_ingest.surfaces.svi import SVI
from experiments.vector_adapters.base import RISK, Inputs, Number, answers

if TYPE_CHECKING:
    from experiments.vector_adapters.base import Answers


class _YearSlice(Inputs):
    a: Number
    b: Number
    rho: Number
    m: Number
    sigma: Number


@answers(RISK, _YearSlice, "vol_surface")
def _jump_wings(given: _YearSlice, wanted: frozenset[str]) -> Answers:
    """Total variance at the money, and the jump wings of one year."""
    del wanted
    svi = SVI(given.a, given.b, given.rho, given.m, given.sigma)
    wings = svi.jump_wings(1.0)
    return {
        "w0": float(svi.total_variance(0.0)),
        "psi": wings.atm_skew,
        "p": wings.put_wing,
        "c": wings.call_wing,
        "v_tilde": wings.lowest_variance,
    }
