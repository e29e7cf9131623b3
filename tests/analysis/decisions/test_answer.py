"""Arms against one another, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from record_helpers import (
    WRITERS,
    Level,
    World,
    build_store,
    data,
    environment,
    finding,
    small_study,
    writing_study,
)
from tuneoff.analysis.checks.caveats import caveats
from tuneoff.analysis.decisions.answer import Answer, find_answer
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results, gather
from tuneoff.records.record import DataInfo, Status

LEVELS = {"majority": Level(0.5, head=0), "full": Level(0.9, 30.0), "lora": Level(0.9, 8.0), "head": Level(0.6, 3.0)}


def results(folder: Path, seeds: int = 2, **world: Any) -> Results:
    study = small_study("majority", "full", "lora", "head", seeds=seeds)
    return gather(build_store(folder / "study", study, World(**{"levels": LEVELS, **world})))


def answer(found: Results) -> Answer:
    return find_answer(found, Outcomes(found), caveats(found))


def test_rows_on_the_same_examples_are_tied_or_apart(tmp_path: Path) -> None:
    found = answer(results(tmp_path, seeds=6))
    assert {found.best, *found.tied_with} == {"full", "lora"}
    assert found.behind == ("head",)
    pair = found.to_best["head"]
    assert (pair.examples, pair.seeds, pair.test) == (400, 6, "seeds and examples")
    assert pair.interval is not None
    assert pair.interval.high < 0
    assert pair.p_corrected is not None
    assert pair.p_corrected < 0.05
    assert found.significant
    assert found.winner is None
    assert found.cheapest == {"train_seconds": "lora", "peak_memory_bytes": found.best, "stored_bytes": found.best}


def test_nothing_is_significant_under_six_seeds(tmp_path: Path) -> None:
    found = answer(results(tmp_path, seeds=5))
    assert not found.significant
    assert "head" in found.open
    assert len(found.open) == 2
    assert (found.tied_with, found.behind) == ((), ())
    assert found.to_best["head"].seeds_needed == 6
    assert found.verdict is not None
    assert found.verdict.groups == ()


def test_a_row_ahead_of_all_others_is_the_winner_whatever_the_floor(tmp_path: Path) -> None:
    found = answer(results(tmp_path, seeds=6, levels={**LEVELS, "lora": Level(0.8), "majority": Level(0.9, head=0)}))
    assert found.winner == "full"
    assert set(found.behind) == {"lora", "head"}


def test_a_floor_that_knows_no_chance_is_still_uncertain_about_examples(tmp_path: Path) -> None:
    """The same predictions at every seed: no spread, yet an interval, and a difference just above it is no claim."""
    study = small_study("majority", "lora", seeds=6)
    store = build_store(tmp_path / "s", study, World(levels={"majority": Level(0.5, head=0), "lora": Level(0.53)}))
    found = gather(store)
    first, *others = found.arm("majority").trials
    kept = store.trial(first.id).predictions("test") or []
    record = store.trial(first.id).record()
    assert record is not None
    for trial in others:
        place = store.trial(trial.id)
        place.record_path.unlink()
        info = place.write_predictions("test", kept)
        place.write_record(record.model_copy(update={"spec": trial, "predictions": {"test": info}}))
    again = gather(store)
    metric = again.primary
    assert metric is not None
    baseline = Outcomes(again).figure(again.arm("majority"), metric)
    assert baseline is not None
    assert baseline.estimate.std == pytest.approx(0.0, abs=1e-12)
    assert baseline.estimate.interval is not None
    assert baseline.estimate.interval.high - baseline.estimate.interval.low > 0.09
    pair = answer(again).to_baseline["lora"]
    assert pair.test == "seeds and examples"
    assert pair.interval is not None
    assert pair.interval.high - pair.interval.low > 0.02


def easy_seeds(**levels: float) -> dict[tuple[str, int], float]:
    """Accuracies of eight seeds, the last two of them easy for all."""
    return {(label, seed): level + 0.1 * (seed > 5) for label, level in levels.items() for seed in range(8)}


def test_a_rival_that_is_ahead_on_shared_seeds_is_the_best(tmp_path: Path) -> None:
    """Full ran on two easy seeds more, so its own mean is higher; on the six seeds of both, lora is ahead."""
    accuracies = easy_seeds(majority=0.3, full=0.80, lora=0.815, head=0.6)
    found = results(tmp_path, seeds=8, accuracies=accuracies, skip=frozenset({("lora", 6), ("lora", 7)}))
    metric = found.primary
    assert metric is not None
    outcomes = Outcomes(found)
    full, lora = (outcomes.figure(found.arm(label), metric) for label in ("full", "lora"))
    assert full is not None
    assert lora is not None
    assert full.estimate.mean > lora.estimate.mean
    said = answer(found)
    assert said.best == "lora"
    assert said.to_best["full"].seeds == 6
    assert (said.to_best["full"].difference or 0.0) < 0
    assert said.ahead == ()
    assert said.unequal_seeds
    assert not answer(results(tmp_path / "equal", accuracies=accuracies)).unequal_seeds


def test_a_diverged_seed_counts_as_doing_without_training(tmp_path: Path) -> None:
    """Else the arm that breaks at a seed would be the best of those that end low there."""
    low = {("full", 3): 0.5, ("head", 3): 0.5}
    levels = {**LEVELS, "full": Level(0.9, 30.0), "lora": Level(0.89, 8.0), "head": Level(0.9, 3.0)}
    found = results(tmp_path, seeds=6, levels=levels, accuracies=low, fail={("lora", 3): Status.DIVERGED})
    said = answer(found)
    assert said.best in ("full", "head")
    assert said.seeds == 6
    metric = found.primary
    assert metric is not None
    outcomes = Outcomes(found)
    lora, majority = (outcomes.figure(found.arm(label), metric) for label in ("lora", "majority"))
    assert lora is not None
    assert majority is not None
    assert lora.without is not None
    assert (lora.diverged, lora.counted_as) == ((3,), "majority")
    assert lora.scores[3] == majority.scores[3]
    assert (lora.estimate.seeds, lora.without.seeds) == (6, 5)
    assert lora.without.mean > 0.9
    assert lora.estimate.mean == pytest.approx((5 * lora.without.mean + majority.scores[3]) / 6)
    # Compared example by example, as the baseline's own predictions are.
    assert (said.to_best["lora"].test, said.to_best["lora"].seeds) == ("seeds and examples", 6)
    message = next(caveat for caveat in said.caveats if "diverged at some seeds" in caveat)
    assert "counts as doing without training (majority): lora at 1 of 6 seeds (3): " in message
    assert f"{lora.estimate.mean:.4g} with them, {lora.without.mean:.4g} without" in message


@pytest.mark.parametrize("status", [Status.OUT_OF_MEMORY, Status.CANCELLED, Status.OVER_BUDGET, Status.FAILED])
def test_a_seed_that_ended_for_other_reasons_is_left_out(status: Status, tmp_path: Path) -> None:
    found = results(tmp_path, seeds=6, fail={("lora", 3): status})
    metric = found.primary
    assert metric is not None
    figure = Outcomes(found).figure(found.arm("lora"), metric)
    assert figure is not None
    assert (figure.estimate.seeds, figure.diverged, figure.without) == (5, (), None)


def test_a_row_that_diverged_at_every_seed_is_compared_and_never_the_best(tmp_path: Path) -> None:
    levels = {**LEVELS, "full": Level(0.45), "head": Level(0.4)}
    lost = {("lora", seed): Status.DIVERGED for seed in range(6)}
    found = answer(results(tmp_path, seeds=6, levels=levels, fail=lost))
    assert found.best == "full"
    assert found.ahead == ("lora",), "the baseline is ahead of what was trained"
    ahead = answer(results(tmp_path / "good", seeds=6, fail=lost))
    assert "lora" in ahead.behind
    only = answer(
        results(tmp_path / "none", fail={(label, seed): Status.DIVERGED for label in LEVELS for seed in (0, 1)})
    )
    assert only.best is None


def test_no_winner_while_a_row_that_trains_has_no_score(tmp_path: Path) -> None:
    levels = {**LEVELS, "lora": Level(0.8)}
    assert answer(results(tmp_path / "all", seeds=6, levels=levels)).winner == "full"
    lost = {("head", seed): Status.OUT_OF_MEMORY for seed in range(6)}
    found = answer(results(tmp_path, seeds=6, levels=levels, fail=lost))
    assert (found.best, found.winner, found.behind, found.without_score) == ("full", None, ("lora",), ("head",))


def test_rows_that_do_not_beat_the_floor_are_named(tmp_path: Path) -> None:
    found = answer(results(tmp_path, levels={**LEVELS, "head": Level(0.505)}))
    assert found.baseline == "majority"
    assert found.not_above_baseline == ("head",)


def test_a_single_score_below_the_floor_does_not_show_that_training_helps(tmp_path: Path) -> None:
    """Nothing tells the error of one seed without predictions, yet the baseline's mean is the better."""

    def without_predictions(name: str, **world: Any) -> Answer:
        found = results(tmp_path / name, seeds=1, **world)
        for record in found.completed:
            place = found.store.trial(record.spec.id)
            place.record_path.unlink()
            place.write_record(record.model_copy(update={"predictions": {}}))
        return answer(gather(found.store))

    below = without_predictions("below", levels={**LEVELS, "full": Level(0.3), "lora": Level(0.2), "head": Level(0.1)})
    assert below.to_baseline["full"].interval is None
    assert below.not_above_baseline == ("full", "lora", "head")
    assert below.if_trained == "full"
    above = without_predictions("above")
    assert (above.not_above_baseline, above.if_trained) == ((), None)


def test_one_row_clearly_above_the_floor_shows_that_training_helps(tmp_path: Path) -> None:
    found = answer(results(tmp_path, levels={**LEVELS, "head": Level(0.505), "lora": Level(0.505)}))
    assert (found.best, found.if_trained) == ("full", None)
    assert set(found.not_above_baseline) == {"head", "lora"}


def test_different_test_examples_are_not_compared(tmp_path: Path) -> None:
    other = data(0, 400)
    splits = {**other.splits, "test": other.splits["test"].model_copy(update={"fingerprint": "another"})}
    changed: DataInfo = other.model_copy(update={"splits": splits})
    study = results(tmp_path, changes={"head": {"data": changed}})
    found = answer(study)
    assert "head" in found.not_compared
    assert "other examples" in found.to_best["head"].reason
    assert "different_data" in {warning.name for warning in caveats(study)}


def test_damaged_predictions_fall_back_on_the_seeds(tmp_path: Path) -> None:
    study = results(tmp_path)
    trial = study.arm("head").trials[0]
    path = study.store.trial(trial.id).folder / "predictions-test.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    found = answer(study)
    pair = found.to_best["head"]
    assert (pair.examples, pair.test) == (None, "seeds")
    assert pair.difference is not None
    assert next(pair.examples for label, pair in found.to_best.items() if label != "head") == 400


def test_one_seed_without_predictions_leaves_it_open(tmp_path: Path) -> None:
    study = results(tmp_path, seeds=1)
    trial = study.arm("head").trials[0]
    (study.store.trial(trial.id).folder / "predictions-test.jsonl").unlink()
    pair = answer(study).to_best["head"]
    assert (pair.relation, pair.p, pair.interval) == ("open", None, None)
    assert pair.reason == "one seed and no values per example"
    assert (pair.difference or 0.0) < -0.2


def test_without_a_completed_trial_there_is_no_best(tmp_path: Path) -> None:
    everything = frozenset((label, seed) for label in LEVELS for seed in (0, 1))
    found = answer(results(tmp_path, skip=everything))
    assert found.best is None
    assert found.caveats[0].startswith("0 of 8 trials so far")


@pytest.mark.parametrize(
    ("world", "name", "words"),
    [
        ({"contended": frozenset({"lora"})}, "contended", "are marked †: 2 of lora"),
        ({"fail": {("lora", 1): Status.OUT_OF_MEMORY}}, "failed_trials", "out_of_memory: lora seed 1"),
        ({"skip": frozenset({("full", 0)})}, "missing_trials", "7 of 8 trials so far"),
        ({"skip": frozenset({("full", 0)})}, "unequal_seeds", "full 1"),
        ({"changes": {"head": {"environment": environment(processor="EPYC")}}}, "different_hardware", "EPYC"),
        ({"changes": {"head": {"environment": environment(threads=1)}}}, "different_hardware", "1 threads"),
        (
            {"changes": {"head": {"environment": environment(release_memory=True)}}},
            "different_release_memory",
            "2 of head",
        ),
        (
            {"changes": {"head": {"environment": environment(versions={"torch": "2.6.0"})}}},
            "different_versions",
            "torch 2.13.0, 2.6.0",
        ),
        (
            {"changes": {"head": {"data": data(0, 400).model_copy(update={"train_order_fingerprint": "x"})}}},
            "different_order",
            "different order",
        ),
        (
            {"changes": {"head": {"findings": finding("collapsed", "one class only")}}},
            "collapsed",
            "one class only (2 of head)",
        ),
    ],
)
def test_what_makes_rows_unequal_is_said(tmp_path: Path, world: dict[str, Any], name: str, words: str) -> None:
    found = {warning.name: warning.message for warning in caveats(results(tmp_path, **world))}
    assert words in found[name]


def test_findings_of_a_kind_are_one_caution_with_its_trials_counted(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        seeds=6,
        changes={
            "head": {"findings": finding("empty_outputs", "3 of 40 texts are empty")},
            "lora": {"findings": finding("empty_outputs", "9 of 40 texts are empty")},
        },
        fail={("full", seed): Status.DIVERGED for seed in range(4)},
    )
    told = {warning.name: [w.message for w in caveats(found) if w.name == warning.name] for warning in caveats(found)}
    like = "the like, in other words or figures, in 6 of head"
    assert told["empty_outputs"] == [f"9 of 40 texts are empty (6 of lora); {like}"]
    assert "diverged: 4 of full" in told["failed_trials"][0]
    assert not any("seed 3" in message for messages in told.values() for message in messages)


def test_unequal_numbers_of_examples_are_said(tmp_path: Path) -> None:
    fewer = data(0, 400).model_copy(update={"examples_trained": 1000})
    names = {w.name: w.message for w in caveats(results(tmp_path, seeds=1, changes={"head": {"data": fewer}}))}
    assert "different numbers of examples" in names["unequal_data"]
    assert "different_order" not in names


def test_an_equal_study_has_no_caveat(tmp_path: Path) -> None:
    assert caveats(results(tmp_path)) == []


def test_random_weights_are_the_first_caveat(tmp_path: Path) -> None:
    study = small_study("majority", "lora", model={"source": "gpt2", "random_weights": True})
    found = gather(build_store(tmp_path / "s", study, World(contended=frozenset({"lora"}))))
    assert "quality means nothing" in answer(found).caveats[0]


def writing(folder: Path, seeds: int = 2, **world: Any) -> Results:
    study = writing_study(*WRITERS, seeds=seeds)
    return gather(build_store(folder / "study", study, World(**{"levels": WRITERS, "test_rows": 60, **world})))


def test_texts_are_compared_by_each_examples_own_score(tmp_path: Path) -> None:
    found = answer(writing(tmp_path, seeds=1))
    assert found.best in ("full", "lora")
    assert {found.best, *found.open} == {"full", "lora", "prompt_tuning"}
    # One seed is enough for an interval, because examples are paired; outputs never equal their targets.
    pair = found.to_best["prompt_tuning"]
    assert (pair.examples, pair.seeds, pair.test) == (60, 1, "examples")
    assert pair.difference is not None
    assert -0.15 < pair.difference < -0.03
    assert found.baseline == "lead"
    assert found.to_best["zero_shot"].relation == "open"
    assert found.not_above_baseline == ()


def test_scores_that_do_not_give_the_metric_back_are_not_paired(tmp_path: Path) -> None:
    study = writing(tmp_path)
    assert answer(study).to_best["lora"].examples == 60
    for record in study.arm("lora").records:
        place = study.store.trial(record.spec.id)
        kept = place.predictions("test") or []
        changed = [p.model_copy(update={"values": {**p.values, "rouge_l": p.values["rouge_l"] / 2}}) for p in kept]
        place.record_path.unlink()
        place.write_record(
            record.model_copy(update={"predictions": {"test": place.write_predictions("test", changed)}})
        )
    again = gather(study.store)
    assert answer(again).to_best["lora"].examples is None
    metric = again.primary
    assert metric is not None
    figure = Outcomes(again).figure(again.arm("lora"), metric)
    assert figure is not None
    assert "predictions do not give rouge_l example by example" in figure.note


def test_where_lower_is_better_the_lowest_is_best(tmp_path: Path) -> None:
    changes = {label: {"primary_metric": "loss"} for label in ("zero_shot", "lora", "prompt_tuning", "full")}
    skip = frozenset(("lead", seed) for seed in range(6))
    found = answer(writing(tmp_path, seeds=6, changes=changes, skip=skip))
    assert found.best == "full"
    assert found.behind == ("lora", "prompt_tuning")
    assert found.baseline == "zero_shot"
    assert found.to_baseline["full"].relation == "ahead"
    assert found.to_best["zero_shot"].relation == "behind"
    assert found.not_above_baseline == ()


def test_floors_that_use_the_model_must_have_used_the_same(tmp_path: Path) -> None:
    study = writing(tmp_path)
    record = study.arm("zero_shot").records[0]
    assert record.model is not None
    other = record.model.model_copy(update={"checksum": "other"})
    names = {w.name for w in caveats(writing(tmp_path / "odd", changes={"zero_shot": {"model": other}}))}
    assert "different_model" in names
    assert "different_model" not in {w.name for w in caveats(study)}


def test_a_finding_of_all_rows_with_a_model_is_told_once(tmp_path: Path) -> None:
    labels = [label for label in WRITERS if label != "lead"]
    study = writing(tmp_path, changes={label: {"findings": finding("truncated", "cut")} for label in labels})
    assert [w.message for w in caveats(study)] == ["cut (all trials that use a model)"]
