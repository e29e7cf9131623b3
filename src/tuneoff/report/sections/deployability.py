"""The page's section on the forms in which trained models may be deployed."""

from __future__ import annotations

from collections.abc import Callable

from tuneoff.analysis.deployability import ArmDeployability, FormSummary
from tuneoff.analysis.figures import metric_name
from tuneoff.config.deployability import AS_TRAINED, MEANINGS, TITLES
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns, units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections import certainty

LARGEST = "largest difference"
HEADS = ("form", "works", "", "vs. as trained", "answers changed", LARGEST, "weights", "latency", "memory")


def section(report: Report) -> str:
    """Writes the section; empty where nothing was measured."""
    if not report.deployability:
        return ""
    level = certainty.level(report)
    explanation = (
        "Each form of the trained model was made from the kept weights, loaded in a process of its own, and scored on "
        f"the same test rows: the score with its {level} interval, its difference to the model as trained on the same "
        f"seeds and examples with its {level} interval, how many examples are answered otherwise, and the largest "
        "difference of any output. Weights are files on disk, with those of the base model where it is needed besides; "
        "latency is the median for one example, memory the peak while scoring, each a mean over seeds."
    )
    parts = ["## Deployability", explanation]
    for arm in report.deployability:
        parts += [f"### {escaped(arm.method)}", *_arm(arm)]
    forms = [form for form in TITLES if any(arm.form(form) for arm in report.deployability)]
    meanings = "\n".join(f"- {TITLES[form]} (`{form}`): {MEANINGS[form]}." for form in forms)
    return "\n\n".join([*parts, meanings])


def rows(arm: ArmDeployability) -> list[list[str]]:
    """Returns an arm's table: a row for each form, the cells under `HEADS`, with the metric's name in the third."""
    return [_cells(arm, form) for form in arm.forms]


def heads(arm: ArmDeployability) -> list[str]:
    """Returns the headings of an arm's table."""
    differs = next((form.largest_difference_of for form in arm.forms if form.largest_difference_of), "")
    named = {"": metric_name(arm.metric), LARGEST: f"{LARGEST} ({differs})" if differs else LARGEST}
    return [named.get(head, head) for head in HEADS]


def notes(arm: ArmDeployability) -> list[str]:
    """Returns why forms do not work, and what to know of the others."""
    texts = [f"{TITLES[form.form]}: {form.reason.rstrip('.')}." for form in arm.forms if form.reason]
    texts += [f"{TITLES[form.form]}: {'; '.join(form.notes)}." for form in arm.forms if form.notes and form.works]
    return [*texts, *(f"Not used: {problem}." for problem in arm.problems)]


def _arm(arm: ArmDeployability) -> list[str]:
    table = grid(heads(arm), [[escaped(cell) for cell in row] for row in rows(arm)])
    listed = "\n".join(f"- {escaped(note)}" for note in notes(arm))
    return [*([table] if arm.forms else []), *([listed] if listed else [])]


def _cells(arm: ArmDeployability, form: FormSummary) -> list[str]:
    return [
        TITLES[form.form],
        "yes" if form.works else "no",
        _interval(form.quality, form.interval_low, form.interval_high, lambda value: _score(arm, value)),
        "–" if form.form == AS_TRAINED else _difference(arm, form),
        _changed(form),
        _largest(form),
        _weights(form),
        _value(form.latency_seconds, units.seconds),
        _value(form.peak_memory_bytes, units.size),
    ]


def _score(arm: ArmDeployability, value: float) -> str:
    return columns.score(value, unit=arm.unit)


def _difference(arm: ArmDeployability, form: FormSummary) -> str:
    if form.difference == 0 and form.difference_low is None and form.changed_answers == 0:
        return "none"
    return _interval(
        form.difference, form.difference_low, form.difference_high, lambda value: columns.signed(value, arm.unit)
    )


def _interval(value: float | None, low: float | None, high: float | None, show: Callable[[float], str]) -> str:
    if value is None:
        return "–"
    return show(value) if low is None or high is None else f"{show(value)} [{show(low)}, {show(high)}]"


def _changed(form: FormSummary) -> str:
    return "–" if form.changed_answers is None else f"{form.changed_answers:,} of {form.examples:,}"


def _largest(form: FormSummary) -> str:
    return "–" if form.largest_difference is None else f"{form.largest_difference:.2g}"


def _weights(form: FormSummary) -> str:
    if form.weights_bytes is None:
        return "–"
    if form.base_bytes == 0:
        return units.size(form.weights_bytes)
    base = units.size(form.base_bytes) if form.base_bytes is not None else "the base model"
    return f"{units.size(form.weights_bytes)} + {base}"


def _value(value: float | None, show: Callable[[float], str]) -> str:
    return "–" if value is None else show(value)
