"""`tuneoff compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuneoff.cli import _common

if TYPE_CHECKING:
    from rich.table import Table


@click.command("compare")
@click.argument("folders", metavar="DIR DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@_common.json_option("Print the merged summary as JSON (docs/report-schema.md; with each row's `study`, and `notes`).")
@_common.traceback_option
def compare_command(folders: tuple[Path, ...], as_json: bool) -> None:
    """Show studies that answer the same question side by side.

    Lines up the rows of all studies, rows of one label next to each other, and compares them like rows of one study.
    Studies that do not answer the same question (task, rows, base model, protocol) are refused, with the difference.

    \b
    Examples:
      tuneoff compare runs/quickstart-1a2b3c runs/quickstart-other-machine
      tuneoff compare runs/first runs/second --json
    """
    from rich.text import Text

    from tuneoff.analysis.side_by_side import join
    from tuneoff.report import terminal
    from tuneoff.report.data import summarise

    joined = join(folders)
    found = summarise(joined.results)
    for entry in found["methods"]:
        entry["study"] = joined.studies[entry["method"]]
    if as_json:
        _common.print_json({**found, "notes": list(joined.notes)})
        return
    console = _common.console()
    trials = f"{found['trials']['completed']} of {found['trials']['planned']} trials completed"
    console.print(Text(f"{found['study']['name']}: {found['study']['model']}; {trials}", style="bold"))
    console.print(_table(found))
    terminal.print_answer(found, console, joined.notes)
    terminal.print_warnings(found, console, "with --json")


def _table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    from tuneoff.report import columns

    shown = [*columns.metrics(found)[:1], *columns.COSTS]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("method", overflow="fold")
    table.add_column("study", overflow="fold")
    for column in shown:
        table.add_column(column.short or column.title, justify="right", no_wrap=True)
    table.add_column("vs. best", no_wrap=True)
    table.add_column("ties", no_wrap=True)
    table.add_column("trials", no_wrap=True)
    for entry in found["methods"]:
        name = entry["method"].removesuffix(f" [{entry['study']}]")
        relation = (entry["to_best"] or {}).get("relation", "–").replace("_", " ")
        cells = [column.text(entry) or "–" for column in shown]
        table.add_row(name, entry["study"], *cells, relation, entry["ties"], columns.progress(entry))
    return table
