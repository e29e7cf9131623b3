"""The clock of a run that has a budget of time: it ends the run when the budget is spent."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Listener, Progress
from tuneoff.planning.plan import search_protocol
from tuneoff.records.record import TrialRecord
from tuneoff.search.halving import rungs
from tuneoff.search.stopping import is_stopped
from tuneoff.store import StudyStore
from tuneoff.study.budget import Allotment, forecast_seconds
from tuneoff.study.to_come import ToCome

PACES = (1 / 3, 3.0)
"""Within which measured times correct the forecast."""

now = time.monotonic


class BudgetSpent(KeyboardInterrupt):
    """The budget of time is spent; trials that ran are recorded as cancelled and continue with a larger one."""


class Clock:
    """Keeps the time of a run that has a budget, and what all runs of the study have taken.

    Args:
        allotment: what fits.
        store: the study's folder.
        begun: when the run began, by `now`.
    """

    def __init__(self, allotment: Allotment, store: StudyStore, begun: float) -> None:
        self.allotment, self.store, self.begun = allotment, store, begun
        self.spent = False
        self._measured = self._expected = 0.0

    @property
    def left(self) -> float:
        """Returns the seconds that are left."""
        return self.allotment.seconds - self.allotment.spent - (now() - self.begun)

    def follow(self, listener: Listener) -> Listener:
        """Returns a listener that ends the run when the budget is spent.

        Raises (the listener):
            BudgetSpent: then.
        """

        def hear(progress: Progress) -> None:
            listener(progress)
            if progress.kind == "ended" and progress.record is not None:
                self._note(progress.record)
                self.keep()
            if self.left <= 0:
                raise BudgetSpent

        return hear

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Ends what is done within when the budget is spent, also while no trial tells anything: a timer interrupts it
        then, as a person would. Without a timer (on Windows, or outside the main thread) the listener alone ends it."""

        def end(*_: object) -> None:
            raise BudgetSpent

        is_timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGALRM, end) if is_timed else None
        try:
            if is_timed:
                signal.setitimer(signal.ITIMER_REAL, max(self.left, 0.001))
            yield
        except KeyboardInterrupt:
            if self.left > 0:
                raise
            self.spent = True
        finally:
            if is_timed:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before or signal.SIG_DFL)

    def fits(self, trials: Sequence[TrialSpec]) -> bool:
        """Returns whether trials fit into what is left, by the forecast and by how it held so far."""
        low, high = PACES
        pace = min(max(self._measured / self._expected, low), high) if self._expected else 1.0
        known = [trial for trial in trials if trial.label in self.allotment.arms]
        fits = pace * forecast_seconds(ToCome(known), self.allotment.arms) <= self.left
        self.spent = self.spent or not fits
        return fits

    def keep(self) -> None:
        """Writes down what the study has taken."""
        if self.store.is_there:
            self.store.write_spent(self.allotment.spent + now() - self.begun)

    def _note(self, record: TrialRecord) -> None:
        arm = self.allotment.arms.get(record.spec.label)
        measured = record.timing.total_seconds
        if arm is None or measured is None or not record.status.finished:
            return
        if is_stopped(record.spec.stopping, record.curve):
            return  # No forecast is of a trial that its curve has stopped.
        if record.spec.purpose == "final":
            expected = arm.trial_seconds
        else:
            steps, most_steps = record.spec.protocol.max_steps, self._search_steps
            expected = arm.search_trial_seconds(steps / most_steps if steps and most_steps else 1.0)
        if expected:
            self._measured += measured
            self._expected += expected

    @property
    def _search_steps(self) -> int | None:
        """Returns the steps of the search trials that a forecast is of: those of the last rung, where it is pruned."""
        protocol = self.allotment.study.protocol
        return rungs(protocol)[-1].steps or search_protocol(self.allotment.study).max_steps
