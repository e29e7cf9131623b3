"""Which arm is recommended, why, how surely, and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from record_helpers import WRITERS, Level, World, build_store, small_study, writing_study
from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit, cost_limit, metric_limit
from tuneoff.analysis.decisions.recommend import Recommendation, recommend
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results, gather
from tuneoff.records.record import Inference, Status
from tuneoff.report import recommendation
from tuneoff.report.recommendation_data import build_recommendation

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "full": Level(0.90, 30.0, 900 << 20, base=1_000_000, stored=90 << 20),
    "lora": Level(0.90, 8.0, 600 << 20, adapter=147_456),
    "head": Level(0.6, 3.0, 400 << 20, stored=7000),
}


def study(folder: Path, seeds: int = 6, **world: Any) -> Results:
    made = small_study("majority", "full", "lora", "head", seeds=seeds)
    return gather(build_store(folder / "study", made, World(**{"levels": LEVELS, **world})))


def asked(found: Results, *limits: Limit, prefer: str = "time", metric: str = "accuracy") -> Recommendation:
    chosen = next(m for r in found.completed for m in r.metrics if m.name == metric and m.split == "test")
    return recommend(found, Outcomes(found), chosen, limits, prefer)


def memory(text: str) -> Limit:
    return cost_limit("memory", text, "--max-memory")


def time(text: str) -> Limit:
    return cost_limit("time", text, "--max-train-time")


def at_least(found: Results, value: float) -> Limit:
    return metric_limit(f"accuracy={value}", "--min", [m for m in found.completed[0].metrics if m.split == "test"])


def test_among_rows_within_one_standard_error_the_cheaper_wins(tmp_path: Path) -> None:
    said = asked(study(tmp_path))
    assert set(said.as_good) == {"full", "lora"}
    assert said.answer == "lora"
    assert "head" not in said.tied_with
    arm = said.arm("lora")
    assert arm.probability is not None
    assert arm.probability > 0.5
    assert sum(r.probability or 0 for r in said.arms) + (said.none_probability or 0) == pytest.approx(1)


def test_what_is_preferred_decides_among_equals_only(tmp_path: Path) -> None:
    levels = {**LEVELS, "full": Level(0.90, 30.0, 500 << 20, base=1_000_000, stored=90 << 20)}
    found = study(tmp_path, levels=levels)
    assert asked(found, prefer="time").answer == "lora"
    by_memory = asked(found, prefer="memory")
    assert by_memory.answer == "full"  # head needs less, but is no equal
    assert any(change.kind == "prefer" and change.to == "lora" for change in by_memory.changes)


def test_a_preference_that_a_row_lacks_gives_way_to_one_that_all_have(tmp_path: Path) -> None:
    found = study(tmp_path, changes={"full": {"inference": Inference()}})
    assert asked(found, prefer="latency").prefer == "time"
    assert asked(found, prefer="memory").prefer == "memory"


def test_a_clearly_better_row_wins_whatever_it_costs(tmp_path: Path) -> None:
    said = asked(study(tmp_path, levels={**LEVELS, "lora": Level(0.8, 8.0)}))
    assert (said.answer, said.as_good) == ("full", ("full",))
    assert said.arm("full").probability == pytest.approx(1, abs=0.02)


def test_limits_keep_rows_out_and_say_by_how_much(tmp_path: Path) -> None:
    said = asked(study(tmp_path), memory("500MiB"))
    assert said.answer == "head"
    full, lora = said.arm("full"), said.arm("lora")
    assert not full.fits
    assert full.shortfalls[0].excess is not None
    assert full.shortfalls[0].excess == pytest.approx((900 - 500) << 20, rel=0.05)
    assert lora.shortfalls[0].relative < full.shortfalls[0].relative
    relax = next(change for change in said.changes if change.kind == "relax")
    assert relax.to == "lora"
    assert relax.bound == pytest.approx(600 << 20, rel=0.05)
    tighten = next(change for change in said.changes if change.kind == "tighten")
    assert tighten.to is None
    assert tighten.bound == pytest.approx(400 << 20, rel=0.05)
    assert said.to_best is not None
    assert said.to_best.relation == "behind"


def test_a_limit_near_a_rows_noisy_cost_splits_the_probability(tmp_path: Path) -> None:
    found = study(tmp_path)
    mean = float(np.mean([r.timing.train_seconds for r in found.arm("lora").completed if r.timing.train_seconds]))
    fits = asked(found, time(f"{mean:.6f}s")).arm("lora").probability_fits
    assert fits is not None
    assert 0.2 < fits < 0.8
    assert asked(found, time("1h")).arm("lora").probability_fits == 1


def test_none_fits_names_the_nearest(tmp_path: Path) -> None:
    found = study(tmp_path)
    said = asked(found, memory("500MiB"), at_least(found, 0.8))
    assert said.answer is None
    assert said.nearest is not None
    assert said.nearest.label == "lora"  # 20 % over the memory; head is a quarter below the accuracy
    assert said.none_probability == 1
    assert {(change.kind, change.to) for change in said.changes} == {("relax", "lora"), ("relax", "head")}
    text = " ".join(recommendation.lines(found, said, {axis: {} for axis in AXES}))
    assert "None fits" in text
    assert "The nearest is lora" in text


def test_a_row_that_was_not_measured_does_not_fit_and_says_why(tmp_path: Path) -> None:
    found = study(tmp_path, changes={"lora": {"inference": Inference()}})
    said = asked(found, cost_limit("latency", "20ms", "--max-latency"))
    assert said.answer == "full"
    shortfall = said.arm("lora").shortfalls[0]
    assert (shortfall.figure, shortfall.reason) == (None, "not recorded")


def test_where_no_row_has_the_figure_none_is_called_nearest(tmp_path: Path) -> None:
    found = study(tmp_path, changes={label: {"inference": Inference()} for label in LEVELS})
    said = asked(found, cost_limit("latency", "20ms", "--max-latency"))
    assert (said.answer, said.nearest) == (None, None)
    text = " ".join(recommendation.lines(found, said, {axis: {} for axis in AXES}))
    assert "Which is nearest cannot be said" in text


def test_a_floor_is_the_answer_only_where_nothing_beats_it(tmp_path: Path) -> None:
    beaten = {**LEVELS, "full": Level(0.3, 30.0), "lora": Level(0.3, 8.0), "head": Level(0.2, 3.0)}
    found = study(tmp_path, levels=beaten)
    said = asked(found)
    assert (said.answer, said.is_baseline) == ("majority", True)
    text = recommendation.lines(found, said, {axis: {} for axis in AXES})[0]
    assert text.startswith("Do without training: majority")
    assert not asked(study(tmp_path / "other")).is_baseline


def test_under_limits_it_is_the_rows_that_keep_them_that_must_beat_the_floor(tmp_path: Path) -> None:
    found = study(tmp_path, levels={**LEVELS, "head": Level(0.505, 3.0, 400 << 20, stored=7000)})
    free, tight = asked(found), asked(found, memory("500MiB"))
    assert (free.answer, free.if_trained, free.not_above_baseline) == ("lora", None, ("head",))
    assert (tight.answer, tight.if_trained) == ("head", "head")
    text = recommendation.lines(found, tight, {axis: {} for axis in AXES})[0]
    assert text.startswith(
        "It is not shown that training helps: no method that keeps the limits is clearly better than"
    )
    assert "majority, which does not train. If you train all the same, use head with peak memory at most" in text


def test_a_floor_that_does_not_keep_the_limits_is_no_way_out(tmp_path: Path) -> None:
    levels = {**WRITERS, "zero_shot": Level(0.5, head=0, stored=0), "lead": Level(0.45, head=0, stored=0)}
    latencies = {"zero_shot": 0.05, "lora": 0.005, "full": 0.005}
    changes = {label: {"inference": Inference(latency_seconds_median=at)} for label, at in latencies.items()}
    limit = cost_limit("latency", "20ms", "--max-latency")

    def made(name: str, *labels: str) -> Results:
        world = World(levels=levels, changes=changes)
        return gather(build_store(tmp_path / name, writing_study(*labels, seeds=6), world))

    both = made("both", "lead", "zero_shot", "lora", "full")
    assert asked(both, metric="rouge_l").answer == "zero_shot"
    said = asked(both, limit, metric="rouge_l")
    assert (said.answer, said.baseline, said.is_baseline) == ("lead", "lead", True)
    one = made("one", "zero_shot", "lora", "full")
    said = asked(one, limit, metric="rouge_l")
    assert said.answer == said.if_trained
    text = recommendation.lines(one, said, {axis: {} for axis in AXES})[0]
    assert "clearly better than zero_shot, which does not train and does not keep them. If you train" in text


def test_a_floor_is_not_recommended_because_nothing_else_fits(tmp_path: Path) -> None:
    said = asked(study(tmp_path), memory("1MB"))
    assert said.answer is None
    assert said.arm("majority").fits


def test_one_seed_has_an_answer_but_no_probability(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=1)
    said = asked(found)
    assert said.answer == "lora"
    assert said.arm("lora").probability is None
    assert said.unsure == "one seed does not tell how much seeds differ"


def test_few_seeds_failures_random_weights_and_busy_times_are_said(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=3, fail={("head", 1): Status.DIVERGED}, contended=frozenset({"lora"}))
    said = asked(found, time("1h"))
    assert any("did not complete (diverged: head seed 1)" in caveat for caveat in said.caveats)
    text = " ".join(recommendation.lines(found, said, {axis: {} for axis in AXES}))
    assert "too few to call any difference significant (6 needed)" in text
    assert "those of lora were taken on a busy machine" in text
    made = small_study("lora", model={"source": "minilm", "random_weights": True})
    random = gather(build_store(tmp_path / "random", made))
    assert "random" in asked(random).caveats[0]


def test_a_row_that_failed_is_not_weighed_and_is_named(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=2, fail={("full", 0): Status.OUT_OF_MEMORY, ("full", 1): Status.OUT_OF_MEMORY})
    said = asked(found)
    assert said.arm("full").reason == "no trial of this arm has completed"
    text = " ".join(recommendation.lines(found, said, {axis: {} for axis in AXES}))
    assert "Not weighed: full (no trial of this arm has completed)" in text


def test_another_metric_is_judged_by_its_own_direction(tmp_path: Path) -> None:
    said = asked(study(tmp_path, levels={**LEVELS, "lora": Level(0.8, 8.0)}), metric="loss")
    assert said.answer == "full"
    assert said.metric.direction == "lower"


def test_words_name_metrics_as_the_field_does_and_data_by_their_keys(tmp_path: Path) -> None:
    made = writing_study("lead", "zero_shot", "lora", "full", seeds=6)
    near = {**WRITERS, "full": Level(0.3094, 60.0, 1800 << 20, base=22_565_376, head=0, stored=540 << 20)}
    studies = {
        name: gather(build_store(tmp_path / name, made, World(levels=levels)))
        for name, levels in (("apart", WRITERS), ("near", near))
    }
    costs: dict[str, dict[str, float]] = {axis: {} for axis in AXES}
    tested = [m for m in studies["apart"].completed[0].metrics if m.split == "test"]
    low, high = (metric_limit(f"rouge_l={bound}", "--min", tested) for bound in (0.1, 0.9))
    cases: list[tuple[str, list[Limit], list[str]]] = [
        ("apart", [], ["full has the highest ROUGE-L"]),
        (
            "apart",
            [memory("700MiB"), low],
            ["and ROUGE-L at least 0.1: ROUGE-L 0.", "It gives up", "with ROUGE-L above"],
        ),
        ("apart", [high], ["The nearest is full (ROUGE-L 0.", "): ROUGE-L 0.", "with ROUGE-L down to"]),
        ("near", [], ["By ROUGE-L it cannot be told apart from", "by ROUGE-L alone: full"]),
    ]
    for name, limits, parts in cases:
        said = asked(studies[name], *limits, metric="rouge_l")
        body = build_recommendation(studies[name], said, costs, []).as_data()
        assert [part for part in parts if part not in body["text"]] == []
        assert "the best ROUGE-L count as equally good" in body["rule"]
        assert "rouge_l" not in body["text"] + body["rule"]
        assert body["metric"]["name"] == "rouge_l"
        assert [limit["figure"] for limit in body["limits"]] == [limit.name for limit in limits]


def test_a_study_of_floors_recommends_nothing(tmp_path: Path) -> None:
    found = gather(build_store(tmp_path / "s", small_study("majority"), World(levels=LEVELS)))
    said = asked(found)
    assert said.answer is None
    lines = recommendation.lines(found, said, {axis: {} for axis in AXES})
    assert lines[0] == "No method that trains has a score that can be weighed, so there is nothing to recommend."


def test_how_often_training_diverges_is_said_and_weighed(tmp_path: Path) -> None:
    found = study(tmp_path, fail={("lora", 1): Status.DIVERGED, ("lora", 4): Status.DIVERGED})
    said = asked(found)
    lora = said.arm("lora")
    assert (lora.seeds, lora.diverged) == (6, 2)
    assert lora.failure_rate == pytest.approx(1 / 3)
    assert said.answer == "full"
    assert lora.quality is not None
    assert lora.quality < (said.arm("full").quality or 0.0) - 0.1
    assert asked(study(tmp_path / "sound")).answer == "lora"
    body = build_recommendation(found, said, {axis: {} for axis in AXES}, []).as_data()
    arm = next(arm for arm in body["arms"] if arm["method"] == "lora")
    assert (arm["diverged"], arm["failure_rate"]) == (2, pytest.approx(1 / 3))
    assert "Training diverged: lora at 2 of 6 seeds (33 %)." in body["text"]
    lost = {("lora", seed): Status.DIVERGED for seed in range(6)}
    gone = asked(study(tmp_path / "gone", fail=lost)).arm("lora")
    assert (gone.quality, gone.reason, gone.failure_rate) == (None, "training diverged at every seed", 1.0)


def test_a_row_that_is_significantly_ahead_of_the_answer_is_named(tmp_path: Path) -> None:
    """The preferred arm is within a standard error of the best, yet behind a third by a narrower error."""
    found = study(tmp_path, levels={**LEVELS, "lora": Level(0.86, 8.0), "head": Level(0.86, 3.0)})
    said = asked(found, time("5s"))
    assert (said.answer, said.best) == ("head", "full")
    assert said.ahead == ()
    ahead = asked(study(tmp_path / "two", levels={**LEVELS, "head": Level(0.8, 3.0)}), time("5s"))
    assert ahead.answer == "head"
    assert {ahead.best, *ahead.ahead} == {"full", "lora"}
    text = " ".join(recommendation.lines(found, ahead, {axis: {} for axis in AXES}))
    assert f"By accuracy {ahead.ahead[0]} is significantly ahead of it." in text


def test_equal_records_give_equal_probabilities(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert [arm.probability for arm in asked(found).arms] == [arm.probability for arm in asked(found).arms]
