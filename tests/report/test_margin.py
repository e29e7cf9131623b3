"""What a report and a recommendation say of arms that are as good within a margin."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.analysis.decisions.recommend import Change
from tuneoff.analysis.results import gather
from tuneoff.errors import StudyError
from tuneoff.planning.loading import parse
from tuneoff.report import terminal, wording
from tuneoff.report.advice import Advice, Criteria, advise
from tuneoff.report.arm_schema import Comparison
from tuneoff.report.schema import Report
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.95, 30.0, 900 << 20),
    "lora": Level(0.945, 8.0, 360 << 20, adapter=147_456),
    "head": Level(0.6, 3.0, 300 << 20, stored=7000),
}
COSTS = dict.fromkeys(("memory", "time", "stored", "latency"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    study = small_study(*LEVELS, seeds=6)
    return build_store(tmp_path_factory.mktemp("margin") / "s", study, World(levels=LEVELS, test_rows=1500))


def advised(store: StudyStore, **criteria: Any) -> Advice:
    return advise(store, Criteria(COSTS, **criteria))


def to_best(made: Report, label: str) -> Comparison:
    pair = made.arm(label).to_best
    assert isinstance(pair, Comparison)
    return pair


def test_the_report_says_which_arms_are_as_good_and_by_how_much_worse_they_may_be(store: StudyStore) -> None:
    made = report.build(store, margin=0.03)
    best = made.answer.best
    other = {"full": "lora", "lora": "full"}[best or ""]
    assert (made.answer.margin, made.answer.as_good) == (0.03, (other,))
    bound = to_best(made, other).most_worse
    assert bound is not None
    assert 0 < bound < 0.03
    assert f"{other} is at most {math.ceil(bound * 1000) / 1000:.3f} worse" in wording.headline(made)
    assert f"Shown to be within the margin of 0.030 of it (95% for all of them together): {other}" in made.answer.text
    assert "not shown of head" in made.answer.text
    assert to_best(made, "head").equivalence == "not_shown"


def test_the_headline_says_what_the_arm_takes_of_the_bests_costs(tmp_path: Path) -> None:
    levels = LEVELS | {"lora": Level(0.94, 24.0, 360 << 20, adapter=147_456)}
    world = World(levels=levels, test_rows=1500)
    made = report.build(build_store(tmp_path / "s", small_study(*levels, seeds=6), world), margin=0.05)
    assert made.answer.best == "full"
    assert "lora is at most" in wording.headline(made)
    assert "and takes 0.4 of its memory." in wording.headline(made)


def test_a_small_margin_is_shown_of_none_and_without_one_nothing_is_said(store: StudyStore) -> None:
    strict = report.build(store, margin=1e-6)
    assert strict.answer.as_good == ()
    assert "No arm is shown to be within the margin" in strict.answer.text
    plain = report.build(store)
    assert "margin" not in plain.answer.text
    assert (plain.answer.margin, to_best(plain, "head").equivalence) == (None, None)
    assert to_best(plain, "head").most_worse is not None, "the bound needs no margin"


def test_a_study_names_its_margin_and_reports_show_it(tmp_path: Path) -> None:
    study = small_study(*LEVELS, seeds=6).model_copy(update={"margin": 0.03})
    folder = build_store(tmp_path / "s", study, World(levels=LEVELS, test_rows=1500))
    page = report.write(folder, plots=False).read_text()
    assert ", within the margin |" in page
    assert "“Within the margin” is at most 0.030 worse than the best" in page
    assert terminal.table(report.build(folder), 200).columns[-3].header == "vs. best"
    assert report.build(folder, margin=0.05).answer.margin == 0.05


def test_a_margin_that_no_arm_could_miss_is_refused_before_and_after_training(store: StudyStore) -> None:
    with pytest.raises(StudyError, match=r"for 2 points write 0\.02"):
        report.build(store, margin=2)
    body = {"model": "minilm", "task": {"data": "reuters-r8"}, "methods": ["lora"], "margin": 2}
    with pytest.raises(StudyError, match="accuracy is a fraction"):
        parse(body)
    with pytest.raises(StudyError, match="greater than 0"):
        parse(body | {"margin": -0.1})


def test_recommend_takes_arms_that_are_as_good_as_another(store: StudyStore) -> None:
    found = advised(store, as_good_as="full", margin=0.03)
    assert found.answer == "lora", "it trains faster than full"
    assert "with accuracy at most 0.03 worse than full" in found.lines()[0]
    arms = {arm.method: arm for arm in found.report.arms}
    assert arms["full"].fits
    assert [shortfall.figure for shortfall in arms["head"].shortfalls] == ["accuracy worse than full"]
    assert not arms["majority"].fits, "doing without training is not as good either"
    strict = advised(store, as_good_as="best", margin=1e-6)
    assert strict.answer == gather(store).arm(strict.recommendation.best or "").label
    assert advise(store, Criteria(COSTS | {"memory": "10MB"}, as_good_as="full", margin=0.03)).answer is None


def test_bounds_of_a_recommendation_hold_as_they_are_shown(store: StudyStore) -> None:
    found = advised(store, as_good_as="full", margin=0.03)
    (limit,) = found.recommendation.limits
    changes = (Change("relax", "head", limit, 0.0521), Change("tighten", "full", limit, 0.0129))
    text = str(replace(found, recommendation=replace(found.recommendation, changes=changes)))
    assert "with a margin of 0.053 to full: head; with a margin under 0.012 to full: full" in text


def test_what_cannot_be_asked_of_recommend_is_said(store: StudyStore) -> None:
    with pytest.raises(StudyError, match="needs a margin"):
        advised(store, as_good_as="full")
    with pytest.raises(StudyError, match=r"no arm 'ful' \(did you mean 'full'\?\)"):
        advised(store, as_good_as="ful", margin=0.1)
    with pytest.raises(StudyError, match="--margin is for --as-good-as"):
        advised(store, margin=0.1)


def test_few_seeds_show_nothing_to_be_as_good(tmp_path: Path) -> None:
    folder = build_store(tmp_path / "s", small_study(*LEVELS, seeds=3), World(levels=LEVELS, test_rows=400))
    assert report.build(folder, margin=0.2).answer.as_good == ()
    found = advised(folder, as_good_as="full", margin=0.2)
    assert found.answer == "full"
    reasons = {arm.method: arm.shortfalls[0].reason for arm in found.report.arms if arm.shortfalls}
    assert "6 seeds in common are needed" in reasons["lora"]


def test_the_studys_margin_is_of_its_primary_metric_alone(tmp_path: Path) -> None:
    study = small_study(*LEVELS, seeds=6).model_copy(update={"margin": 0.03})
    folder = build_store(tmp_path / "s", study, World(levels=LEVELS, test_rows=100))
    assert advised(folder, as_good_as="full").recommendation.limits[0].bound == 0.03
    with pytest.raises(StudyError, match="needs a margin"):
        advised(folder, as_good_as="full", metric="loss")
    limit = advised(folder, as_good_as="full", metric="loss", margin=2).recommendation.limits[0]
    assert (limit.bound, limit.metric and limit.metric.name) == (2, "loss"), "a loss is no fraction"
    with pytest.raises(StudyError, match=r"--margin: accuracy is a fraction.*for 2 points write 0\.02"):
        advised(folder, as_good_as="full", margin=2)
