"""Learning curves of the arms over their seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tuneoff.analysis.results import Arm
from tuneoff.config.base import Frozen
from tuneoff.records.record import CurvePoint, Metric
from tuneoff.store import StudyStore, TrialStore

TRIALS_READ = 200
"""Most trials of a study whose logs are read for their steps."""
POINTS, SMOOTHED = 40, 10
"""Steps of a curve of losses, and the share of the told steps, as its inverse, that each is a mean over."""


class SeedCurve(Frozen):
    """One trial's values of a figure while it trained."""

    seed: int = Field(description="the trial's seed")
    steps: tuple[int, ...] = Field(description="optimizer steps, ascending")
    values: tuple[float, ...] = Field(description="one per step")


class LearningCurve(Frozen):
    """A figure while an arm trained, at the steps that every seed has."""

    method: str = Field(description="the arm's label")
    steps: tuple[int, ...] = Field(description="optimizer steps, ascending")
    mean: tuple[float, ...] = Field(description="mean over seeds, one per step")
    lowest: tuple[float, ...] = Field(description="the lowest seed's")
    highest: tuple[float, ...] = Field(description="the highest seed's")
    seeds: tuple[SeedCurve, ...] = Field(description="every seed's own curve")


class LearningCurves(Frozen):
    """What was noted at the validations while the arms trained; only arms that have it."""

    quality: tuple[LearningCurve, ...] = Field((), description="the primary metric on the validation split")
    validation_loss: tuple[LearningCurve, ...] = Field((), description="loss on the validation split")
    train_loss: tuple[LearningCurve, ...] = Field(
        (),
        description="loss of training steps from the first on, smoothed over a tenth of what trials told of them; "
        "where they told nothing, and of very many trials, the mean since the last validation",
    )


def learning_curves(arms: tuple[Arm, ...], primary: Metric | None, store: StudyStore) -> LearningCurves:
    """Collects the arms' learning curves; empty while nothing is completed."""
    if primary is None:
        return LearningCurves()
    is_told = sum(len(arm.completed) for arm in arms) <= TRIALS_READ
    return LearningCurves(
        quality=_curves(arms, lambda point: point.validation.get(primary.name)),
        validation_loss=_curves(arms, lambda point: point.validation.get("loss")),
        train_loss=tuple(
            curve
            for arm in arms
            if (curve := (_told_loss(arm, store) if is_told else None) or _curve(arm, lambda point: point.train_loss))
        ),
    )


def _told_loss(arm: Arm, store: StudyStore) -> LearningCurve | None:
    """Computes the loss of single steps, of which trials told now and then, at steps spread over what all seeds told;
    None where a seed told of fewer than two."""
    told = {record.spec.seed: _told_steps(store.trial(record.spec.id)) for record in arm.completed}
    if not told or min(map(len, told.values())) < 2:
        return None
    first, last = max(points[0][0] for points in told.values()), min(points[-1][0] for points in told.values())
    grid = np.unique(np.linspace(first, last, POINTS).round().astype(int)) if first < last else np.array([], dtype=int)
    if len(grid) < 2:
        return None
    curves = []
    for seed, points in told.items():
        steps, losses = np.array(points, dtype=np.float64).T
        values = np.interp(grid, steps, _smoothed(losses))
        curves.append(SeedCurve(seed=seed, steps=tuple(grid.tolist()), values=tuple(values.tolist())))
    by_step = np.array([curve.values for curve in curves])
    return LearningCurve(
        method=arm.label,
        steps=tuple(grid.tolist()),
        mean=tuple(by_step.mean(axis=0).tolist()),
        lowest=tuple(by_step.min(axis=0).tolist()),
        highest=tuple(by_step.max(axis=0).tolist()),
        seeds=tuple(curves),
    )


def _told_steps(trial: TrialStore) -> list[tuple[int, float]]:
    """Returns the steps that a trial told of, ascending, with their losses. A trial that began again told twice of some
    steps; its last words count."""
    losses: dict[int, float] = {}
    for event in trial.events()[0]:
        step, loss = event.get("step"), event.get("loss")
        if event.get("kind") == "step" and isinstance(step, int) and isinstance(loss, (int, float)):
            losses[step] = float(loss)
    return sorted((step, loss) for step, loss in losses.items() if math.isfinite(loss))


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns means over a tenth of the values around each; fewer at the ends."""
    half = max(len(values) // (2 * SMOOTHED), 1) if len(values) > SMOOTHED else 0
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    smooth: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth


def _curves(arms: tuple[Arm, ...], value: Callable[[CurvePoint], float | None]) -> tuple[LearningCurve, ...]:
    curves = (_curve(arm, value) for arm in arms)
    return tuple(curve for curve in curves if curve is not None)


def _curve(arm: Arm, value: Callable[[CurvePoint], float | None]) -> LearningCurve | None:
    """Computes mean and range over seeds at the steps that every seed of the arm has; None where there is none."""
    per_seed: dict[int, dict[int, float]] = {}
    for record in arm.completed:
        curve = {point.step: v for point in record.curve if (v := value(point)) is not None}
        if curve:
            per_seed[record.spec.seed] = curve
    steps = sorted(set.intersection(*(set(curve) for curve in per_seed.values()))) if per_seed else []
    if not steps:
        return None
    by_step = [[curve[step] for curve in per_seed.values()] for step in steps]
    return LearningCurve(
        method=arm.label,
        steps=tuple(steps),
        mean=tuple(statistics.fmean(values) for values in by_step),
        lowest=tuple(min(values) for values in by_step),
        highest=tuple(max(values) for values in by_step),
        seeds=tuple(
            SeedCurve(seed=seed, steps=tuple(sorted(curve)), values=tuple(curve[step] for step in sorted(curve)))
            for seed, curve in per_seed.items()
        ),
    )
