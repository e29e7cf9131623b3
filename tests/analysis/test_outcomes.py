"""From predictions to samples: every metric that they give back is known per example."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from class_score_helpers import class_scores
from record_helpers import CLASSES, WRITERS, Level, World, build_store, small_study, writing_study
from tuneoff.analysis.outcomes import MetricEstimate, Outcomes, over_seeds, within_range
from tuneoff.analysis.results import Results, gather
from tuneoff.analysis.statistics import Sample, estimate
from tuneoff.interfaces import MeanMetric
from tuneoff.records.record import Metric, Prediction, Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.tasks.classification import Classification

LABELS = ("full", "lora")


def classified(folder: Path, seeds: int = 3, rows: int = 120, **knobs: Any) -> Results:
    """Two arms whose records hold the task's own metrics of their predictions."""
    store = build_store(folder / "s", small_study(*LABELS, seeds=seeds), World(test_rows=rows))
    for record in store.records():
        chance = random.Random(f"{record.spec.label}{record.spec.seed}")
        examples = random.Random(1)
        made = []
        for index in range(rows):
            target, hardness = examples.choice(CLASSES), examples.random()
            # Hard examples are hard at every seed, so that examples cause an error that seeds do not see.
            output = target if 0.7 * hardness + 0.3 * chance.random() < 0.7 else chance.choice(CLASSES)
            log_probability = math.log(0.7), math.log(0.1)
            scores = tuple(log_probability[0] if label == output else log_probability[1] for label in CLASSES)
            made.append(Prediction(index=index, target=target, output=output, scores=scores))
        rewrite(store, record.spec.id, made, **knobs)
    return gather(store)


def rewrite(store: StudyStore, trial_id: str, made: list[Prediction], shift: float = 0.0) -> None:
    place = store.trial(trial_id)
    record = place.record()
    assert record is not None
    target, output = (np.array([CLASSES.index(getattr(p, name)) for p in made]) for name in ("target", "output"))
    values = class_scores(target, output)
    values["loss"] = -sum(p.scores[t] for p, t in zip(made, target, strict=True)) / len(made)
    metrics = tuple(
        m.model_copy(update={"value": values[m.name] + shift}) if m.split == "test" else m for m in record.metrics
    )
    place.record_path.unlink()
    info = place.write_predictions("test", made)
    place.write_record(record.model_copy(update={"metrics": metrics, "predictions": {"test": info}}))


def metric(results: Results, name: str) -> Metric:
    return next(m for m in results.completed[0].metrics if m.name == name and m.split == "test")


def figure(results: Results, name: str, label: str = "lora") -> MetricEstimate:
    known = next(m for r in results.completed for m in r.metrics if m.name == name and m.split == "test")
    found = Outcomes(results).figure(results.arm(label), known)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "mcc", "loss"])
def test_metrics_of_classes_are_told_by_seeds_and_examples(name: str, tmp_path: Path) -> None:
    results = classified(tmp_path)
    found = figure(results, name)
    assert (found.note, found.estimate.examples, found.estimate.seeds) == ("", 120, 3)
    assert found.estimate.mean == pytest.approx(np.mean(list(results.arm("lora").scores(name).values())))
    assert found.estimate.interval is not None
    assert found.estimate.interval.over == "seeds and examples"
    # Right some 80 % of the time on 120 examples: the error is a few percent.
    assert 0.04 < found.estimate.interval.high - found.estimate.interval.low < 0.5
    assert found.estimate.interval.low < found.estimate.mean < found.estimate.interval.high


def test_the_error_of_macro_f1_is_that_of_resampled_examples(tmp_path: Path) -> None:
    """One seed, so only examples vary: the jackknife against the bootstrap."""
    results = classified(tmp_path, seeds=1, rows=300)
    found = figure(results, "macro_f1").sample
    assert found is not None
    assert found.contributions is not None
    jackknife = found.contributions.std(ddof=1) / math.sqrt(found.contributions.shape[1])
    kept = results.store.trial(results.arm("lora").trials[0].id).predictions("test") or []
    target, output = (np.array([CLASSES.index(getattr(p, name)) for p in kept]) for name in ("target", "output"))
    draws = np.random.default_rng(0).integers(300, size=(1000, 300))
    bootstrap = np.std([class_scores(target[i], output[i])["macro_f1"] for i in draws])
    assert jackknife == pytest.approx(bootstrap, rel=0.15)


@pytest.mark.parametrize("name", ["macro_f1", "mcc"])
def test_leaving_an_example_out_is_counting_all_others(name: str, tmp_path: Path) -> None:
    results = classified(tmp_path, rows=40)
    found = figure(results, name).sample
    assert found is not None
    assert found.contributions is not None
    for own, trial in zip(found.contributions, results.arm("lora").trials, strict=True):
        kept = results.store.trial(trial.id).predictions("test") or []
        target, output = (np.array([CLASSES.index(getattr(p, key)) for p in kept]) for key in ("target", "output"))
        whole = class_scores(target, output)[name]
        without = [class_scores(np.delete(target, at), np.delete(output, at))[name] for at in range(40)]
        expected = 39 * (whole - np.array(without))
        np.testing.assert_allclose(own, expected - expected.mean() + whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["rouge_l", "loss", "perplexity"])
def test_metrics_of_texts_are_told_by_seeds_and_examples(name: str, tmp_path: Path) -> None:
    results = gather(build_store(tmp_path / "s", writing_study("lora", "full"), World(levels=WRITERS, test_rows=40)))
    found = figure(results, name)
    assert (found.note, found.estimate.examples) == ("", 40)


def test_what_predictions_do_not_give_back_is_told_by_seeds_alone(tmp_path: Path) -> None:
    results = classified(tmp_path, shift=-0.01)
    for name in ("accuracy", "macro_f1", "loss"):
        found = figure(results, name)
        assert f"do not give {name} example by example" in found.note
        assert found.estimate.interval is not None
        assert found.estimate.interval.over == "seeds"


def test_one_seed_without_predictions_has_no_interval_and_says_why(tmp_path: Path) -> None:
    found = figure(classified(tmp_path, seeds=1, shift=-0.01), "accuracy").estimate
    assert (found.std, found.interval, found.reason) == (None, None, "one seed and no values per example")


def test_seeds_that_agree_without_predictions_tell_no_error(tmp_path: Path) -> None:
    """Six equal scores are no proof that another test set would give them too."""
    store = build_store(
        tmp_path / "s",
        small_study("majority", "lora", seeds=6),
        World(levels={"majority": Level(0.5, head=0), "lora": Level(0.9)}),
    )
    for trial in gather(store).arm("majority").trials:
        place = store.trial(trial.id)
        record = place.record()
        assert record is not None
        place.record_path.unlink()
        metrics = tuple(m.model_copy(update={"value": 0.5}) for m in record.metrics)
        place.write_record(record.model_copy(update={"metrics": metrics, "predictions": {}}))
    results = gather(store)
    found = figure(results, "accuracy", "majority")
    assert (found.sample, found.estimate.interval) == (None, None)
    assert "same score at every seed" in found.estimate.reason
    verdict = Outcomes(results).verdict(metric(results, "accuracy"))
    assert verdict is not None
    assert [one.label for one in verdict.estimates] == ["lora"]


def test_a_perplexity_beyond_all_bounds_has_a_mean_and_no_error(tmp_path: Path) -> None:
    results = gather(build_store(tmp_path / "s", writing_study("lora", "full"), World(levels=WRITERS, test_rows=5)))
    for record in results.arm("lora").completed:
        place = results.store.trial(record.spec.id)
        place.record_path.unlink()
        huge = tuple(m.model_copy(update={"value": 1e304}) if m.name == "perplexity" else m for m in record.metrics)
        place.write_record(record.model_copy(update={"metrics": huge}))
    found = figure(gather(results.store), "perplexity")
    assert (found.estimate.mean, found.estimate.interval, found.sample) == (1e304, None, None)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "mcc", "loss"])
def test_without_a_floor_a_diverged_seed_counts_as_the_most_frequent_class(name: str, tmp_path: Path) -> None:
    results = classified(tmp_path)
    lost = results.arm("lora").records[1].spec.id
    place = results.store.trial(lost)
    record = place.record()
    assert record is not None
    kept = place.predictions("test") or []
    place.record_path.unlink()
    place.write_record(TrialRecord(spec=record.spec, status=Status.DIVERGED, cause="the loss became NaN"))
    found = figure(gather(results.store), name)
    # The training rows of made-up records hold as many of each class, and the first of these is named.
    target = np.array([CLASSES.index(p.target) for p in kept])
    expected = class_scores(target, np.zeros(len(target), dtype=int))
    expected["loss"] = -math.log(2 / (1000 + len(CLASSES)))
    assert found.scores[1] == pytest.approx(expected[name])
    assert (found.diverged, found.counted_as) == ((1,), "always the most frequent class")
    assert found.estimate.examples == 120


@pytest.mark.parametrize(
    ("name", "counted_as"), [("rouge_l", "a score of 0"), ("loss", "the worst of all completed trials")]
)
def test_of_texts_without_a_floor_it_counts_as_nothing_or_the_worst(name: str, counted_as: str, tmp_path: Path) -> None:
    world = World(levels=WRITERS, test_rows=40, fail={("full", 0): Status.DIVERGED})
    results = gather(build_store(tmp_path / "s", writing_study("lora", "full"), world))
    found = figure(results, name, "full")
    worst = max(v for label in LABELS for v in results.arm(label).scores("loss").values())
    assert found.scores[0] == (0.0 if name == "rouge_l" else worst)
    assert (found.counted_as, found.estimate.examples) == (counted_as, 40)


def test_the_floor_that_a_diverged_seed_counts_as_is_the_metrics_own_best(tmp_path: Path) -> None:
    world = World(levels=WRITERS, test_rows=40, fail={("full", 0): Status.DIVERGED})
    results = gather(build_store(tmp_path / "s", writing_study("lead", "zero_shot", "full"), world))
    assert figure(results, "rouge_l", "full").counted_as == "lead"
    assert figure(results, "loss", "full").counted_as == "zero_shot"


@pytest.mark.parametrize(("seeds", "above"), [(1, None), (2, None), (3, True)])
def test_under_three_seeds_nothing_is_better_than_not_training(seeds: int, above: bool | None, tmp_path: Path) -> None:
    levels = {"majority": Level(0.5, head=0), "lora": Level(0.9)}
    results = gather(build_store(tmp_path / "s", small_study(*levels, seeds=seeds), World(levels=levels)))
    outcomes, primary = Outcomes(results), results.primary
    assert primary is not None
    lora, majority = results.arm("lora"), results.arm("majority")
    assert outcomes.above(lora, majority, primary) is above
    assert outcomes.above(majority, lora, primary) is False
    assert not outcomes.unproven([lora], majority, primary)


def test_intervals_stay_where_the_metric_can_be() -> None:
    found = estimate(Sample.from_scores("", range(2), [0.1, 0.9]))
    assert found.interval is not None
    assert found.interval.low < -1
    cut = within_range(found, Classification({}).metric("mcc")).interval
    assert cut is not None
    assert (cut.low, cut.high) == (-1.0, 1.0)
    assert within_range(found, MeanMetric(name="somebodys_metric", direction="higher")) == found


def test_a_cost_has_students_interval_by_a_factor() -> None:
    found = over_seeds([1.0, 2.0, 4.0])
    assert found is not None
    assert found.interval is not None
    assert found.mean == pytest.approx(7 / 3)
    # The logarithms have the deviation log 2; t quantile of 2 degrees of freedom at 97.5 %: 4.302653
    factor = 2 ** (4.302653 / 3**0.5)
    assert (found.interval.low, found.interval.high) == pytest.approx((7 / 3 / factor, 7 / 3 * factor), rel=1e-6)
    two = over_seeds([0.001, 12.2])
    assert two is not None
    assert two.interval is not None
    assert 0 < two.interval.low < two.mean < two.interval.high < math.inf
    nothing = over_seeds([0.0, 1.0, 2.0])
    assert nothing is not None
    assert nothing.interval is not None
    assert nothing.interval.low < 0, "what may be nothing has no logarithm"
    one = over_seeds([0.5])
    assert one is not None
    assert (one.std, one.interval) == (None, None)
    assert over_seeds([]) is None
