"""Prints the answer and the tables of a series in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tuneoff.report import terminal
from tuneoff.report.fitting import fitted
from tuneoff.report.series import tables
from tuneoff.report.series.schema import SeriesReport
from tuneoff.report.series.tables import Grid
from tuneoff.store.series import SeriesStore


def render(report: SeriesReport, store: SeriesStore, console: Console) -> None:
    """Prints the answer, the tables, cautions, and where the report is."""
    done, planned = (sum(getattr(each.trials, name) for each in report.members) for name in ("completed", "planned"))
    studies = "study" if len(report.members) == 1 else "studies"
    title = f"{report.name}: {len(report.members)} {studies}, {done} of {planned} trials completed"
    console.print(Text(title, style="bold"))
    if report.bases is not None:
        terminal.print_answer(report.bases, console, report.bases.notes)
    else:
        console.print(Text(report.headline, style="bold"))
        for sentence in report.text:
            console.print(Text(sentence))
        for grid in _shown(report, console.width):
            console.print()
            console.print(grid)
        for note in report.notes:
            console.print(Text(f"Caution: {note}", style="yellow"))
    for name in ("report.md", "index.html"):
        page = store.report_folder / name
        if page.is_file():
            heading = "Report" if name == "report.md" else "For a browser"
            console.print(Text(f"{heading}: {page}"), soft_wrap=True)


def _shown(report: SeriesReport, width: int) -> list[Table]:
    if report.sizes is not None:
        scores = [tables.scores(report, report.sizes, intervals) for intervals in (True, False)]
        return [fitted([_table(grid) for grid in scores], width)] if scores[0].rows else []
    if report.sets is None:
        return []
    return [fitted([_table(tables.ranks(report, report.sets, by_set)) for by_set in (True, False)], width)]


def _table(grid: Grid) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for index, head in enumerate(grid.heads):
        table.add_column(head, no_wrap=True, overflow="ellipsis", justify="right" if index else "left")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    return table
