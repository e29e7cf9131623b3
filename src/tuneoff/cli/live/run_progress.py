"""The state of a study's progress: `run` updates it with an executor's progress, `watch` with what the study's folder
holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneoff.cli.live.arm_progress import ArmProgress, arms_of
from tuneoff.cli.live.remaining import Running
from tuneoff.cli.live.trial_wording import continued, outcome, selects, writes
from tuneoff.cli.wording import seconds
from tuneoff.records.record import Status

if TYPE_CHECKING:
    from tuneoff.config.spec import TrialSpec
    from tuneoff.executors.base import Progress
    from tuneoff.records.forecast import StudyForecast
    from tuneoff.records.record import TrialRecord
    from tuneoff.store import KeptCheckpoints

OWN_FIGURES = {"cpu_percent", "resident_bytes", "gpu_memory_bytes"}
"""Figures of a `machine` event that are of one trial alone."""
PREPARING = "preparing (loading libraries, model and data)"


class RunProgress:
    """Keeps the state of all trials. Each line that it reports goes to `say`. Another thread may read it under its
    `lock`.

    Args:
        trials: all trials of the run, in order.
        say: shows one permanent line.
        interval: minimum seconds between two lines about running trials; None: no such lines.
        clock: seconds from any start, monotonic.
        state: what is said while no trial runs.

    Attributes:
        title: of the view; empty: none.
        active: whether a run is on; without one no time left is shown.
        forecast: what the study is expected to take, where that is known.
        checkpoints: of trials without a result, from which they would continue: trial id -> what is kept.
    """

    def __init__(
        self,
        trials: Sequence[TrialSpec],
        say: Callable[[str], None],
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        state: str = PREPARING,
    ) -> None:
        self.say = say
        self.interval = interval
        self.clock = clock
        self.lock = threading.RLock()
        self.title = ""
        self.state = state
        self.active = True
        self.forecast: StudyForecast | None = None
        self.checkpoints: Mapping[str, KeptCheckpoints] = {}
        self.begun_at = clock()
        self.began = False
        self.running: dict[str, Running] = {}
        self._at_once = 1
        self.records: dict[str, TrialRecord] = {}
        self._durations: dict[tuple[str, str], list[float]] = {}
        self._spent: dict[str, float] = {}
        self._said_at = clock()
        self._findings: set[tuple[str, str]] = set()
        self._lines: list[str] = []
        self.close: Callable[[], None] = lambda: None
        self.plan(trials)

    def plan(self, trials: Sequence[TrialSpec]) -> None:
        """Sets which trials there are, in order. Final trials that are no longer among them are forgotten."""
        with self.lock:
            self.trials = list(trials)
            self._ids: dict[int, str] = {}
            self._position: dict[str, int] = {}
            self._places: dict[Kind, list[int]] = {}
            self._most_steps: dict[str, int] = {}
            for trial in self.trials:
                if trial.purpose == "search":
                    max_steps = max(self._most_steps.get(trial.label, 0), trial.protocol.max_steps or 0)
                    self._most_steps[trial.label] = max_steps
            for number, trial in enumerate(self.trials, 1):
                self._places.setdefault(_kind(trial), []).append(number)
            ids = {trial.id for trial in self.trials}
            current = [
                *(record.spec for record in self.records.values()),
                *(running.trial for running in self.running.values()),
            ]
            for trial in current:
                if trial.purpose == "final" and trial.id not in ids:
                    self.records.pop(trial.id, None)
                    self.running.pop(trial.id, None)
                else:
                    self._find_place(trial)

    @property
    def finished(self) -> int:
        """Counts the trials that completed, in this run or an earlier one."""
        return sum(record.status.finished for record in list(self.records.values()))

    @property
    def failed(self) -> int:
        """Counts the trials that ended in any other way."""
        return len(self.records) - self.finished

    @property
    def waiting(self) -> int:
        """Counts the trials that have not started."""
        return max(0, len(self.trials) - len(self.records) - len(self.running))

    @property
    def machine(self) -> dict[str, Any]:
        """Returns the newest `machine` event of a trial that runs, with the sums over all that run now where several
        do; empty before the first."""
        events = [running.machine for running in self.running.values() if running.machine]
        newest = dict(events[-1]) if events else {}
        for name in OWN_FIGURES & newest.keys():
            newest[name] = sum(event.get(name, 0) for event in events)
        return newest

    def update(self, progress: Progress, ago: float = 0.0) -> None:
        """Updates the state with an executor's progress, `ago` seconds after it happened.

        Never raises for a stream that cannot be written: the run continues.
        """
        with self.lock:
            self._update(progress, self.clock() - ago)
            lines, self._lines = self._lines, []
        # Called without the lock: the code that shows a line may be waiting for the lock to draw the view.
        try:
            for line in lines:
                self.say(line)
        except OSError:
            self.say = lambda _: None

    def lose(self, trial: TrialSpec) -> None:
        """Marks a trial as waiting again: it ran, runs no longer, and left no record."""
        with self.lock:
            self.running.pop(trial.id, None)

    def _update(self, progress: Progress, now: float) -> None:
        trial = progress.trial
        self._find_place(trial)
        if progress.kind == "started":
            self.began = True
            self.records.pop(trial.id, None)
            self.running[trial.id] = Running(trial, now, progress.together)
            processes = round(sum(1 / running.together for running in self.running.values()))
            self._at_once = max(self._at_once, processes)
            if self.interval is not None:
                self._lines.append(f"{self.name(trial)}: started")
                self._said_at = self.clock()
        elif progress.kind == "event":
            self._hear(progress, now)
        elif progress.record is not None:
            self._end(trial, progress.record, now, earlier=progress.kind == "skipped")

    def _find_place(self, trial: TrialSpec) -> None:
        """Gives a trial its number: that of the next planned trial of its kind, because what a search chooses is not
        known before. A search that grows adds trials that were not planned."""
        if trial.id in self._position:
            return
        places = self._places.get(_kind(trial))
        if not places:
            self.trials.append(trial)
            places = [len(self.trials)]
        self._position[trial.id] = places.pop(0)
        self._ids[self._position[trial.id]] = trial.id

    def _hear(self, progress: Progress, now: float) -> None:
        running = self.running.get(progress.trial.id)
        if running is None:
            return
        event = progress.event
        running.hear(event, now)
        is_test_writing = event.get("kind") == "phase" and running.phase == "test" and writes(running.trial)
        if event.get("kind") == "finding":
            finding = (str(event.get("name", "")), str(event.get("message", "")))
            if finding not in self._findings:
                self._findings.add(finding)
                self._lines.append(f"{self.name(progress.trial)}: note: {finding[1] or finding[0]}")
        elif event.get("kind") == "resumed":
            self._lines.append(f"{self.name(progress.trial)}: {continued(event)}")
        elif self.interval is not None and (is_test_writing or self.clock() - self._said_at >= self.interval):
            # Writing the test's texts may take minutes without an event, so it is reported at once.
            self._said_at = self.clock()
            description = ", ".join(self.describe(running).values())
            self._lines.append(f"{self.name(progress.trial)}: {description}{self._left('; all: ')}")

    def _end(self, trial: TrialSpec, record: TrialRecord, now: float, earlier: bool) -> None:
        running = self.running.pop(trial.id, None)
        if record.status is not Status.CANCELLED:  # an interrupted trial waits for the next run
            self.records[trial.id] = record
        spent = record.timing.total_seconds
        if running is not None:
            # A trial on another machine is seen to begin and to end some time after it did.
            spent = max(now - running.since, spent or 0.0)
        if spent is not None and record.status.finished:
            share = spent / running.together if running is not None else spent
            self._durations.setdefault((trial.purpose, trial.label), []).append(share)
            self._spent[trial.id] = share
        self._lines.append(f"{self.name(trial)}: {outcome(record, spent, earlier)}{'' if earlier else self._left()}")

    def _left(self, before: str = "; ") -> str:
        remaining = self.seconds_left()
        return f"{before}about {seconds(remaining)} left" if remaining and (self.waiting or self.running) else ""

    def name(self, trial: TrialSpec) -> str:
        """Returns a trial's name: `[3/18] lora seed 1`, or `[3/18] search lora, rate 0.0004`."""
        self._find_place(trial)
        what = f"{trial.label} seed {trial.seed}"
        if trial.purpose == "search":
            what = f"search {trial.label}, rate {trial.learning_rate:.2g}"
        return f"[{self._position[trial.id]}/{len(self.trials)}] {what}"

    def describe(self, running: Running) -> dict[str, str]:
        """Describes what a running trial is doing, in short parts by name: where it is (`phase`, `epoch`) with its
        times (`spent`, `left`), and its figures (`step`, `loss`, `validation`, `speed`). Parts that are not known are
        left out."""
        step = running.step
        parts = {"phase": running.phase or "starting"}
        if running.writing:
            parts["phase"] = f"{running.phase}: writing texts, {running.writing['texts']}/{running.writing['of']}"
        elif running.phase == "test" and writes(running.trial):
            parts["phase"] = "test: writing texts"
        if step.get("epoch") is not None:
            epochs = f"/{step['epochs']:g}" if step.get("epochs") else ""
            parts["epoch"] = f"epoch {step['epoch']:.2g}{epochs}"
        parts["spent"] = seconds(self.clock() - running.since)
        remaining = self.left_of(running)
        if remaining is not None and running.phase:
            parts["left"] = f"about {seconds(remaining)} left"
        if step.get("step") is not None:
            steps = f"/{step['steps']}" if step.get("steps") else ""
            parts["step"] = f"step {step['step']}{steps}"
        if step.get("loss") is not None:
            parts["loss"] = f"loss {step['loss']:.3f}"
        if metric := self._validation(running):
            parts["validation"] = metric
        if step.get("examples_per_second") is not None:
            parts["speed"] = f"{step['examples_per_second']:.0f} examples/s"
        return parts

    def _validation(self, running: Running) -> str:
        metrics = running.validation
        selecting_metric = selects(running.trial)
        name = selecting_metric if selecting_metric in metrics else next(iter(metrics), "")
        value = metrics.get(name)
        return "" if value is None else f"validation {name} {value:.3f}"

    def seconds_left(self) -> float | None:
        """Estimates the time left for the whole run in seconds; None while nothing is known to estimate it from.

        An arm with finished trials is expected to take as long again. Any other arm is expected to take the time of the
        forecast, multiplied by the forecast's error for finished arms. Without a forecast it is the mean of all arms
        that train, or while none has finished, the time of the running trial at its pace. Trials that run at once share
        the time between them, and those of one process the time of that.
        """
        now = self.clock()
        training = {(trial.purpose, trial.label) for trial in self.trials if trial.learning_rate is not None}
        durations = [spent for kind in training for spent in self._durations.get(kind, ())]
        if not durations:
            paces = [(now - one.since, self.left_of(one), one.together) for one in self.running.values()]
            durations = [(spent + left) / together for spent, left, together in paces if left is not None]
        factor = self._forecast_factor()
        total = longest = 0.0
        for number, trial in enumerate(self.trials, 1):
            trial_id = self._ids.get(number, "")
            if trial_id in self.records:
                continue
            running = self.running.get(trial_id)
            if running and (remaining := self.left_of(running)) is not None:
                total += remaining / running.together
                longest = max(longest, remaining)
                continue
            arm_durations = self._durations.get((trial.purpose, trial.label))
            forecast_seconds = sum(self._forecast_phases(trial).values()) * factor
            estimates = arm_durations or ([forecast_seconds] if forecast_seconds else durations)
            if estimates:
                expected = sum(estimates) / len(estimates)
                total += max(0.0, expected - (now - running.since) / running.together) if running else expected
            elif trial.learning_rate is not None:
                return None
        return max(longest, total / self._at_once)

    def left_of(self, running: Running) -> float | None:
        """Estimates the time left of a running trial in seconds; None where it cannot be estimated."""
        now = self.clock()
        arm_durations = self._durations.get((running.trial.purpose, running.trial.label))
        if not arm_durations:
            factor = self._forecast_factor()
            forecast_phases = {phase: factor * spent for phase, spent in self._forecast_phases(running.trial).items()}
            return running.seconds_left(now, forecast_phases or None)
        remaining = running.seconds_left(now)
        # The pace covers the phases that began; those after them are known from an earlier trial of the arm.
        return (
            None
            if remaining is None
            else max(remaining, running.together * sum(arm_durations) / len(arm_durations) - (now - running.since))
        )

    def _forecast_phases(self, trial: TrialSpec) -> dict[str, float]:
        """Returns phase -> seconds that the forecast has for a trial; empty where it has none."""
        arm = self.forecast.arms.get(trial.label) if self.forecast is not None else None
        if arm is None:
            return {}
        if trial.purpose == "final":
            return {p: spent for p, spent in arm.seconds.items() if p != "inference" or trial.times_inference}
        steps, max_steps = trial.protocol.max_steps, self._most_steps.get(trial.label)
        share = steps / max_steps if steps and max_steps else 1.0
        return {phase: spent * (share if phase == "train" else 1.0) for phase, spent in arm.search_seconds.items()}

    def _forecast_factor(self) -> float:
        """Returns the time that finished trials took, divided by the time that the forecast said."""
        pairs = [
            (self._spent[trial_id], forecast_seconds)
            for trial_id, record in self.records.items()
            if trial_id in self._spent and (forecast_seconds := sum(self._forecast_phases(record.spec).values()))
        ]
        return (
            sum(spent for spent, _ in pairs) / sum(forecast_seconds for _, forecast_seconds in pairs) if pairs else 1.0
        )

    def arms(self) -> tuple[list[ArmProgress], str, str]:
        """Returns what is known of each arm; see `arm_progress.arms_of`."""
        return arms_of(self.trials, self.records.values())


Kind = tuple[str, str, int]


def _kind(trial: TrialSpec) -> Kind:
    return trial.purpose, trial.label, trial.seed
