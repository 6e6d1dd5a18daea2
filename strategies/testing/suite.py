"""The public contract suite: what every margin policy has to keep, each check in plain words.

In pytest::

    class TestMine(PolicyContract):
        policy = Mine()

In a program, or by ``remargin policy check``: `check_policy`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from strategies.contract import MarginPolicy
from strategies.testing import answer_checks, size_checks, time_checks
from strategies.testing.subject import Subject
from strategies.testing.verdict import Verdict, broken, not_promised

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKS: dict[str, tuple[str, Callable[[Subject], Verdict]]] = {
    "no_look_ahead": ("reads nothing before it is known", time_checks.no_look_ahead),
    "equals_plain_form": ("compiled equals plain Python", answer_checks.equals_plain_form),
    "asked_alone": ("accounts do not touch each other", answer_checks.asked_alone),
    "parts_add_up": ("parts add up to the margin", answer_checks.parts_add_up),
    "initial_above_maintenance": (
        "initial ≥ maintenance ≥ 0",
        answer_checks.initial_above_maintenance,
    ),
    "monotone_in_stress": ("more stress, no less margin", size_checks.monotone_in_stress),
    "scale_law": ("scale law stated and kept", size_checks.scale_law_kept),
    "long_options": (
        "long options ask at most their value",
        size_checks.long_options_cost_their_value,
    ),
    "opposites_net": ("opposite positions net", size_checks.opposites_net),
    "continuous": ("brackets meet at their edges", size_checks.continuous_in_size),
    "any_market": ("works on any market", answer_checks.works_on_any_market),
    "nan_refused": ("NaN is refused", answer_checks.nan_refused),
    "same_bits_on_threads": ("same bits on 1 and N threads", time_checks.same_bits_on_threads),
}
"""Name, title and function of every check, in the order in which they run."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name
        Of the check: a key of `CHECKS`, and of the method ``test_<name>``.
    title
        What is checked, in a few words.
    passed
        None where the policy does not promise what is checked.
    sentence
        What was tried, or what failed and at what numbers.
    counterexample
        The numbers, for programs.
    """

    name: str
    title: str
    passed: bool | None
    sentence: str
    counterexample: dict[str, Any] = field(default_factory=dict)


def check_policy(
    make_policy: Callable[[], MarginPolicy] | MarginPolicy,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Examine a policy and say what it keeps.

    Parameters
    ----------
    make_policy
        Builds the policy, or is it.
    seed
        Of the random portfolios; the same seed finds the same.
    progress
        Called with checks done and checks in all.

    Returns
    -------
    list of Finding
        One for every check, in order. A check that the policy stops with an error has failed,
        and so have all where it cannot even post parameters.
    """
    make = (lambda: make_policy) if isinstance(make_policy, MarginPolicy) else make_policy
    try:
        subject = Subject.of(make, seed)
    except Exception as error:
        return [
            _finding(name, _stopped(error) if name == "nan_refused" else _NOT_REACHED)
            for name in CHECKS
        ]
    findings = []
    for done, (name, (_, check)) in enumerate(CHECKS.items(), start=1):
        findings.append(_finding(name, _run(check, subject)))
        if progress is not None:
            progress(done, len(CHECKS))
    return findings


_NOT_REACHED = not_promised("not reached: the policy posts no parameters.")


def _run(check: Callable[[Subject], Verdict], subject: Subject) -> Verdict:
    try:
        return check(subject)
    except Exception as error:
        return _stopped(error)


def _stopped(error: Exception) -> Verdict:
    # Whatever a stranger's policy raises is a finding about that policy.
    return broken(f"stops with {type(error).__name__}: {error}")


def _finding(name: str, verdict: Verdict) -> Finding:
    return Finding(name, CHECKS[name][0], verdict.passed, verdict.sentence, verdict.numbers)


class PolicyContract:
    """The contract as test methods: subclass it in pytest and say which policy is meant.

    Set ``policy``, or override `make_policy` where each use needs a policy of its own. Each
    method fails with the sentence that `check_policy` would give.
    """

    policy: ClassVar[MarginPolicy | None] = None
    seed: ClassVar[int] = 0
    _subject: ClassVar[Subject | None] = None

    def make_policy(self) -> MarginPolicy:
        """Return the policy under test."""
        if self.policy is None:
            raise TypeError(f"{type(self).__name__} sets no policy.")
        return self.policy

    def examine(self, name: str) -> None:
        """Run one check; an `AssertionError` says what is broken."""
        cls = type(self)
        if cls.__dict__.get("_subject") is None:
            cls._subject = Subject.of(self.make_policy, self.seed)
        assert cls._subject is not None
        verdict = CHECKS[name][1](cls._subject)
        assert verdict.passed is not False, verdict.sentence

    def test_no_look_ahead(self) -> None:
        """Hide the future, or replace it: nothing posted before changes."""
        self.examine("no_look_ahead")

    def test_equals_plain_form(self) -> None:
        """Compiled and plain-Python rule agree to the bit."""
        self.examine("equals_plain_form")

    def test_asked_alone(self) -> None:
        """An account's margin does not depend on who else is asked about."""
        self.examine("asked_alone")

    def test_parts_add_up(self) -> None:
        """The parts that a rule explains add up to what it asks."""
        self.examine("parts_add_up")

    def test_initial_above_maintenance(self) -> None:
        """Initial is at least maintenance, and that at least zero."""
        self.examine("initial_above_maintenance")

    def test_monotone_in_stress(self) -> None:
        """More of a knob that is called a stress never asks less."""
        self.examine("monotone_in_stress")

    def test_scale_law(self) -> None:
        """The stated relation between size and margin holds."""
        self.examine("scale_law")

    def test_long_options(self) -> None:
        """An option bought raises margin by no more than its value."""
        self.examine("long_options")

    def test_opposites_net(self) -> None:
        """A position and its opposite offset each other as stated."""
        self.examine("opposites_net")

    def test_continuous(self) -> None:
        """Margin has no jump as positions grow."""
        self.examine("continuous")

    def test_any_market(self) -> None:
        """One asset or many, with options or without: margin is defined."""
        self.examine("any_market")

    def test_nan_refused(self) -> None:
        """NaN never becomes a number, nor a number NaN."""
        self.examine("nan_refused")

    def test_same_bits_on_threads(self) -> None:
        """The number of threads changes no bit."""
        self.examine("same_bits_on_threads")
