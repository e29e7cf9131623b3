"""`tuneoff watch`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuneoff.cli import _common
from tuneoff.cli._common import INTERRUPTED, TRIAL_FAILED, State

if TYPE_CHECKING:
    from rich.console import Console

    from tuneoff.cli.live.follow import FolderFollower, FolderState
    from tuneoff.cli.live.run_progress import RunProgress

LOOK_SECONDS = 1.0


@click.command("watch")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="Show where the study stands now, and end.")
@click.option("--wait", is_flag=True, help="Wait for DIR while no study is there.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    metavar="S",
    help="Seconds between two looks at DIR (1 where not given); without a terminal between two lines about what runs "
    "(10 where not given).",
)
@_common.json_option("Print what happened and happens as lines of JSON, like `run --json` (docs/events.md).")
@_common.traceback_option
@click.pass_context
def watch_command(
    ctx: click.Context, folder: Path, once: bool, wait: bool, interval: float | None, as_json: bool
) -> None:
    """Show from another terminal how the study in DIR gets on.

    DIR is a folder that `tuneoff run` made or will make (--wait). Shows the same as the run itself, and the checkpoints
    that trials would continue from; reads only, and ends when the study does; where a run broke off it says so and
    waits for the next. Ctrl-C ends the watching alone.

    \b
    Examples:
      tuneoff watch runs/quickstart-1a2b3c
      tuneoff watch runs/quickstart-1a2b3c --once
      tuneoff watch runs/mine --wait --json
    """
    from tuneoff.cli.live.follow import FolderFollower
    from tuneoff.store import StudyStore

    console = _common.console()
    lines = not (as_json or (console.is_terminal and not console.is_dumb_terminal))
    pause = interval or LOOK_SECONDS
    follower = FolderFollower(StudyStore(folder), history=as_json, checkpoints=not as_json)
    # Lines report at once what begins and ends, however rarely they report what runs.
    updates = looks(follower, once, wait, min(pause, LOOK_SECONDS) if lines else pause)
    try:
        if as_json:
            last_look = _stream(updates, folder)
        elif once:
            last_look = _show_once(updates, folder, console)
        else:
            last_look = _show(updates, folder, console, interval)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    if last_look is not None and last_look.is_over and last_look.failed:
        ctx.ensure_object(State).exit_code = TRIAL_FAILED


def looks(follower: FolderFollower, once: bool, wait: bool, interval: float) -> Iterator[FolderState]:
    """Yields looks until the study is over, or one look.

    Args:
        follower: makes the looks.
        once: look only once, whatever the state is.
        wait: wait where no study is there.
        interval: seconds between two looks.

    Raises:
        StoreError: where no study is there, and `wait` is false.
    """
    from tuneoff.store import StudyStore

    is_waiting = False
    while True:
        look = follower.poll()
        if look is not None:
            yield look
            if once or look.is_over:
                return
        elif not wait:
            StudyStore.open(follower.store.root)
        elif not is_waiting:
            is_waiting = True
            _common.echo(f"waiting for a study in {follower.store.root}", err=True)
        time.sleep(interval)


def take_in(board: RunProgress, look: FolderState, folder: Path) -> None:
    """Updates a board with what a look found."""
    with board.lock:
        if [trial.id for trial in board.trials] != [trial.id for trial in look.trials]:
            board.plan(look.trials)
        board.title = f"{look.study.name}: {look.study.model.source}, {look.study.task.name}"
        board.active = look.since is not None
        board.forecast = look.forecast
        board.checkpoints = look.checkpoints
        if look.since is not None:
            board.begun_at = board.clock() - max(0.0, time.time() - look.since)
    for item in look.news:
        board.update(item.progress, _seconds_ago(item.time))
    for trial in look.lost:
        board.lose(trial)
    previous_state, board.state = board.state, standing(look, folder)
    if board.state != previous_state and board.interval is not None and not (board.running or look.is_over):
        board.say(board.state)


def standing(look: FolderState, folder: Path) -> str:
    """Returns what to say while no trial runs."""
    from tuneoff.cli.live.run_progress import PREPARING

    if look.since is not None:
        return PREPARING
    quoted = shlex.quote(str(folder))
    if look.missing:
        missing = _common.count(look.missing, "final trial")
        return f"stopped: no run is on, and {missing} still to come. Continue: tuneoff run {quoted}"
    failed = f", {_common.count(look.failed, 'final trial')} failed" if look.failed else ""
    return f"finished{failed}. Results: tuneoff report {quoted}"


def _seconds_ago(moment: str | None) -> float:
    if moment is None:
        return 0.0
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _show(updates: Iterator[FolderState], folder: Path, console: Console, interval: float | None) -> FolderState | None:
    """Shows the live view, or lines, until the study is over; at last what `--once` shows."""
    from tuneoff.cli.live import view

    last_look: FolderState | None = None
    line_interval = interval or view.PLAIN_INTERVAL_SECONDS
    with view.show([], console, interval=line_interval, state="") as board:
        for last_look in updates:
            take_in(board, last_look, folder)
    console.print(view.view(board, console.width))
    return last_look


def _show_once(updates: Iterator[FolderState], folder: Path, console: Console) -> FolderState | None:
    from tuneoff.cli.live import view
    from tuneoff.cli.live.run_progress import RunProgress

    board = RunProgress([], lambda _: None)
    last_look: FolderState | None = None
    for last_look in updates:
        take_in(board, last_look, folder)
    console.print(view.view(board, console.width))
    return last_look


def _stream(updates: Iterator[FolderState], folder: Path) -> FolderState | None:
    """Prints events as a run streams them: all since the study's first trial, then what happens now."""
    from tuneoff import report
    from tuneoff.cli.live.folder_events import FolderEvents
    from tuneoff.cli.live.stream import Stream
    from tuneoff.store import StudyStore

    last_look: FolderState | None = None
    events = FolderEvents(str(folder), lambda: report.build(StudyStore(folder)).as_data())
    with Stream() as stream:
        for look in updates:
            for event in events.of(look):
                stream.send(event)
            last_look = look
            if stream.broken:
                break
    return last_look
