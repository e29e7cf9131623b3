"""The page's section on published figures beside ours."""

from __future__ import annotations

from tuneoff.analysis.published import PublishedComparison
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns, units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections.results import DAGGER


def section(report: Report) -> str:
    """Writes the section; empty where the study names no published figures."""
    published = report.published
    if published is None:
        return ""
    names = list(dict.fromkeys(c.figure for m in report.methods for c in m.published_comparison))
    lines = ["## Published figures beside ours", f"_{escaped(published.citation)}_"]
    if report.study.random_weights:
        lines.append("> **Caution:** ours was run on random weights, so its quality cannot be set beside theirs.")
    if published.other_model is not None:
        theirs, ours = escaped(published.other_model), escaped(report.study.model)
        lines.append(
            f"> **Caution:** theirs are of {theirs} and ours of {ours}: they show the form of a result, not its size."
        )
    if names:
        rows = []
        for entry in report.methods:
            by_name = {c.figure: c for c in entry.published_comparison}
            if by_name:
                ties = [entry.ties or "–"] if columns.grouped(report) else []
                rows.append([escaped(entry.method), *(_format_comparison(by_name.get(name)) for name in names), *ties])
        heads = ["method", *(escaped(name.replace("_", " ")) for name in names)]
        lines.append(grid([*heads, "ties"] if columns.grouped(report) else heads, rows))
        lines.append("Each cell is ours / published, ours in the published unit; – where nothing was published.")
        comparisons = [c for entry in report.methods for c in entry.published_comparison if c.ours is not None]
        kinds = dict.fromkeys(c.memory_kind for c in comparisons if c.memory_kind)
        lines += [f"Our peak memory is {columns.MEMORY_KINDS[kind]}{_MEMORY_NOTES.get(kind, '')}." for kind in kinds]
        lines += [DAGGER] if any(c.contended for c in comparisons) else []
    notes = []
    for label, figures in published.without_an_arm.items():
        listed = ", ".join(f"{escaped(name.replace('_', ' '))} {units.exact(v)}" for name, v in figures.items())
        notes.append(f"- {escaped(label)} (published only, no arm here): {listed}")
    notes += [f"- {escaped(note)}" for note in published.notes]
    return "\n\n".join([*lines, *(["\n".join(notes)] if notes else [])])


_MEMORY_NOTES = {"resident": "; a published figure of a GPU's memory is another quantity"}


def _format_comparison(comparison: PublishedComparison | None) -> str:
    if comparison is None:
        return "–"
    if comparison.ours is None:
        return f"not measured / {units.exact(comparison.published)}"
    deviation = comparison.ours_std
    std = "" if deviation is None else f" ± {units.number(float(format(deviation, '.2g')))}"
    mark = " †" if comparison.contended else ""
    return f"{units.number(comparison.ours)}{std}{mark} / {units.exact(comparison.published)}"
