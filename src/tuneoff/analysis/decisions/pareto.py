"""The arms' figures on each axis, and the Pareto front: the methods that no other beats on every axis at once.

A method is on the front when no other is at least as good on every axis and better on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.axes import QUALITY, Axis
from tuneoff.analysis.figures import why_missing
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.retention import change_sample
from tuneoff.analysis.statistics import Sample, draw_means
from tuneoff.analysis.statistics.estimates import MOST_LOGARITHM
from tuneoff.analysis.statistics.joint import DRAWS
from tuneoff.records.record import Metric

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Figures of all arms on one axis, and where their true means may lie.

    Attributes:
        axis: `quality` or a cost's name.
        means: label -> mean over seeds; of quality set beside the others' (`rank`).
        missing: label -> why there is none.
        drawn: label -> draws of the true mean, shape (draws,); the draws of quality are joint. An arm whose error
            cannot be estimated has its mean in every draw, and is in `still`.
        still: labels whose error cannot be estimated.
    """

    axis: str
    means: dict[str, float]
    missing: dict[str, str]
    drawn: dict[str, Array]
    still: tuple[str, ...]


def quality_draws(results: Results, outcomes: Outcomes, metric: Metric, draws: int = DRAWS) -> Draws:
    """Draws true means of a test metric. Arms that are not compared on it are in `missing`, with the reason."""
    means: dict[str, float] = {}
    missing: dict[str, str] = {}
    samples: list[Sample] = []
    for arm in results.arms:
        figure = outcomes.figure(arm, metric)
        if figure is None:
            missing[arm.label] = _why_no_metric(arm, metric)
        elif not figure.weighed:
            missing[arm.label] = figure.note
        else:
            mean = outcomes.mean(arm, metric)
            assert mean is not None  # it is weighed
            means[arm.label] = mean
            if figure.sample is not None and len(figure.sample) > 1:
                samples.append(figure.sample)
    drawn: dict[str, Array] = {}
    if samples:
        mean_draws = draw_means(samples, draws, ranking=outcomes.ranking(metric))
        drawn = {sample.label: mean_draws[:, index] for index, sample in enumerate(samples)}
    still = tuple(label for label in means if label not in drawn)
    drawn |= {label: np.full(draws, means[label]) for label in still}
    return Draws(QUALITY, means, missing, drawn, still)


def cost_draws(results: Results, axis: Axis, draws: int = DRAWS) -> Draws:
    """Draws true means of a cost. Each arm's error is Student's over the logarithms of its seeds, so that no draw is
    negative; over the seeds themselves where one costs nothing.

    Of what an arm forgets, which may be below 0, it is over seeds and the rows of what is held.

    An arm that does not train costs nothing of what only training costs.
    """
    means, missing, drawn, still = {}, {}, {}, []
    is_held = any(record.retention.held for record in results.completed)
    for index, arm in enumerate(results.arms):
        values = [value for record in arm.completed if (value := axis.of(record)) is not None]
        if not values and not arm.trains and arm.completed and axis.training and (is_held or not axis.signed):
            values = [0.0] * max(len(arm.completed), 2)
        if not values:
            reasons = dict.fromkeys(why_missing(record, axis.place) for record in arm.completed)
            missing[arm.label] = "; ".join(reasons) or "no trial of this arm has completed"
            continue
        means[arm.label] = float(np.mean(values))
        if len(values) > 1 and axis.signed and arm.trains:
            changes = change_sample(arm)
            assert changes is not None  # it has values
            drawn[arm.label] = draw_means([changes], draws, seed=index + 1)[:, 0]
        elif len(values) > 1:
            drawn[arm.label] = _cost_errors(arm.label, values, draws, seed=index + 1)
        else:
            drawn[arm.label] = np.full(draws, means[arm.label])
            # Bytes that a method stores and parameters that it trains are the same at every seed.
            if axis.name not in ("stored", "parameters"):
                still.append(arm.label)
    return Draws(axis.name, means, missing, drawn, tuple(still))


def _cost_errors(label: str, values: Sequence[float], draws: int, seed: int) -> Array:
    mean, positive = float(np.mean(values)), min(values) > 0
    sample = Sample.from_scores(label, range(len(values)), np.log(values) if positive else values)
    drawn = draw_means([sample], draws, seed=seed)[:, 0]
    if not positive:
        return np.maximum(drawn, 0.0)
    return np.asarray(mean * np.exp(np.clip(drawn - sample.scores.mean(), -MOST_LOGARITHM, MOST_LOGARITHM)))


@dataclass(frozen=True)
class Front:
    """The Pareto front.

    Attributes:
        axes: the axes that were compared.
        labels: arms on the front by their means, best quality (or first axis) first.
        probabilities: label -> how often the arm is on the front over draws of all true means; of every arm compared.
            None where on some axis no arm's error can be estimated.
        left_out: label -> why it was not compared.
    """

    axes: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: dict[str, float] | None
    left_out: dict[str, str]


def find_front(drawn: Sequence[Draws], directions: Mapping[str, Literal["higher", "lower"]]) -> Front:
    """Finds the Pareto front over two axes or three.

    Args:
        drawn: one per axis, all of the same arms and with equally many draws.
        directions: axis -> which values are better; less is better where it is not named.

    Raises:
        ValueError: if there are fewer than two axes or more than three.
    """
    if not 2 <= len(drawn) <= 3:
        raise ValueError(f"a Pareto front has two axes or three, not {len(drawn)}")
    left_out: dict[str, str] = {}
    for axis in drawn:
        for label, reason in axis.missing.items():
            left_out.setdefault(label, f"{axis.axis}: {reason}")
    labels = [label for label in drawn[0].means if label not in left_out]
    if not labels:
        return Front(tuple(axis.axis for axis in drawn), (), None, left_out)
    signs = [-1.0 if directions.get(axis.axis, "lower") == "higher" else 1.0 for axis in drawn]
    means = np.array([[sign * axis.means[label] for label in labels] for sign, axis in zip(signs, drawn, strict=True)])
    on_front = _undominated(means[:, :, None])[:, 0]
    ranked = sorted((float(means[0, index]), label) for index, label in enumerate(labels) if on_front[index])
    probabilities = None
    if not any(set(labels) <= set(axis.still) for axis in drawn):
        points = np.stack(
            [np.stack([sign * axis.drawn[label] for label in labels]) for sign, axis in zip(signs, drawn, strict=True)]
        )
        probabilities = dict(zip(labels, _undominated(points).mean(axis=1).tolist(), strict=True))
    return Front(tuple(a.axis for a in drawn), tuple(label for _, label in ranked), probabilities, left_out)


def front_indices(points: Sequence[tuple[float, float]], direction: Literal["higher", "lower"]) -> list[int]:
    """Finds the Pareto front of pairs of a cost and a score, by their values alone.

    Returns:
        The positions of the points on it, the cheapest first.
    """
    sign = -1.0 if direction == "higher" else 1.0
    axes = np.array([[cost for cost, _ in points], [sign * score for _, score in points]])
    on_front = _undominated(axes[:, :, None])[:, 0]
    return sorted((index for index in range(len(points)) if on_front[index]), key=lambda index: points[index][0])


def _undominated(points: Array) -> NDArray[np.bool_]:
    """Returns whether no other arm is as good on every axis and better on one.

    `points` has shape (axes, arms, draws), less is better; the result has shape (arms, draws).
    """
    front = np.ones(points.shape[1:], dtype=np.bool_)
    for index in range(points.shape[1]):
        candidate = points[:, index : index + 1]
        no_worse, better = (points <= candidate).all(axis=0), (points < candidate).any(axis=0)
        front[index] = ~(no_worse & better).any(axis=0)
    return front


def _why_no_metric(arm: Arm, metric: Metric) -> str:
    if not arm.completed:
        return "no trial of this arm has completed"
    return "; ".join(dict.fromkeys(why_missing(record, f"metrics.{metric.name}") for record in arm.completed))
