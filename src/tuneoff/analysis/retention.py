"""What arms forget: by how much held texts and tasks are worse after training, with intervals over seeds and rows."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import Estimate, Sample, estimate
from tuneoff.config.base import Frozen
from tuneoff.records.record import Direction, HeldScore


class MeanFigure(Frozen):
    """A figure over an arm's seeds."""

    mean: float = Field(description="over seeds")
    interval_low: float | None = Field(None, description="of 95 %; null where it cannot be estimated")
    interval_high: float | None = Field(None, description="its other end")


class HeldChange(MeanFigure):
    """By how much a text or a task is worse after training: above 0 something was forgotten."""

    interval_over: str | None = Field(None, description="what varies in the interval: `seeds and examples`, …")
    reason: str = Field("", description="why there is no interval; else empty")


class HeldByArm(Frozen):
    """A text or a task that is held, after an arm's training."""

    method: str = Field(description="the arm's label")
    seeds: tuple[int, ...] = Field(description="seeds that it was scored at")
    after: float = Field(description="its metric after training, mean over these seeds")
    change: HeldChange = Field(description="against the base model")


class HeldSummary(Frozen):
    """A text or a task that is held."""

    name: str = Field(description="as the study names it")
    metric: str = Field(description="`bits_per_byte` of a text, the main metric of a task")
    unit: str = Field(description="of the metric and of its changes")
    direction: Direction = Field(description="which values are better")
    rows: int = Field(description="rows that were scored")
    before: float = Field(description="the metric of the base model")
    arms: tuple[HeldByArm, ...] = Field(description="one object per arm that was scored")


class RewindStep(Frozen):
    """An arm's model with a fraction of the trained change."""

    fraction: float = Field(description="0 the base model, 1 the merged one")
    quality: MeanFigure = Field(description="`rewind_metric` on the validation split, interval over seeds")
    held: dict[str, MeanFigure] = Field(description="name of what is held -> its metric, interval over seeds")


class RewindCurve(Frozen):
    """The models between the base model and an arm's trained one."""

    method: str = Field(description="the arm's label")
    steps: tuple[RewindStep, ...] = Field(description="in ascending order; empty where there are none")
    reason: str = Field("", description="why there are none; else empty")


class RetentionReport(Frozen):
    """What the arms forget."""

    held: tuple[HeldSummary, ...] = Field(description="texts and tasks, in the study's order")
    rewind_metric: str | None = Field(description="the validation metric of `rewind`; null without")
    rewind: tuple[RewindCurve, ...] = Field(
        description="one object per arm that was scored; empty where the study asks for none"
    )


def report_retention(results: Results) -> RetentionReport | None:
    """Summarises what the arms forget; None where no completed trial was scored for it."""
    names = dict.fromkeys(name for record in results.completed for name in record.retention.held)
    if not names:
        return None
    metric = next((record.retention.rewind_metric for record in results.completed if record.retention.rewind), None)
    arms = [arm for arm in results.arms if _scored(arm)]
    return RetentionReport(
        held=tuple(_summary(name, arms) for name in names),
        rewind_metric=metric,
        rewind=tuple(_curve(arm) for arm in arms) if metric is not None else (),
    )


def change_sample(arm: Arm, name: str | None = None) -> Sample | None:
    """Returns an arm's changes of what is held, seeds × rows; of the first that is held where no name is given. None
    where it was not scored.

    Where rows differ between seeds, the changes of seeds alone are known.
    """
    scores = _scores(arm, name)
    if not scores:
        return None
    seeds, values = list(scores), list(scores.values())
    if len({score.fingerprint for score in values}) == 1:
        return Sample.from_examples(arm.label, seeds, [score.changes for score in values])
    return Sample.from_scores(arm.label, seeds, [score.change for score in values])


def estimate_change(arm: Arm, name: str | None = None) -> Estimate | None:
    """Estimates by how much what is held is worse after an arm's training; None where it was not scored."""
    sample = change_sample(arm, name)
    return estimate(sample) if sample is not None else None


def _scored(arm: Arm) -> bool:
    return any(record.retention.held for record in arm.completed)


def _scores(arm: Arm, name: str | None) -> dict[int, HeldScore]:
    """Maps seeds to an arm's scores of what is held."""
    scores = {}
    for record in arm.completed:
        held = record.retention.held
        score = held.get(name) if name is not None else next(iter(held.values()), None)
        if score is not None:
            scores[record.spec.seed] = score
    return scores


def _summary(name: str, arms: Sequence[Arm]) -> HeldSummary:
    by_arm = {arm.label: scores for arm in arms if (scores := _scores(arm, name))}
    first = next(iter(next(iter(by_arm.values())).values()))
    return HeldSummary(
        name=name,
        metric=first.metric,
        unit=first.unit,
        direction=first.direction,
        rows=first.rows,
        before=first.before,
        arms=tuple(_by_arm(arm, name, by_arm[arm.label]) for arm in arms if arm.label in by_arm),
    )


def _by_arm(arm: Arm, name: str, scores: dict[int, HeldScore]) -> HeldByArm:
    estimated = estimate_change(arm, name)
    assert estimated is not None  # it was scored
    interval = estimated.interval
    return HeldByArm(
        method=arm.label,
        seeds=tuple(scores),
        after=sum(score.after for score in scores.values()) / len(scores),
        change=HeldChange(
            mean=estimated.mean,
            interval_low=interval.low if interval else None,
            interval_high=interval.high if interval else None,
            interval_over=interval.over if interval else None,
            reason=estimated.reason,
        ),
    )


def _curve(arm: Arm) -> RewindCurve:
    curves = {record.spec.seed: record.retention.rewind for record in arm.completed if record.retention.rewind}
    if not curves:
        reasons = (record.missing.get("retention.rewind_metric", "") for record in arm.completed)
        return RewindCurve(method=arm.label, steps=(), reason="; ".join(dict.fromkeys(filter(None, reasons))))
    steps = []
    for points in zip(*curves.values(), strict=True):
        held = {name: _mean(list(curves), [point.held[name] for point in points]) for name in points[0].held}
        quality = _mean(list(curves), [point.quality for point in points])
        steps.append(RewindStep(fraction=points[0].fraction, quality=quality, held=held))
    return RewindCurve(method=arm.label, steps=tuple(steps))


def _mean(seeds: Sequence[int], values: Sequence[float]) -> MeanFigure:
    estimated = estimate(Sample.from_scores("", seeds, values))
    interval = estimated.interval
    return MeanFigure(
        mean=estimated.mean,
        interval_low=interval.low if interval else None,
        interval_high=interval.high if interval else None,
    )
