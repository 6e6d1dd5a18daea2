"""What the author of a requirement kernel may do."""

from __future__ import annotations

import numpy as np

from backtest.kernels.types import requirement_kernel
from backtest.replay import run_loop
from backtest.requirement import RequirementRule
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
