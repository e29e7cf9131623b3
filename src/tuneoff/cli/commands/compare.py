"""`tuneoff compare`."""

from __future__ import annotations

from pathlib import Path

import click

from tuneoff.cli import common_options, printing


@click.command("compare")
@click.argument("folders", metavar="DIR DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@common_options.json_option(
    "Print the merged summary as JSON (docs/report-schema.md; with each arm's `study`, and `notes`)."
)
@common_options.traceback_option
def compare_command(folders: tuple[Path, ...], as_json: bool) -> None:
    """Show studies that answer the same question side by side.

    Lines up the arms of all studies, arms of one label next to each other, and compares them like arms of one study.
    Studies that do not answer the same question (task, rows, base model, protocol) are refused, with the difference.

    \b
    Examples:
      tuneoff compare runs/quickstart-1a2b3c runs/quickstart-other-machine
      tuneoff compare runs/first runs/second --json
    """
    from rich.text import Text

    from tuneoff.analysis.side_by_side import join
    from tuneoff.report import terminal
    from tuneoff.report.builder import build_report
    from tuneoff.report.schema import JoinedReport

    joined = join(folders)
    report = JoinedReport.of(build_report(joined.results), joined.studies, joined.notes)
    if as_json:
        printing.print_json(report.as_data())
        return
    console = printing.console()
    trials = f"{report.trials.completed} of {report.trials.planned} trials completed"
    console.print(Text(f"{report.study.name}: {report.study.model}; {trials}", style="bold"))
    terminal.print_answer(report, console, report.notes)
    terminal.print_warnings(report, console, "with --json")
