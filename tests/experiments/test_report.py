"""The report says what the numbers say, in bytes that do not change."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from backtest.errors import RunError
from backtest.metrics import METRICS
from backtest.result import MarginPath
from backtest.tape import DataSource
from experiments.report import Pair, ReportInput, write_report
from experiments.report.effects import ALWAYS_HEADLINE, EVENT_SUMS, LABELS, effects
from experiments.report.inputs import MANIFEST_KEYS
from experiments.report.sections import build_document
from experiments.report.write import render
from optimize.bootstrap import compare_paired
from optimize.goal import make_goal
from tests.experiments.report_cases import CURRENT, HOLDOUT, PROPOSED, make_input, make_result

if TYPE_CHECKING:
    from pathlib import Path

    from backtest.result import ReplayResult

FILES = ("report.html", "report.md", "report.json")


@pytest.fixture(scope="module")
def better() -> ReportInput:
    return make_input()


@pytest.fixture(scope="module")
def worse() -> ReportInput:
    return make_input(worse=True)


@pytest.fixture(scope="module")
def quiet() -> ReportInput:
    return make_input(quiet=True)


def first_hours(result: ReplayResult, rows: int) -> ReplayResult:
    return replace(
        result,
        ts=result.ts[:rows],
        interval_ms=result.interval_ms[:rows],
        index=result.index[:rows],
        series={key: values[:rows] for key, values in result.series.items()},
        liquidation_log=result.liquidation_log[:0],
        margin=MarginPath(
            result.margin.initial[:rows],
            result.margin.maintenance[:rows],
            result.margin.loss[:rows],
        ),
        window=(int(result.ts[0]), int(result.ts[rows])),
        metrics={},
    )


def written(report: ReportInput, folder: Path) -> dict[str, str]:
    write_report(report, folder)
    return {name: (folder / name).read_text(encoding="utf-8") for name in FILES}


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first = written(make_input(), tmp_path / "first")
    second = written(make_input(), tmp_path / "second")
    assert first == second


def test_a_different_number_gives_different_bytes(better: ReportInput, tmp_path: Path) -> None:
    metrics = dict(better.holdout.proposed.metrics)
    metrics["margin_calls_usd"] *= 1.01
    proposed = replace(better.holdout.proposed, metrics=metrics)
    changed = replace(better, holdout=replace(better.holdout, proposed=proposed))
    before, after = written(better, tmp_path / "a"), written(changed, tmp_path / "b")
    assert all(before[name] != after[name] for name in FILES)


@pytest.mark.parametrize("key", METRICS)
@pytest.mark.parametrize("window", ["search", "holdout"])
def test_a_report_without_a_metric_is_refused(better: ReportInput, key: str, window: str) -> None:
    pair = getattr(better, window)
    metrics = {k: v for k, v in pair.proposed.metrics.items() if k != key}
    pair = replace(pair, proposed=replace(pair.proposed, metrics=metrics))
    with pytest.raises(RunError, match=rf"no metric '{key}' of the proposed policy on the"):
        replace(better, **{window: pair})


def test_a_report_without_an_interval_is_refused(better: ReportInput) -> None:
    intervals = dict(better.holdout.comparison.intervals)
    del intervals["coverage"]
    comparison = replace(better.holdout.comparison, intervals=intervals)
    with pytest.raises(RunError, match="no interval of 'coverage' on the holdout window"):
        replace(better, holdout=replace(better.holdout, comparison=comparison))


@pytest.mark.parametrize("key", MANIFEST_KEYS)
def test_a_report_without_a_part_of_the_manifest_is_refused(better: ReportInput, key: str) -> None:
    manifest = {k: v for k, v in better.manifest.items() if k != key}
    with pytest.raises(RunError, match=f"no '{key}' in its manifest"):
        replace(better, manifest=manifest)


def test_a_report_without_its_proposal_is_refused(better: ReportInput) -> None:
    with pytest.raises(RunError, match="has no trial 999"):
        replace(better, proposed_trial=999)


def test_a_better_proposal_is_recommended(better: ReportInput, tmp_path: Path) -> None:
    files = written(better, tmp_path)
    for name in ("report.html", "report.md"):
        assert "Recommend the change, grade B." in files[name]
        assert "Do not recommend" not in files[name]
    assert json.loads(files["report.json"])["verdict"]["recommended"] is True


def test_a_worse_proposal_gets_a_report_that_says_so(worse: ReportInput, tmp_path: Path) -> None:
    files = written(worse, tmp_path)
    for name in ("report.html", "report.md"):
        assert "Do not recommend the change on this evidence, grade D." in files[name]
        assert "Recommend the change" not in files[name]
        assert "The proposal is worse on capital efficiency." in files[name]
        assert "lost more in 1 of 1 held-out crises: FTX collapse." in files[name]
    verdict = json.loads(files["report.json"])["verdict"]
    assert verdict["recommended"] is False
    assert verdict["harms"] == ["capital_efficiency"]
    assert verdict["crises_reversed"] == ["FTX collapse"]


def test_the_worst_case_is_in_the_decision_box(worse: ReportInput) -> None:
    document, _ = build_document(worse)
    assert document.decision.dissent.startswith("On 2022-11-08 (BTC \u2212")
    assert "1.30\u00a0M\u00a0USD, the current policy 210,000\u00a0USD" in document.decision.dissent
    assert "on 1 of 90 days" in document.decision.dissent


def test_what_never_happened_is_given_a_bound_not_a_zero(
    quiet: ReportInput, tmp_path: Path
) -> None:
    document, _ = build_document(quiet)
    shown = 0
    for row in document.decision.table.rows:
        if row[0].text in {"Residual bad debt rate", "Gross bad debt", "Liquidated notional"}:
            for cell in row[1:3]:
                # 1 - 0.05 ** (1 / 90) = 3.27 %
                assert cell.text == "0 of 90 days"
                assert cell.note == "95 % upper bound 3.27\u202f%"
                shown += 1
    assert shown == 6
    markdown = written(quiet, tmp_path)["report.md"]
    assert "bad debt on 0 of 90 days; 95\u202f% upper bound 3.27\u202f% of days" in markdown


@pytest.mark.parametrize("kind", ["better", "worse", "quiet"])
def test_no_report_speaks_of_no_risk(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = written(request.getfixturevalue(kind), tmp_path)
    for name in ("report.html", "report.md"):
        assert not re.search(r"no risk|risk-free|zero risk|\bsafe\b", files[name], re.IGNORECASE)


def test_a_difference_whose_interval_covers_zero_is_not_called_better(
    better: ReportInput,
) -> None:
    document, _ = build_document(better)
    row = next(r for r in document.decision.table.rows if r[0].text == "Residual bad debt rate")
    paired = better.holdout.comparison.intervals["residual_bad_debt_bps"].difference
    assert paired.low < 0.0 <= paired.high
    assert row[4].note == "no detectable difference"
    assert row[4].tone == "quiet"


class _Links(HTMLParser):
    """Collect tags and whatever could leave the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in {"href", "src", "srcset", "data", "action", "poster", "xlink:href"}:
                self.targets.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_page_needs_nothing_outside_itself(better: ReportInput, tmp_path: Path) -> None:
    html = written(better, tmp_path)["report.html"]
    page = _Links()
    page.feed(html)
    assert not page.tags & {"script", "iframe", "object", "embed", "img"}
    assert all(target.startswith(("#", "data:")) for target in page.targets)
    assert "@import" not in html
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", html))


def test_every_anchor_and_reference_resolves_to_one_element(
    better: ReportInput, tmp_path: Path
) -> None:
    html = written(better, tmp_path)["report.html"]
    page = _Links()
    page.feed(html)
    assert len(page.ids) == len(set(page.ids))
    wanted = {target[1:] for target in page.targets if target.startswith("#")}
    wanted |= {url[1:] for url in re.findall(r"url\(([^)]*)\)", html)}
    assert wanted <= set(page.ids)
    assert {"change", "front", "margin", "crises", "losses", "reproduce"} <= set(page.ids)


def test_no_path_or_user_name_leaves_the_machine(better: ReportInput, tmp_path: Path) -> None:
    source = DataSource("candles", "BTC", 0, 1, 1, "ab", "/home/alice/secret/candles.parquet")
    report = replace(
        better,
        sources=[source],
        notes=["Read from file:///Users/alice/files/x.csv at noon."],
        book_origin=r"C:\Users\alice\books\accounts.csv, digest 12",
        manifest=dict(better.manifest) | {"store": "/home/alice/out/store.duckdb"},
    )
    for text in written(report, tmp_path).values():
        assert "alice" not in text
        assert "/home" not in text
        assert "candles.parquet" in text


def test_a_changed_input_raises_a_banner(better: ReportInput, tmp_path: Path) -> None:
    assert better.warnings() == []
    manifest = dict(better.manifest) | {"tape_digest": "f" * 64}
    changed = replace(better, manifest=manifest)
    files = written(changed, tmp_path)
    assert (
        '<p class="warning" role="alert">The market data of these replays' in files["report.html"]
    )
    assert "> **Warning.** The market data of these replays" in files["report.md"]
    assert len(json.loads(files["report.json"])["warnings"]) == 1


def test_a_changed_metric_raises_a_banner(better: ReportInput) -> None:
    assert not any("do not follow" in warning for warning in better.warnings())
    proposed = better.holdout.proposed
    flattered = replace(proposed, metrics={**proposed.metrics, "gross_bad_debt_usd": 0.0})
    report = replace(better, holdout=replace(better.holdout, proposed=flattered))
    assert any("do not follow from their series" in warning for warning in report.warnings())


def test_replays_of_different_books_raise_a_banner(better: ReportInput) -> None:
    other = replace(better.holdout.proposed, book_digest="e" * 64)
    changed = replace(better, holdout=replace(better.holdout, proposed=other))
    assert changed.warnings() == ["The replays compared here did not read the same account book."]


def test_a_hold_out_that_was_searched_raises_a_banner(better: ReportInput) -> None:
    changed = replace(better, holdout=better.search)
    assert any("nothing was held out" in warning for warning in changed.warnings())


def test_uncommitted_code_raises_a_banner(better: ReportInput) -> None:
    changed = replace(better, manifest=dict(better.manifest) | {"dirty": True})
    assert changed.warnings() == ["The code of this run had changes that are in no commit."]


def test_a_proposal_that_changes_nothing_is_said_to_change_nothing(better: ReportInput) -> None:
    pairs = {
        name: replace(
            getattr(better, name),
            proposed=replace(
                getattr(better, name).proposed, policy=getattr(better, name).current.policy
            ),
        )
        for name in ("search", "holdout")
    }
    assert any("would change nothing" in text for text in replace(better, **pairs).warnings())


def test_whatever_is_simulated_is_called_so_where_it_drives_a_figure(tmp_path: Path) -> None:
    report = make_input(synthetic_market=True)
    document, _ = build_document(report)
    captions = [b.caption for s in document.sections for b in s.blocks if hasattr(b, "svg")]
    assert len(captions) == 5
    assert all("imulated market" in c or "ynthetic accounts" in c for c in captions)
    assert "FTX" not in written(report, tmp_path)["report.html"]


def test_every_figure_names_its_run(better: ReportInput) -> None:
    document, _ = build_document(better)
    charts = [b for s in document.sections for b in s.blocks if hasattr(b, "svg")]
    assert all(chart.caption.endswith("Run 7f3a.") for chart in charts)


def test_every_metric_has_a_label_and_every_headline_a_metric() -> None:
    assert set(LABELS) == set(METRICS)
    assert set(EVENT_SUMS) <= set(METRICS)
    assert set(ALWAYS_HEADLINE) <= set(METRICS)


def test_the_front_page_table_shows_objectives_and_limits(better: ReportInput) -> None:
    document, _ = build_document(better)
    shown = [row[0].text for row in document.decision.table.rows]
    assert shown[:3] == ["Capital efficiency", "Residual bad debt rate", "Coverage"]


def test_a_search_is_told_with_its_failures(better: ReportInput, tmp_path: Path) -> None:
    infeasible = sum(not trial.feasible for trial in better.trials)
    assert infeasible > 0
    markdown = written(better, tmp_path)["report.md"]
    assert "40 trials were evaluated on the search window" in markdown
    assert f"{infeasible} of 40 break a limit" in markdown


def test_a_comparison_without_a_search_says_that_there_was_none(
    better: ReportInput, tmp_path: Path
) -> None:
    given = replace(better, trials=(), front=(), front_holdout={}, proposed_trial=None)
    assert "no search was made" in written(given, tmp_path)["report.md"]


def test_a_loss_that_the_fund_paid_in_every_replay_is_still_drawn(
    better: ReportInput, quiet: ReportInput
) -> None:
    trials = [
        replace(trial, metrics=dict(trial.metrics) | {"residual_bad_debt_bps": 0.0})
        for trial in quiet.trials
    ]
    captions = {}
    for report in (better, replace(quiet, trials=trials)):
        document, _ = build_document(report)
        section = next(s for s in document.sections if s.key == "front")
        captions[report is better] = section.blocks[0].caption
    assert "was zero in all 44 replays, so the axis shows gross bad debt" in captions[False]
    assert "was zero" not in captions[True]


def test_a_single_objective_is_reported_against_its_limit(
    better: ReportInput, tmp_path: Path
) -> None:
    goal = make_goal([], "locked_collateral_usd", {"residual_bad_debt_bps": "<= 5"}, "subject_to")
    files = written(replace(better, goal=goal), tmp_path)
    assert "Locked collateral" in files["report.html"]
    assert json.loads(files["report.json"])["verdict"]["gains"] == ["locked_collateral_usd"]


def test_a_broken_limit_is_named_with_its_value(better: ReportInput, tmp_path: Path) -> None:
    goal = make_goal(["capital_efficiency"], None, {"coverage": ">= 99.99%"}, "constraints")
    files = written(replace(better, goal=goal), tmp_path)
    assert "grade D" in files["report.md"]
    assert "Coverage of 99.88\u202f% on the hold-out window breaks a limit" in files["report.md"]


def test_windows_too_short_for_a_day_are_reported_without_crises(tmp_path: Path) -> None:
    report = make_input()
    short = {}
    for name in ("search", "holdout"):
        pair = getattr(report, name)
        short[name] = replace(
            pair, **{role: first_hours(getattr(pair, role), 20) for role in ("current", "proposed")}
        )
    document, verdict = build_document(replace(report, **short))
    assert verdict.crises == 0
    assert not verdict.recommended
    assert "Neither window is long enough" in render("report.md.j2", document)


def test_a_calm_hold_out_recommends_nothing_however_clear_the_gain(tmp_path: Path) -> None:
    common: dict[str, Any] = {"crash": "2022-11-08", "size": -0.001, "liquidated_usd": 0.0}
    wide = make_result(HOLDOUT, CURRENT, margin=0.06, **common)
    narrow = make_result(HOLDOUT, PROPOSED, margin=0.05, **common)
    pair = Pair(wide, narrow, compare_paired(wide, narrow, 11, resamples=300))
    report = make_input(holdout=pair)
    verdict = json.loads(written(report, tmp_path)["report.json"])["verdict"]
    assert verdict["gains"] == ["capital_efficiency"]
    assert (verdict["grade"], verdict["crises"]) == ("C", 0)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "no 24-hour move of 10\u202f% or more" in text


def test_a_hold_out_of_a_few_days_has_no_intervals_and_recommends_nothing(tmp_path: Path) -> None:
    report = make_input()
    current, proposed = (
        first_hours(result, 24 * 5) for result in (report.holdout.current, report.holdout.proposed)
    )
    pair = Pair(current, proposed, compare_paired(current, proposed, 11, resamples=50))
    text = written(replace(report, holdout=pair), tmp_path)["report.md"]
    assert "Do not recommend" in text
    assert "5 days are too few" in text
    assert "There are no intervals" in text
    assert "detectably worse on none" not in text


def test_a_hold_out_before_the_search_spans_the_same_days(better: ReportInput) -> None:
    report = replace(better, search=better.holdout, holdout=better.search)
    assert report.span == better.span
    assert "The run spans 182 days, from 2022-07-01" in render(
        "report.md.j2", build_document(report)[0]
    )


def test_a_metric_that_was_minimised_is_better_when_it_is_less(better: ReportInput) -> None:
    goal = make_goal([], "margin_to_notional", {}, "subject_to")
    effect = effects(better.holdout, goal)["margin_to_notional"]
    assert effect.high < 0.0
    assert effect.judgement == "better"
    assert effects(better.holdout)["margin_to_notional"].judgement == "neither good nor bad"


def test_markdown_tables_are_whole(better: ReportInput, tmp_path: Path) -> None:
    named = replace(better, question="Is a | b <script> better?")
    files = written(named, tmp_path)
    assert "Is a \\| b \\<script\\> better?" in files["report.md"]
    assert "<script>" not in files["report.html"]
    tables = re.findall(r"(?:^\|.*\n)+", files["report.md"], re.MULTILINE)
    assert len(tables) >= 8
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_the_numbers_file_holds_what_the_page_shows(better: ReportInput, tmp_path: Path) -> None:
    files = written(better, tmp_path)
    numbers = json.loads(files["report.json"])
    window = numbers["windows"]["holdout"]
    for role in ("current", "proposed"):
        metrics = getattr(better.holdout, role).metrics
        assert window[role] == {k: v if math.isfinite(v) else None for k, v in metrics.items()}
    assert len(numbers["trials"]) == 40
    assert len(numbers["episodes"]) == 5
    assert set(numbers["sha256"]) >= {"report.html", "report.md", "figure 1 (F1)"}


def test_a_template_that_asks_for_an_unknown_name_fails(
    better: ReportInput, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from jinja2 import UndefinedError

    (tmp_path / "report.css").write_text("")
    (tmp_path / "broken.html.j2").write_text("{{ doc.no_such_name }}")
    monkeypatch.setattr("experiments.report.write.TEMPLATES", tmp_path)
    document, _ = build_document(better)
    with pytest.raises(UndefinedError, match="no_such_name"):
        render("broken.html.j2", document)
