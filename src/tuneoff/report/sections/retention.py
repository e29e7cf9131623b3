"""The page's section on what the arms forget."""

from __future__ import annotations

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.retention import HeldChange, HeldSummary, MeanFigure, RetentionReport
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns, units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections import certainty


def section(report: Report) -> str:
    """Writes the section in report.md; empty where nothing is held."""
    retention = report.retention
    if retention is None:
        return ""
    titles = [f"{escaped(held.name)}: {_metric(held)}" for held in retention.held]
    heads = ["arm", *(head for title in titles for head in (title, "change"))]
    before = ["base model", *(cell for held in retention.held for cell in (columns.score(held.before), "–"))]
    labels = dict.fromkeys(arm.method for held in retention.held for arm in held.arms)
    rows = [before, *([escaped(label), *_cells(label, retention)] for label in labels)]
    explanation = (
        "What the base model could do before, scored again by the trained models, each as it was tested: with its "
        f"adapter or its prompt. “Change” is by how much that is worse, with its {certainty.level(report)} interval: "
        "above 0 something was forgotten, below 0 it is better than before; an interval that holds 0 does not tell. "
        f"{_describe_rows(retention)} “Forgetting” elsewhere is the change of {escaped(retention.held[0].name)}."
    )
    return "\n\n".join(["## Retention", grid(heads, rows), explanation, *_rewind(retention)])


def _metric(held: HeldSummary) -> str:
    return f"{metric_name(held.metric)} {'↓' if held.direction == 'lower' else '↑'}"


def _cells(label: str, retention: RetentionReport) -> list[str]:
    cells = []
    for held in retention.held:
        arm = next((arm for arm in held.arms if arm.method == label), None)
        cells += ["–", "–"] if arm is None else [columns.score(arm.after), _change(arm.change)]
    return cells


def _change(change: HeldChange) -> str:
    if change.interval_low is None or change.interval_high is None:
        return f"{units.change_spread(change.mean, None)} (no interval)"
    ends = [units.change_spread(end, None) for end in (change.interval_low, change.interval_high)]
    return f"{units.change_spread(change.mean, None)} [{', '.join(ends)}]"


def _describe_rows(retention: RetentionReport) -> str:
    counts = ", ".join(f"{held.rows:,} of {escaped(held.name)}" for held in retention.held)
    over = dict.fromkeys(arm.change.interval_over for held in retention.held for arm in held.arms)
    varying = " and ".join(text.replace("examples", "rows") for text in over if text)
    return f"Rows scored: {counts}" + (f"; intervals are over {varying}." if varying else ".")


def _rewind(retention: RetentionReport) -> list[str]:
    """Writes the table of the models between the base model and the trained ones; empty without."""
    if retention.rewind_metric is None:
        return []
    heads = ["arm", "fraction", f"validation {metric_name(retention.rewind_metric)}"]
    heads += [f"{escaped(held.name)}: {_metric(held)}" for held in retention.held]
    rows = [
        [
            escaped(curve.method),
            f"{step.fraction:g}",
            _mean(step.quality),
            *(_mean(step.held[held.name]) for held in retention.held),
        ]
        for curve in retention.rewind
        for step in curve.steps
    ]
    reasons = [f"{escaped(curve.method)}: {escaped(curve.reason)}." for curve in retention.rewind if curve.reason]
    explanation = (
        "Models between the base model (fraction 0) and the merged one (1): every weight has that fraction of its "
        "trained change, and a head that the task adds stays as trained. Scored on validation, so that a fraction may "
        "be chosen here."
    )
    return ["### Part of the trained change", grid(heads, rows), explanation, *reasons]


def _mean(figure: MeanFigure) -> str:
    text = columns.score(figure.mean)
    if figure.interval_low is None or figure.interval_high is None:
        return text
    return f"{text} [{columns.score(figure.interval_low)}, {columns.score(figure.interval_high)}]"
