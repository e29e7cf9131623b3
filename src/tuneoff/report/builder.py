"""Builds the report of a study from its results; nothing else makes one."""

from __future__ import annotations

from pathlib import PureWindowsPath

from tuneoff.analysis.answers import class_report, residuals
from tuneoff.analysis.checks.caveats import caveats, comparable, version_differences
from tuneoff.analysis.checks.detectors import selecting_metric
from tuneoff.analysis.checks.devices import device_warnings
from tuneoff.analysis.checks.search import search_warnings
from tuneoff.analysis.curves import learning_curves
from tuneoff.analysis.decisions.answer import Answer, find_answer
from tuneoff.analysis.decisions.rule_data import rule_data
from tuneoff.analysis.deployability import summarise_deployability
from tuneoff.analysis.devices import compare_devices
from tuneoff.analysis.disagreements import find_disagreements, find_hardness
from tuneoff.analysis.examples import first_predictions, sample_examples
from tuneoff.analysis.forecast_accuracy import compare_forecast
from tuneoff.analysis.machine_use import machine_use
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results
from tuneoff.analysis.retention import report_retention
from tuneoff.analysis.search_summary import SearchSummary, summarise_search
from tuneoff.collection import without_collection
from tuneoff.config.data import DataSpec, SourceSpec
from tuneoff.records.record import Metric, Status, TrialRecord
from tuneoff.report.arm_builder import build_arm, pair_fields
from tuneoff.report.schema import (
    AnswerSummary,
    DataSummary,
    Environments,
    Failure,
    Machine,
    MoneySummary,
    PairSummary,
    PublishedSummary,
    RaceLookSummary,
    RaceSummary,
    Report,
    StudySummary,
    TrialCounts,
    Unsettled,
    VerdictSummary,
)
from tuneoff.report.scope import answer_scope
from tuneoff.report.wording import answer_text, doubt_text
from tuneoff.suffixes import is_data_file

EFFECT_SIZE = "Hedges' g"


@without_collection()
def build_report(results: Results) -> Report:
    """Collects everything that renderers show."""
    outcomes = Outcomes(results)
    search = summarise_search(results)
    warnings = [*caveats(results, outcomes), *device_warnings(results), *search_warnings(search)]
    answer = find_answer(results, outcomes, warnings)
    predictions = first_predictions(results)
    # The best arm, and the one that trains fastest of those tied with it.
    shown = [label for label in dict.fromkeys((answer.best, answer.cheapest.get("train_seconds"))) if label is not None]
    test_metrics = {m.name: m for r in results.completed for m in r.metrics if m.split == "test"}
    report = Report(
        study=_study(results),
        trials=TrialCounts(
            planned=results.planned_count, recorded=len(results.records), completed=len(results.completed)
        ),
        warnings=tuple(warnings),
        methods=tuple(build_arm(results, arm, answer, outcomes, list(test_metrics.values())) for arm in results.arms),
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
        race=_race(outcomes),
        deployability=summarise_deployability(results, outcomes),
        curves=learning_curves(results.arms, results.primary, results.store),
        rule=rule_data(results, outcomes),
        disagreements=find_disagreements(predictions, results.primary.name) if results.primary else (),
        classes=class_report(results, outcomes.predictions, shown),
        residuals=residuals(results, outcomes.predictions, shown),
        hardness=find_hardness(predictions, results.primary.name, results.primary.direction == "higher")
        if results.primary
        else None,
        machine_use=machine_use(results.arms),
        money=_money_summary(results, search),
        retention=report_retention(results),
    )
    report = _with_answer(report, doubt=doubt_text(report))
    report = _with_answer(report, scope=answer_scope(report, results))
    return _with_answer(report, text=answer_text(report))


def _with_answer(report: Report, **words: str) -> Report:
    return report.model_copy(update={"answer": report.answer.model_copy(update=words)})


def _study(results: Results) -> StudySummary:
    study, metric = results.study, results.primary
    seeds = study.protocol.seeds
    if study.protocol.race is not None:
        planned = {trial.seed for arm in results.arms for trial in arm.trials}
        seeds = tuple(seed for seed in seeds if seed in planned)
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
        seeds=seeds,
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
        correction="Shaffer",
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


def _race(outcomes: Outcomes) -> RaceSummary | None:
    race = outcomes.race
    if race is None:
        return None
    looks = tuple(
        RaceLookSummary(
            seeds=look.seeds,
            arms=look.methods,
            best=look.best,
            beaten=dict(look.beaten),
            without_score=look.without_score,
        )
        for look in race.looks
    )
    return RaceSummary(counts=race.counts, looks=looks, running=race.running, ending=race.ending)


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
    return PublishedSummary(
        citation=publication.citation,
        other_model=other_model(publication.model, results.study.model.source),
        notes=publication.notes,
        without_an_arm=others,
    )


def other_model(published: str | None, source: str) -> str | None:
    """Returns the base model of published figures where the study's is another; of one name are a copy in a folder and
    one that somebody else offers at the hub."""
    if published is None or PureWindowsPath(published).name.casefold() == PureWindowsPath(source).name.casefold():
        return None
    return published


def _money_summary(results: Results, search: SearchSummary | None) -> MoneySummary | None:
    """Sums what the study cost; None without prices."""
    prices = results.study.prices
    if prices is None:
        return None
    # A trial that failed cost something, too.
    amounts = [record.money.trial for record in results.records]
    return MoneySummary(
        **prices.model_dump(),
        final=sum(amount for amount in amounts if amount is not None),
        search=search.money if search else None,
        search_reason=search.money_reason if search else "there was no search",
        unpriced=amounts.count(None),
    )


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
