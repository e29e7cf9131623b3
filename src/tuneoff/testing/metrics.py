"""What every metric that a study may add promises, on made-up predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from tuneoff import registry
from tuneoff.interfaces import MeanMetric, MetricDefinition, Outputs, PooledMetric
from tuneoff.testing.imports import find_imported

LABELS = ("a", "b", "c")
WORDS = ("one", "two", "three", "four", "five", "six")
EXAMPLES = 60
"""Examples of a made-up split."""


class MetricContract:
    """All that a metric promises.

    Attributes:
        metric: its name, as a study gives it.
        kind: what the made-up predictions are of: `class`, `number` or `text`; empty: what the metric says first.
        target, wrong: of a metric that looks for something in a text, a target and a wrong output, each with `{}` where
            a number stands.
    """

    metric: ClassVar[str]
    kind: ClassVar[Literal["class", "number", "text", ""]] = ""
    target: ClassVar[str] = "{} and so on, word by word"
    wrong: ClassVar[str] = "nothing of that, {}9"

    @property
    def definition(self) -> MetricDefinition:
        return registry.metrics()[self.metric]

    @pytest.fixture
    def outputs(self) -> Outputs:
        """A split of which about two thirds are right."""
        return self.create([i % 3 > 0 for i in range(EXAMPLES)])

    @pytest.fixture
    def right(self) -> Outputs:
        """A split of which all are right."""
        return self.create([True] * EXAMPLES)

    def create(self, is_right: Sequence[bool]) -> Outputs:
        """Makes up predictions, right or wrong as told."""
        kind = self.kind or (self.definition.produces or ("class",))[0]
        rng = np.random.default_rng(1)
        numbers = [i % len(LABELS) for i in range(len(is_right))]
        shown = [n if good else (n + 1) % len(LABELS) for n, good in zip(numbers, is_right, strict=True)]
        targets, outputs, scores = [LABELS[n] for n in numbers], [LABELS[n] for n in shown], []
        for i, chosen in enumerate(shown):
            # The right ones leave no doubt where all are right.
            logits = rng.normal(size=len(LABELS)) + np.where(np.arange(len(LABELS)) == chosen, 3.0, 0.0)
            if all(is_right):
                logits = np.where(np.arange(len(LABELS)) == chosen, 50.0, -i / 100)
            scores.append(tuple((logits - np.logaddexp.reduce(logits)).round(6).tolist()))
        if kind == "number":
            targets = [str(float(i)) for i in range(len(is_right))]
            outputs = [str(float(i) + (0 if good else 2 + i / 7)) for i, good in enumerate(is_right)]
        elif kind == "text":
            targets = [self.target.format(f"{WORDS[i % 6]} {i}") for i in range(len(is_right))]
            wrong = [self.wrong.format(f"{WORDS[i % 5]} {i}") for i in range(len(is_right))]
            outputs = [t if good else w for t, w, good in zip(targets, wrong, is_right, strict=True)]
        classes = kind == "class"
        count = len(is_right)
        return Outputs(
            targets=targets,
            outputs=outputs,
            scores=scores if classes else [()] * count,
            values=[{}] * count,
            losses=[None] * count,
            target_tokens=[None] * count,
            labels=LABELS if classes else (),
            inputs=[f"{target}, as it was put in" for target in targets],
        )

    def test_it_says_what_it_is(self) -> None:
        metric = self.definition
        assert metric.name == self.metric, "the name in records is the one that a study gives"
        assert metric.summary.endswith(".")
        assert metric.unit
        assert metric.direction in {"higher", "lower"}
        assert metric.low < metric.high
        assert isinstance(metric, (MeanMetric, PooledMetric)), "else its error is not known"
        assert set(metric.produces) <= {"class", "labels", "number", "text"}
        assert bool(metric.needs) == bool(metric.extra)

    def test_it_is_listed_without_torch(self) -> None:
        assert not find_imported(f"from tuneoff import registry; registry.metrics()[{self.metric!r}]")

    def test_nothing_scores_better_than_what_is_all_right(self, outputs: Outputs, right: Outputs) -> None:
        metric = self.definition
        value, best = metric.compute(outputs), metric.compute(right)
        assert value is not None
        assert best is not None
        assert (best > value) if metric.direction == "higher" else (best < value)
        assert all(metric.low - 1e-9 <= score <= metric.high + 1e-9 for score in (value, best))

    def test_order_and_repetition_change_nothing(self, outputs: Outputs) -> None:
        value = self.definition.compute(outputs)
        order = [*range(len(outputs) - 1, -1, -1)]
        assert self.definition.compute(_at(outputs, order)) == pytest.approx(value)
        twice = self.definition.compute(_at(outputs, [*order, *order]))
        assert twice == pytest.approx(value), "a metric of all examples changes with what they are, not with how many"

    def test_examples_give_its_value_and_its_error(self, outputs: Outputs) -> None:
        metric, value = self.definition, self.definition.compute(outputs)
        assert value is not None
        if isinstance(metric, MeanMetric):
            values = metric.example_values(outputs)
            assert values is not None
            assert values.shape == (len(outputs),)
            assert values.mean() == pytest.approx(value)
            return
        assert isinstance(metric, PooledMetric)
        terms = metric.example_terms(outputs)
        assert terms is not None
        assert terms.shape[0] == len(outputs)
        total = terms.sum(axis=0, dtype=np.float64)
        without_one = metric.of_many(total - terms.astype(np.float64))
        assert without_one.shape == (len(outputs),)
        assert np.isfinite(without_one).all()
        assert without_one.mean() == pytest.approx(value, abs=0.05 * max(1, abs(value)))
        singles = [float(metric.of_sums(total - own)) for own in terms.astype(np.float64)]
        assert without_one == pytest.approx(singles)
        assert metric.of_many(total[None])[0] == pytest.approx(value)

    def test_what_it_cannot_score_it_leaves_out(self, outputs: Outputs) -> None:
        if self.definition.written:
            return  # written text is all that it reads
        bare = replace(outputs, scores=[()] * len(outputs), labels=())
        value = self.definition.compute(bare)
        assert value is None or np.isfinite(value)


def _at(outputs: Outputs, order: Sequence[int]) -> Outputs:
    """Returns the examples at these places, in this order."""
    columns = ("targets", "outputs", "scores", "values", "losses", "target_tokens", "inputs")
    picked: dict[str, Any] = {name: [getattr(outputs, name)[i] for i in order] for name in columns}
    return replace(outputs, **picked)
