"""Prints the answer and the table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import gather
from tuneoff.encoding import one_line
from tuneoff.report import columns, wording
from tuneoff.report.arm_schema import ArmSummary, Comparison, TestFigure
from tuneoff.report.builder import build_report
from tuneoff.report.columns import Column
from tuneoff.report.fitting import LABEL_LEAST, fitted
from tuneoff.report.schema import JoinedArm, JoinedReport, Report
from tuneoff.report.sections import deployability, forecast, search

if TYPE_CHECKING:
    from tuneoff.analysis.deployability import ArmDeployability
    from tuneoff.analysis.results import Asked, Results
    from tuneoff.store import StudyStore

ANSWER_LINES = 5
DROPPED_HEADS = ("memory", deployability.LARGEST, "latency", "answers changed", "weights", "vs. as trained")
"""Columns of a table of forms that are left out one after another where room is short."""
WARNINGS_SHOWN = 6
LABEL, SHORT_LABEL = 28, 16
"""Least width of a label in columns: in tables with several metrics, and in tables with one metric and costs."""
WIDTH_ELSEWHERE = 110
"""Width of a table in columns, where the width of the output is not known."""
_RELATIONS = {"not_compared": "?"}


def render(store: StudyStore, console: Console, asked: Asked | None = None, margin: float | None = None) -> None:
    """Prints the answer, the table, the warnings and where the report is; 60 columns are enough.

    Args:
        store: the study's folder.
        console: where to.
        asked: the arms and seeds to show; all where unset.
        margin: in place of the study's own.

    Raises:
        StoreError: if the study cannot be read.
    """
    results = gather(store, asked, margin)
    render_built(results, build_report(results), console)


def render_built(results: Results, report: Report, console: Console) -> None:
    """Prints a report that is built already from these results; see `render`."""
    console.print(_title(report))
    print_answer(report, console)
    for line in (search.in_short(report), forecast.in_short(report)):
        if line:
            console.print(Text(line))
    print_warnings(report, console, "in the report")
    for failure in report.failures:
        console.print(Text(f"{failure.id} {failure.status}: {failure.cause}", style="red"))
    page = results.report_folder / "report.md"
    if page.is_file():
        console.print(Text(f"Report: {page}"), soft_wrap=True)
        browsed = page.with_suffix(".html")
        # A report that an earlier version wrote has none.
        if browsed.is_file():
            console.print(Text(f"For a browser: {browsed}"), soft_wrap=True)


def print_answer(report: Report, console: Console, notes: Sequence[str] = ()) -> None:
    """Prints the answer in at most `ANSWER_LINES` lines, the table, what its marks mean, and cautions: those of the
    answer, then `notes`."""
    cautions = [*report.answer.caveats, *notes]
    for line in _answer_lines(report, len(cautions), console):
        console.print(line)
    console.print()
    console.print(table(report, console.width))
    if any(entry.contended for entry in report.methods):
        console.print(Text("† timed while something else used the machine", style="dim"))
    if columns.any_diverged(report):
        console.print(Text("‡ diverged seeds count as doing without training", style="dim"))
    if ties := wording.ties_text(report, metric_name(report.study.primary_metric or "")):
        console.print(Text(ties))
    if report.answer.scope:
        console.print(Text(report.answer.scope, style="dim"))
    for caution in cautions:
        console.print(Text(f"Caution: {caution}", style="yellow"))


def _answer_lines(report: Report, cautions: int, console: Console) -> list[Text]:
    """Returns the answer's sentences, the most important first, as long as they fit; the first is cut where it alone is
    longer."""
    first, *others = wording.short_answer(report)
    below = [f"Mind the {'caution' if cautions == 1 else f'{cautions} cautions'} below the table."] if cautions else []
    lines = _wrapped([first], console)
    if len(lines) > ANSWER_LINES:
        lines = lines[:ANSWER_LINES]
        lines[-1].truncate(console.width - 2)
        lines[-1].append(" …")
        return lines
    chosen = [first]
    for sentence in [*below, *others]:
        if len(wrapped := _wrapped([*chosen, sentence], console)) <= ANSWER_LINES:
            chosen.append(sentence)
            lines = wrapped
    return lines


def _wrapped(sentences: Sequence[str], console: Console) -> list[Text]:
    return list(Text(" ".join(sentences), style="bold").wrap(console, console.width))


def deployability_table(arm: ArmDeployability, width: int) -> Table:
    """Returns the widest table that fits of an arm's forms in which it may be deployed; the page has all columns.

    Where room is short, it leaves out first memory, outputs, latency, then answers, weights and the difference.
    """
    heads = deployability.heads(arm)
    left_out = [deployability.HEADS.index(head) for head in DROPPED_HEADS]
    return fitted(
        [
            _deployability_columns(arm, heads, [n for n in range(len(heads)) if n not in left_out[:count]])
            for count in range(len(left_out) + 1)
        ],
        width,
    )


def _deployability_columns(arm: ArmDeployability, heads: Sequence[str], shown: Sequence[int]) -> Table:
    table = Table(title=Text(one_line(arm.method)), title_justify="left", box=None, pad_edge=False, header_style="bold")
    rows = deployability.rows(arm)
    longest = max((cell_len(cells[0]) for cells in rows), default=None)  # a form's name is not cut
    for number in shown:
        justify: JustifyMethod = "left" if number < 2 else "right"
        least = longest if number == 0 else None
        table.add_column(Text(heads[number]), justify=justify, no_wrap=True, min_width=least)
    for cells in rows:
        table.add_row(*(Text(cells[number]) for number in shown))
    return table


def deployability_notes(arm: ArmDeployability) -> list[Text]:
    """Returns why forms do not work, and what to know of the others."""
    return [Text(one_line(note)) for note in deployability.notes(arm)]


def print_warnings(report: Report, console: Console, rest: str) -> None:
    """Prints warnings beyond the answer's caveats, at most `WARNINGS_SHOWN`; `rest` says where all of them are."""
    others = [w for w in report.warnings if w.message not in report.answer.caveats]
    for warning in others[:WARNINGS_SHOWN]:
        console.print(Text(f"{warning.name}: {warning.message}", style="yellow"))
    if len(others) > WARNINGS_SHOWN:
        console.print(Text(f"{len(others) - WARNINGS_SHOWN} more warnings {rest}", style="yellow"))


def _title(report: Report) -> Text:
    study, trials = report.study, report.trials
    progress = f"{trials.completed} of {trials.planned} trials completed"
    return Text(f"{study.name}: {study.model}, {study.task}; {progress}", style="bold")


def table(report: Report, width: int) -> Table:
    """Returns the widest table that fits; where studies are joined, a column shows each arm's.

    Where room is short, it leaves out first more metrics, the ends of long labels, the size on disk and the parameters,
    then the interval and the other costs.
    """
    metrics, costs = columns.metrics(report), columns.costs(report)
    tables = [
        *(_with_columns(report, [*metrics[:count], *costs], LABEL) for count in (4, 3, 2)),
        *(_with_columns(report, [*metrics[:1], *costs[:count]], SHORT_LABEL) for count in range(len(costs), 1, -1)),
        *(_with_columns(report, [*metrics[:1], *costs[:count]], SHORT_LABEL, False) for count in (2, 1)),
        _with_columns(report, metrics[:1], LABEL_LEAST, False),
    ]
    return fitted(tables, width)


def _with_columns(report: Report, columns_shown: list[Column], least: int, interval: bool = True) -> Table:
    """Returns a table whose labels may shrink to `least` columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True, overflow="ellipsis", min_width=least)
    has_studies = isinstance(report, JoinedReport)
    if has_studies:
        table.add_column("study", no_wrap=True, overflow="ellipsis", max_width=SHORT_LABEL)
    for column in columns_shown:
        table.add_column(column.short or column.title, justify="right", no_wrap=True)
    table.add_column("vs. best", no_wrap=True)
    grouped = columns.grouped(report)
    if grouped:
        table.add_column("ties", no_wrap=True)
    table.add_column("trials", no_wrap=True)
    best = {column.key: columns.best_arms(column, report) for column in columns_shown}
    for entry in report.methods:
        cells = [Text(entry.method)]
        if isinstance(entry, JoinedArm):
            cells = [Text(entry.method.removesuffix(f" [{entry.study}]")), Text(entry.study)]
        for index, column in enumerate(columns_shown):
            style = "bold green" if entry.method in best[column.key] else ""
            cells.append(Text(_cell_text(column, entry, with_interval=interval and index == 0), style=style))
        not_completed = entry.statuses.keys() - {"completed", "planned", "running"}
        # What became of the others stands below the table.
        completed = f"{len(entry.seeds)}/{len(entry.planned_seeds)}"
        ties = [Text(entry.ties)] if grouped else []
        table.add_row(
            *cells,
            Text(_standing(entry)),
            *ties,
            Text(completed, style="red" if not_completed else ""),
        )
    return table


def _standing(entry: ArmSummary) -> str:
    pair = entry.to_best
    if pair is None:
        return "–"
    margin = columns.within_margin(pair) if isinstance(pair, Comparison) else ""
    return _RELATIONS.get(pair.relation, pair.relation) + margin


def _cell_text(column: Column, entry: ArmSummary, with_interval: bool) -> str:
    """Returns the cell's text; only the primary metric shows its interval, for lack of room."""
    value, figure = column.value(entry), column.figure(entry)
    if value is None:
        return "–"
    text, mark = column.spread(value[0], None), column.mark(entry).strip()
    if not (with_interval and isinstance(figure, TestFigure)):
        return text + mark
    if figure.interval_low is not None and figure.interval_high is not None:
        ends = [_format_end(column, end) for end in (figure.interval_low, figure.interval_high)]
        text = f"{text} [{','.join(ends)}]"
    return text + mark


def _format_end(column: Column, value: float) -> str:
    """Formats an interval's end without its leading zero: `.841`."""
    return column.spread(value, None).removeprefix("0") if 0 <= value < 1 else column.spread(value, None)
