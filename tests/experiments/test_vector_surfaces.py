from __future__ import annotations

import pytest

from experiments.vector_adapters import RISK, NotCoveredError, answer

VOGT = {"a": -0.0410, "b": 0.1331, "rho": 0.3060, "m": 0.3586, "sigma": 0.4153}
"""Section 5.3 of Gatheral and Jacquier (2014)."""


def test_a_published_slice_is_read_in_jump_wings() -> None:
    found = answer(RISK, "vol_surface", "", VOGT, frozenset())
    assert found == pytest.approx(
        {"w0": 0.01742625, "psi": -0.1752111, "p": 0.6997381, "c": 1.316798, "v_tilde": 0.0116249},
        abs=1e-6,
    )


def test_a_slice_without_all_five_parameters_is_not_covered() -> None:
    with pytest.raises(NotCoveredError):
        answer(RISK, "vol_surface", "", {**VOGT, "sigma": "round"}, frozenset())
