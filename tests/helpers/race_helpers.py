"""An executor that makes records of arms of known levels, for races over seeds and budgets of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from forecast_helpers import ForecastExecutor
from record_helpers import CLASSES, Level, World, complete, failed, make_record
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.executors.base import Inspection, Listener, Progress
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "lora": Level(0.94),
    "full": Level(0.94),
    "head": Level(0.7),
}
ROWS = 120


@dataclass
class Racer(ForecastExecutor):
    """Makes full records of these levels.

    Attributes:
        world: what the arms are like.
        stop_after: trials after which it is interrupted.
        may_inspect: whether anything is asked of data and models.
        took: called after each trial.
        batches: the trials that it was given and that had no record, call by call.
    """

    world: World = field(default_factory=lambda: World(LEVELS, test_rows=ROWS))
    stop_after: int | None = None
    may_inspect: bool = True
    took: Callable[[TrialSpec], None] = lambda _: None
    batches: list[list[TrialSpec]] = field(default_factory=list)
    ran: list[TrialSpec] = field(default_factory=list)

    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        assert self.may_inspect
        rows = {"train": {"rows": 400}, "test": {"rows": ROWS}}
        return Inspection({}, CLASSES, {"splits": rows, "labels": list(CLASSES), "columns": {}}, ())

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        due = [trial for trial in trials if store.trial(trial.id).finished_record() is None]
        self.batches.append(due)
        for trial in due:
            if self.stop_after == len(self.ran):
                raise KeyboardInterrupt
            listener(Progress("started", trial))
            place = store.trial(trial.id)
            place.begin_attempt()
            status = self.world.fail.get((trial.label, trial.seed))
            if trial.purpose == "search":
                record = make_record(trial)
                place.write_record(record)
            elif status is not None:
                record = failed(trial, status)
                place.write_record(record)
            else:
                record = complete(store, trial, self.world)
            self.ran.append(trial)
            self.took(trial)
            listener(Progress("ended", trial, record=record))

    @property
    def seeds(self) -> dict[str, int]:
        """Label -> how many final trials ran."""
        return dict(Counter(trial.label for trial in self.ran if trial.purpose == "final"))
