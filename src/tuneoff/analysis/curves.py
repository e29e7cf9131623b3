"""Learning curves of the arms over their seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from pydantic import Field

from tuneoff.analysis.results import Arm
from tuneoff.config.spec import Frozen
from tuneoff.records.record import CurvePoint, Metric


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
    train_loss: tuple[LearningCurve, ...] = Field((), description="loss of the training steps since the last point")


def learning_curves(arms: tuple[Arm, ...], primary: Metric | None) -> LearningCurves:
    """Collects the arms' learning curves; empty while nothing is completed."""
    if primary is None:
        return LearningCurves()
    return LearningCurves(
        quality=_curves(arms, lambda point: point.validation.get(primary.name)),
        validation_loss=_curves(arms, lambda point: point.validation.get("loss")),
        train_loss=_curves(arms, lambda point: point.train_loss),
    )


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
