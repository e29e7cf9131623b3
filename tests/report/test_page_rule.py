"""The page's script recommends by the very rule of `tuneoff recommend`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from script_helpers import CAN_RUN, call_each
from tuneoff.analysis.axes import AXES, QUALITY
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.recommend import Recommendation, recommend
from tuneoff.analysis.decisions.rule_data import rule_data
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results, gather
from tuneoff.records.record import Inference, Memory, Metric, Status

pytestmark = pytest.mark.skipif(not CAN_RUN, reason="needs Node.js, or Debian's chromium and chromium-driver")
METHODS = ("majority", "full", "lora", "head", "ia3", "bitfit")
STUDIES, LIMITS = 8, 40


def random_study(folder: Path, chance: random.Random) -> Results:
    """A study of arms that are close to one another, of which some lack figures, seeds or a result."""
    levels = {
        label: Level(
            chance.choice((0.5, 0.8, 0.81, 0.82, 0.83)),
            chance.choice((5.0, 8.0, 8.2, 30.0)),
            chance.choice((400, 500, 900)) << 20,
            adapter=chance.choice((0, 1000, 90_000)),
            stored=chance.choice((0, 7000, 1 << 20)),
        )
        for label in METHODS
    }
    seeds = chance.choice((1, 2, 6))
    fail = {(label, chance.randrange(seeds)): Status.DIVERGED for label in chance.sample(METHODS[1:], 2)}
    # Of accuracy more is better, of loss less.
    changes: dict[str, dict[str, Any]] = {
        label: {"primary_metric": primary} for primary in [chance.choice(("accuracy", "loss"))] for label in METHODS
    }
    changes[chance.choice(METHODS)]["inference"] = Inference()
    changes[chance.choice(METHODS)]["memory"] = Memory()
    study = small_study(*METHODS, seeds=seeds)
    world = World(levels=levels, fail=fail, changes=changes, test_rows=chance.choice((30, 300)))
    return gather(build_store(folder, study, world))


def random_limits(results: Results, metric: Metric, chance: random.Random) -> list[Limit]:
    """Up to three limits, at an arm's own figure or near it."""
    limits = []
    for name in chance.sample([QUALITY, *AXES], chance.randrange(4)):
        if name == QUALITY:
            scores = [score for arm in results.arms for score in arm.scores(metric.name).values()]
            limits.append(Limit(chance.choice(scores), "", metric=metric, at_least=metric.direction == "higher"))
            continue
        axis = AXES[name]
        figures = [figure for record in results.completed if (figure := axis.of(record)) is not None]
        if figures:
            limits.append(Limit(chance.choice(figures) * chance.choice((1.0, 1.0, 1.1, 0.9)), "", axis=axis))
    return limits


def of_python(said: Recommendation) -> dict[str, Any]:
    return {
        "answer": said.answer,
        "best": said.best_fitting,
        "asGood": list(said.as_good),
        "prefer": said.prefer,
        "baseline": said.baseline,
        "ifTrained": said.if_trained,
        "nearest": said.nearest.label if said.nearest else None,
        "fitting": [arm.label for arm in said.arms if arm.fits],
    }


def test_the_script_recommends_what_recommend_does_over_random_studies_and_limits(tmp_path: Path) -> None:
    chance = random.Random(18)
    cases: list[list[Any]] = []
    expected: list[dict[str, Any]] = []
    for number in range(STUDIES):
        results = random_study(tmp_path / f"study-{number}", chance)
        metrics = {m.name: m for record in results.completed for m in record.metrics if m.split == "test"}
        assert results.primary is not None
        metric = metrics[results.primary.name]
        outcomes = Outcomes(results)
        data = rule_data(results, outcomes)
        assert data is not None
        for _ in range(LIMITS):
            limits = random_limits(results, metric, chance)
            prefer = chance.choice(list(AXES))
            named = [
                {"axis": limit.axis.name if limit.axis else QUALITY, "bound": limit.bound, "atLeast": limit.at_least}
                for limit in limits
            ]
            cases.append([data.model_dump(mode="json"), named, prefer])
            expected.append(of_python(recommend(results, outcomes, metric, limits, prefer)))
    answers = call_each("rule.js", "recommend", cases, tmp_path)
    for case, answer, said in zip(cases, answers, expected, strict=True):
        assert {key: answer[key] for key in said} == said, case[1:]
    # What is compared is varied enough to say something.
    assert len({said["answer"] for said in expected}) > 5
    assert any(said["answer"] is None and said["nearest"] for said in expected)
    assert any(said["ifTrained"] for said in expected)
    assert any(len(said["asGood"]) > 2 for said in expected)
    assert any(said["answer"] == "majority" for said in expected)
