"""Signals and calendars from outside the market in a policy: known answers, causality, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backtest.errors import ConfigError, DataError
from backtest.events import EVENT_KINDS, EventTable
from backtest.instruments import NEVER_MS
from backtest.requirement import refuse_look_ahead
from backtest.tape import MarketTape
from strategies.event_window import EventWindow, days_to_event, near_event
from strategies.kernels.event_charge import event_charge
from strategies.registry import policy
from strategies.signals import EWMA, Outside
from strategies.testing import check_policy
from tests.strategies.portfolios import ask, equal_bits, make_market, one_account, random_holdings
from tests.tapes import START_MS, make_tape

HOUR = 3_600_000
TAPE = make_tape(200)
ASSETS = len(TAPE.assets)


def events(*rows: tuple[int, float, float, str], assets: int = ASSETS) -> EventTable:
    """(event number, hour it happens, hour it is announced, kind), concerning the first asset."""
    ordered = sorted(rows, key=lambda row: row[2])
    return EventTable(
        calendars=("upgrades",),
        calendar=np.zeros(len(rows)),
        event=np.array([row[0] for row in ordered]),
        kind=np.array([EVENT_KINDS.index(row[3]) for row in ordered]),
        at_ms=np.array(
            [NEVER_MS if row[1] == np.inf else START_MS + int(row[1] * HOUR) for row in ordered]
        ),
        known_ms=np.array([START_MS + int(row[2] * HOUR) for row in ordered]),
        concerns=np.tile([k == 0 for k in range(assets)], (len(rows), 1)),
    )


def with_events(*rows: tuple[int, float, float, str], tape: MarketTape = TAPE) -> MarketTape:
    return replace(tape, events=events(*rows, assets=len(tape.assets)))


def hours_near(tape: MarketTape, before: float = 10, after: float = 3, **which: Any) -> list[int]:
    inside = near_event(tape, before * HOUR, after * HOUR, **which)
    assert not inside[:, 1:].any()
    return ((tape.ts[inside[:, 0]] - START_MS) // HOUR).tolist()


def with_signal(values: np.ndarray, tape: MarketTape = TAPE) -> MarketTape:
    return replace(tape, signal_names=("spread",), signals=values[:, None])


def test_the_window_opens_before_an_event_and_closes_after_it() -> None:
    assert TAPE.ts[0] == START_MS
    assert hours_near(with_events((0, 50, 0, "upgrade"))) == list(range(40, 54))


def test_an_event_announced_late_has_no_time_before_it() -> None:
    assert hours_near(with_events((0, 50, 47, "upgrade"))) == [47, 48, 49, 50, 51, 52, 53]
    assert hours_near(with_events((0, 50, 52, "upgrade"))) == [52, 53]
    assert hours_near(with_events((0, 50, 54, "upgrade"))) == []


def test_an_event_that_is_put_off_moves_its_window_from_then_on() -> None:
    tape = with_events((0, 50, 0, "upgrade"), (0, 100, 45, "upgrade"))
    assert hours_near(tape) == [*range(40, 45), *range(90, 104)]


def test_an_event_that_is_called_off_is_near_no_longer() -> None:
    tape = with_events((0, 50, 0, "upgrade"), (0, np.inf, 42, "upgrade"))
    assert hours_near(tape) == [40, 41]


def test_events_of_other_kinds_and_calendars_are_not_meant() -> None:
    tape = with_events((0, 50, 0, "upgrade"), (1, 100, 0, "expiry"))
    assert hours_near(tape, kinds=["expiry"]) == list(range(90, 104))
    assert hours_near(tape, calendars=["upgrades"], kinds=["macro"]) == []
    with pytest.raises(DataError, match=r"no calendar 'upgrade'. Did you mean 'upgrades'"):
        near_event(tape, 0, 0, ["upgrade"])
    with pytest.raises(DataError, match=r"no calendar 'votes'. Add it to market\.calendars"):
        near_event(TAPE, 0, 0, ["votes"])
    with pytest.raises(ConfigError, match=r"no kind of event 'upgade'. Did you mean 'upgrade'"):
        policy("fixed", addons=[{"event_window": {"kinds": ["upgade"]}}])


def test_days_to_an_event_count_down_to_the_next_one_announced() -> None:
    tape = with_events((0, 48, 0, "upgrade"), (1, 96, 24, "expiry"))
    days = days_to_event(tape)
    assert np.isinf(days[:, 1:]).all()
    hours = np.arange(len(tape))
    expected = np.where(hours <= 48, 2 - hours / 24, np.where(hours <= 96, 4 - hours / 24, np.inf))
    assert days[:, 0] == pytest.approx(expected, abs=1e-9)
    only = days_to_event(tape, kinds=["expiry"])[:, 0]
    assert np.isinf(only[:24]).all()
    assert only[24] == 3.0


def test_the_add_on_charges_net_notional_of_whom_the_event_concerns() -> None:
    chosen = policy(
        "fixed", rate="5%", maintenance_ratio="60%",
        addons=[{"event_window": {"charge": "2%", "before": "10h", "after": "3h"}}],
    )  # fmt: skip
    tape = with_events((0, 50, 0, "upgrade"))
    layer = chosen.layers(tape)[1]
    assert layer.parameters[39].tolist() == [0.0] * ASSETS
    assert layer.parameters[40].tolist() == [0.02] + [0.0] * (ASSETS - 1)
    market = make_market(3)
    holdings = one_account((0, 2.0), (1, -3.0))
    asked = ask(event_charge, layer.parameters[40].tolist(), layer.constants, market, holdings)
    net = [0.0] * 2
    for i, quantity in ((0, 2.0), (1, -3.0)):
        net[market.asset[i]] += quantity * market.notional_usd[i]
    assert asked.initial[0] == pytest.approx(0.02 * abs(net[0]), rel=1e-12)
    assert asked.maintenance[0] == pytest.approx(0.01 * abs(net[0]), rel=1e-12)
    assert not ask(event_charge, [0.0, 0.0], layer.constants, market, holdings).initial.any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), assets=st.integers(1, 3), legs=st.integers(0, 20))
def test_the_charge_is_the_same_compiled_and_plain(seed: int, assets: int, legs: int) -> None:
    market = make_market(seed, assets=assets)
    holdings = random_holdings(market, seed, legs=legs)
    numbers = [0.02, 0.0, 0.3][:assets], np.array([0.4])
    compiled = ask(event_charge, *numbers, market, holdings)
    assert equal_bits(compiled, ask(event_charge, *numbers, market, holdings, plain=True))
    assert (compiled.initial >= compiled.maintenance).all()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 250), st.integers(0, 250)), max_size=8
    ),
    cut=st.integers(1, 199),
)
def test_no_row_changes_when_what_is_announced_later_is_hidden(
    rows: list[tuple[int, int, int]], cut: int
) -> None:
    tape = with_events(*((number, at, known, "macro") for number, at, known in rows))
    part = tape.head(cut)
    for told in (lambda held: near_event(held, 5 * HOUR, 5 * HOUR), days_to_event):
        assert np.array_equal(told(tape)[:cut], told(part))


def test_a_late_announcement_changes_nothing_before_it_and_a_policy_that_looks_is_caught() -> None:
    early = with_events((0, 150, 0, "upgrade"))
    late = with_events((0, 150, 145, "upgrade"))
    chosen = policy("fixed", addons=[{"event_window": {"before": "10h"}}])
    paths = [chosen.layers(tape)[1].parameters for tape in (early, late)]
    assert np.array_equal(paths[0][145:], paths[1][145:])
    assert paths[0][140:145, 0].all()
    assert not paths[1][:145].any()
    refuse_look_ahead(chosen, late, chosen.layers(late))

    class Peeking(EventWindow):
        """Reads the table as if everything had always been known."""

        def signals(self, tape: MarketTape) -> np.ndarray:
            held = tape.events
            assert held is not None
            always = replace(held, known_ms=np.full(len(held), tape.ts[0]))
            return super().signals(replace(tape, events=always))

    peeking = chosen.model_copy(update={"addons": (Peeking(before=120 * HOUR),)})
    with pytest.raises(Exception, match="look ahead"):
        refuse_look_ahead(peeking, late, peeking.layers(late))


def test_volatility_rises_with_the_signal_and_never_falls_below_the_estimate() -> None:
    spread = np.full(len(TAPE), np.nan)
    spread[10:20], spread[20:30], spread[30:40], spread[40:] = 0.02, 0.05, 0.09, 0.5
    told = Outside(signal="spread", calm="4%", gain=20, most=3)(with_signal(spread))
    times = told / EWMA()(TAPE)
    for rows, multiple in ((slice(0, 20), 1.0), (slice(20, 30), 1.2), (slice(30, 40), 2.0),
                           (slice(40, None), 3.0)):  # fmt: skip
        assert times[rows] == pytest.approx(multiple, rel=1e-12)


def test_a_policy_takes_it_as_its_estimator_and_reads_it_back() -> None:
    written = {"outside": {"signal": "spread", "calm": "4%", "estimator": {"rolling": {}}}}
    chosen = policy("volatility", estimator=written)
    identity = chosen.identity()
    assert policy(identity.pop("policy"), **identity) == chosen
    tape = with_signal(np.full(len(TAPE), 0.54))
    calm = policy("volatility", estimator="rolling", floor=0)
    raised = chosen.model_copy(update={"floor": 0.0})
    ratio = raised.parameters(raised.signals(tape)) / calm.parameters(calm.signals(tape))
    assert ratio == pytest.approx(1.5, rel=1e-9)


def test_a_signal_known_late_changes_nothing_before_it() -> None:
    chosen = policy("volatility", estimator={"outside": {"signal": "spread", "gain": 5}})
    jump = np.where(np.arange(len(TAPE)) < 120, 0.0, 0.3)
    layers = [chosen.layers(with_signal(values)) for values in (jump, np.zeros(len(TAPE)))]
    assert np.array_equal(layers[0][0].parameters[:120], layers[1][0].parameters[:120])
    assert (layers[0][0].parameters[120:] > layers[1][0].parameters[120:]).any()
    refuse_look_ahead(chosen, with_signal(jump), layers[0])


def test_a_signal_that_the_tape_lacks_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"carries no signal 'spred'; .* Did you mean 'spread'"):
        Outside(signal="spred")(with_signal(np.zeros(len(TAPE))))


@pytest.mark.parametrize(
    "made",
    [
        lambda: policy("volatility", estimator={"outside": {"signal": "fear", "gain": 0.1}}),
        lambda: policy("fixed", addons=[{"event_window": {"calendars": ["votes"]}}]),
    ],
    ids=["signal", "calendar"],
)
def test_the_contract_suite_finds_nothing_broken(made: Any) -> None:
    findings = check_policy(made)
    assert [f.sentence for f in findings if f.passed is False] == []
    assert sum(f.passed is True for f in findings) >= 9


def test_a_tape_tells_outside_records_that_contradict_it() -> None:
    with pytest.raises(DataError, match="signals have shape"):
        replace(TAPE, signal_names=("a", "b"), signals=np.zeros((len(TAPE), 1)))
    with pytest.raises(DataError, match="infinite"):
        with_signal(np.full(len(TAPE), np.inf))
    with pytest.raises(DataError, match="concern 5 assets of 2"):
        replace(TAPE, events=events((0, 1, 0, "other"), assets=5))
    with pytest.raises(DataError, match="was known before the one before it"):
        replace(events((0, 1, 0, "other"), (1, 2, 3, "other")), known_ms=np.array([5, 4]))


def test_what_a_tape_does_not_carry_moves_no_digest_and_what_it_carries_does() -> None:
    signal = with_signal(np.zeros(len(TAPE)))
    calendar = with_events((0, 50, 0, "upgrade"))
    other = with_events((0, 51, 0, "upgrade"))
    renamed = replace(signal, signal_names=("other",))
    digests = {tape.digest for tape in (TAPE, signal, calendar, other, renamed)}
    assert len(digests) == 5
    assert replace(signal, signal_names=(), signals=None).digest == TAPE.digest
