"""The comparison that an exported model's card shows: its arm among the others of the study."""

from __future__ import annotations

from pathlib import Path

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import gather
from tuneoff.config.spec import TrialSpec
from tuneoff.encoding import markdown
from tuneoff.errors import StoreError
from tuneoff.report import columns, wording
from tuneoff.report.arm_schema import ArmSummary
from tuneoff.report.builder import build_report
from tuneoff.report.columns import Column
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections.certainty import level
from tuneoff.report.wording import join
from tuneoff.store import StudyStore, write_atomically

CARD, TRIAL = "README.md", "tuneoff-trial.json"


def add_comparison(store: StudyStore, folder: Path) -> None:
    """Adds the comparison to the card of an export, or why there is none: a study that is damaged elsewhere takes
    nothing from an export that is whole."""
    card = folder / CARD
    spec = TrialSpec.model_validate_json((folder / TRIAL).read_text(encoding="utf-8"))
    try:
        results = gather(store)
        labels = [arm.label for arm in results.arms if spec.id in {trial.id for trial in arm.trials}]
        text = section(build_report(results), labels[0]) if labels else ""
    except StoreError as error:
        text = f"## Comparison\n\nThe study could not be read: {markdown(str(error))}."
    if text:
        write_atomically(card, f"{card.read_text(encoding='utf-8').rstrip()}\n\n{text}\n", make_folder=False)


def section(report: Report, label: str) -> str:
    """Returns the section with every arm's figures, this one's in bold; empty while nothing is compared."""
    metrics = columns.metrics(report)
    if not metrics:
        return ""
    shown = [metrics[0], *(c for c in columns.costs(report) if any(c.value(arm) for arm in report.methods))]
    heads = ["arm", *(markdown(column.title) for column in shown), "vs. best", "seeds"]
    rows = [_row(arm, shown, report, is_this=arm.method == label) for arm in report.methods]
    explanation = (
        f"Means over seeds on the test split, of test {metric_name(report.study.primary_metric or '')} with its "
        f"{level(report)} interval; in bold the arm that this model is of. {_conditions(report)}"
    )
    return "\n\n".join(["## Comparison", markdown(wording.headline(report)), grid(heads, rows), explanation])


def _conditions(report: Report) -> str:
    """Says what was equal for all arms, and no more than that."""
    if not report.is_ours:
        return wording.IMPORTED
    untrained = join([arm.method for arm in report.methods if not arm.trains])
    trained = f"All arms but {untrained}, without training," if untrained else "All arms"
    if report.comparable:
        return f"{trained} were trained under one protocol and like conditions, which the study's report tells."
    return (
        f"{trained} were trained under one protocol, but under unlike conditions: the study's report tells which, and "
        "costs may not compare."
    )


def _row(arm: ArmSummary, shown: list[Column], report: Report, is_this: bool) -> list[str]:
    cells = [arm.method, shown[0].interval(arm) or "–", *(column.text(arm) or "–" for column in shown[1:])]
    cells += [columns.standing(arm, report.study.primary_unit), columns.trials(arm)]
    return [f"**{markdown(cell)}**" if is_this else markdown(cell) for cell in cells]
