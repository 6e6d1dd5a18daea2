"""What the author of a requirement kernel may do."""

from __future__ import annotations

import numpy as np
import pytest

from backtest.errors import PolicyError
from backtest.kernels.types import requirement_kernel
from backtest.replay import replay, run_loop
from backtest.requirement import RequirementLayer, RequirementRule
from backtest.venue import VenueRules
from tests.backtest.cases import GROSS, LayeredPolicy, random_book
from tests.tapes import make_tape


def netted(given, market, holdings, accounts, requirement):
    """Ask a rate of net notional per asset, summed in an array of its own."""
    for k in range(accounts.shape[0]):
        account = accounts[k]
        net = np.zeros(market.index.shape[0])
        for slot in range(
            holdings.start[account], holdings.start[account] + holdings.count[account]
        ):
            i = holdings.instrument[slot]
            net[market.asset[i]] += holdings.quantity[slot] * market.notional_usd[i]
        requirement.initial[account] = given.parameters[0] * np.abs(net).sum()
        requirement.maintenance[account] = 0.6 * requirement.initial[account]
        requirement.worst_scenario[account] = -1


def test_a_kernel_of_ones_own_may_allocate_inside_the_loop():
    tape = make_tape(rows=40, options=False, inverse=False, volatility=0.1, jump_share=0.0)
    book = random_book(tape, 3)
    asked = {}
    for rule in (RequirementRule("netted", requirement_kernel(netted), netted), GROSS):
        layers = LayeredPolicy(((rule, (0.1,), ()),)).layers(tape)
        run = run_loop(tape, book, layers, VenueRules(), slice(0, len(tape)))
        asked[rule.name] = run.series["required_initial_usd"]
    # Every account holds at most one perpetual per asset, so nothing is there to net.
    np.testing.assert_allclose(asked["netted"][:20], asked["gross"][:20], rtol=1e-12)
    assert asked["netted"].max() > 0.0


def undefined(given, market, holdings, accounts, requirement):
    """Ask for a margin that is no number."""
    for k in range(accounts.shape[0]):
        requirement.initial[accounts[k]] = given.parameters[0] / 0.0 * 0.0
        requirement.maintenance[accounts[k]] = 0.0
        requirement.worst_scenario[accounts[k]] = -1


def test_a_kernel_that_asks_for_no_number_is_refused_with_the_instant():
    tape = make_tape(rows=10, options=False, inverse=False)
    rule = RequirementRule("undefined", requirement_kernel(undefined), undefined)
    policy = LayeredPolicy(((rule, (0.1,), ()),))
    # In a recorded book nothing is refused for its margin, so positions are opened all the same.
    with pytest.raises(PolicyError, match=r"required_initial_usd.*2024-01-01 .*finite number"):
        replay(tape, random_book(tape, 3, mode="recorded"), policy, VenueRules())


def test_a_constant_that_is_no_number_is_refused_with_its_place():
    with pytest.raises(PolicyError, match="constant 1 is not a number"):
        RequirementLayer(GROSS, np.full((3, 1), 0.1), np.array([1.0, np.nan]))
