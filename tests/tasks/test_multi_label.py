"""Multi-label classification: labels read from any shape, metrics as scikit-learn's, thresholds of validation alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from tuneoff import registry
from tuneoff.errors import DataError
from tuneoff.interfaces import Baseline, Example, Outputs, PooledMetric, Rows, read_labels, write_labels
from tuneoff.records.record import Prediction
from tuneoff.tasks._label_sets import best_threshold
from tuneoff.tasks.multi_label import MultiLabel

Array = NDArray[np.float64]


def read(cells: list[Any], options: dict[str, Any] | None = None, **rows: Any) -> list[list[str]]:
    """Reads a column of labels."""
    task = MultiLabel(options or {})
    table = Rows({"text": [f"text {i}" for i in range(len(cells))], "labels": cells}, "rows.csv", **rows)
    return [sorted(read_labels(e.target)) for e in task.examples(table, task.columns(table), "train")]


def fitted(labels: str = "abc", **options: Any) -> tuple[MultiLabel, list[Example]]:
    task = MultiLabel({"labels": list(labels), **options})
    rows = Rows({"text": ["one", "two", "three"], "labels": [["a"], ["a", "b"], ["c"]]}, "rows.csv")
    examples = task.examples(rows, task.columns(rows), "train")
    task.fit({"train": examples})
    return task, examples


def predictions(targets: NDArray[np.bool_], probabilities: Array) -> list[Prediction]:
    names = [chr(97 + i) for i in range(targets.shape[1])]
    return [
        Prediction(
            index=i,
            target=write_labels(np.array(names)[row].tolist()),
            output="[]",
            scores=tuple(float(f"{math.log(p):.6g}") for p in chances),
        )
        for i, (row, chances) in enumerate(zip(targets, probabilities, strict=True))
    ]


def drawn(seed: int, rows: int = 200, labels: int = 6, rarest: float = 0.02) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    targets = rng.random((rows, labels)) < np.linspace(rarest, 0.5, labels)
    noise = rng.normal(0, 1, (rows, labels)) + 1.5 * targets - 1
    return predictions(targets, np.round(1 / (1 + np.exp(-noise)), 2).clip(0.01, 0.99))  # with many ties


# --- rows


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([["b", "a"], [], ("c",)], [["a", "b"], [], ["c"]]),
        (["a|b", "c", "b | a|"], [["a", "b"], ["c"], ["a", "b"]]),
        (["a; b", "c, d", "b"], [["a", "b"], ["c, d"], ["b"]]),
        (["['a', 'b']", "[]", '["c"]'], [["a", "b"], [], ["c"]]),
        (["[0 2]", "[1]", "2"], [["0", "2"], ["1"], ["2"]]),
        ([np.array([1, 2]), np.array([], dtype=int), [3.0]], [["1", "2"], [], ["3"]]),
    ],
)
def test_labels_are_read_from_lists_and_texts(cells: list[Any], expected: list[list[str]]) -> None:
    assert read(cells) == expected


@pytest.mark.parametrize("part", [1.5, True, math.inf])
def test_labels_are_names_or_whole_numbers(part: Any) -> None:
    with pytest.raises(DataError, match=rf"rows.csv row 2: column 'labels' holds {part}, which is neither a name nor"):
        read([["a"], ["a", part]])


@pytest.mark.parametrize("cell", [["a", "\ud800"], "a|\ud800", "['a', '\\ud800']"])
def test_labels_that_are_no_unicode_are_refused_with_their_row(cell: Any) -> None:
    with pytest.raises(DataError, match=r"rows.csv row 2 holds text that is not valid Unicode"):
        read([["a"], cell])


def test_numbers_are_named_by_the_source_and_by_the_options() -> None:
    assert read([[0], [1, 0]], class_names={"labels": ("x", "y")}) == [["x"], ["x", "y"]]
    assert read([[0], ["q", 0]], {"labels": ["p", "q"]}) == [["p"], ["p", "q"]]
    with pytest.raises(DataError, match="not in task"):
        read([["r"]], {"labels": ["p", "q"]})


def test_a_separator_is_told_and_can_be_named() -> None:
    assert read(["a/b", "c"], {"separator": "/"}) == [["a", "b"], ["c"]]
    task = MultiLabel({})
    rows = Rows({"text": ["one", "two"], "labels": ["a;b", "c"]}, "rows.csv")
    task.fit({"train": task.examples(rows, task.columns(rows), "train")})
    assert [finding.name for finding in task.findings()] == ["separator"]


def test_columns_of_yes_and_no_are_labels_in_their_order() -> None:
    task = MultiLabel({"label": ["toxic", "rude"]})
    rows = Rows({"text": ["x", "y", "z"], "rude": [1, 0, "1"], "toxic": ["yes", False, 0.0]}, "rows.csv")
    examples = task.examples(rows, task.columns(rows), "train")
    task.fit({"train": examples})
    assert [e.target for e in examples] == ['["rude", "toxic"]', "[]", '["rude"]']
    assert task.labels == ("toxic", "rude")
    assert task.count_classes(examples) == {"toxic": 1, "rude": 2}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"toxic": [1, 2], "rude": [0, 1]}, "holds '2', where 0 or 1"),
        ({"toxic": [1, None], "rude": [0, 1]}, "have no label toxic"),
        ({"toxic": [1, 0]}, "no column 'rude'"),
    ],
)
def test_columns_that_do_not_say_yes_or_no_are_refused(columns: dict[str, list[Any]], said: str) -> None:
    task, rows = MultiLabel({"label": ["toxic", "rude"]}), Rows({"text": ["x", "y"], **columns}, "rows.csv")
    with pytest.raises(DataError, match=said):
        task.examples(rows, task.columns(rows), "train")


@pytest.mark.parametrize("cell", [{"a": 1}, [["a"]], b"a", [None]])
def test_what_holds_no_labels_is_refused_with_its_place(cell: Any) -> None:
    with pytest.raises(DataError, match=r"rows.csv row 2"):
        read([["a"], cell])


@pytest.mark.parametrize(
    "cells",
    [
        [[0, 1, 0], [1, 0, 0]],
        [[1.0, 1.0], [0.0, 1.0]],
        [np.array([0, 0, 1]), np.array([0, 1, 1])],
        [[True, False], [False, False]],
        ["[0. 1. 0.]", "[1. 0. 0.]"],
        [[0, 1, 0], [1, 0, 0], [0, 1], [1, 1, 0]],
    ],
)
def test_vectors_of_0_and_1_are_not_taken_for_numbers_of_labels(cells: list[Any]) -> None:
    with pytest.raises(DataError, match="holds vectors of 0 and 1 such as "):
        read(cells, {"labels": ("a", "b", "c")})


def test_numbers_0_and_1_are_those_of_labels_where_lists_are_no_vectors() -> None:
    assert read([[0, 1], [1]], {"labels": ("a", "b")}) == [["a", "b"], ["b"]]
    assert read([[0, 1], [1, 0]], {"labels": ("a", "b")}) == [["a", "b"]] * 2
    assert read([[1, 1], [2], [0, 2]], {"labels": ("a", "b", "c")}) == [["b"], ["c"], ["a", "c"]]


def test_outputs_start_at_the_labels_log_odds_in_the_rows_that_are_trained_on() -> None:
    task, examples = fitted("abcd")
    assert task.initial_bias == ()  # of a trained model nothing starts
    task.refit(examples[:2])
    assert task.initial_bias == pytest.approx([math.log(3 / 1), math.log(2 / 2), math.log(1 / 3), math.log(1 / 3)])
    zero, examples = fitted("abcd", initial_bias="zero")
    zero.refit(examples)
    assert zero.initial_bias == ()


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": {"a": 1.5}}, {"label": ["a", "a"]}])
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MultiLabel(options)


def test_thresholds_must_be_of_the_labels() -> None:
    with pytest.raises(DataError, match="none for the label 'b'"):
        fitted(threshold={"a": 0.5, "c": 0.5})
    with pytest.raises(DataError, match="the label 'd', which there isn't"):
        fitted(threshold={"a": 0.5, "b": 0.2, "c": 0.5, "d": 0.1})


def test_equal_labels_and_labels_of_later_splits_alone_are_refused() -> None:
    task, examples = fitted()
    with pytest.raises(DataError, match="nothing to learn"):
        task.fit({"train": examples[:1]})
    with pytest.raises(DataError, match="'c' stands in test"):
        task.fit({"train": examples[:2], "test": examples[2:]})


def test_the_rarest_label_of_a_row_is_its_stratum_and_what_none_learns_is_told() -> None:
    task, examples = fitted()
    assert [task.stratum(example) for example in examples] == ["a", "b", "c"]
    task.refit(examples[:2])
    assert "no training row has, so that none can learn them: c" in task.findings()[-1].message


# --- metrics


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, (0.584183673469, 0.504113397413, 0.592275644222, 0.135, 0.464622831271)),
        (1, (0.596226415094, 0.523643721302, 0.611784875356, 0.18, 0.458789895936)),
        (2, (0.602346805737, 0.529622820853, 0.644283593461, 0.2, 0.448144865084)),
    ],
)
def test_metrics_equal_those_of_scikit_learn(seed: int, expected: tuple[float, ...]) -> None:
    """What scikit-learn 1.9.1 gives: f1_score (micro; macro, zero_division=nan), average_precision_score,
    accuracy_score and log_loss of all labels together."""
    task, _ = fitted("abcdef")
    decided = task.decide(drawn(seed), {"threshold": dict.fromkeys("abcdef", 0.4)})
    metrics = {metric.name: metric.value for metric in task.score(decided, "test")}
    assert [metrics[name] for name in ("micro_f1", "macro_f1", "map", "exact_match", "loss")] == pytest.approx(
        expected, abs=1e-8
    )


def test_average_precision_is_that_of_its_definition_with_ties() -> None:
    targets = np.array([[1], [0], [1], [1], [0]], dtype=bool)
    scores = np.array([[0.9], [0.8], [0.8], [0.3], [0.1]])
    outputs = Outputs.of(predictions(targets, scores), ("a",))
    # Of the ranks 1, 2 and 3 together, and 4: precision 1, 2/3 and 3/4.
    assert MultiLabel({}).metric("map").compute(outputs) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_the_terms_of_average_precision_tell_what_leaving_out_an_example_does() -> None:
    """Their jackknife error is that of computing the metric anew without each example."""
    metric, found = MultiLabel({}).metric("map"), drawn(4, 300, 3, rarest=0.2)
    assert isinstance(metric, PooledMetric)
    terms = metric.terms(Outputs.of(found, tuple("abc")))
    total = terms.sum(axis=0)
    by_terms = metric.of_many(total - terms)
    anew = [metric.compute(Outputs.of(found[:i] + found[i + 1 :], tuple("abc"))) for i in range(len(found))]
    assert np.std(by_terms) == pytest.approx(float(np.std(np.array(anew, dtype=float))), rel=0.05)


def test_probabilities_near_one_stay_apart_and_certain_errors_stay_finite() -> None:
    task, examples = fitted()
    logits = torch.tensor([[40.0, 30.0, 20.0], [-40.0, 0.0, 0.0], [0.0, 0.0, 800.0]])
    found = task.outcome(logits, {}, examples)
    assert len(set(found[0].scores)) == 3
    assert all(math.isfinite(metric.value) for metric in task.score(found, "test"))


# --- thresholds


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    present = rng.random(300) < 0.2
    scores = np.round((rng.random(300) + 0.6 * present) / 2, 2)

    def f1(threshold: float) -> float:
        called = scores >= threshold
        return float(2 * (called & present).sum() / (called.sum() + present.sum()))

    assert f1(best_threshold(scores, present)) == max(f1(value) for value in scores)
    assert best_threshold(scores, np.zeros(300, dtype=bool)) == 0.5


@pytest.mark.parametrize("high", [0.99999999, 1.0, 5e-324])
def test_a_threshold_between_probabilities_too_close_to_round_is_the_higher_one(high: float) -> None:
    scores = np.array([high, np.nextafter(high, 0), 0.0])
    threshold = best_threshold(scores, np.array([True, False, False]))
    assert (scores >= threshold).tolist() == [True, False, False]
    MultiLabel({"labels": ["a", "b"], "threshold": {"a": threshold, "b": best_threshold(0 * scores, scores > 0)}})


@pytest.mark.parametrize("kind", ["one", "per_label"])
def test_thresholds_are_chosen_on_given_predictions_and_kept_as_an_option(kind: str) -> None:
    task, _ = fitted("abcdef", threshold=kind)
    chosen = task.choose(drawn(1))
    thresholds = chosen["threshold"]
    assert set(thresholds) == set("abcdef")
    assert (len(set(thresholds.values())) == 1) == (kind == "one")
    again, _ = fitted("abcdef", **chosen)
    assert again.choose(drawn(2)) == {}
    assert again.decide(drawn(2), {}) == task.decide(drawn(2), chosen)


def test_a_threshold_of_the_users_is_not_chosen() -> None:
    task, _ = fitted(threshold=0.3)
    found = predictions(np.array([[True, False, False]]), np.array([[0.31, 0.29, 0.9]]))
    assert task.choose(found) == {}
    assert task.decide(found, {})[0].output == '["a", "c"]'


# --- baselines


@pytest.mark.parametrize(("method", "expected"), [("label_set", '["b"]'), ("label_prior", '["a", "b"]')])
def test_baselines_predict_one_set_of_labels(method: str, expected: str) -> None:
    task = MultiLabel({})
    cells = [["b"], ["b"], ["a", "c"], ["a", "d"], ["a", "b", "e"]]
    rows = Rows({"text": list("uvwxy"), "labels": cells}, "rows.csv")
    examples = task.examples(rows, task.columns(rows), "train")
    task.fit({"train": examples})
    baseline = registry.methods()[method].create({})
    assert isinstance(baseline, Baseline)
    found = baseline.predict(task, examples, examples)
    assert {p.output for p in found} == {expected}
    assert np.exp(found[0].scores) == pytest.approx([4 / 7, 4 / 7, 2 / 7, 2 / 7, 2 / 7], rel=1e-5)
    assert {metric.name for metric in task.score(found, "test")} == {metric.name for metric in task.metrics}
