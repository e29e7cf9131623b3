"""Prints the table and the answer in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuneoff.analysis.results import gather
from tuneoff.report import columns, forecast, search, wording
from tuneoff.report.columns import Column
from tuneoff.report.data import summarise
from tuneoff.report.fitting import LABEL_LEAST, fitted

if TYPE_CHECKING:
    from tuneoff.analysis.results import Asked
    from tuneoff.store import StudyStore

WARNINGS_SHOWN = 6
LABEL, SHORT_LABEL = 28, 16
"""Least width of a label in columns: in tables with several metrics, and in tables with one metric and costs."""
WIDTH_ELSEWHERE = 110
"""Width of a table in columns, where the width of the output is not known."""
_RELATIONS = {"not_compared": "?"}


def render(store: StudyStore, console: Console, asked: Asked | None = None) -> None:
    """Prints the table, the answer, the warnings and where the report is; 60 columns are enough.

    Args:
        store: the study's folder.
        console: where to.
        asked: the arms and seeds to show; all where unset.

    Raises:
        StoreError: if the study cannot be read.
    """
    results = gather(store, asked)
    summary = summarise(results)
    console.print(_title(summary))
    console.print(table(summary, console.width))
    print_answer(summary, console)
    for line in (search.in_short(summary), forecast.in_short(summary)):
        if line:
            console.print(Text(line))
    print_warnings(summary, console, "in the report")
    for failure in summary["failures"]:
        console.print(Text(f"{failure['id']} {failure['status']}: {failure['cause']}", style="red"))
    page = results.report_folder / "report.md"
    if page.is_file():
        console.print(Text(f"Report: {page}"), soft_wrap=True)


def print_answer(summary: dict[str, Any], console: Console, notes: Sequence[str] = ()) -> None:
    """Prints what is below a table: its marks, whether anything was learned, cautions (those of the answer, then
    `notes`), the answer and the ties."""
    if any(entry["contended"] for entry in summary["methods"]):
        console.print(Text("† timed while something else used the machine", style="dim"))
    if columns.any_diverged(summary):
        console.print(Text("‡ diverged seeds count as doing without training", style="dim"))
    console.print()
    if summary["answer"]["doubt"]:
        console.print(Text(summary["answer"]["doubt"], style="bold"))
    for caution in (*summary["answer"]["caveats"], *notes):
        console.print(Text(f"Caution: {caution}", style="yellow"))
    console.print(Text(wording.after_caveats(summary), style="bold"))
    if groups := wording.groups_text(summary):
        console.print(Text(groups))


def print_warnings(summary: dict[str, Any], console: Console, rest: str) -> None:
    """Prints warnings beyond the answer's caveats, at most `WARNINGS_SHOWN`; `rest` says where all of them are."""
    others = [w for w in summary["warnings"] if w["message"] not in summary["answer"]["caveats"]]
    for warning in others[:WARNINGS_SHOWN]:
        console.print(Text(f"{warning['name']}: {warning['message']}", style="yellow"))
    if len(others) > WARNINGS_SHOWN:
        console.print(Text(f"{len(others) - WARNINGS_SHOWN} more warnings {rest}", style="yellow"))


def _title(summary: dict[str, Any]) -> Text:
    study, trials = summary["study"], summary["trials"]
    progress = f"{trials['completed']} of {trials['planned']} trials completed"
    return Text(f"{study['name']}: {study['model']}, {study['task']}; {progress}", style="bold")


def table(summary: dict[str, Any], width: int) -> Table:
    """Returns the widest table that fits; where arms have a `study`, a column shows it.

    Where room is short, it leaves out first more metrics, the ends of long labels, the size on disk and the parameters,
    then the interval and the other costs.
    """
    metrics = columns.metrics(summary)
    tables = [
        *(_with_columns(summary, [*metrics[:count], *columns.COSTS], LABEL) for count in (4, 3, 2)),
        *(_with_columns(summary, [*metrics[:1], *columns.COSTS[:count]], SHORT_LABEL) for count in (4, 3, 2)),
        *(_with_columns(summary, [*metrics[:1], *columns.COSTS[:count]], SHORT_LABEL, False) for count in (2, 1)),
        _with_columns(summary, metrics[:1], LABEL_LEAST, False),
    ]
    return fitted(tables, width)


def _with_columns(summary: dict[str, Any], columns_shown: list[Column], least: int, interval: bool = True) -> Table:
    """Returns a table whose labels may shrink to `least` columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True, overflow="ellipsis", min_width=least)
    has_studies = any("study" in entry for entry in summary["methods"])
    if has_studies:
        table.add_column("study", no_wrap=True, overflow="ellipsis", max_width=SHORT_LABEL)
    for column in columns_shown:
        table.add_column(column.short or column.title, justify="right", no_wrap=True)
    table.add_column("vs. best", no_wrap=True)
    grouped = columns.grouped(summary)
    if grouped:
        table.add_column("ties", no_wrap=True)
    table.add_column("trials", no_wrap=True)
    best = {column.key: columns.best_arms(column, summary) for column in columns_shown}
    for entry in summary["methods"]:
        study = [Text(entry["study"])] if has_studies else []
        cells = [Text(entry["method"].removesuffix(f" [{study[0]}]") if study else entry["method"]), *study]
        for index, column in enumerate(columns_shown):
            style = "bold green" if entry["method"] in best[column.key] else ""
            cells.append(Text(_cell_text(column, entry, with_interval=interval and index == 0), style=style))
        relation = (entry["to_best"] or {}).get("relation", "–")
        not_completed = entry["statuses"].keys() - {"completed", "planned", "running"}
        # What became of the others stands below the table.
        completed = f"{len(entry['seeds'])}/{len(entry['planned_seeds'])}"
        ties = [Text(entry["ties"])] if grouped else []
        table.add_row(
            *cells,
            Text(_RELATIONS.get(relation, relation)),
            *ties,
            Text(completed, style="red" if not_completed else ""),
        )
    return table


def _cell_text(column: Column, entry: dict[str, Any], with_interval: bool) -> str:
    """Returns the cell's text; only the primary metric shows its interval, for lack of room."""
    figure = column.found(entry)
    if figure is None:
        return "–"
    if with_interval and column.quality:
        metric = entry["metrics"][column.key]
        if metric["interval_low"] is not None:
            ends = [_format_end(column, metric[name]) for name in ("interval_low", "interval_high")]
            return f"{column.spread(figure[0], None)} [{','.join(ends)}]{column.mark(entry).strip()}"
    return column.spread(figure[0], None) + column.mark(entry).strip()


def _format_end(column: Column, value: float) -> str:
    """Formats an interval's end without its leading zero: `.841`."""
    return column.spread(value, None).removeprefix("0") if 0 <= value < 1 else column.spread(value, None)
