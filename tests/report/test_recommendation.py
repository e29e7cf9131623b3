"""The report and the recommendation of one study: one baseline, one best arm, and the rule as it is applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from record_helpers import WRITERS, Level, World, build_store, data, small_study, writing_study
from tuneoff import report
from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import cost_limit
from tuneoff.analysis.decisions.pareto import cost_draws
from tuneoff.analysis.decisions.recommend import recommend
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import gather
from tuneoff.records.record import DataInfo, Metric
from tuneoff.report.recommendation_data import build_recommendation
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.915, 30.0, 900 << 20, base=1_000_000, stored=90 << 20),
    "lora": Level(0.9, 8.0, 600 << 20, adapter=147_456),
    "head": Level(0.6, 3.0, 400 << 20, stored=7000),
}
NOT_SHOWN = "It is not shown that training helps: no method is clearly better than {}, which does not train."
EXAMPLES_ALONE = "One seed: the standard error is over test examples alone."


def recommended(store: StudyStore, memory: str = "", prefer: str = "time") -> dict[str, Any]:
    results = gather(store)
    assert results.primary is not None
    limits = [cost_limit("memory", memory, "--max-memory")] if memory else []
    found = recommend(results, Outcomes(results), results.primary, limits, prefer)
    costs = {name: cost_draws(results, axis, draws=1).means for name, axis in AXES.items()}
    return build_recommendation(results, found, costs, []).as_data()


def both(store: StudyStore) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer of the report, and the recommendation."""
    answer = report.build(store).as_data()["answer"]
    told = recommended(store)
    for key in ("best", "baseline", "if_trained"):
        assert answer[key] == told[key], key
    assert sorted(answer["not_above_baseline"]) == sorted(told["not_above_baseline"])
    return answer, told


def below_baseline(store: StudyStore) -> str:
    return next((w["message"] for w in report.build(store).as_data()["warnings"] if w["name"] == "below_baseline"), "")


def without_predictions(store: StudyStore, *labels: str) -> StudyStore:
    for record in store.records():
        if record.spec.label in labels:
            place = store.trial(record.spec.id)
            place.record_path.unlink()
            place.write_record(record.model_copy(update={"predictions": {}}))
    return store


def always(name: str, value: float) -> dict[str, Any]:
    """Fields of a record whose score is this at every seed, and not what its predictions give."""
    return {"metrics": (Metric(name=name, value=value, unit="fraction", direction="higher", split="test"),)}


def elsewhere() -> dict[str, DataInfo]:
    """Fields of a record that was tested on other examples."""
    usual = data(0, 400)
    other = usual.splits["test"].model_copy(update={"fingerprint": "another"})
    return {"data": usual.model_copy(update={"splits": {**usual.splits, "test": other}})}


def classified(folder: Path, seeds: int = 2, **world: Any) -> StudyStore:
    return build_store(folder / "study", small_study(*LEVELS, seeds=seeds), World(**{"levels": LEVELS, **world}))


def test_a_floor_without_predictions_is_the_floor_of_all(tmp_path: Path) -> None:
    world = World(levels=WRITERS, test_rows=40, changes={"zero_shot": always("rouge_l", 0.421)})
    store = build_store(tmp_path / "s", writing_study("lead", "zero_shot", "full"), world)
    answer, told = both(without_predictions(store, "zero_shot"))
    assert (answer["baseline"], answer["if_trained"]) == ("zero_shot", "full")
    assert "no better than that of zero_shot, without training, 0.421: full" in below_baseline(store)
    assert NOT_SHOWN.format("zero_shot") in answer["text"]
    assert "The baseline, zero_shot (the best of 2 arms without training), is at 0.421; full is" in answer["text"]
    assert "below it" in answer["text"]
    assert told["text"].startswith("Do without training: zero_shot (ROUGE-L 0.421)")


def test_equal_floors_are_named_alike_by_all(tmp_path: Path) -> None:
    changes = {label: always("rouge_l", 0.421) for label in ("lead", "zero_shot")}
    world = World(levels=WRITERS, test_rows=40, changes=changes)
    store = build_store(tmp_path / "s", writing_study("lead", "zero_shot", "full"), world)
    assert both(store)[0]["baseline"] == "lead"
    assert "no better than that of lead, without training" in below_baseline(store)


def test_a_trained_row_that_scores_alike_at_every_seed_has_its_rank(tmp_path: Path) -> None:
    answer, told = both(classified(tmp_path, changes={"head": always("accuracy", 0.97)}))
    assert answer["best"] == told["answer"] == "head"
    assert sorted(answer["not_compared"]) == ["full", "lora"]


@pytest.mark.parametrize("constant", [True, False])
def test_a_row_tested_on_other_examples_is_not_recommended(constant: bool, tmp_path: Path) -> None:
    scores = always("accuracy", 0.97) if constant else {}
    levels = {**LEVELS, "head": replace(LEVELS["head"], accuracy=0.97)}
    answer, told = both(classified(tmp_path, levels=levels, changes={"head": {**elsewhere(), **scores}}))
    assert answer["best"] != "head"
    assert told["answer"] != "head"
    assert "could not be compared fairly with head" in answer["text"]
    assert "Not weighed: head (tested on other examples than most trials)" in told["text"]


def test_a_row_tested_on_other_examples_is_not_below_the_floor(tmp_path: Path) -> None:
    low = always("accuracy", 0.1)
    assert below_baseline(classified(tmp_path / "here", changes={"head": low})).endswith(": head 0.1.")
    assert below_baseline(classified(tmp_path / "there", changes={"head": {**low, **elsewhere()}})) == ""


@pytest.mark.parametrize("constant", [True, False])
def test_a_floor_tested_on_other_examples_is_none(constant: bool, tmp_path: Path) -> None:
    """However good its scores are: they say nothing of the examples that the others were tested on."""
    scores = always("accuracy", 0.99) if constant else {}
    levels = {**LEVELS, "majority": Level(0.99, head=0, stored=0)}
    store = classified(tmp_path, levels=levels, changes={"majority": {**elsewhere(), **scores}})
    answer, told = both(store)
    assert (answer["baseline"], answer["not_above_baseline"]) == (None, [])
    for text in (answer["text"], told["text"]):
        assert "not shown" not in text
        assert "baseline" not in text
    assert below_baseline(store) == ""


def test_only_floors_that_can_be_weighed_are_counted(tmp_path: Path) -> None:
    world = World(levels=WRITERS, test_rows=40, changes={"lead": elsewhere()})
    answer, _ = both(build_store(tmp_path / "s", writing_study("lead", "zero_shot", "lora", "full"), world))
    assert "The baseline, zero_shot (no training), is at" in answer["text"]


def test_where_no_trained_row_can_be_weighed_neither_names_one(tmp_path: Path) -> None:
    world = World(levels=WRITERS, test_rows=40, changes={"full": elsewhere()})
    store = build_store(tmp_path / "s", writing_study("lead", "zero_shot", "full"), world)
    answer, told = both(store)
    assert (answer["best"], told["answer"], answer["baseline"]) == (None, None, "lead")
    nothing = "o method that trains has a score that can be weighed, so there is nothing to recommend."
    assert nothing in answer["text"]
    assert nothing in told["text"]
    assert nothing in report.write(store, plots=False).read_text()


def test_one_seed_has_the_standard_error_of_its_test_examples(tmp_path: Path) -> None:
    """They differ on eight of 400 examples, and full is right on two more: 2 is less than the root of 8."""
    store = classified(tmp_path, seeds=1)
    told = recommended(store)
    assert (told["best"], told["answer"]) == ("full", "lora")
    assert told["as_good"] == ["full", "lora"]
    assert told["gives_up"]["difference"] == pytest.approx(-2 / 400)
    assert told["rule"].endswith(f"the one that trains fastest wins. {EXAMPLES_ALONE}")
    assert "lora is within one standard error of it; of these lora trains fastest." in told["text"]
    assert "How sure this is cannot be said: one seed does not tell how much seeds differ." in told["text"]
    assert {arm["probability"] for arm in told["arms"]} == {None}
    better = {**LEVELS, "full": replace(LEVELS["full"], accuracy=0.93)}  # by five, of seven
    assert recommended(classified(tmp_path / "better", seeds=1, levels=better))["as_good"] == ["full"]
    small = recommended(store, memory="800MiB", prefer="memory")
    assert small["answer"] == "lora"
    assert "lora has the highest accuracy; no other is within one standard error of it." in small["text"]


def test_one_seed_without_predictions_is_judged_by_the_means_alone(tmp_path: Path) -> None:
    changes = {"full": always("accuracy", 0.901), "lora": always("accuracy", 0.9)}
    told = recommended(classified(tmp_path, seeds=1, changes=changes))
    assert (told["answer"], told["as_good"]) == ("full", ["full"])
    assert told["rule"] == (
        "Rule: of the arms that train, the best accuracy wins by the means alone, among equal means the one that "
        "trains fastest: nothing tells a standard error."
    )
    assert told["rule"] in told["text"]
    assert "within one standard error" not in told["text"]
    equal = recommended(classified(tmp_path / "equal", seeds=1, changes={**changes, "lora": changes["full"]}))
    assert (equal["best"], equal["answer"], equal["as_good"]) == ("full", "lora", ["full", "lora"])


def test_a_row_that_lacks_easy_seeds_is_neither_behind_for_it_nor_drawn_apart(tmp_path: Path) -> None:
    levels = {"majority": 0.5, "full": 0.80, "lora": 0.81, "head": 0.6}
    accuracies = {(label, seed): at + 0.1 * (seed > 5) for label, at in levels.items() for seed in range(8)}
    gone = frozenset({("lora", 6), ("lora", 7)})
    store = classified(tmp_path, seeds=8, accuracies=accuracies, skip=gone)
    answer, told = both(store)
    assert answer["best"] == told["best_fitting"] == told["answer"] == "lora"
    assert "lora has the highest test accuracy on the seeds that arms share" in answer["text"]
    page = report.write(store, plots=False).read_text(encoding="utf-8")
    arm = next(line for line in page.splitlines() if line.startswith("| lora |"))
    assert arm.count("**") >= 2
    assert "best" in arm
    arms = {arm["method"]: arm for arm in told["arms"]}
    assert arms["full"]["quality"] < arms["lora"]["quality"]
    assert arms["lora"]["probability"] > 0.9
    shown = {m["method"]: m["metrics"]["accuracy"] for m in report.build(store).as_data()["methods"]}
    assert shown["full"]["mean"] > shown["lora"]["mean"]
    assert shown["full"]["ranked_mean"] < shown["lora"]["ranked_mean"] == shown["lora"]["mean"]


def test_the_rule_names_the_rows_that_it_takes_otherwise(tmp_path: Path) -> None:
    """Two seeds, of which lora and head have one, and head has no predictions."""
    gone = frozenset({("lora", 1), ("head", 1)})
    levels = {**LEVELS, "full": replace(LEVELS["full"], accuracy=0.94)}
    store = without_predictions(classified(tmp_path, levels=levels, skip=gone), "head")
    told = recommended(store)
    assert told["best"] == "full"
    assert "One seed, for lora: the standard error is over test examples alone." in told["rule"]
    assert told["rule"].endswith("By the means alone, for nothing tells a standard error: head.")
    usual = recommended(classified(tmp_path / "usual"))
    assert usual["rule"].endswith("count as equally good, and of these the one that trains fastest wins.")
