"""`tuneoff watch`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuneoff.cli import common_options, printing, wording
from tuneoff.cli.exit_codes import INTERRUPTED, TRIAL_FAILED, State

if TYPE_CHECKING:
    from rich.console import Console

    from tuneoff.cli.live.follow import FolderFollower, FolderState
    from tuneoff.cli.live.run_progress import RunProgress
    from tuneoff.cli.live.stream import Stream
    from tuneoff.store import SeriesMember, SeriesStore

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
@common_options.json_option("Print what happened and happens as lines of JSON, like `run --json` (docs/events.md).")
@common_options.traceback_option
@click.pass_context
def watch_command(
    ctx: click.Context, folder: Path, once: bool, wait: bool, interval: float | None, as_json: bool
) -> None:
    """Show from another terminal how the study in DIR gets on.

    DIR is a folder that `tuneoff run` made or will make (--wait). Shows the same as the run itself, and the checkpoints
    that trials would continue from; reads only, and ends when the study does; where a run broke off it says so and
    waits for the next. Of a series it shows member after member. Ctrl-C ends the watching alone.

    \b
    Examples:
      tuneoff watch runs/quickstart-1a2b3c
      tuneoff watch runs/quickstart-1a2b3c --once
      tuneoff watch runs/mine --wait --json
    """
    from tuneoff.cli.live.stream import Stream
    from tuneoff.store import SeriesStore

    console = printing.console()
    lines = not (as_json or (console.is_terminal and not console.is_dumb_terminal))
    pause = interval or LOOK_SECONDS
    with Stream(as_json) as stream:
        watcher = Watcher(console, stream, once, wait, interval, min(pause, LOOK_SECONDS) if lines else pause)
        series, failed = SeriesStore(folder), False
        try:
            if not series.is_there:
                look = watcher.watch_study(folder)
                failed = look is not None and look.is_over and bool(look.failed)
            if series.is_there:
                failed = watcher.watch_series(series)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
    if failed:
        ctx.ensure_object(State).exit_code = TRIAL_FAILED


@dataclass
class Watcher:
    """Watches as the command line asks.

    Attributes:
        console: where it is shown.
        stream: takes the events instead, where they are wanted.
        once, wait: show where it stands now, and end; wait where nothing is there.
        interval: seconds between two lines, as given.
        pause: seconds between two looks.
    """

    console: Console
    stream: Stream
    once: bool
    wait: bool
    interval: float | None
    pause: float

    def watch_study(self, folder: Path, is_passed: Callable[[], bool] = lambda: False) -> FolderState | None:
        """Watches one study until it is over, or `is_passed` says that no run goes on with it; returns the last look,
        None where no study is there."""
        from tuneoff.cli.live.follow import FolderFollower
        from tuneoff.store import StudyStore

        as_json = self.stream.wanted
        follower = FolderFollower(StudyStore(folder), history=as_json, checkpoints=not as_json)
        # Lines report at once what begins and ends, however rarely they report what runs.
        updates = looks(follower, self.once, self.wait, self.pause, is_passed)
        if as_json:
            return _stream(updates, folder, self.stream)
        if self.once:
            return _show_once(updates, folder, self.console)
        return _show(updates, folder, self.console, self.interval)

    def watch_series(self, series: SeriesStore) -> bool:
        """Watches member after member until all are over; returns whether one failed or could not be run."""
        from tuneoff.records import events

        since, names = series.running_since(), [member.name for member in series.members]
        begin = events.series_started(series.name, str(series.root), series.axis, names)
        self.stream.send({**begin, "time": events.utc(since) if since is not None else None})
        failed, is_over, problems = False, True, dict[str, str]()
        for name in names:
            while _is_to_come(series, member := series.find(name)) and not self.once:
                time.sleep(self.pause)
            look = None
            if member.store.is_there:
                self._say(name)
                look = self.watch_study(member.store.root, partial(_is_passed, series, name))
                member = series.find(name)
            elif not member.problem:
                self._say(f"{name}: not begun")
            if member.problem:
                self._say(f"{name}: cannot be run: {member.problem}")
                problems[name] = member.problem
            failed = failed or bool(problems) or (look is not None and look.is_over and bool(look.failed))
            is_over = is_over and (bool(member.problem) or (look is not None and look.is_over))
        if is_over or series.running_since() is None:
            outcome: events.Outcome = "failed_trials" if failed else "completed"
            self.stream.send({**events.series_ended(outcome if is_over else "stopped", problems), "time": None})
        return failed

    def _say(self, heading: str) -> None:
        if not self.stream.wanted:
            self.console.print(heading, style="bold", soft_wrap=True)


def looks(
    follower: FolderFollower, once: bool, wait: bool, interval: float, is_passed: Callable[[], bool] = lambda: False
) -> Iterator[FolderState]:
    """Yields looks until the study is over, or one look; none where the folder is that of a series.

    Args:
        follower: makes the looks.
        once: look only once, whatever the state is.
        wait: wait where no study is there.
        interval: seconds between two looks.
        is_passed: whether no run goes on with the study, though it is not over.

    Raises:
        StoreError: where no study is there, and `wait` is false.
    """
    from tuneoff.store import SeriesStore, StudyStore

    is_waiting = False
    while True:
        look = follower.poll()
        if look is not None:
            yield look
            if once or look.is_over or is_passed():
                return
        elif SeriesStore(follower.store.root).is_there:
            return
        elif not wait:
            StudyStore.open(follower.store.root)
        elif not is_waiting:
            is_waiting = True
            printing.echo(f"waiting for a study in {follower.store.root}", err=True)
        time.sleep(interval)


def _is_to_come(series: SeriesStore, member: SeriesMember) -> bool:
    """Tells whether a run is on that has not come to a member yet."""
    is_on = series.running_since() is not None
    return is_on and not member.store.is_there and not _is_passed(series, member.name)


def _is_passed(series: SeriesStore, name: str) -> bool:
    """Tells whether a run leaves a member as it is: it could not run it, or is at one that comes after it."""
    members = series.members
    place = [member.name for member in members].index(name)
    later = (member.store.running_since() for member in members[place + 1 :])
    return bool(members[place].problem) or any(since is not None for since in later)


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
        missing = wording.count(look.missing, "final trial")
        return f"stopped: no run is on, and {missing} still to come. Continue: tuneoff run {quoted}"
    failed = f", {wording.count(look.failed, 'final trial')} failed" if look.failed else ""
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
    if last_look is not None:
        console.print(view.view(board, console.width))
    return last_look


def _show_once(updates: Iterator[FolderState], folder: Path, console: Console) -> FolderState | None:
    from tuneoff.cli.live import view
    from tuneoff.cli.live.run_progress import RunProgress

    board = RunProgress([], lambda _: None)
    last_look: FolderState | None = None
    for last_look in updates:
        take_in(board, last_look, folder)
    if last_look is not None:
        console.print(view.view(board, console.width))
    return last_look


def _stream(updates: Iterator[FolderState], folder: Path, stream: Stream) -> FolderState | None:
    """Prints events as a run streams them: all since the study's first trial, then what happens now."""
    from tuneoff import report
    from tuneoff.cli.live.folder_events import FolderEvents
    from tuneoff.store import StudyStore

    last_look: FolderState | None = None
    events = FolderEvents(str(folder), lambda: report.build(StudyStore(folder)).as_data())
    for look in updates:
        for event in events.of(look):
            stream.send(event)
        last_look = look
        if stream.broken:
            break
    return last_look
