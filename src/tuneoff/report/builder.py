"""Builds the report of a study from its results; nothing else makes one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PureWindowsPath
from typing import Any

from tuneoff.analysis import published
from tuneoff.analysis.checks.caveats import caveats, comparable, version_differences
from tuneoff.analysis.checks.detectors import selecting_metric
from tuneoff.analysis.checks.devices import device_warnings
from tuneoff.analysis.checks.search import search_warnings
from tuneoff.analysis.curves import learning_curves
from tuneoff.analysis.decisions.answer import Answer, find_answer
from tuneoff.analysis.decisions.rule_data import rule_data
from tuneoff.analysis.devices import compare_devices
from tuneoff.analysis.disagreements import find_disagreements
from tuneoff.analysis.examples import first_predictions, sample_examples
from tuneoff.analysis.figures import COSTS, why_missing
from tuneoff.analysis.forecast_accuracy import compare_forecast
from tuneoff.analysis.machine_use import machine_use
from tuneoff.analysis.metrics import definition
from tuneoff.analysis.outcomes import Outcomes, over_seeds, within_range
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.search_summary import rate_from, summarise_search
from tuneoff.analysis.statistics import Estimate, Pair, Sample, equivalence, estimate, most_better, most_worse
from tuneoff.config.spec import DataSpec, SourceSpec, is_data_file
from tuneoff.records.record import Direction, Metric, Parameters, Status, TrialRecord
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
from tuneoff.report.schema import (
    AnswerSummary,
    DataSummary,
    Environments,
    Failure,
    Machine,
    PairSummary,
    PublishedSummary,
    Report,
    StudySummary,
    TrialCounts,
    Unsettled,
    VerdictSummary,
)
from tuneoff.report.scope import answer_scope
from tuneoff.report.wording import answer_text, doubt_text

EFFECT_SIZE = "Hedges' g"


def build_report(results: Results) -> Report:
    """Collects everything that renderers show."""
    outcomes = Outcomes(results)
    search = summarise_search(results)
    warnings = [*caveats(results, outcomes), *device_warnings(results), *search_warnings(search)]
    answer = find_answer(results, outcomes, warnings)
    predictions = first_predictions(results)
    test_metrics = {m.name: m for r in results.completed for m in r.metrics if m.split == "test"}
    report = Report(
        study=_study(results),
        trials=TrialCounts(
            planned=results.planned_count, recorded=len(results.records), completed=len(results.completed)
        ),
        warnings=tuple(warnings),
        methods=tuple(_arm(results, arm, answer, outcomes, list(test_metrics.values())) for arm in results.arms),
        answer=_answer(answer),
        verdict=_verdict(answer, results.primary),
        failures=tuple(_failure(results, r) for r in results.records if r.status is not Status.COMPLETED),
        published=_published(results),
        search=search,
        forecast=compare_forecast(results),
        devices=compare_devices(results),
        examples=sample_examples(predictions),
        comparable=comparable(warnings),
        environments=_environments(results),
        protocol=results.study.protocol,
        data=_data(results),
        curves=learning_curves(results.arms, results.primary, results.store),
        rule=rule_data(results, outcomes),
        disagreements=find_disagreements(predictions, results.primary.name) if results.primary else (),
        machine_use=machine_use(results.arms),
    )
    report = _with_answer(report, doubt=doubt_text(report))
    report = _with_answer(report, scope=answer_scope(report))
    return _with_answer(report, text=answer_text(report))


def _with_answer(report: Report, **words: str) -> Report:
    return report.model_copy(update={"answer": report.answer.model_copy(update=words)})


def _study(results: Results) -> StudySummary:
    study, metric = results.study, results.primary
    return StudySummary(
        name=study.name,
        description=study.description,
        model=study.model.source,
        random_weights=results.random_weights,
        task=study.task.name,
        task_options=results.arms[0].trials[0].task.options,
        sources=_sources(study.task.data),
        selected_by=_selected_by(results),
        primary_metric=metric.name if metric else None,
        primary_direction=metric.direction if metric else None,
        primary_unit=metric.unit if metric else None,
        seeds=study.protocol.seeds,
    )


def _sources(data: DataSpec) -> DataSpec:
    """Returns where the rows of each split come from, without folders."""

    def named(part: SourceSpec) -> SourceSpec:
        more = tuple(map(_without_folder, part.more))
        return part.model_copy(update={"source": _without_folder(part.source), "more": more})

    return DataSpec(
        train=named(data.train),
        validation=named(data.validation) if data.validation else None,
        test=named(data.test) if data.test else None,
    )


def _without_folder(reference: str) -> str:
    """Returns a file's name without its folder, which is this machine's. Both kinds of slash split a Windows path."""
    path = PureWindowsPath(reference.removeprefix("file:"))
    return path.name if is_data_file(path.name) else reference


def _selected_by(results: Results) -> str | None:
    """Returns the validation metric that chose what was tested; None where nothing was chosen, or no record states
    it."""
    protocol = results.study.protocol
    if protocol.select == "last":
        return None
    search_metric = str(results.search["metric"]["name"]) if results.search is not None else None
    recorded_metrics = (selecting_metric(record) for record in results.completed)
    return protocol.select_metric or search_metric or next(filter(None, recorded_metrics), None)


def _arm(results: Results, arm: Arm, answer: Answer, outcomes: Outcomes, test_metrics: list[Metric]) -> ArmSummary:
    """Builds an arm's entry; `test_metrics` are the test metrics that any arm of the study has."""
    completed = arm.completed
    first = next((r for r in completed if r.parameters), None) or next((r for r in arm.records if r.parameters), None)
    parameters = first.parameters if first else None
    costs = {cost.name: over_seeds(v for r in completed if (v := cost.of(r)) is not None) for cost in COSTS}
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
        seeds=tuple(record.spec.seed for record in completed),
        planned_seeds=tuple(trial.seed for trial in arm.trials),
        statuses=arm.statuses,
        metrics=metrics,
        validation_metrics=_validation_metrics(arm),
        **{name: _cost(estimate) for name, estimate in costs.items()},
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


def _cost(estimate: Estimate | None) -> Figure:
    """Returns a cost. No cost is negative, so neither is its interval."""
    fields = _figure(estimate)
    if fields["interval_low"] is not None:
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
        "p_holm": pair.p_holm,
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


def _verdict(answer: Answer, metric: Metric | None) -> VerdictSummary | None:
    verdict = answer.verdict
    if verdict is None or metric is None:
        return None
    return VerdictSummary(
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        groups=tuple(tuple(group) for group in verdict.groups),
        effect_size=EFFECT_SIZE,
        correction="Holm",
        pairs=tuple(
            PairSummary(first=pair.first, second=pair.second, **pair_fields(pair, metric.direction, answer.margin))
            for pair in verdict.pairs
        ),
    )


def _answer(answer: Answer) -> AnswerSummary:
    """Returns the answer without its words."""
    unsettled = {*answer.tied_with, *answer.open}
    return AnswerSummary(
        best=answer.best,
        winner=answer.winner,
        tied_with=answer.tied_with,
        open=answer.open,
        behind=answer.behind,
        ahead=answer.ahead,
        not_compared=answer.not_compared,
        without_score=answer.without_score,
        unequal_seeds=answer.unequal_seeds,
        baseline=answer.baseline,
        not_above_baseline=answer.not_above_baseline,
        if_trained=answer.if_trained,
        cheapest=answer.cheapest,
        margin=answer.margin,
        as_good=answer.as_good,
        seeds=answer.seeds,
        significant=answer.significant,
        to_settle=tuple(
            Unsettled(
                method=label,
                seeds=pair.seeds_needed,
                least=pair.seeds_range[0] if pair.seeds_range else None,
                most=pair.seeds_range[1] if pair.seeds_range else None,
                reason=pair.reason,
            )
            for label, pair in answer.to_best.items()
            if label in unsettled
        ),
        scope="",
        caveats=answer.caveats,
        doubt="",
        text="",
    )


def _failure(results: Results, record: TrialRecord) -> Failure:
    return Failure(
        id=record.spec.id,
        label=results.label_of(record),
        seed=record.spec.seed,
        status=record.status,
        cause=record.cause,
        log_tail=record.log_tail,
    )


def _published(results: Results) -> PublishedSummary | None:
    publication = results.study.published
    if publication is None:
        return None
    labels = {arm.trials[0].label for arm in results.arms}
    others = {label: dict(figures) for label, figures in publication.figures.items() if label not in labels}
    return PublishedSummary(citation=publication.citation, notes=publication.notes, without_an_arm=others)


def _environments(results: Results) -> Environments:
    """Returns the machines and software of the completed trials; one of each where all are equal."""
    trials = [r for r in results.completed if r.environment]
    environments = [r.environment for r in trials if r.environment]
    machines: list[Machine] = []
    for environment in environments:
        machine = Machine(**environment.model_dump(exclude={"versions", "started_at", "commit"}))
        if machine not in machines:
            machines.append(machine)
    policies = {r.precision.policy: r.precision for r in trials if r.precision}
    for name, policy in policies.items():
        errors = [r.precision.matmul_relative_error for r in trials if r.precision and r.precision.policy == name]
        worst = max((e for e in errors if e is not None), default=None)
        policies[name] = policy.model_copy(update={"matmul_relative_error": worst})
    first = environments[0] if environments else None
    return Environments(
        machines=tuple(machines),
        versions=dict(sorted(first.versions.items())) if first else {},
        version_differences={name: tuple(values) for name, values in version_differences(environments).items()},
        commit=first.commit if first else None,
        precision=tuple(policies.values()),
    )


def _data(results: Results) -> DataSummary | None:
    """Returns the data as the first completed trial saw them; `different_data` warns where others saw others.

    A trial that trains is preferred, then one with a model: a baseline reads the same rows, but counts no tokens.
    """
    candidates = sorted(
        (r for r in results.completed if r.data), key=lambda r: (r.spec.learning_rate is None, r.model is None)
    )
    if not candidates or candidates[0].data is None:
        return None
    record, data = candidates[0], candidates[0].data
    return DataSummary(**{**dict(data), "train_order_fingerprint": None}, model=record.model)
