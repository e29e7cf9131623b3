"""Metrics give what scikit-learn and sacrebleu give for the same predictions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from time import process_time
from typing import Any

import numpy as np
import pytest
import sacrebleu
from sklearn.metrics import brier_score_loss, cohen_kappa_score, mean_absolute_error, roc_auc_score

from tuneoff import registry
from tuneoff.interfaces import MeanMetric, Outputs, PooledMetric


def _outputs(classes: int, seed: int, examples: int = 80, levels: int = 0) -> tuple[Outputs, Any, Any]:
    """Makes up outputs; also returns the numbers of the targets and the probabilities. With `levels` many are level."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, examples)
    logits = rng.normal(size=(examples, classes)) + 1.5 * (targets[:, None] == np.arange(classes))
    if levels:
        logits = np.round(logits * levels) / levels
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    labels = tuple(f"class {i}" for i in range(classes))
    outputs = Outputs(
        targets=[labels[i] for i in targets],
        outputs=[labels[i] for i in logs.argmax(axis=1)],
        scores=[tuple(row) for row in logs.tolist()],
        values=[{}] * examples,
        losses=[None] * examples,
        target_tokens=[None] * examples,
        labels=labels,
    )
    return outputs, targets, np.exp(logs)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_of_classes_equal_scikit_learns(classes: int, seed: int) -> None:
    outputs, targets, probabilities = _outputs(classes, seed)
    metrics = registry.metrics()
    area = roc_auc_score(
        targets, probabilities[:, 1] if classes == 2 else probabilities, multi_class="ovr", average="macro"
    )
    assert metrics["auc"].compute(outputs) == pytest.approx(area, abs=1e-12)
    assert metrics["kappa"].compute(outputs) == pytest.approx(cohen_kappa_score(targets, probabilities.argmax(1)))
    chosen = probabilities.argmax(1)
    weighted = cohen_kappa_score(targets, chosen, weights="quadratic")
    assert metrics["weighted_kappa"].compute(outputs) == pytest.approx(weighted)
    assert metrics["rank_error"].compute(outputs) == pytest.approx(mean_absolute_error(targets, chosen))
    brier = brier_score_loss(targets, probabilities[:, 1] if classes == 2 else probabilities)
    assert metrics["brier"].compute(outputs) == pytest.approx(brier)


def _only(outputs: Outputs, indices: list[int]) -> Outputs:
    names = ("targets", "outputs", "scores", "values", "losses", "target_tokens")
    picked: dict[str, Any] = {name: [getattr(outputs, name)[i] for i in indices] for name in names}
    return replace(outputs, **picked)


def test_level_probabilities_count_half_in_the_area() -> None:
    outputs, targets, probabilities = _outputs(2, 3, levels=1)
    scores = np.round(probabilities[:, 1], 9)
    assert len(set(scores.tolist())) < 20
    logs = np.log(np.stack([1 - scores, scores], axis=1))
    outputs = replace(outputs, scores=[tuple(row) for row in logs.tolist()])
    assert registry.metrics()["auc"].compute(outputs) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


def test_the_area_skips_classes_without_examples_of_both_kinds() -> None:
    outputs, targets, probabilities = _outputs(3, 0)
    few = [i for i, target in enumerate(targets) if target < 2]
    part = _only(outputs, few)
    odds = [np.log(probabilities[few, c] / (1 - probabilities[few, c])) for c in range(2)]
    expected = np.mean([roc_auc_score(targets[few] == c, odds[c]) for c in range(2)])
    assert registry.metrics()["auc"].compute(part) == pytest.approx(expected)
    one = [i for i, target in enumerate(targets) if target == 0]
    assert registry.metrics()["auc"].compute(_only(outputs, one)) is None


def test_the_error_of_the_area_is_delongs() -> None:
    outputs, targets, probabilities = _outputs(2, 5, examples=400)
    metric = registry.metrics()["auc"]
    assert isinstance(metric, PooledMetric)
    terms = metric.example_terms(outputs)
    assert terms is not None
    n = len(terms)
    without_one = metric.of_many(terms.sum(0) - terms)
    jackknife = np.sqrt((n - 1) / n * ((without_one - without_one.mean()) ** 2).sum())
    positive, negative = probabilities[targets == 1, 1], probabilities[targets == 0, 1]
    wins = (positive[:, None] > negative[None]).astype(float)
    delong = np.sqrt(wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative))
    assert jackknife == pytest.approx(delong, rel=0.01)


def test_the_calibration_error_by_its_definition() -> None:
    outputs, targets, probabilities = _outputs(3, 2, examples=500)
    confidence, is_right = probabilities.max(1), probabilities.argmax(1) == targets
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - is_right[inside].mean())
    assert registry.metrics()["calibration_error"].compute(outputs) == pytest.approx(expected)


def _texts(targets: list[str], outputs: list[str]) -> Outputs:
    n = len(targets)
    return Outputs(targets, outputs, [()] * n, [{}] * n, [None] * n, [None] * n)


TARGETS = ["The cat sat on the mat.", "It rains in Paris today, again.", "Preis: 3,50 €", "один два три", "x"]
OUTPUTS = ["The cat is on the mat.", "It rained in Paris, again and again.", "Preis: 4,50 €", "один три", ""]


@pytest.mark.parametrize("outputs", [OUTPUTS, TARGETS, [""] * 5, ["completely", "different", "words", "here", "?"]])
def test_bleu_and_chrf_equal_sacrebleus(outputs: list[str]) -> None:
    metrics = registry.metrics()
    texts = _texts(TARGETS, outputs)
    assert metrics["bleu"].compute(texts) == pytest.approx(sacrebleu.corpus_bleu(outputs, [TARGETS]).score)
    assert metrics["chrf"].compute(texts) == pytest.approx(sacrebleu.corpus_chrf(outputs, [TARGETS]).score)


def _exact(variant: str, target: str, output: str) -> float:
    metric = registry.metrics()[f"exact:{variant}"]
    assert isinstance(metric, MeanMetric)
    values = metric.example_values(_texts([target], [output]))
    assert values is not None
    return float(values[0])


@pytest.mark.parametrize(
    ("target", "output", "equal"),
    [
        ("He has 3 and 4.\n#### 1,234", "The answer is 1234.", 1),
        ("#### 18", "so it is $18.00", 1),
        ("#### 18", "so it is 18 dollars and 50 cents", 0),
        ("#### -5", "-5", 1),
        ("#### 0.5", ".5", 1),
        ("#### 5", "five", 0),
        ("#### 5", "", 0),
        ("no number", "no number", 0),
        ("#### 3", "1e999999999", 0),
        ("#### 4", "option-4", 1),
        ("#### 12", "between 10-12", 1),
        ("#### 4", "f(3)-4", 1),
        ("#### -4", "x = -4", 1),
    ],
)
def test_the_last_number_is_compared_as_a_number(target: str, output: str, equal: float) -> None:
    assert _exact("number", target, output) == equal


@pytest.mark.parametrize(
    ("target", "output", "equal"),
    [
        ("B", "The answer is (B).", 1),
        ("B", "b) because A is wrong", 1),
        ("(C)", "I think A is wrong. Answer: C", 1),
        ("A", "A dog is an animal", 0),
        ("D", "It must be D", 1),
        ("B", "The answer is B, since option A is too small.", 1),
        ("C", "Answer: C. Choice D would be right only if it rained.", 1),
        ("C", "The  answer is\n\noption c, not option B", 1),
        ("A", "The answer is a dog", 0),
        ("A", "The answer is a.", 1),
        ("A", "So option a is right", 1),
        ("C", "My answer: I think it is (C)", 1),
        ("D", "", 0),
    ],
)
def test_a_choices_letter(target: str, output: str, equal: float) -> None:
    assert _exact("letter", target, output) == equal


@pytest.mark.parametrize("text", ["answer" + " " * 40_000, "answer " * 6_000, "answer:" + "(" * 40_000])
def test_the_time_to_find_a_letter_is_linear_in_the_length(text: str) -> None:
    def seconds(text: str) -> float:
        started = process_time()
        assert _exact("letter", "B", f"{text}!") == 0
        return process_time() - started

    plain = min(seconds("some x " * 6_000) for _ in range(3))
    assert min(seconds(text) for _ in range(2)) < 30 * plain


@pytest.mark.parametrize(
    ("field", "target", "output", "equal"),
    [
        ("a", '{"a": 1}', 'Sure: {"a": 1, "b": 2} done', 1),
        ("a", '{"a": 1}', '{"a": "1"}', 1),
        ("a", '{"a": 1}', '{"a": true}', 0),
        ("a", '{"a": 1}', '{"a": 1', 0),
        ("a", '{"a": 1}', '{"b": 1}', 0),
        ("x.y", '{"x": {"y": ["p", "q"]}}', '{"x": {"y": ["p", "q"]}}', 1),
        ("a", "yes", '{"a": "yes "}', 1),
    ],
)
def test_a_field_of_json(field: str, target: str, output: str, equal: float) -> None:
    assert _exact(f"json.{field}", target, output) == equal
