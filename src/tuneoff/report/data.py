"""The report as plain data; every key is described in docs/report-schema.md."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PureWindowsPath
from typing import Any

from tuneoff.analysis.checks.caveats import caveats, version_differences
from tuneoff.analysis.checks.detectors import selecting_metric
from tuneoff.analysis.decisions.answer import Answer, find_answer
from tuneoff.analysis.figures import COSTS, why_missing
from tuneoff.analysis.outcomes import Outcomes, over_seeds, within_range
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import LEVEL, SEEDS_REQUIRED, Estimate, Pair
from tuneoff.config.spec import DATA_SUFFIXES, DataSpec
from tuneoff.records.record import Metric, Status, TrialRecord
from tuneoff.report import published
from tuneoff.report.devices import device_warnings, devices_data
from tuneoff.report.examples import examples
from tuneoff.report.forecast import forecast_data
from tuneoff.report.search import rate_from, search_data, search_warnings
from tuneoff.report.wording import answer_text, doubt

SCHEMA_VERSION = 4
EFFECT_SIZE = "Hedges' g"
INCOMPARABLE = ("different_hardware", "different_versions", "different_release_memory", "contended")
"""Warnings after which times and memory of different arms do not compare."""
_COUNTS = ("trainable_parameters", "total_parameters")


def summarise(results: Results) -> dict[str, Any]:
    """Collects everything the renderers show, apart from curves."""
    outcomes = Outcomes(results)
    warnings = [*caveats(results, outcomes), *device_warnings(results), *search_warnings(results)]
    answer = find_answer(results, outcomes, warnings)
    metric = results.primary
    test_metrics = {m.name: m for r in results.completed for m in r.metrics if m.split == "test"}
    methods = [_method(results, arm, answer, outcomes, list(test_metrics.values())) for arm in results.arms]
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": {
            "name": results.study.name,
            "description": results.study.description,
            "model": results.study.model.source,
            "random_weights": results.random_weights,
            "task": results.study.task.name,
            "task_options": results.arms[0].trials[0].task.options,
            "sources": _sources(results.study.task.data),
            "selected_by": _selected_by(results),
            "primary_metric": metric.name if metric else None,
            "primary_direction": metric.direction if metric else None,
            "primary_unit": metric.unit if metric else None,
            "seeds": list(results.study.protocol.seeds),
        },
        "trials": {
            "planned": results.planned_count,
            "recorded": len(results.records),
            "completed": len(results.completed),
        },
        "warnings": [warning.model_dump() for warning in warnings],
        "methods": methods,
        "answer": _answer(answer),
        "verdict": _verdict(answer, metric),
        "failures": [_failure(results, r) for r in results.records if r.status is not Status.COMPLETED],
        "published": _published(results),
        "search": search_data(results),
        "forecast": forecast_data(results),
        "devices": devices_data(results),
        "examples": examples(results),
        "comparable": not any(w.name in INCOMPARABLE for w in warnings),
        "environments": _environments(results),
        "protocol": results.study.protocol.model_dump(mode="json"),
        "data": _data(results),
    }
    body["answer"]["doubt"] = doubt(body)
    body["answer"]["text"] = answer_text(body)
    return body


def _sources(data: DataSpec) -> dict[str, dict[str, Any] | None]:
    """Returns where the rows of each split come from; None where they are cut from the training rows."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        role: None if part is None else {**part.model_dump(), "source": _without_folder(part.source)}
        for role, part in parts.items()
    }


def _without_folder(reference: str) -> str:
    """Returns a file's name without its folder, which is this machine's. Both kinds of slash split a Windows path."""
    path = PureWindowsPath(reference.removeprefix("file:"))
    return path.name if path.suffix.lower() in DATA_SUFFIXES else reference


def _selected_by(results: Results) -> str | None:
    """Returns the validation metric that chose what was tested; None where nothing was chosen, or no record states
    it."""
    protocol = results.study.protocol
    if protocol.select == "last":
        return None
    search_metric = str(results.search["metric"]["name"]) if results.search is not None else None
    recorded_metrics = (selecting_metric(record) for record in results.completed)
    return protocol.select_metric or search_metric or next(filter(None, recorded_metrics), None)


def _method(
    results: Results, arm: Arm, answer: Answer, outcomes: Outcomes, test_metrics: list[Metric]
) -> dict[str, Any]:
    """Builds an arm's entry; `test_metrics` are the test metrics that any arm of the study has."""
    completed = arm.completed
    first = next((r for r in completed if r.parameters), None) or next((r for r in arm.records if r.parameters), None)
    parameters = first.parameters if first else None
    metrics = _test_metrics(arm, outcomes, test_metrics)
    costs = {cost.name: _cost(over_seeds(_values(completed, cost.name))) for cost in COSTS}
    figures = _figures(results, arm)
    entry: dict[str, Any] = {
        "method": arm.label,
        "method_name": arm.method,
        "trains": arm.trains,
        "options": arm.trials[0].options,
        "learning_rate": arm.learning_rate,
        "learning_rate_from": rate_from(results, arm),
        "seeds": [record.spec.seed for record in completed],
        "planned_seeds": [trial.seed for trial in arm.trials],
        "statuses": arm.statuses,
        "metrics": metrics,
        "validation_metrics": _validation_metrics(completed),
        **costs,
        "trainable_parameters": parameters.trainable.total if parameters else None,
        "total_parameters": parameters.total.total if parameters else None,
        "trainable_parameters_by_role": parameters.trainable.model_dump() if parameters else None,
        "total_parameters_by_role": parameters.total.model_dump() if parameters else None,
        "memory_kind": next((r.memory.kind for r in completed if r.memory.kind), None),
        "latency_examples": min((r.inference.latency_examples for r in completed), default=0) or None,
        "contended": arm.contended,
        "findings": _findings(arm),
        "ties": answer.verdict.letters.get(arm.label, "") if answer.verdict else "",
        "to_best": {"relation": "best"} if arm.label == answer.best else pair_data(answer.to_best.get(arm.label)),
        "to_baseline": pair_data(answer.to_baseline.get(arm.label)),
        "missing": _missing(
            arm, costs, [m.name for m in test_metrics if m.name not in metrics], bool(metrics), parameters is None
        ),
        "published": figures,
    }
    entry["published_comparison"] = published.compare(figures, entry, completed)
    return entry


def _values(records: Iterable[TrialRecord], name: str) -> list[float]:
    read = next(cost for cost in COSTS if cost.name == name).of
    return [value for record in records if (value := read(record)) is not None]


def _estimate(estimate: Estimate | None) -> dict[str, Any]:
    """Returns a figure's estimate over its trials as plain data; `interval_reason` says why there is no interval."""
    if estimate is None:
        return {
            "mean": None,
            "std": None,
            "n": 0,
            "interval_low": None,
            "interval_high": None,
            "interval_reason": "no value",
        }
    interval = estimate.interval
    return {
        "mean": estimate.mean,
        "std": estimate.std,
        "n": estimate.seeds,
        "interval_low": interval.low if interval else None,
        "interval_high": interval.high if interval else None,
        "interval_reason": "one seed" if estimate.seeds == 1 and interval is None else estimate.reason,
    }


def _cost(estimate: Estimate | None) -> dict[str, Any]:
    """Returns a cost's estimate as plain data. No cost is negative, so neither is its interval."""
    body = _estimate(estimate)
    if body["interval_low"] is not None:
        body["interval_low"] = max(body["interval_low"], 0.0)
    return body


def _test_metrics(arm: Arm, outcomes: Outcomes, test_metrics: list[Metric]) -> dict[str, Any]:
    metrics = {}
    for metric in test_metrics:
        figure = outcomes.figure(arm, metric)
        if figure is None:
            continue
        verdict = outcomes.verdict(metric)
        interval = figure.estimate.interval
        metrics[metric.name] = {
            **_estimate(figure.estimate),
            "interval_over": interval.over if interval else None,
            "examples": figure.estimate.examples,
            "ties": verdict.letters.get(arm.label, "") if verdict else "",
            "note": figure.note,
            "diverged_seeds": list(figure.diverged),
            "counted_as": figure.counted_as,
            "without_diverged": _estimate(figure.without) if figure.without else None,
            "ranked_mean": outcomes.mean(arm, metric),
            "unit": metric.unit,
            "direction": metric.direction,
            "values": list(arm.scores(metric.name).values()),
        }
    return metrics


def _validation_metrics(records: Iterable[TrialRecord]) -> dict[str, Any]:
    """Summarises validation metrics over seeds alone: predictions of validation are not kept."""
    by_name: dict[str, list[Metric]] = {}
    for record in records:
        for metric in record.metrics:
            if metric.split == "validation":
                by_name.setdefault(metric.name, []).append(metric)
    entries = {}
    for name, metrics in by_name.items():
        estimate = over_seeds(metric.value for metric in metrics)
        assert estimate is not None  # a name is only there with a value
        entries[name] = {
            **_estimate(within_range(estimate, name)),
            "unit": metrics[0].unit,
            "direction": metrics[0].direction,
            "values": [metric.value for metric in metrics],
        }
    return entries


def _missing(
    arm: Arm, costs: dict[str, dict[str, Any]], metrics: list[str], scored: bool, no_parameters: bool
) -> list[dict[str, str]]:
    """Returns why figures of this arm are null. `metrics` are those that other arms have and this one has not, `scored`
    says whether this arm has any."""
    if not arm.completed:
        figures = [name for name, estimate in costs.items() if estimate["mean"] is None]
        figures = figures if scored else ["metrics", *figures]
        figures += [*_COUNTS] if no_parameters else []
        return [{"figure": name, "reason": "no trial of this arm has completed"} for name in figures]
    places = {name: f"metrics.{name}" for name in metrics}
    places |= {cost.name: cost.place for cost in COSTS if costs[cost.name]["mean"] is None}
    places |= dict.fromkeys(_COUNTS, "parameters") if no_parameters else {}
    return [
        {"figure": name, "reason": "; ".join(dict.fromkeys(why_missing(record, place) for record in arm.completed))}
        for name, place in places.items()
    ]


def _findings(arm: Arm) -> list[dict[str, Any]]:
    seeds_by_finding: dict[tuple[str, str], list[int]] = {}
    for record in arm.records:
        for finding in record.findings:
            seeds_by_finding.setdefault((finding.name, finding.message), []).append(record.spec.seed)
    return [{"name": name, "message": message, "seeds": seeds} for (name, message), seeds in seeds_by_finding.items()]


def pair_data(pair: Pair | None) -> dict[str, Any] | None:
    """Returns a comparison of two arms as plain data; every key is described in docs/report-schema.md."""
    if pair is None:
        return None
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
        "seeds_needed": pair.seeds_needed,
        "reason": pair.reason,
    }


def _verdict(answer: Answer, metric: Metric | None) -> dict[str, Any] | None:
    verdict = answer.verdict
    if verdict is None or metric is None:
        return None
    return {
        "metric": metric.name,
        "unit": metric.unit,
        "direction": metric.direction,
        "groups": [list(group) for group in verdict.groups],
        "effect_size": EFFECT_SIZE,
        "correction": "Holm",
        "pairs": [{"first": pair.first, "second": pair.second} | (pair_data(pair) or {}) for pair in verdict.pairs],
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "best": answer.best,
        "winner": answer.winner,
        "tied_with": list(answer.tied_with),
        "open": list(answer.open),
        "behind": list(answer.behind),
        "ahead": list(answer.ahead),
        "not_compared": list(answer.not_compared),
        "without_score": list(answer.without_score),
        "unequal_seeds": answer.unequal_seeds,
        "baseline": answer.baseline,
        "not_above_baseline": list(answer.not_above_baseline),
        "if_trained": answer.if_trained,
        "cheapest": answer.cheapest,
        "seeds": answer.seeds,
        "significant": answer.significant,
        "seeds_required": SEEDS_REQUIRED,
        "to_settle": _to_settle(answer),
        "interval_level": LEVEL,
        "caveats": list(answer.caveats),
    }


def _to_settle(answer: Answer) -> list[dict[str, Any]]:
    """Returns, for every arm that trains and is open or tied with the best, the seeds that would settle it, or why no
    number is named."""
    unsettled = {*answer.tied_with, *answer.open}
    return [
        {"method": label, "seeds": pair.seeds_needed, "reason": pair.reason}
        for label, pair in answer.to_best.items()
        if label in unsettled
    ]


def _failure(results: Results, record: TrialRecord) -> dict[str, Any]:
    return {
        "id": record.spec.id,
        "label": results.label_of(record),
        "seed": record.spec.seed,
        "status": record.status.value,
        "cause": record.cause,
        "log_tail": list(record.log_tail),
    }


def _figures(results: Results, arm: Arm) -> dict[str, float]:
    publication = results.study.published
    return dict(publication.figures.get(arm.trials[0].label, {})) if publication else {}


def _published(results: Results) -> dict[str, Any] | None:
    publication = results.study.published
    if publication is None:
        return None
    labels = {arm.trials[0].label for arm in results.arms}
    others = {label: dict(figures) for label, figures in publication.figures.items() if label not in labels}
    return {"citation": publication.citation, "notes": list(publication.notes), "without_an_arm": others}


def _environments(results: Results) -> dict[str, Any]:
    """Returns the machines and software of the completed trials; one of each where all are equal."""
    trials = [r for r in results.completed if r.environment]
    machines: dict[str, dict[str, Any]] = {}
    for record in trials:
        environment = record.environment
        assert environment is not None  # filtered above
        facts = environment.model_dump(mode="json", exclude={"versions", "started_at", "commit"})
        machines.setdefault(repr(facts), facts)
    policies = {r.precision.policy: r.precision.model_dump(mode="json") for r in trials if r.precision}
    for name, facts in policies.items():
        errors = [r.precision.matmul_relative_error for r in trials if r.precision and r.precision.policy == name]
        facts["matmul_relative_error"] = max((e for e in errors if e is not None), default=None)
    first = trials[0].environment if trials else None
    return {
        "machines": list(machines.values()),
        "versions": dict(sorted(first.versions.items())) if first else {},
        "version_differences": version_differences(r.environment for r in trials if r.environment),
        "commit": first.commit if first else None,
        "precision": list(policies.values()),
    }


def _data(results: Results) -> dict[str, Any] | None:
    """Returns the data as the first completed trial saw them; `different_data` warns where others saw others.

    A trial that trains is preferred, then one with a model: a baseline reads the same rows, but counts no tokens.
    """
    candidates = sorted(
        (r for r in results.completed if r.data), key=lambda r: (r.spec.learning_rate is None, r.model is None)
    )
    if not candidates or candidates[0].data is None:
        return None
    record, data = candidates[0], candidates[0].data
    facts = data.model_dump(mode="json", exclude={"train_order_fingerprint"})
    return {**facts, "model": record.model.model_dump(mode="json") if record.model else None}
