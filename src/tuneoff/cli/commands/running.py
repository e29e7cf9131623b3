"""Runs one study from the command line: says what will happen, shows the progress, writes the report."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.cli import printing, wording
from tuneoff.cli.commands import budget as budgets
from tuneoff.cli.commands import forecast
from tuneoff.cli.exit_codes import INTERRUPTED, TRIAL_FAILED, State

if TYPE_CHECKING:
    from tuneoff.analysis.results import Results
    from tuneoff.cli.live.stream import Stream
    from tuneoff.config.spec import TrialSpec
    from tuneoff.executors.base import Progress
    from tuneoff.records import events
    from tuneoff.report.schema import Report
    from tuneoff.study.study import Study


def run_study(
    study: Study, out: Path | None, state: State, stream: Stream, show: Callable[[Results, Report], None], profile: bool
) -> events.Outcome:
    """Runs what is missing, shows the progress, writes the report and shows it; sets the exit code.

    Args:
        study: what to run.
        out: its folder; its default one where unset.
        state: gets the exit code.
        stream: gets the events.
        show: prints the report, where no stream is wanted.
        profile: let the forecast run real steps.
    """
    from tuneoff.records import events
    from tuneoff.store import StudyStore

    try:
        with study.started(out or study.default_folder):
            is_complete = _train(study, out, state, stream, profile)
        if not is_complete:
            stream.send(events.study_ended("interrupted"))
            return "interrupted"
        # `_begin_imports` has imported these meanwhile.
        from tuneoff.analysis.results import gather
        from tuneoff.report import files
        from tuneoff.report.builder import build_report

        failed = any(not record.status.finished for record in study.records() if record.status != "cancelled")
        # What a budget of time has left to do is no failure.
        failed = failed or (not study.out_of_time and bool(study.unfinished()))
        if failed:
            state.exit_code = TRIAL_FAILED
        assert study.folder is not None  # set by the run
        results = gather(StudyStore.open(study.folder), study.asked)
        built = build_report(results)
        path = files.write_built(results, built)
        outcome: events.Outcome = "failed_trials" if failed else "completed"
        if stream.wanted:
            stream.send(events.study_ended(outcome, built.as_data()))
            printing.echo(f"report: {path}", err=True)
        else:
            show(results, built)
        return outcome
    except Exception as error:
        if stream.open:
            stream.send(events.study_ended("error", error=str(error) or type(error).__name__))
        raise


def _train(study: Study, out: Path | None, state: State, stream: Stream, profile: bool) -> bool:
    """Runs what is missing and shows the progress; returns False where it was interrupted."""
    from tuneoff.cli.commands.deployability import form_line
    from tuneoff.cli.live import view
    from tuneoff.records.events import study_started

    _begin_imports()
    folder = out or study.default_folder
    trials, search = study.first_round(study.plan()), study.plan_search()
    console = printing.console(stderr=True)
    for line in announcement(study, trials, folder):
        console.print(line, soft_wrap=True)
    stream.send(study_started(study.spec, str(folder), len(search), len(trials)))
    # A live view would overwrite the events where they go to the same terminal.
    with view.show([*search, *trials], console, plain=stream.wanted and sys.stdout.isatty()) as board:

        def hear(progress: Progress) -> None:
            board.update(progress)
            stream.hear(progress)

        try:
            forecast_listener = forecast.run_listener(board)
            study.run(
                out,
                hear,
                profile=profile,
                forecast_listener=forecast_listener,
                budget_listener=lambda allotment: board.say("\n".join(budgets.lines(allotment))),
                form_listener=lambda record, form, result: board.say(form_line(record, form, result)),
            )
        except KeyboardInterrupt:
            board.close()
            printing.echo(
                f"\nInterrupted. {board.finished} of {len(board.trials)} trials are finished and kept in {folder};",
                err=True,
            )
            printing.echo("the same command continues with the rest.", err=True)
            state.exit_code = INTERRUPTED
            return False
        finally:
            if board.began:
                state.error_code = TRIAL_FAILED
    return True


def _begin_imports() -> threading.Thread:
    """Imports what the report needs in the background: the process that trains imports its own libraries meanwhile."""

    def import_report() -> None:
        # What is wrong with a library, the report itself says.
        with suppress(Exception):
            # As statements, so that the type checker sees a module that moved. The first two would else be imported
            # when statistics and tables need them, after the last trial.
            import scipy.special  # noqa: F401

            import tuneoff.analysis.frame
            import tuneoff.report.builder
            import tuneoff.report.charts.drawing
            import tuneoff.report.files
            import tuneoff.report.terminal  # noqa: F401

    thread = threading.Thread(target=import_report, daemon=True)
    thread.start()
    return thread


def announcement(study: Study, trials: Sequence[TrialSpec], folder: Path) -> Iterator[str]:
    """Yields the lines that say what will happen."""
    spec = study.spec
    yield f"study {spec.name}: {spec.model.source}, {spec.task.name} on {spec.task.data.train.source}"
    arms, seeds = wording.count(len(spec.methods), "arm"), wording.seeds_text(spec.protocol)
    number = f"{wording.count(len(trials), 'trial')}{' at least' if spec.protocol.race else ''}"
    yield f"{arms} × {seeds} = {number}, device {study.device}, results in {folder}"
    yield f"arms: {', '.join(spec.methods)}"
    yield from wording.search_lines(study)
    if line := wording.deployability_line(spec):
        yield line
    if spec.model.random_weights:
        yield "RANDOM WEIGHTS: the base model is not pretrained. Times and sizes are real, quality means nothing."
