"""`tuneoff run`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from tuneoff.cli import _common
from tuneoff.cli._common import INTERRUPTED, TRIAL_FAILED, State
from tuneoff.cli.commands import budget as budgets
from tuneoff.cli.commands import forecast
from tuneoff.cli.commands.budget import budget_option

if TYPE_CHECKING:
    from tuneoff.cli.live.stream import Stream
    from tuneoff.config.spec import TrialSpec
    from tuneoff.executors.base import Progress
    from tuneoff.study.study import Study


@click.command("run")
@click.argument("study", shell_complete=_common.completer(_common.recipes, files=True))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results; runs/NAME-xxxxxx where not given.",
)
@forecast.no_profile_option
@budget_option
@_common.study_options
@_common.margin_option
@_common.json_option(
    "Print every event as a line of JSON on stdout, the last one with the report (docs/events.md); progress for people "
    "goes to stderr."
)
@_common.traceback_option
@click.pass_context
def run_command(
    ctx: click.Context,
    study: str,
    out: Path | None,
    no_profile: bool,
    budget: str | None,
    margin: float | None,
    as_json: bool,
    **options: Unpack[_common.StudyOptions],
) -> None:
    """Fine-tune with every method of STUDY under one protocol and report.

    STUDY is the name of a recipe (`tuneoff list recipes`), a study file in YAML, or the folder of an earlier run, which
    goes on. Finished trials are kept: the same command runs what is missing and nothing else. Other arms or seeds get a
    folder of their own, which takes over the trials that are finished already.

    \b
    Examples:
      tuneoff run quickstart
      tuneoff run quickstart --methods lora,full --seeds 6
      tuneoff run quickstart --search 8
      tuneoff run quickstart --budget 30m
      tuneoff run quickstart-summarize
      tuneoff run reviews.study.yaml --set protocol.epochs=1 --set methods.lora.r=4
      tuneoff run gpt2-ag-news --random-weights --set protocol.max_steps=20
      tuneoff run runs/quickstart-1a2b3c
    """
    from tuneoff.cli.live.stream import Stream
    from tuneoff.records import events

    if margin is not None:
        options["overrides"] += (f"margin={margin!r}",)
    opened = _common.open_study(study, options)
    if budget is not None:
        opened.limit(budget)
    out = out or _common.folder_of(study)
    state = ctx.ensure_object(State)
    with Stream(as_json) as stream:
        try:
            if not _train(opened, out, state, stream, profile=not no_profile):
                stream.send(events.study_ended("interrupted"))
                return
            failed = any(not record.status.finished for record in opened.records() if record.status != "cancelled")
            # What a budget of time has left to do is no failure.
            if failed or (not opened.out_of_time and opened.unfinished()):
                state.exit_code = TRIAL_FAILED
            _tell(opened, stream, state)
        except Exception as error:
            if stream.open:
                stream.send(events.study_ended("error", error=str(error) or type(error).__name__))
            raise


def _train(study: Study, out: Path | None, state: State, stream: Stream, profile: bool) -> bool:
    """Runs what is missing and shows the progress; returns False where it was interrupted."""
    from tuneoff.cli.live import view
    from tuneoff.records.events import study_started

    _begin_imports()
    folder = out or study.default_folder
    trials, search = study.first_round(study.plan()), study.plan_search()
    console = _common.console(stderr=True)
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
            )
        except KeyboardInterrupt:
            board.close()
            _common.echo(
                f"\nInterrupted. {board.finished} of {len(board.trials)} trials are finished and kept in {folder};",
                err=True,
            )
            _common.echo("the same command continues with the rest.", err=True)
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
    arms, seeds = _common.count(len(spec.methods), "arm"), _common.seeds_text(spec.protocol)
    number = f"{_common.count(len(trials), 'trial')}{' at least' if spec.protocol.race else ''}"
    yield f"{arms} × {seeds} = {number}, device {study.device}, results in {folder}"
    yield f"arms: {', '.join(spec.methods)}"
    if line := _common.search_line(study):
        yield line
    if spec.model.random_weights:
        yield "RANDOM WEIGHTS: the base model is not pretrained. Times and sizes are real, quality means nothing."


def _tell(study: Study, stream: Stream, state: State) -> None:
    """Writes the report and shows it on stdout."""
    from tuneoff.analysis.results import gather
    from tuneoff.records import events
    from tuneoff.report import files, terminal
    from tuneoff.report.builder import build_report
    from tuneoff.store import StudyStore

    assert study.folder is not None  # set by the run
    results = gather(StudyStore.open(study.folder), study.asked)
    built = build_report(results)
    path = files.write_built(results, built)
    if stream.wanted:
        outcome: events.Outcome = "failed_trials" if state.exit_code == TRIAL_FAILED else "completed"
        stream.send(events.study_ended(outcome, built.as_data()))
        _common.echo(f"report: {path}", err=True)
        return
    terminal.render_built(results, built, _common.console())
