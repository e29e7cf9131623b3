"""Builds an arm's entry of the report: its figures with their intervals, comparisons, and why figures are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tuneoff.analysis import published
from tuneoff.analysis.decisions.answer import Answer
from tuneoff.analysis.figures import COSTS, FORGETTING, Cost, why_missing
from tuneoff.analysis.metrics import definition
from tuneoff.analysis.outcomes import Outcomes, over_seeds, within_range
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.retention import estimate_change
from tuneoff.analysis.search_summary import rate_from
from tuneoff.analysis.statistics import Estimate, Pair, Sample, equivalence, estimate, most_better, most_worse
from tuneoff.records.record import Direction, Metric, Parameters, TrialRecord
from tuneoff.report.arm_schema import (
    ArmFinding,
    ArmSummary,
    Best,
    Comparison,
    Figure,
    MissingFigure,
    TestFigure,
    ValidationFigure,
)
from tuneoff.search.space import LEARNING_RATE, settings_of


def build_arm(results: Results, arm: Arm, answer: Answer, outcomes: Outcomes, test_metrics: list[Metric]) -> ArmSummary:
    """Builds an arm's entry; `test_metrics` are the test metrics that any arm of the study has."""
    completed = arm.completed
    first = next((r for r in completed if r.parameters), None) or next((r for r in arm.records if r.parameters), None)
    parameters = first.parameters if first else None
    costs = {cost.name: _estimate_cost(arm, cost) for cost in COSTS}
    metrics = _test_metrics(arm, outcomes, test_metrics)
    publication = results.study.published
    figures = dict(publication.figures.get(arm.trials[0].label, {})) if publication else {}
    direction = results.primary.direction if results.primary else "higher"
    to_best, to_baseline = (
        _comparison(pairs.get(arm.label), direction, answer.margin) for pairs in (answer.to_best, answer.to_baseline)
    )
    return ArmSummary(
        method=arm.label,
        method_name=arm.method,
        trains=arm.trains,
        options=arm.trials[0].options,
        learning_rate=arm.learning_rate,
        learning_rate_from=rate_from(results, arm),
        searched_settings=settings_of(results.study.protocol, arm.trials[0].protocol.searchable) if arm.trains else {},
        searched_per_seed=_searched_per_seed(arm),
        seeds=tuple(record.spec.seed for record in completed),
        planned_seeds=tuple(trial.seed for trial in arm.trials),
        statuses=arm.statuses,
        metrics=metrics,
        validation_metrics=_validation_metrics(arm),
        **{cost.name: _cost(costs[cost.name], signed=cost.signed) for cost in COSTS},
        trainable_parameters=parameters.trainable.total if parameters else None,
        total_parameters=parameters.total.total if parameters else None,
        trainable_parameters_by_role=parameters.trainable if parameters else None,
        total_parameters_by_role=parameters.total if parameters else None,
        memory_kind=arm.memory_kind,
        latency_examples=min((n for r in completed if (n := r.inference.latency_examples)), default=None),
        contended=arm.contended,
        findings=_findings(arm),
        ties=answer.verdict.letters.get(arm.label, "") if answer.verdict else "",
        to_best=Best() if arm.label == answer.best else to_best,
        to_baseline=to_baseline,
        missing=_missing(arm, costs, parameters, metrics, [metric.name for metric in test_metrics]),
        published=figures,
        published_comparison=published.compare(figures, _ours(arm, outcomes, test_metrics, costs, parameters), arm),
    )


def _searched_per_seed(arm: Arm) -> dict[str, tuple[Any, ...]]:
    """Returns what of an arm's configuration differs between its seeds, whose searches were their own."""
    settings = [
        {**trial.options, **trial.protocol.searchable, LEARNING_RATE: trial.learning_rate} for trial in arm.trials
    ]
    differing = [name for name, value in settings[0].items() if any(other[name] != value for other in settings)]
    return {name: tuple(each[name] for each in settings) for name in differing}


def _figure(estimate: Estimate | None) -> dict[str, Any]:
    """Returns the fields of a figure over its trials; `interval_reason` says why there is no interval."""
    if estimate is None:
        nothing = dict.fromkeys(("mean", "std", "interval_low", "interval_high"))
        return {**nothing, "n": 0, "interval_reason": "no value"}
    interval = estimate.interval
    return {
        "mean": estimate.mean,
        "std": estimate.std,
        "n": estimate.seeds,
        "interval_low": interval.low if interval else None,
        "interval_high": interval.high if interval else None,
        "interval_reason": "one seed" if estimate.seeds == 1 and interval is None else estimate.reason,
    }


def _estimate_cost(arm: Arm, cost: Cost) -> Estimate | None:
    """Estimates a cost or side figure over an arm's seeds; None without a value."""
    if cost.name == FORGETTING:
        return estimate_change(arm)
    return over_seeds(value for record in arm.completed if (value := cost.of(record)) is not None)


def _cost(estimate: Estimate | None, signed: bool) -> Figure:
    """Returns a cost. But for a signed one no cost is negative, so neither is its interval."""
    fields = _figure(estimate)
    if fields["interval_low"] is not None and not signed:
        fields["interval_low"] = max(fields["interval_low"], 0.0)
    return Figure(**fields)


def _test_metrics(arm: Arm, outcomes: Outcomes, test_metrics: list[Metric]) -> dict[str, TestFigure]:
    metrics = {}
    primary = outcomes.results.primary.name if outcomes.results.primary else None
    for metric in test_metrics:
        figure = outcomes.figure(arm, metric)
        if figure is None:
            continue
        interval = figure.estimate.interval
        metrics[metric.name] = TestFigure(
            **_figure(figure.estimate),
            interval_over=interval.over if interval else None,
            examples=figure.estimate.examples,
            groups=figure.estimate.groups,
            ties=outcomes.letters(metric).get(arm.label, ""),
            exploratory=metric.name != primary,
            caution=definition(arm.trials[0].task.name, metric).caution,
            note=figure.note,
            diverged_seeds=tuple(figure.diverged),
            counted_as=figure.counted_as,
            without_diverged=Figure(**_figure(figure.without)) if figure.without else None,
            ranked_mean=outcomes.mean(arm, metric),
            unit=metric.unit,
            direction=metric.direction,
            values=tuple(arm.scores(metric.name).values()),
        )
    return metrics


def _validation_metrics(arm: Arm) -> dict[str, ValidationFigure]:
    """Summarises validation metrics over seeds alone: predictions of validation are not kept."""
    return {
        name: ValidationFigure(
            **_figure(_validation_estimate(arm, metrics)),
            unit=metrics[0].unit,
            direction=metrics[0].direction,
            values=tuple(metric.value for metric in metrics),
        )
        for name, metrics in _validation(arm.completed).items()
    }


def _validation(records: Iterable[TrialRecord]) -> dict[str, list[Metric]]:
    """Maps each validation metric to its value in every record that has it."""
    by_name: dict[str, list[Metric]] = {}
    for record in records:
        for metric in record.metrics:
            if metric.split == "validation":
                by_name.setdefault(metric.name, []).append(metric)
    return by_name


def _validation_estimate(arm: Arm, metrics: list[Metric]) -> Estimate:
    sample = Sample.from_scores(metrics[0].name, range(len(metrics)), [metric.value for metric in metrics])
    return within_range(estimate(sample), definition(arm.trials[0].task.name, metrics[0]))


def _missing(
    arm: Arm,
    costs: Mapping[str, Estimate | None],
    parameters: Parameters | None,
    metrics: Mapping[str, TestFigure],
    all_metrics: list[str],
) -> tuple[MissingFigure, ...]:
    """Returns why figures of this arm are null; `all_metrics` are those that any arm has."""
    if not arm.completed:
        names = [name for name, estimate in costs.items() if estimate is None]
        names = names if metrics else ["metrics", *names]
        names += [*published.COUNTS] if parameters is None else []
        return tuple(MissingFigure(figure=name, reason="no trial of this arm has completed") for name in names)
    places = {name: f"metrics.{name}" for name in all_metrics if name not in metrics}
    places |= {cost.name: cost.place for cost in COSTS if costs[cost.name] is None}
    places |= dict.fromkeys(published.COUNTS, "parameters") if parameters is None else {}
    return tuple(
        MissingFigure(
            figure=name, reason="; ".join(dict.fromkeys(why_missing(record, place) for record in arm.completed))
        )
        for name, place in places.items()
    )


def _ours(
    arm: Arm,
    outcomes: Outcomes,
    test_metrics: list[Metric],
    costs: Mapping[str, Estimate | None],
    parameters: Parameters | None,
) -> published.Ours:
    """Returns our figures by the names that published ones may have."""
    counts = (parameters.trainable.total, parameters.total.total) if parameters else (None, None)
    ours: dict[str, Estimate | int | None] = {**costs, **dict(zip(published.COUNTS, counts, strict=True))}
    for metric in test_metrics:
        figure = outcomes.figure(arm, metric)
        if figure is not None:
            # Published figures are of trainings that came to an end.
            estimate = figure.without if figure.diverged else figure.estimate
            ours |= {metric.name: estimate, f"test_{metric.name}": estimate}
    validation = _validation(arm.completed)
    return ours | {f"validation_{name}": _validation_estimate(arm, metrics) for name, metrics in validation.items()}


def _findings(arm: Arm) -> tuple[ArmFinding, ...]:
    seeds_by_finding: dict[tuple[str, str], list[int]] = {}
    for record in arm.records:
        for finding in record.findings:
            seeds_by_finding.setdefault((finding.name, finding.message), []).append(record.spec.seed)
    return tuple(
        ArmFinding(name=name, message=message, seeds=tuple(seeds))
        for (name, message), seeds in seeds_by_finding.items()
    )


def pair_fields(pair: Pair, direction: Direction, margin: float | None = None) -> dict[str, Any]:
    """Returns a comparison's fields, `first` and `second` apart."""
    interval = pair.interval
    return {
        "relation": pair.relation,
        "difference": pair.difference,
        "interval_low": interval.low if interval else None,
        "interval_high": interval.high if interval else None,
        "p": pair.p,
        "p_corrected": pair.p_corrected,
        "effect": pair.effect,
        "win_rate": pair.win_rate,
        "test": pair.test,
        "seeds": pair.seeds,
        "examples": pair.examples,
        "groups": pair.groups,
        "most_worse": most_worse(pair, direction),
        "most_better": most_better(pair, direction),
        "equivalence": None if margin is None else equivalence(pair, margin, direction),
        "seeds_needed": pair.seeds_needed,
        "seeds_least": pair.seeds_range[0] if pair.seeds_range else None,
        "seeds_most": pair.seeds_range[1] if pair.seeds_range else None,
        "reason": pair.reason,
    }


def _comparison(pair: Pair | None, direction: Direction, margin: float | None) -> Comparison | None:
    return Comparison(**pair_fields(pair, direction, margin)) if pair is not None else None
