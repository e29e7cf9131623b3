"""The report as plain data; every key is described in docs/report-schema.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuneoff.analysis.answer import Answer, find_answer
from tuneoff.analysis.caveats import caveats, version_differences
from tuneoff.analysis.compare import Comparer, Comparison
from tuneoff.analysis.figures import COSTS, why_missing
from tuneoff.analysis.results import Results, Row
from tuneoff.analysis.statistics import LEVEL, SEEDS_NEEDED, Spread, spread
from tuneoff.record import Metric, Status, TrialRecord
from tuneoff.report import published
from tuneoff.report.wording import answer_text

SCHEMA_VERSION = 1


def summarise(results: Results) -> dict[str, Any]:
    """Everything the renderers show, apart from curves."""
    warnings = caveats(results)
    answer = find_answer(results, Comparer(results), warnings)
    metric = results.primary
    methods = [_method(results, row, answer) for row in results.rows]
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": {
            "name": results.study.name,
            "description": results.study.description,
            "model": results.study.model.source,
            "random_weights": results.random_weights,
            "task": results.study.task.name,
            "primary_metric": metric.name if metric else None,
            "primary_direction": metric.direction if metric else None,
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
        "failures": [_failure(results, r) for r in results.records if r.status is not Status.COMPLETED],
        "published": _published(results),
        "comparable": not any(w.name in ("different_hardware", "different_versions", "contended") for w in warnings),
        "environments": _environments(results),
        "protocol": results.study.protocol.model_dump(mode="json"),
        "data": _data(results),
    }
    body["answer"]["text"] = answer_text(body)
    return body


def _method(results: Results, row: Row, answer: Answer) -> dict[str, Any]:
    shown = row.completed
    first = next((r for r in shown if r.parameters), None) or next((r for r in row.records if r.parameters), None)
    parameters = first.parameters if first else None
    costs = {cost.name: _costs(spread(_values(shown, cost.name))) for cost in COSTS}
    figures = _figures(results, row)
    entry: dict[str, Any] = {
        "method": row.label,
        "method_name": row.method,
        "trains": row.trains,
        "options": row.trials[0].options,
        "learning_rate": row.learning_rate,
        "seeds": [record.spec.seed for record in shown],
        "planned_seeds": [trial.seed for trial in row.trials],
        "statuses": row.statuses,
        "metrics": _metrics(shown, "test"),
        "validation_metrics": _metrics(shown, "validation"),
        **costs,
        "trainable_parameters": parameters.trainable.total if parameters else None,
        "total_parameters": parameters.total.total if parameters else None,
        "trainable_parameters_by_role": parameters.trainable.model_dump() if parameters else None,
        "total_parameters_by_role": parameters.total.model_dump() if parameters else None,
        "memory_kind": next((r.memory.kind for r in shown if r.memory.kind), None),
        "contended": row.contended,
        "findings": _findings(row),
        "to_best": _comparison(answer.to_best.get(row.label), row.label == answer.best),
        "to_floor": _comparison(answer.to_floor.get(row.label)),
        "missing": _missing(row, costs, parameters is None),
        "published": figures,
    }
    entry["published_comparison"] = published.compare(figures, entry)
    return entry


def _values(records: Iterable[TrialRecord], name: str) -> list[float]:
    of = next(cost for cost in COSTS if cost.name == name).of
    return [value for record in records if (value := of(record)) is not None]


def _costs(found: Spread | None) -> dict[str, Any]:
    if found is None:
        return {"mean": None, "std": None, "n": 0}
    return {"mean": found.mean, "std": found.std, "n": found.n}


def _metrics(records: Iterable[TrialRecord], split: str) -> dict[str, Any]:
    by_name: dict[str, list[Metric]] = {}
    for record in records:
        for metric in record.metrics:
            if metric.split == split:
                by_name.setdefault(metric.name, []).append(metric)
    found = {}
    for name, metrics in by_name.items():
        over = spread(metric.value for metric in metrics)
        assert over is not None  # a name is only there with a value
        found[name] = {
            **_costs(over),
            "unit": metrics[0].unit,
            "direction": metrics[0].direction,
            "interval_low": over.low,
            "interval_high": over.high,
            "values": list(over.values),
        }
    return found


def _missing(row: Row, costs: dict[str, dict[str, Any]], no_parameters: bool) -> list[dict[str, str]]:
    """Why a figure of this row is null."""
    nothing = "no trial of this row has completed" if not row.completed else ""
    found = []
    if nothing:
        found.append({"figure": "metrics", "reason": nothing})
    for cost in COSTS:
        if costs[cost.name]["mean"] is None:
            reasons = dict.fromkeys(why_missing(record, cost.place) for record in row.completed)
            found.append({"figure": cost.name, "reason": nothing or "; ".join(reasons)})
    if no_parameters:
        reasons = dict.fromkeys(why_missing(record, "parameters") for record in row.completed)
        found += [
            {"figure": name, "reason": nothing or "; ".join(reasons)}
            for name in ("trainable_parameters", "total_parameters")
        ]
    return found


def _findings(row: Row) -> list[dict[str, Any]]:
    seeds: dict[tuple[str, str], list[int]] = {}
    for record in row.records:
        for finding in record.findings:
            seeds.setdefault((finding.name, finding.message), []).append(record.spec.seed)
    return [{"name": name, "message": message, "seeds": where} for (name, message), where in seeds.items()]


def _comparison(found: Comparison | None, best: bool = False) -> dict[str, Any] | None:
    if best:
        return {"relation": "best"}
    if found is None:
        return None
    difference = found.difference
    return {
        "relation": found.relation,
        "difference": difference.mean if difference else None,
        "interval_low": difference.low if difference else None,
        "interval_high": difference.high if difference else None,
        "seeds": found.seeds,
        "examples": found.examples,
        "reason": found.reason,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "best": answer.best,
        "tied_with": list(answer.tied_with),
        "behind": list(answer.behind),
        "not_compared": list(answer.not_compared),
        "floor": answer.floor,
        "not_above_floor": list(answer.not_above_floor),
        "cheapest": answer.cheapest,
        "seeds": answer.seeds,
        "significant": answer.significant,
        "seeds_needed": SEEDS_NEEDED,
        "interval_level": LEVEL,
        "caveats": list(answer.caveats),
    }


def _failure(results: Results, record: TrialRecord) -> dict[str, Any]:
    return {
        "id": record.spec.id,
        "label": results.label_of(record),
        "seed": record.spec.seed,
        "status": record.status.value,
        "cause": record.cause,
        "log_tail": list(record.log_tail),
    }


def _figures(results: Results, row: Row) -> dict[str, float]:
    told = results.study.published
    return dict(told.figures.get(row.trials[0].label, {})) if told else {}


def _published(results: Results) -> dict[str, Any] | None:
    told = results.study.published
    if told is None:
        return None
    labels = {row.trials[0].label for row in results.rows}
    others = {label: dict(figures) for label, figures in told.figures.items() if label not in labels}
    return {"citation": told.citation, "notes": list(told.notes), "without_a_row": others}


def _environments(results: Results) -> dict[str, Any]:
    """The machines and software of the completed trials; one of each where all is equal."""
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
    """The rows as the first completed trial saw them; `different_data` warns where others saw others.

    A trial that trains is preferred: a floor reads the same rows, but counts no tokens and loads no model.
    """
    candidates = sorted((r for r in results.completed if r.data), key=lambda r: r.spec.learning_rate is None)
    if not candidates or candidates[0].data is None:
        return None
    record, data = candidates[0], candidates[0].data
    facts = data.model_dump(mode="json", exclude={"train_order_fingerprint"})
    return {**facts, "model": record.model.model_dump(mode="json") if record.model else None}
