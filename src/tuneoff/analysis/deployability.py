"""What became of trained models in the forms in which they may be deployed: each form beside the model as it was
trained, on the same seeds and examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import Field

from tuneoff.analysis.diverged import Scored
from tuneoff.analysis.outcomes import MetricEstimate, Outcomes
from tuneoff.analysis.predictions import TrialOutputs
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import LEVEL, Pair
from tuneoff.analysis.statistics.discordant import widen
from tuneoff.analysis.statistics.pairs import bound, measure
from tuneoff.config.base import Frozen
from tuneoff.config.deployability import AS_TRAINED, FORMS, Form
from tuneoff.errors import StoreError
from tuneoff.records.deployability import Deployability, FormResult
from tuneoff.records.record import Direction, Metric, TrialRecord


class FormSummary(Frozen):
    """One form of an arm's trained models, over the seeds at which it was measured."""

    form: Form = Field(description="which form")
    works: bool = Field(description="whether it works at every seed at which it was tried")
    reason: str = Field(description="why it does not; else empty")
    seeds: tuple[int, ...] = Field(description="seeds at which it was scored")
    quality: float | None = Field(description="mean of the primary metric; null where it was not scored")
    interval_low: float | None = Field(description="lower end of its 95 % interval; null where there is none")
    interval_high: float | None = Field(description="upper end")
    difference: float | None = Field(
        description="of the metric to the model as trained, on the same seeds and examples; null for that itself"
    )
    difference_low: float | None = Field(
        description="lower end of its 95 % interval, of right and wrong answers no narrower than the few that differ "
        "allow; null where nothing tells its error, as where all seeds agree"
    )
    difference_high: float | None = Field(description="upper end")
    changed_answers: int | None = Field(
        description="test examples answered otherwise than as trained, over all seeds; null where answers are numbers"
    )
    examples: int | None = Field(description="test examples compared, over all seeds")
    largest_difference: float | None = Field(
        description="largest difference of an output of any example to the model as trained; null where outputs have "
        "no numbers"
    )
    largest_difference_of: str = Field(
        description="what differs so: `probability` of a class, `number` that is predicted, or `nats` of a target's "
        "loss; else empty"
    )
    weights_bytes: float | None = Field(description="its files of weights on disk, mean over seeds")
    base_bytes: float | None = Field(
        description="those of the base model that it needs besides; 0 where it needs none, null where not known"
    )
    latency_seconds: float | None = Field(description="median for one example, mean over seeds")
    latency_examples: int | None = Field(description="single examples timed at the seed that timed fewest")
    peak_memory_bytes: float | None = Field(description="peak while it was scored, mean over seeds")
    notes: tuple[str, ...] = Field(description="what to know of how it was made or measured")


class ArmDeployability(Frozen):
    """The forms of an arm's trained models."""

    method: str = Field(description="the arm's label")
    metric: str = Field(description="the primary metric")
    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")
    forms: tuple[FormSummary, ...] = Field(description="forms that were tried, the model as trained first")
    problems: tuple[str, ...] = Field(description="results that cannot be used, and why")

    def form(self, name: str) -> FormSummary | None:
        """Returns a form; None where it was not tried."""
        return next((form for form in self.forms if form.form == name), None)


@dataclass(frozen=True)
class _Measured:
    """A trial's results, and its model's predictions in each form that was scored."""

    record: TrialRecord
    results: Deployability
    rows: Mapping[Form, list[dict[str, Any]]]


def summarise_deployability(results: Results, outcomes: Outcomes) -> tuple[ArmDeployability, ...]:
    """Summarises the arms of which any form was measured, in the study's order; empty where there is none."""
    metric = results.primary
    if metric is None:
        return ()
    summaries = (_summarise(results, outcomes, arm, metric) for arm in results.arms if arm.trains)
    return tuple(summary for summary in summaries if summary.forms or summary.problems)


def _summarise(results: Results, outcomes: Outcomes, arm: Arm, metric: Metric) -> ArmDeployability:
    measured, problems = [], []
    for record in arm.completed:
        try:
            if (trial := _read(results, record)) is not None:
                measured.append(trial)
        except StoreError as error:
            problems.append(error.message.replace(f"{results.store.root}/", ""))
    figures = {form: _figure(outcomes, arm.label, form, measured, metric) for form in FORMS}
    forms = []
    for form in FORMS:
        tried = [(trial, result) for trial in measured if (result := trial.results.form(form)) is not None]
        if tried:
            forms.append(_form(form, tried, figures[form], figures[AS_TRAINED], metric, outcomes.fraction(metric)))
    return ArmDeployability(
        method=arm.label,
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        forms=tuple(forms),
        problems=tuple(problems),
    )


def _read(results: Results, record: TrialRecord) -> _Measured | None:
    """Reads what was measured of a trial's model; None where nothing was.

    Raises:
        StoreError: if it cannot be read, or was of other weights.
    """
    place = results.store.trial(record.spec.id)
    found = place.deployability.read()
    if found is None:
        return None
    if found.weights != (record.kept_files or {}):
        raise StoreError(f"{place.deployability.path} is of other weights than those of the record")
    rows = {one.form: place.rows_of(one.predictions) for one in found.forms if one.predictions is not None}
    return _Measured(record, found, rows)


def _figure(
    outcomes: Outcomes, label: str, form: Form, measured: Sequence[_Measured], metric: Metric
) -> MetricEstimate | None:
    """Estimates the metric of a form over its seeds; None where it was scored at none."""
    scored: dict[int, Scored] = {}
    for trial in measured:
        result, rows = trial.results.form(form), trial.rows.get(form)
        value = _value(result, metric) if result is not None else None
        if value is not None and rows is not None:
            outputs: TrialOutputs = outcomes.predictions.gather(trial.record, rows)
            scored[trial.record.spec.seed] = Scored(value, outputs)
    return outcomes.estimated(label, metric, dict(sorted(scored.items())), False) if scored else None


def _value(result: FormResult, metric: Metric) -> float | None:
    return next((one.value for one in result.metrics if one.name == metric.name), None)


def _form(
    form: Form,
    tried: Sequence[tuple[_Measured, FormResult]],
    figure: MetricEstimate | None,
    as_trained: MetricEstimate | None,
    metric: Metric,
    fraction: bool,
) -> FormSummary:
    results = [result for _, result in tried]
    failed = [(trial, result) for trial, result in tried if not result.works]
    interval = figure.estimate.interval if figure is not None else None
    pair = _pair(figure, as_trained, metric, fraction) if form != AS_TRAINED else None
    both = [trial.rows for trial, _ in tried if form != AS_TRAINED and {AS_TRAINED, form} <= set(trial.rows)]
    changes = [_changes(rows[AS_TRAINED], rows[form]) for rows in both]
    differences = [change.largest for change in changes if change.largest is not None]
    timed = [one.inference for one in results if one.inference.latency_seconds_median is not None]
    return FormSummary(
        form=form,
        works=not failed,
        reason=_reason(failed, len(tried)),
        seeds=tuple(figure.scores) if figure is not None else (),
        quality=figure.estimate.mean if figure is not None else None,
        interval_low=interval.low if interval is not None else None,
        interval_high=interval.high if interval is not None else None,
        difference=pair.difference if pair is not None else None,
        difference_low=pair.interval.low if pair is not None and pair.interval is not None else None,
        difference_high=pair.interval.high if pair is not None and pair.interval is not None else None,
        changed_answers=sum(answers) if (answers := [c.answers for c in changes if c.answers is not None]) else None,
        examples=sum(change.examples for change in changes) if changes else None,
        largest_difference=max(differences, default=None),
        largest_difference_of=next((change.of for change in changes if change.of), ""),
        weights_bytes=_mean([one.weights_bytes for one in results]),
        base_bytes=_mean([one.base_bytes for one in results]),
        latency_seconds=_mean([one.latency_seconds_median for one in timed]),
        latency_examples=min((one.latency_examples for one in timed), default=None),
        peak_memory_bytes=_mean([one.peak_memory_bytes for one in results]),
        notes=tuple(dict.fromkeys(note for one in results for note in one.notes)),
    )


def _pair(
    figure: MetricEstimate | None, as_trained: MetricEstimate | None, metric: Metric, fraction: bool
) -> Pair | None:
    """Compares a form with the model as trained; None where one of the two has no values to compare."""
    samples = [own.sample if own is not None else None for own in (figure, as_trained)]
    if samples[0] is None or samples[1] is None:
        return None
    (pair,) = bound([measure(samples[0], samples[1], metric.direction)], LEVEL, fraction, [1 - LEVEL])
    return widen(pair, samples[0], samples[1])


def _reason(failed: Sequence[tuple[_Measured, FormResult]], tried: int) -> str:
    """Joins the reasons of the seeds at which a form does not work, each once; names the seeds where others work."""
    seeds: dict[str, list[str]] = {}
    for trial, result in failed:
        seeds.setdefault(result.reason, []).append(str(trial.record.spec.seed))
    everywhere = len(failed) == tried and len(seeds) == 1
    return "; ".join(reason if everywhere else f"seed {', '.join(own)}: {reason}" for reason, own in seeds.items())


@dataclass(frozen=True)
class _Changes:
    """In what two models' predictions of the same examples differ."""

    examples: int
    answers: int | None
    largest: float | None
    of: str


def _changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> _Changes:
    pairs = list(zip(before, after, strict=True))
    answers = sum(first["output"] != second["output"] for first, second in pairs)
    if all(first["scores"] and second["scores"] for first, second in pairs):
        largest = max(
            abs(math.exp(one) - math.exp(other))
            for first, second in pairs
            for one, other in zip(first["scores"], second["scores"], strict=True)
        )
        return _Changes(len(pairs), answers, largest, "probability")
    if all(first["loss"] is not None and second["loss"] is not None for first, second in pairs):
        return _Changes(len(pairs), answers, max(abs(a["loss"] - b["loss"]) for a, b in pairs), "nats")
    numbers = [(_number(first["output"]), _number(second["output"])) for first, second in pairs]
    known = [abs(one - other) for one, other in numbers if one is not None and other is not None]
    if pairs and len(known) == len(pairs):
        # Every digit would count as another answer.
        return _Changes(len(pairs), None, max(known), "number")
    return _Changes(len(pairs), answers, None, "")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _mean(values: Sequence[float | int | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None
