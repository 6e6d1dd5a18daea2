"""What a check answers: kept, broken at these numbers, or never promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """The answer of one check.

    Parameters
    ----------
    passed
        None where the policy does not promise what is checked.
    sentence
        In plain words; where the promise is broken, at what numbers.
    numbers
        The counterexample, for programs.
    """

    passed: bool | None
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


def kept(sentence: str) -> Verdict:
    """Say what was tried and held."""
    return Verdict(True, sentence)


def broken(sentence: str, **numbers: Any) -> Verdict:
    """Say where a promise broke."""
    return Verdict(False, sentence, numbers)


def not_promised(sentence: str) -> Verdict:
    """Say why there was nothing to check."""
    return Verdict(None, sentence)
