"""Writes what a paper takes: a table, a paragraph on how it was done, its references, and charts as vectors.

`report.tex` shows all of them and compiles as it stands; the other files are for `\\input` in a paper that loads
booktabs, siunitx and url.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff import registry
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import Results
from tuneoff.encoding import latex
from tuneoff.errors import StudyError
from tuneoff.report import columns, paper_methods, units, wording
from tuneoff.report.arm_schema import ArmSummary, Figure
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.definitions import build_charts
from tuneoff.report.columns import Column
from tuneoff.report.schema import Report
from tuneoff.store import write_atomically

if TYPE_CHECKING:
    from tuneoff.interfaces import Reference

FOLDER = "latex"
METRICS_SHOWN = 2
ARMS_ON_A_PAGE = 40
_CAPTION_LENGTH = 1000


@dataclass(frozen=True)
class _Numbers:
    """A column of numbers: its heading and unit, how wide its figures are, and each arm's cell."""

    head: str
    unit: str
    places: tuple[int, int]
    cells: tuple[str, ...]


def write_built(results: Results, report: Report) -> Path:
    """Writes report.tex, table.tex, methods.tex, references.bib and the charts (PDF and SVG) of a report that is built
    already from these results, into a folder of the report's; returns the path of report.tex.

    Raises:
        StoreError: if a file cannot be written.
    """
    from tuneoff.report.charts.drawing import draw_vectors

    folder = results.report_folder / FOLDER
    charts = build_charts(report)
    references = references_of(report)
    for chart in charts:
        pdf, svg = draw_vectors(chart)
        write_atomically(folder / f"{chart.name}.pdf", pdf)
        write_atomically(folder / f"{chart.name}.svg", svg)
    write_atomically(folder / "table.tex", table(report))
    write_atomically(folder / "methods.tex", paper_methods.paragraph(report, references))
    write_atomically(folder / "references.bib", bibliography(references))
    write_atomically(folder / "report.tex", document(report, charts, cited=any(references.values())))
    return folder / "report.tex"


def references_of(report: Report) -> dict[str, tuple[Reference, ...]]:
    """Returns what each arm's method, with its options, asks a paper to cite; nothing of methods that are not
    installed here or take other options by now."""
    cited: dict[str, tuple[Reference, ...]] = {}
    for arm in report.methods:
        try:
            method = registry.methods()[arm.method_name].create(arm.options)
        except (StudyError, ValueError):
            cited[arm.method] = ()
        else:
            cited[arm.method] = method.cited
    return cited


def bibliography(references: dict[str, tuple[Reference, ...]]) -> str:
    """Returns the references in BibTeX's format, each once, by key."""
    entries = {reference.key: reference for cited in references.values() for reference in cited}
    return "\n".join(_entry(entries[key]) for key in sorted(entries))


def _entry(reference: Reference) -> str:
    fields = {
        "author": latex(reference.authors),
        "title": f"{{{latex(reference.title)}}}",
        "year": str(reference.year),
        "eprint": reference.arxiv,
        "archivePrefix": "arXiv" if reference.arxiv else "",
        # Styles that know nothing of eprints show a note.
        "note": f"arXiv:{reference.arxiv}" if reference.arxiv else "",
        "howpublished": f"\\url{{{reference.url}}}" if reference.url else "",
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{reference.key},", *lines, "}", ""])


def document(report: Report, charts: Sequence[Chart], cited: bool) -> str:
    """Returns a page that shows the other files."""
    figures = [
        "\\begin{figure}\n  \\centering\n"
        f"  \\includegraphics[width=\\linewidth]{{{chart.name}.pdf}}\n"
        f"  \\caption{{{latex(_cut(chart.caption))}}}\n\\end{{figure}}"
        for chart in charts
    ]
    references = ["\\bibliographystyle{plain}", "\\bibliography{references}"] if cited else []
    lines = [
        "\\documentclass{article}",
        "\\usepackage[margin=2.5cm]{geometry}",
        "\\usepackage{booktabs,graphicx,siunitx,url}",
        "\\begin{document}",
        f"\\section*{{{latex(report.study.name)}}}",
        latex(report.answer.text),
        "",
        "\\input{methods}",
        "\\input{table}",
        *figures,
        *references,
        "\\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _cut(text: str) -> str:
    return text if len(text) <= _CAPTION_LENGTH else f"{text[:_CAPTION_LENGTH].rsplit(' ', 1)[0]} …"


def table(report: Report) -> str:
    """Returns the table of arms, for packages booktabs and siunitx: metrics, ties as letters, costs, and notes."""
    grouped = columns.grouped(report)
    arms = report.methods
    shown = [
        *(_scores(column, arms, report) for column in columns.metrics(report)[:METRICS_SHOWN]),
        *(numbers for column in columns.costs(report) if (numbers := _costs(column, arms, report)) is not None),
    ]
    heads = [_head(numbers.head) for numbers in shown]
    sub_heads = [f"{{{latex(f'({numbers.unit})' if numbers.unit else '')}}}" for numbers in shown]
    formats = [f"S[table-format={whole}.{decimals}]" for (whole, decimals) in (n.places for n in shown)]
    names = [f"\\texttt{{{latex(arm.method)}}}" for arm in arms]
    cells = [[names[at], *(numbers.cells[at] for numbers in shown)] for at in range(len(arms))]
    if columns.metrics(report):
        # The interval and the letters stand behind the primary metric.
        primary = columns.metrics(report)[0]
        level = f"{report.answer.interval_level:.0%}"
        extra = [("l", _head(f"{level} interval"), [_interval(primary, arm) for arm in arms])]
        if grouped:
            extra.append(("l", _head("ties"), [arm.ties or "--" for arm in arms]))
        for at, (form, head, values) in enumerate(extra):
            formats.insert(1 + at, form)
            heads.insert(1 + at, head)
            sub_heads.insert(1 + at, "")
            for line, value in zip(cells, values, strict=True):
                line.insert(2 + at, value)
    rows = [" & ".join(line) + r" \\" for line in cells]
    parts = [rows[at : at + ARMS_ON_A_PAGE] for at in range(0, max(len(rows), 1), ARMS_ON_A_PAGE)]
    top = [
        f"  \\begin{{tabular}}{{@{{}}l{''.join(formats)}@{{}}}}",
        "    \\toprule",
        f"    {' & '.join(['Arm', *heads])} " + r"\\",
        f"    {' & '.join(['', *sub_heads])} " + r"\\",
        "    \\midrule",
    ]
    return "".join(_float(report, top, part, first=part is parts[0], last=part is parts[-1]) for part in parts)


def _float(report: Report, top: list[str], rows: list[str], first: bool, last: bool) -> str:
    """Returns one of the floats that the table takes; the first has its label, the last its notes."""
    label = "".join(c if c.isalnum() and c.isascii() else "-" for c in report.study.name)
    lines = [
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{latex(_caption(report))}{'' if first else ' (Continued.)'}}}",
        *([f"  \\label{{tab:{label}}}"] if first else []),
        # Bold of a cell is bold of its number.
        "  \\sisetup{text-series-to-math=true,propagate-math-font=true}",
        "  \\small\\setlength{\\tabcolsep}{4pt}",
        *top,
        *(f"    {row}" for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
    ]
    if last:
        notes = latex(" ".join(_notes(report)))
        lines += ["", "  \\smallskip"]
        lines.append(f"  \\begin{{minipage}}{{\\linewidth}}\\footnotesize {notes}\\end{{minipage}}")
    return "\n".join([*lines, "\\end{table}", ""])


def _head(text: str) -> str:
    # Braces keep siunitx from reading a heading as a number.
    return f"{{{latex(wording.capitalised(text))}}}"


def _caption(report: Report) -> str:
    study = report.study
    return f"{study.model}, {study.task}: test {metric_name(study.primary_metric or 'scores')} and costs of each arm."


def _scores(column: Column, arms: Sequence[ArmSummary], report: Report) -> _Numbers:
    values = [column.value(arm) for arm in arms]
    best = columns.best_arms(column, report)
    texts = [None if value is None else column.spread(value[0], None).replace(",", "") for value in values]
    return _numbers(column.title, "", texts, [arm.method in best for arm in arms])


def _costs(column: Column, arms: Sequence[ArmSummary], report: Report) -> _Numbers | None:
    """Returns a cost's column in one unit; None where no arm has it."""
    values = [column.value(arm) for arm in arms]
    known = [value[0] for value in values if value is not None]
    if not known:
        return None
    unit, size, write = _unit(column, max(known))
    texts = [None if value is None else write(value[0] / size) for value in values]
    best = columns.best_arms(column, report)
    return _numbers(column.title, unit, texts, [arm.method in best for arm in arms])


def _unit(column: Column, largest: float) -> tuple[str, float, Callable[[float], str]]:
    """Returns a cost's unit, how many of what is recorded one is, and how a figure is written."""
    if column in (columns.MEMORY, columns.STORED):
        size, name = units.byte_unit(largest)
        return name, size, _three
    if column is columns.TRAINABLE:
        return "", 1.0, "{:.0f}".format
    if column.key == "money":
        return "", 1.0, _three  # its heading names the currency
    if column is columns.FORGETTING_COLUMN:
        return "", 1.0, "{:.3f}".format
    size, name = (60.0, "min") if largest >= 600 else (1.0, "s")
    return name, size, _three


def _three(value: float) -> str:
    """Writes a figure with about three digits, however small, without an exponent."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(value))
    return f"{value:.{max(1, 2 - exponent) if exponent >= 0 else 1 - exponent}f}"


def _numbers(head: str, unit: str, texts: Sequence[str | None], best: Sequence[bool]) -> _Numbers:
    written = [text for text in texts if text is not None]
    whole = max((len(text.partition(".")[0]) for text in written), default=1)
    decimals = max((len(text.partition(".")[2]) for text in written), default=0)
    cells = [
        "{--}" if text is None else f"\\bfseries {text}" if is_best else text
        for text, is_best in zip(texts, best, strict=True)
    ]
    return _Numbers(head, unit, (whole, decimals), tuple(cells))


def _interval(column: Column, arm: ArmSummary) -> str:
    figure = column.figure(arm)
    if not isinstance(figure, Figure) or figure.interval_low is None or figure.interval_high is None:
        return "--"
    if not all(map(math.isfinite, (figure.interval_low, figure.interval_high))):
        return "--"
    ends = [column.spread(end, None) for end in (figure.interval_low, figure.interval_high)]
    return latex(f"[{', '.join(ends)}]")


def _notes(report: Report) -> list[str]:
    """Returns the table's notes: what figures are, what letters mean, and what disturbs them."""
    seeds = sorted({len(arm.seeds) for arm in report.methods})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    notes = [f"Means over {count} seed{'' if seeds == [1] else 's'} on the test split; the best of a column in bold."]
    if ties := wording.ties_text(report, metric_name(report.study.primary_metric or "")):
        notes.append(ties)
    if busy := [arm.method for arm in report.methods if arm.contended]:
        notes.append(f"Timed while something else used the machine: {wording.join(busy)}.")
    if columns.any_diverged(report):
        notes.append("Diverged seeds count as doing without training.")
    if any(column.value(arm) is None for column in columns.costs(report) for arm in report.methods):
        notes.append("--: not measured, or nothing of the kind.")
    return [*notes, *(f"Caution: {caveat}" for caveat in report.answer.caveats)]
