"""The parts a report is made of: grade, crises, wording, figures."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backtest.units import MS_PER_HOUR
from backtest.venue import VenueRules
from experiments.report import Pair
from experiments.report.blocks import Cell, Table
from experiments.report.canvas import buckets
from experiments.report.effects import Effect, effects, guarded, worst_day
from experiments.report.episodes import (
    NAMED_EVENTS,
    SEPARATION_MS,
    crisis_list,
    daily_moves,
    find_episodes,
    outcome,
)
from experiments.report.figures import MarginData, margin_path
from experiments.report.sections import build_document
from experiments.report.units import model_units, policy_units
from experiments.report.verdict import CrisisLoss, grade, judge
from experiments.report.wording import (
    amount,
    flatten,
    interval,
    money,
    public_text,
    relative,
    setting_text,
    share,
    signed,
    zero_of,
)
from optimize.bootstrap import compare_paired
from strategies.registry import policy
from tests.experiments.report_cases import HOLDOUT, PROPOSED, SEARCH, make_input, make_result

numbers = st.floats(-1e12, 1e12)
judgements = st.sampled_from(["better", "worse", "no detectable difference", "no interval"])
losses = st.builds(
    CrisisLoss,
    st.just("a crisis"),
    st.floats(0, 1e7),
    st.floats(0, 1e7),
    st.floats(1e6, 1e9),
)


def crisis(current: float, proposed: float, label: str = "crisis") -> CrisisLoss:
    return CrisisLoss(label, current, proposed, 1e8)


GOOD = {"capital_efficiency": "better", "residual_bad_debt_bps": "no detectable difference"}


@pytest.mark.parametrize(
    ("low", "high", "better", "expected"),
    [
        (0.1, 0.5, "higher", "better"),
        (0.1, 0.5, "lower", "worse"),
        (-0.5, -0.1, "higher", "worse"),
        (-0.5, -0.1, "lower", "better"),
        (-0.1, 0.5, "higher", "no detectable difference"),
        (0.0, 0.5, "higher", "no detectable difference"),
        (0.1, 0.5, "neutral", "neither good nor bad"),
        (math.nan, math.nan, "higher", "no interval"),
    ],
)
def test_a_difference_is_judged_by_its_interval(
    low: float, high: float, better: str, expected: str
) -> None:
    assert judge(low, high, better) == expected


@given(numbers, numbers)
def test_swapping_the_policies_swaps_the_judgement(a: float, b: float) -> None:
    low, high = sorted((a, b))
    swapped = {"better": "worse", "worse": "better"}
    forward, backward = judge(low, high, "higher"), judge(-high, -low, "higher")
    assert backward == swapped.get(forward, forward)


def test_a_clear_gain_in_recorded_data_is_an_a() -> None:
    verdict = grade(GOOD, [crisis(5e5, 4e5)], [], synthetic=False)
    assert verdict.grade == "A"
    assert verdict.recommended


def test_anything_simulated_caps_the_grade_at_b() -> None:
    assert grade(GOOD, [crisis(5e5, 4e5)], [], synthetic=True).grade == "B"


def test_one_slightly_worse_crisis_of_three_is_a_b() -> None:
    crises = [crisis(5e5, 5.5e5), crisis(5e5, 4e5), crisis(0, 0)]
    assert grade(GOOD, crises, [], synthetic=False).grade == "B"


def test_half_of_the_crises_worse_is_a_d() -> None:
    assert grade(GOOD, [crisis(5e5, 5.5e5), crisis(0, 0)], [], synthetic=False).grade == "D"


def test_a_reversed_crisis_is_a_d() -> None:
    crises = [crisis(5e5, 6.1e5), crisis(1, 0), crisis(1, 0), crisis(1, 0)]
    verdict = grade(GOOD, crises, [], synthetic=False)
    assert verdict.grade == "D"
    assert verdict.crises_reversed == ("crisis",)


def test_a_few_dollars_more_do_not_make_a_crisis_worse() -> None:
    assert not crisis(0, 900).worse
    assert crisis(0, 1_100).worse


def test_no_gain_or_no_crisis_is_a_c() -> None:
    nothing = dict.fromkeys(GOOD, "no detectable difference")
    assert grade(nothing, [crisis(0, 0)], [], synthetic=False).grade == "C"
    assert grade(GOOD, [], [], synthetic=False).grade == "C"


def test_more_bad_debt_is_a_d_although_the_fund_paid_it() -> None:
    guards = {"gross_bad_debt_usd": "worse"}
    verdict = grade(GOOD, [crisis(0, 0)], [], synthetic=False, guards=guards)
    assert verdict.grade == "D"
    assert verdict.harms == ("gross_bad_debt_usd",)


def test_a_guard_that_got_better_is_no_gain() -> None:
    nothing = dict.fromkeys(GOOD, "no detectable difference")
    guards = {"gross_bad_debt_usd": "better"}
    assert grade(nothing, [crisis(0, 0)], [], synthetic=False, guards=guards).grade == "C"


def test_a_broken_limit_is_a_d() -> None:
    verdict = grade(GOOD, [crisis(0, 0)], ["coverage >= 0.99"], synthetic=False)
    assert verdict.grade == "D"


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), judgements, min_size=1),
    st.lists(losses, max_size=5),
    st.booleans(),
)
def test_a_harm_is_never_recommended_and_never_helps(
    objectives: dict[str, str], crises: list[CrisisLoss], synthetic: bool
) -> None:
    before = grade(objectives, crises, [], synthetic=synthetic)
    after = grade(objectives | {"harmed": "worse"}, crises, [], synthetic=synthetic)
    assert not after.recommended
    assert after.grade >= before.grade
    if "worse" in objectives.values():
        assert not before.recommended


def test_the_planted_crash_is_the_largest_episode() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08", size=-0.21)
    first = find_episodes(result, 3, held_out=True)[0]
    assert first.label == "FTX collapse"
    assert first.move < -0.2
    assert first.end_ms - first.start_ms == 24 * MS_PER_HOUR
    at = [int(np.flatnonzero(result.ts == ms)[0]) for ms in (first.start_ms, first.end_ms)]
    index = result.index[at, first.asset]
    assert first.move == pytest.approx(index[1] / index[0] - 1)


def test_a_rise_hurts_as_much_as_the_fall_that_it_undoes() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-10-20", size=0.35, margin=0.04)
    first = find_episodes(result, 1, held_out=True)[0]
    assert first.move > 0.3


def test_episodes_are_separate_moves() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08")
    ends = sorted(e.end_ms for e in find_episodes(result, 8, held_out=True))
    assert len(ends) >= 8
    assert min(np.diff(ends)) >= SEPARATION_MS


def test_a_named_event_is_listed_although_others_were_larger() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-12-10", size=-0.3)
    found = find_episodes(result, 1, held_out=True)
    assert [episode.label for episode in found] == ["2022-12-10", "FTX collapse"]


def test_a_simulated_market_has_no_historical_events() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08", synthetic_market=True)
    names = {name for name, _, _ in NAMED_EVENTS}
    assert not names & {e.label for e in find_episodes(result, 5, held_out=True)}


def test_the_crisis_list_always_holds_hold_out_episodes() -> None:
    calm = make_result(HOLDOUT, PROPOSED, crash="2022-11-08", size=-0.001)
    wild = make_result(SEARCH, PROPOSED, crash="2022-08-18", size=-0.4)
    listed = crisis_list(wild, calm)
    assert sum(episode.held_out for episode in listed) >= 3
    assert [e.start_ms for e in listed] == sorted(e.start_ms for e in listed)


def test_an_outcome_adds_up_the_episode_and_nothing_else() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08", loss_usd=9e5, margin=0.06)
    crash, *others = find_episodes(result, 3, held_out=True)
    assert outcome(result, crash).gross_bad_debt_usd == 9e5
    assert outcome(result, crash).insurance_drawdown_usd == pytest.approx(6.3e5)
    assert outcome(result, crash).margin_before == pytest.approx(0.06)
    assert all(outcome(result, other).gross_bad_debt_usd == 0 for other in others)


def test_losses_of_a_day_before_a_larger_rebound_belong_to_the_episode() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08", loss_usd=9e5)
    crash = find_episodes(result, 1, held_out=True)[0]
    loss_ms = int(result.ts[result.series["gross_bad_debt_usd"] > 0][0])
    late = replace(crash, start_ms=loss_ms + MS_PER_HOUR, end_ms=loss_ms + 25 * MS_PER_HOUR)
    assert outcome(result, late).gross_bad_debt_usd == 9e5
    too_late = replace(late, end_ms=loss_ms + 49 * MS_PER_HOUR)
    assert outcome(result, too_late).gross_bad_debt_usd == 0


def test_no_loss_is_counted_in_two_episodes() -> None:
    result = make_result(HOLDOUT, PROPOSED, crash="2022-11-08")
    result.series["gross_bad_debt_usd"][:] = 1.0
    episodes = find_episodes(result, 100, held_out=True)
    total = sum(outcome(result, episode).gross_bad_debt_usd for episode in episodes)
    assert 0 < total <= len(result.ts)


def test_a_day_long_move_is_not_read_across_a_hole_in_the_tape() -> None:
    ts = np.array([0, 1, 2, 200]) * MS_PER_HOUR
    moves, _ = daily_moves(ts, np.array([[100.0], [101.0], [102.0], [50.0]]))
    assert np.isnan(moves).all()


def test_the_worst_day_is_the_one_with_the_largest_excess() -> None:
    report = make_input(worse=True)
    found = worst_day(report.holdout, "gross_bad_debt_usd", held_out=True)
    assert found is not None
    assert (found.day, found.proposed_usd, found.current_usd) == ("2022-11-08", 1.3e6, 2.1e5)
    assert worst_day(make_input().holdout, "gross_bad_debt_usd", held_out=True) is None


def test_a_worst_day_before_any_known_move_is_told_without_one() -> None:
    report = make_input()
    series = dict(report.holdout.proposed.series)
    series["gross_bad_debt_usd"] = series["gross_bad_debt_usd"].copy()
    series["gross_bad_debt_usd"][3] = 9e6
    proposed = replace(report.holdout.proposed, series=series, metrics={})
    pair = Pair(
        report.holdout.current,
        proposed,
        compare_paired(report.holdout.current, proposed, 11, resamples=50),
    )
    found = worst_day(pair, "gross_bad_debt_usd", held_out=True)
    assert found is not None
    assert math.isnan(found.move)
    document, _ = build_document(make_input(holdout=pair))
    assert document.decision.dissent.startswith("On 2022-10-01 (hold-out window) the proposal left")


def test_what_differs_by_rounding_is_no_worst_day_and_no_effect() -> None:
    pair = make_input().holdout
    series = {key: values * (1 + 1e-14) for key, values in pair.current.series.items()}
    same = replace(pair.current, series=series, metrics={})
    pair = Pair(pair.current, same, compare_paired(pair.current, same, 11, resamples=50))
    assert worst_day(pair, "liquidated_notional_usd", held_out=True) is None
    found = effects(pair)
    assert all(effect.difference == 0 or math.isnan(effect.current) for effect in found.values())
    assert {effect.judgement for effect in found.values()} <= {
        "no detectable difference", "neither good nor bad", "no interval",
    }  # fmt: skip


def test_effects_keep_the_difference_of_the_metrics() -> None:
    pair = make_input().holdout
    compared = 0
    for key, effect in effects(pair).items():
        current, proposed = pair.current.metrics[key], pair.proposed.metrics[key]
        if math.isfinite(current) and math.isfinite(proposed):
            compared += 1
            assert effect.difference == proposed - current
    assert compared > 15


@given(numbers, st.sampled_from(["USD", "share", "x", "bps", "count", "days"]))
def test_every_amount_is_written_with_digits_and_its_unit(value: float, unit: str) -> None:
    text = amount(value, unit)
    assert re.search(r"\d", text)
    mark = {"USD": "USD", "share": "%", "x": "\u00d7", "bps": "bp", "count": "", "days": "days"}[
        unit
    ]
    assert text.endswith(mark)
    assert "-" not in text


def test_a_fund_that_was_never_whole_again_is_said_to_be_so() -> None:
    assert amount(math.inf, "days") == "not within the window"
    assert amount(math.nan, "days") == amount(math.inf, "x") == "not defined"


@given(numbers.filter(lambda v: abs(v) > 1e-2), st.sampled_from(["USD", "x", "bps"]))
def test_a_difference_always_carries_its_sign(value: float, unit: str) -> None:
    assert signed(value, unit)[0] == ("+" if value > 0 else "\u2212")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_310_000.0, "USD", "1.31 M USD"),
        (12_345.0, "USD", "12,345 USD"),
        (0.42, "USD", "0.42 USD"),
        (2.5e9, "USD", "2.50 bn USD"),
        (0.9921, "share", "99.21 %"),
        (0.99999, "share", "99.9990 %"),
        (6.8333, "x", "6.83 \u00d7"),
        (0.418, "bps", "0.418 bp"),
        (1204.0, "count", "1,204"),
        (-3.0, "count", "\u22123"),
        (math.nan, "x", "not defined"),
    ],
)
def test_amounts_read_as_people_write_them(value: float, unit: str, text: str) -> None:
    assert re.sub("[\u00a0\u202f]", " ", amount(value, unit)) == text


def test_differences_of_shares_are_percentage_points() -> None:
    assert signed(0.0123, "share") == "+1.23\u00a0pp"
    assert relative(1.0, 4.0) == "+25\u202f%"
    assert relative(1.0, 0.0) == ""


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.12, 0.98, "bps", "+0.120 to +0.980 bp"),
        (-2e6, 500.0, "USD", "\u22122.00 M USD to +500 USD"),
        (-0.01, 0.0, "share", "\u22121.00 to 0.00 pp"),
        (-3.0, 4.0, "count", "\u22123 to +4"),
        (math.nan, 1.0, "x", "not defined"),
    ],
)
def test_an_interval_says_a_shared_unit_once(low: float, high: float, unit: str, text: str) -> None:
    assert re.sub("[\u00a0\u202f]", " ", interval(low, high, unit)) == text


def test_zero_of_n_carries_the_exact_bound() -> None:
    # risk-model literature: 0 of 1,000 independent trials bound the frequency by 0.30 %.
    assert zero_of(1_000, "paths").endswith("95\u202f% upper bound 0.30\u202f% of paths")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/alice/data/x.parquet", "x.parquet"),
        ("from /tmp/a/b.csv, row 3", "from b.csv, row 3"),
        ("file:///Users/al/x.csv", "x.csv"),
        (r"C:\Users\al\x.csv", "x.csv"),
        ("~/data/x.csv", "x.csv"),
        ("http://127.0.0.1:43123/fapi", "http://localhost/fapi"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("BTC/USDT:USDT", "BTC/USDT:USDT"),
        ("data/binance/x.parquet", "data/binance/x.parquet"),
    ],
)
def test_machine_paths_become_file_names(text: str, public: str) -> None:
    assert public_text(text) == public
    assert public_text(public) == public


def test_settings_are_written_with_their_units() -> None:
    units = model_units(VenueRules(), "venue.")
    assert units["venue.margin_call.deadline"] == "time"
    assert setting_text(14_400_000, units["venue.margin_call.deadline"]) == "4h"
    assert units["venue.liquidation.penalty"] == "share"
    assert setting_text(0.015, units["venue.liquidation.penalty"]) == "1.5\u202f%"
    assert setting_text(1e6, units["venue.insurance_fund.start_usd"]) == money(1e6)
    assert setting_text(0.02, "of notional") == "2\u202f% of notional"
    assert setting_text(True) == "yes"


def test_nested_settings_become_paths() -> None:
    nested = {"a": {"b": {"c": 1}}, "list": [{"x": 1}, {"x": 2}], "plain": [1, 2], "none": []}
    assert flatten(nested) == {
        "a.b.c": 1,
        "list.1.x": 1,
        "list.2.x": 2,
        "plain": "1, 2",
        "none": "none",
    }


@given(st.floats(0, 1))
def test_a_share_never_rounds_to_certainty(value: float) -> None:
    digits = share(value).split("\u202f", maxsplit=1)[0]
    if 1e-6 < value < 1 - 1e-6:
        assert 0.0 < float(digits) < 100.0


def test_a_blank_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="blank cell under 'b'"):
        Table("T", "caption", ("a", "b"), (False, True), ((Cell("x"), Cell(" ")),))


@given(st.integers(1, 50_000), st.integers(1, 500))
def test_buckets_cover_every_row_within_the_limit(rows: int, limit: int) -> None:
    first = buckets(rows, limit)
    assert first[0] == 0
    assert len(first) <= limit
    assert first[-1] < rows
    assert len(set(np.diff(first))) <= 1


def test_the_margin_figure_marks_every_breach() -> None:
    rows = 1_000
    loss = np.zeros((rows, 2))
    loss[[100, 101, 102, 700], [0, 0, 0, 1]] = 0.2
    margin = np.full((rows, 2), 0.1)
    ts = np.arange(rows) * MS_PER_HOUR
    data = MarginData("BTC", ts, margin, margin, loss, loss > margin)
    svg = margin_path("f2", data)
    assert svg == margin_path("f2", data)
    # Two collections of marks, and one more mark in the legend.
    assert len(re.findall(r'<use href="#f2-[^"]*"[^>]*var\(--alarm', svg)) == 4 + 1


@pytest.mark.parametrize(
    ("proposed", "judgement", "harms"),
    [
        (121.0, "worse", ("liquidated_notional_usd",)),
        (119.0, "worse", ()),
        (300.0, "no detectable difference", ()),
    ],
)
def test_far_more_liquidations_speak_against_a_proposal(proposed, judgement, harms) -> None:
    def effect(key: str, value: float, judged: str) -> Effect:
        return Effect(key, 100.0, value, -1.0, 1.0, judged, 1, 1, 30)

    holdout = {
        "gross_bad_debt_usd": effect("gross_bad_debt_usd", 100.0, "no detectable difference"),
        "liquidated_notional_usd": effect("liquidated_notional_usd", proposed, judgement),
    }
    verdict = grade(GOOD, [crisis(0, 0)], [], synthetic=True, guards=guarded(holdout))
    assert verdict.harms == harms
    assert verdict.grade == ("D" if harms else "B")


def test_units_reach_into_tables_and_lists_of_a_policy() -> None:
    units = policy_units(policy("preset:hyperliquid").identity())
    assert units["tables.BTC.2.above"] == "USD"
    assert units["tables.BTC.2.initial"] == "share"
    assert units["options.short_options.initial"] == "of notional"
    told = policy_units(policy("fixed", rates={"BTC": 0.02}, addons=["concentration"]).identity())
    assert told["rates.BTC"] == "share"
    assert told["addons.1.concentration.charge"] == "of notional"
