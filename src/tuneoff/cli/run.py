"""`tuneoff run`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from tuneoff.cli import _common
from tuneoff.cli._common import INTERRUPTED, TRIAL_FAILED, State

if TYPE_CHECKING:
    from tuneoff.spec import TrialSpec
    from tuneoff.study import Study


@click.command("run")
@click.argument("study")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the results; runs/NAME-xxxxxx where not given.",
)
@_common.study_options
@_common.json_option("Print the report as JSON on stdout and nothing else; progress goes to stderr.")
@_common.traceback_option
@click.pass_context
def run_command(
    ctx: click.Context, study: str, out: Path | None, as_json: bool, **options: Unpack[_common.StudyOptions]
) -> None:
    """Fine-tune with every method of STUDY under one protocol and report.

    STUDY is the name of a recipe (`tuneoff list recipes`) or a study file in YAML. Finished trials are kept: the
    same command runs what is missing and nothing else.

    \b
    Examples:
      tuneoff run quickstart
      tuneoff run quickstart --methods lora,full --seeds 6
      tuneoff run quickstart --search 8
      tuneoff run quickstart-summarize
      tuneoff run reviews.study.yaml --set protocol.epochs=1 --set methods.lora.r=4
      tuneoff run gpt2-ag-news --random-weights --set protocol.max_steps=20
    """
    from tuneoff.cli import progress

    opened = _common.open_study(study, options)
    trials = opened.plan()
    folder = out if out is not None else opened.default_folder
    console = _common.console(stderr=True)
    for line in announcement(opened, trials, folder):
        console.print(line, soft_wrap=True)
    state = ctx.ensure_object(State)
    with progress.show([*opened.plan_search(), *trials], console) as board:
        try:
            with _terminate_like_interrupt():
                opened.run(folder, board.update)
        except KeyboardInterrupt:
            board.close()
            click.echo(
                f"\nInterrupted. {board.finished} of {len(board.trials)} trials are finished and kept in {folder};",
                err=True,
            )
            click.echo("the same command continues with the rest.", err=True)
            ctx.exit(INTERRUPTED)
        finally:
            if board.began:
                state.error_code = TRIAL_FAILED
    # Planned anew, because a search has chosen the configurations.
    if _unfinished(opened, opened.plan()):
        state.exit_code = TRIAL_FAILED
    _tell(opened, folder, as_json)


def announcement(study: Study, trials: Sequence[TrialSpec], folder: Path) -> Iterator[str]:
    """Lines that say what will happen."""
    spec = study.spec
    yield f"study {spec.name}: {spec.model.source}, {spec.task.name} on {spec.task.data.train.source}"
    rows, seeds = _common.count(len(spec.methods), "row"), _common.count(len(spec.protocol.seeds), "seed")
    yield f"{rows} × {seeds} = {_common.count(len(trials), 'trial')}, device {study.device}, results in {folder}"
    yield f"rows: {', '.join(spec.methods)}"
    if line := _common.search_line(study):
        yield line
    if spec.model.random_weights:
        yield "RANDOM WEIGHTS: the base model is not pretrained. Times and sizes are real, quality means nothing."


def _tell(study: Study, folder: Path, as_json: bool) -> None:
    """Writes the report and shows it on stdout."""
    from tuneoff import report
    from tuneoff.report import terminal
    from tuneoff.store import StudyStore

    path = study.report()
    store = StudyStore.open(folder)
    if as_json:
        _common.print_json(report.summary(store))
        click.echo(f"report: {path}", err=True)
        return
    terminal.render(store, _common.console())


def _unfinished(study: Study, trials: Sequence[TrialSpec]) -> list[str]:
    """Ids of the trials that have no finished record."""
    finished = {record.spec.id for record in study.records() if record.status.finished}
    return [trial.id for trial in trials if trial.id not in finished]


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """A polite request to end (SIGTERM: a batch system, a container) ends the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
