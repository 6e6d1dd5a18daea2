"""How many breaches are too many: exact bounds and a test for rare events.

Sources: Clopper and Pearson (1934); Kupiec (1995), proportion of failures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio statistic and the chance of one as large under the hypothesis."""

    statistic: float
    p_value: float


def clopper_pearson(events: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share that was seen ``events`` times in ``trials``.

    Raises
    ------
    ValueError
        If ``events`` does not lie between 0 and a positive ``trials``.
    """
    _check(events, trials)
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if events == 0 else float(beta.ppf(tail, events, trials - events + 1))
    high = 1.0 if events == trials else float(beta.ppf(1 - tail, events + 1, trials - events))
    return low, high


def zero_event_upper_bound(trials: int, level: float = 0.95) -> float:
    """Return the share that ``trials`` without one event still allow, one-sided and exact."""
    _check(0, trials)
    return float(-math.expm1(math.log1p(-level) / trials))


def kupiec_pof(breaches: int, observations: int, tail: float) -> LikelihoodRatio:
    """Test whether breaches are as frequent as promised.

    Parameters
    ----------
    breaches, observations
        How often the loss exceeded the margin, of how many times.
    tail
        The promised share of breaches, 0.01 for 99 % coverage.

    Returns
    -------
    LikelihoodRatio
        Likelihood ratio against chi-square with one degree of freedom.
    """
    _check(breaches, observations)
    if not 0.0 < tail < 1.0:
        raise ValueError(f"tail is {tail!r}; it must lie between 0 and 1")
    from scipy.stats import chi2

    promised = _log_likelihood(breaches, observations, tail)
    seen = _log_likelihood(breaches, observations, breaches / observations)
    statistic = max(0.0, -2.0 * (promised - seen))
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, 1)))


def _log_likelihood(events: int, trials: int, share: float) -> float:
    """Bernoulli log-likelihood, with 0 log 0 read as 0."""
    hit = events * math.log(share) if events else 0.0
    return hit + ((trials - events) * math.log1p(-share) if trials > events else 0.0)


def _check(events: int, trials: int) -> None:
    if trials <= 0 or not 0 <= events <= trials:
        raise ValueError(f"{events} events of {trials} trials is not a count of rare events")
