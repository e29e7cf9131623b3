"""Runs a series of studies from the command line, member after member."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.cli import printing
from tuneoff.cli.commands.running import run_study
from tuneoff.cli.exit_codes import INTERRUPTED, TRIAL_FAILED, State
from tuneoff.errors import StoreError, TuneoffError

if TYPE_CHECKING:
    from tuneoff.analysis.results import Results
    from tuneoff.cli.live.stream import Stream
    from tuneoff.report.schema import Report
    from tuneoff.report.series.schema import SeriesReport
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study


def run_series(series: Series, out: Path | None, state: State, stream: Stream, profile: bool) -> None:
    """Runs all members, one after the other, and shows their progress and answers; sets the exit code."""
    from tuneoff.records import events

    folder = out or series.default_folder
    console = printing.console(stderr=True)
    console.print(f"series {series.spec.name}: {_members(series)}; results in {folder}", soft_wrap=True)
    numbers = {name: number for number, name in enumerate(series.members, 1)}
    stream.send(events.series_started(series.spec.name, str(folder), series.axis, series.members))

    def run_member(name: str, study: Study, place: Path) -> None:
        console.print(f"\n{name} ({numbers[name]} of {len(numbers)})", style="bold", soft_wrap=True)
        try:
            outcome = run_study(
                study, place, state, stream, lambda results, report: _show(name, results, report), profile
            )
        except TuneoffError as error:
            printing.echo(f"{name} cannot be run: {error}", err=True, style="red")
            raise
        if outcome == "interrupted":
            raise KeyboardInterrupt

    try:
        series.run_each(run_member, out)
        report = _write_report(series)
    except KeyboardInterrupt:
        stream.send(events.series_ended("interrupted"))
        if state.exit_code != INTERRUPTED:  # else the member has said so
            raise
        return
    except Exception as error:
        stream.send(events.series_ended("error", error=str(error) or type(error).__name__))
        raise
    problems = {name: str(error) for name, error in series.problems.items()}
    if problems:
        state.exit_code = TRIAL_FAILED
    outcome: events.Outcome = "failed_trials" if state.exit_code == TRIAL_FAILED else "completed"
    stream.send(events.series_ended(outcome, problems, report.as_data() if report is not None else None))
    if report is not None and stream.wanted:
        printing.echo(f"report: {series.store.report_folder / 'index.html'}", err=True)
    elif report is not None:
        from tuneoff.report.series import terminal

        terminal.render(report, series.store, printing.console())
    for name, problem in series.problems.items():
        printing.echo(f"not run: {name}: {problem.message}", err=True, style="red")


def _members(series: Series) -> str:
    from tuneoff.planning.series import PLACES

    return f"{PLACES[series.axis]} {', '.join(series.members)}"


def _write_report(series: Series) -> SeriesReport | None:
    """Writes the report of the whole and returns it; None where no member has a result, as each has said."""
    from tuneoff.analysis.series.members import gather_series
    from tuneoff.report.series import files
    from tuneoff.report.series.builder import build_series

    try:
        results = gather_series(series.store)
    except StoreError:
        return None
    report = build_series(results)
    files.write_built(results, report)
    return report


def _show(name: str, results: Results, report: Report) -> None:
    """Shows the answer of one member; its table is in its report."""
    from rich.text import Text

    from tuneoff.report.wording import short_answer

    console = printing.console()
    console.print(Text(f"{name}: ", style="bold") + Text(short_answer(report)[0]))
    console.print(Text(f"Report: {results.report_folder / 'report.md'}"), soft_wrap=True)
