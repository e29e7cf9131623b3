"""What a run shows while it runs: one live view in a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneoff.cli._common import seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from tuneoff.executors.base import Progress
    from tuneoff.record import TrialRecord
    from tuneoff.spec import TrialSpec

PLAIN_INTERVAL_SECONDS = 10.0
PREPARING = "preparing (loading libraries, model and data)"


@dataclass
class Running:
    """A trial that runs now: when it started, and the newest of what it told."""

    trial: TrialSpec
    since: float
    phase: str = ""
    step: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)

    def hear(self, event: dict[str, Any]) -> None:
        """Takes in one line of the trial's event log."""
        if event.get("kind") == "phase":
            self.phase = str(event.get("phase", ""))
        elif event.get("kind") == "step":
            self.step = event
        elif event.get("kind") == "validation":
            self.validation = dict(event.get("metrics") or {})

    def seconds_left(self) -> float | None:
        """Training time left at the pace so far, or None before the first step."""
        done, steps, spent = (self.step.get(key) for key in ("step", "steps", "elapsed_seconds"))
        if not done or not steps or spent is None:
            return None
        return float(spent) / float(done) * max(0.0, float(steps) - float(done))


class Board:
    """Where a run stands. Pure bookkeeping: what it says goes to `say`, one line at a time.

    Args:
        trials: all trials of the run, in order.
        say: shows one permanent line.
        interval: least seconds between two lines about running trials; None: no such lines.
        clock: seconds from any start, monotonic.
    """

    def __init__(
        self,
        trials: Sequence[TrialSpec],
        say: Callable[[str], None],
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trials = list(trials)
        self.say = say
        self.interval = interval
        self.clock = clock
        self.begun_at = clock()
        self.began = False
        self.running: dict[str, Running] = {}
        self.records: dict[str, TrialRecord] = {}
        self._ids: dict[int, str] = {}
        self._position: dict[str, int] = {}
        self._places: dict[Kind, list[int]] = {}
        for number, trial in enumerate(self.trials, 1):
            self._places.setdefault(_kind(trial), []).append(number)
        self._durations: dict[tuple[str, str], list[float]] = {}
        self._said_at = clock()
        self._findings: set[tuple[str, str]] = set()
        self.close: Callable[[], None] = lambda: None

    @property
    def finished(self) -> int:
        """Trials that completed, in this run or an earlier one."""
        return sum(record.status.finished for record in self.records.values())

    @property
    def failed(self) -> int:
        """Trials that ended in any other way."""
        return len(self.records) - self.finished

    @property
    def waiting(self) -> int:
        """Trials that have not started."""
        return max(0, len(self.trials) - len(self.records) - len(self.running))

    def update(self, progress: Progress) -> None:
        """Takes in what an executor tells. Never raises for a stream that cannot be written: the run goes on."""
        try:
            self._update(progress)
        except OSError:
            self.say = lambda _: None

    def _update(self, progress: Progress) -> None:
        trial = progress.trial
        self._find_place(trial)
        if progress.kind == "started":
            self.began = True
            self.running[trial.id] = Running(trial, self.clock())
            if self.interval is not None:
                self.say(f"{self.name(trial)}: started")
                self._said_at = self.clock()
        elif progress.kind == "event":
            self._hear(progress)
        elif progress.record is not None:
            self._end(trial, progress.record, earlier=progress.kind == "skipped")

    def _find_place(self, trial: TrialSpec) -> None:
        """Gives a trial its number, that of the next planned one of its kind: what a search chooses is not known
        before. A search that grows adds trials of which nobody knew."""
        if trial.id in self._position:
            return
        places = self._places.get(_kind(trial))
        if not places:
            self.trials.append(trial)
            places = [len(self.trials)]
        self._position[trial.id] = places.pop(0)
        self._ids[self._position[trial.id]] = trial.id

    def _hear(self, progress: Progress) -> None:
        running = self.running.get(progress.trial.id)
        if running is None:
            return
        event = progress.event
        running.hear(event)
        says = event.get("kind") == "phase" and running.phase == "test" and writes(running.trial)
        if event.get("kind") == "finding":
            found = (str(event.get("name", "")), str(event.get("message", "")))
            if found not in self._findings:
                self._findings.add(found)
                self.say(f"{self.name(progress.trial)}: note: {found[1] or found[0]}")
        elif self.interval is not None and (says or self.clock() - self._said_at >= self.interval):
            # Writing the test's texts may take minutes in which nothing more is heard, so it is told at once.
            self._said_at = self.clock()
            place, figures = self.describe(running)
            self.say(f"{self.name(progress.trial)}: {', '.join([*place, *figures])}{self._left('; all: ')}")

    def _end(self, trial: TrialSpec, record: TrialRecord, earlier: bool) -> None:
        running = self.running.pop(trial.id, None)
        self.records[trial.id] = record
        spent = self.clock() - running.since if running else record.timing.total_seconds
        if spent is not None and record.status.finished:
            self._durations.setdefault((trial.purpose, trial.label), []).append(spent)
        self.say(f"{self.name(trial)}: {outcome(record, spent, earlier)}{'' if earlier else self._left()}")

    def _left(self, before: str = "; ") -> str:
        left = self.seconds_left()
        return f"{before}about {seconds(left)} left" if left and (self.waiting or self.running) else ""

    def name(self, trial: TrialSpec) -> str:
        """`[3/18] lora seed 1`, or `[3/18] search lora, rate 0.0004`."""
        self._find_place(trial)
        what = f"{trial.label} seed {trial.seed}"
        if trial.purpose == "search":
            what = f"search {trial.label}, rate {trial.learning_rate:.2g}"
        return f"[{self._position[trial.id]}/{len(self.trials)}] {what}"

    def describe(self, running: Running) -> tuple[list[str], list[str]]:
        """What a running trial is doing, in short parts: where it is with its times, and its figures."""
        step = running.step
        place, figures = [running.phase or "starting"], []
        if running.phase == "test" and writes(running.trial):
            place = ["test: writing texts"]
        if step.get("epoch") is not None:
            epochs = f"/{step['epochs']:g}" if step.get("epochs") else ""
            place.append(f"epoch {step['epoch']:.2g}{epochs}")
        place.append(seconds(self.clock() - running.since))
        left = running.seconds_left()
        if left is not None and running.phase == "train":
            place.append(f"about {seconds(left)} left")
        if step.get("step") is not None:
            steps = f"/{step['steps']}" if step.get("steps") else ""
            figures.append(f"step {step['step']}{steps}")
        if step.get("loss") is not None:
            figures.append(f"loss {step['loss']:.3f}")
        if metric := self._validation(running):
            figures.append(metric)
        if step.get("examples_per_second") is not None:
            figures.append(f"{step['examples_per_second']:.0f} examples/s")
        return place, figures

    def _validation(self, running: Running) -> str:
        metrics = running.validation
        wanted = selects(running.trial)
        name = wanted if wanted in metrics else next(iter(metrics), "")
        return f"validation {name} {metrics[name]:.3f}" if name else ""

    def seconds_left(self) -> float | None:
        """Time left for the whole run, from what finished trials took; None while there is nothing to go by.

        A row that has finished before is expected to take as long again; another, as long as the mean of all
        that train, or while none has finished, as the running one will at its pace.
        """
        now = self.clock()
        training = {(trial.purpose, trial.label) for trial in self.trials if trial.learning_rate is not None}
        trained = [spent for kind in training for spent in self._durations.get(kind, ())]
        if not trained:
            paces = [(now - one.since, one.seconds_left()) for one in self.running.values()]
            trained = [spent + left for spent, left in paces if left is not None]
        total = 0.0
        for number, trial in enumerate(self.trials, 1):
            trial_id = self._ids.get(number, "")
            if trial_id in self.records:
                continue
            own = self._durations.get((trial.purpose, trial.label))
            known = own or trained
            running = self.running.get(trial_id)
            left = running.seconds_left() if running else None
            if running and left is not None:
                # The pace tells of training alone; what comes after it is known from an earlier trial of the row.
                total += max(left, sum(own) / len(own) - (now - running.since)) if own else left
            elif not known:
                if trial.learning_rate is not None:
                    return None
            else:
                expected = sum(known) / len(known)
                total += max(0.0, expected - (now - running.since)) if running else expected
        return total


Kind = tuple[str, str, int]


def _kind(trial: TrialSpec) -> Kind:
    return trial.purpose, trial.label, trial.seed


def selects(trial: TrialSpec) -> str:
    """The validation metric that selects the trial's checkpoint."""
    from tuneoff import registry

    return registry.tasks()[trial.task.name].selects(trial.protocol.select_metric)


def writes(trial: TrialSpec) -> bool:
    """Whether the trial's test generates text."""
    from tuneoff import registry

    return registry.tasks()[trial.task.name].produces == "text"


def outcome(record: TrialRecord, spent: float | None, earlier: bool) -> str:
    """What became of a trial, in one line."""
    if not record.status.finished:
        cause = record.cause.strip().splitlines()
        return f"{record.status.value} after {seconds(spent)}" + (f": {cause[0]}" if cause else "")
    search = record.spec.purpose == "search"
    name, split = (selects(record.spec), "validation") if search else (record.primary_metric, "test")
    score = None if name is None else record.metric(name, split)
    told = "" if score is None else f", {split} {name} {score:.3f}"
    return f"finished earlier{told}" if earlier else f"completed in {seconds(spent)}{told}"


@contextmanager
def show(trials: Sequence[TrialSpec], console: Console) -> Iterator[Board]:
    """A board whose `update` is an executor's listener, shown on a console until the block ends."""
    from rich.live import Live
    from rich.text import Text

    if not console.is_terminal:
        board = Board(trials, lambda line: console.print(Text(line), soft_wrap=True), PLAIN_INTERVAL_SECONDS)
        board.say(PREPARING)
        yield board
        return

    live: Live
    board = Board(trials, lambda line: live.console.print(Text(line)))
    live = Live(get_renderable=lambda: view(board), console=console, refresh_per_second=4, transient=True)
    board.close = live.stop
    with live:
        yield board


def view(board: Board) -> RenderableType:
    """The live view: a bar for the study and two lines for each running trial."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done = len(board.records)
    counts = [f"{done}/{len(board.trials)} done", f"{len(board.running)} running", f"{board.waiting} waiting"]
    if board.failed:
        counts.insert(1, f"{board.failed} failed")
    clock = f"{seconds(board.clock() - board.begun_at)}"
    left = board.seconds_left()
    clock += f", about {seconds(left)} left" if left else ""
    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True)
    bar = ProgressBar(total=max(1, len(board.trials)), completed=done)
    head.add_row(bar, Text(f"{' · '.join(counts)} · {clock}", overflow="ellipsis"))
    lines: list[RenderableType] = [head]
    if not board.running and board.waiting:
        lines.append(Text(PREPARING, style="dim"))
    for running in list(board.running.values()):
        for parts, start in zip(board.describe(running), (f"{board.name(running.trial)}  ", "  "), strict=True):
            line = Text(start, style="bold", no_wrap=True, overflow="ellipsis")
            lines.append(line.append(" · ".join(parts), style="not bold cyan"))
    return Group(*lines)
