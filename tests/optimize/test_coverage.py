"""Never "no risk": what a window without an event still allows."""

from __future__ import annotations

import pytest

from optimize.coverage import zero_event_upper_bound


@pytest.mark.parametrize(("paths", "bound"), [(100, 0.0295), (1000, 0.0030)])
def test_no_event_still_has_an_upper_bound(paths: int, bound: float) -> None:
    assert zero_event_upper_bound(paths) == pytest.approx(bound, abs=5e-5)
    assert zero_event_upper_bound(paths) == pytest.approx(1 - 0.05 ** (1 / paths), rel=1e-12)


def test_no_trial_bounds_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        zero_event_upper_bound(0)
