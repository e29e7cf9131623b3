"""The whole way through, from Python: plan, run, results, report.

study = tuneoff.Study("quickstart", methods=["lora", "full"], seeds=3)
study.run("runs/quickstart")
print(study.results())
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff import sources, study_file
from tuneoff.errors import StoreError
from tuneoff.executors.base import Executor, Inspection, Listener
from tuneoff.plan import content_hash, plan, question
from tuneoff.record import TrialRecord
from tuneoff.spec import StudySpec, TrialSpec
from tuneoff.store import StudyStore

if TYPE_CHECKING:
    import pandas as pd


class Study:
    """A question, and where its answers are kept.

    Args:
        study: a recipe's name, the path of a study file, a mapping of study keys, or a `StudySpec`.
        overrides: `dotted.key=value` texts or a mapping of dotted keys to values.
        methods: rows or methods to run instead of the study's own.
        seeds: number of seeds instead of the study's own.
        random_weights: build the base model's architecture alone; quality then means nothing.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        StudyError: with every problem of the study.
    """

    def __init__(
        self,
        study: str | Path | Mapping[str, Any] | StudySpec,
        *,
        overrides: Iterable[str] | Mapping[str, Any] = (),
        methods: Iterable[str] | None = None,
        seeds: int | None = None,
        random_weights: bool = False,
        device: str = "auto",
    ) -> None:
        changes: dict[str, Any] = {"methods": methods, "seeds": seeds, "random_weights": random_weights}
        if isinstance(study, StudySpec):
            self.spec = study_file.narrow(study, **changes)
        elif isinstance(study, Mapping):
            self.spec = study_file.narrow(study_file.parse(study_file.override(dict(study), overrides)), **changes)
        else:
            self.spec = study_file.load(study, overrides, **changes)
        self.device = device
        self.folder: Path | None = None

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """A study that was run before.

        Raises:
            StoreError: if the folder holds none.
        """
        study = cls(StudyStore.open(folder).study())
        study.folder = Path(folder)
        return study

    @property
    def default_folder(self) -> Path:
        """`runs/NAME-xxxxxx`: equal for equal questions, so that a re-run continues where it stopped."""
        return Path("runs") / f"{self.spec.name}-{content_hash(question(self.spec))[:6]}"

    def plan(self) -> list[TrialSpec]:
        """The trials, without looking at weights; local files are read for their fingerprints only.

        Raises:
            SourceNotFound: if a local file is not there.
        """
        data = self.spec.task.data
        references = [part.source for part in (data.train, data.validation, data.test) if part is not None]
        if not self.spec.model.random_weights:
            references.append(self.spec.model.source)
        prints: dict[str, str] = {}
        for reference in references:
            if found := sources.fingerprint(reference):
                prints[reference] = found
        return plan(self.spec, prints)

    def inspect(self, trials: list[TrialSpec] | None = None, *, require_data: bool = False) -> Inspection:
        """Counts parameters and looks at the data in a child process; trains nothing."""
        with self._executor() as executor:
            return executor.inspect(self.spec, self.plan() if trials is None else trials, require_data)

    def run(self, out: str | Path | None = None, listener: Listener | None = None) -> Study:
        """Runs every trial that has no finished record. Failed trials are in the records, not raised.

        Raises:
            TuneoffError: anything that makes the study impossible, before training.
            KeyboardInterrupt: after running trials were recorded as cancelled.
        """
        trials = self.plan()
        self.folder = Path(out) if out is not None else self.default_folder
        place = StudyStore(self.folder)
        with place.lock(), self._executor() as executor:
            place.check(self.spec)
            # Looked at before anything is written, so that a study that cannot be leaves nothing to clean up.
            if missing := [trial for trial in trials if not _finished(place, trial)]:
                executor.inspect(self.spec, missing, require_data=True)
            store = StudyStore.create(self.folder, self.spec, trials)
            executor.run(store, trials, listener or (lambda _: None))
        return self

    def records(self) -> list[TrialRecord]:
        """The records there are.

        Raises:
            StoreError: if the study has not been run.
        """
        return self._store().records()

    def results(self) -> pd.DataFrame:
        """One row per trial: label, method, seed, status, every test metric and every cost."""
        from tuneoff.analysis import table

        return table.trials_frame(self.records())

    def report(self, *, plots: bool = True) -> Path:
        """Writes `report/` inside the study's folder and returns the path of `report.md`."""
        from tuneoff import report

        return report.write(self._store(), plots=plots)

    def call(self, verb: str, trial: str, **payload: Any) -> Any:
        """Asks a child process for `export` or `predict` of one trial (its id or the beginning of it)."""
        place = self._store().find_trial(trial)
        with self._executor() as executor:
            return executor.call(verb, {"folder": str(place.folder.resolve()), "device": self.device, **payload})

    def _store(self) -> StudyStore:
        if self.folder is None:
            raise StoreError("this study has not been run yet", hint="Call run() or Study.open(folder).")
        return StudyStore.open(self.folder)

    def _executor(self) -> Executor:
        from tuneoff.executors.local import LocalExecutor

        return LocalExecutor(self.device)


def _finished(store: StudyStore, trial: TrialSpec) -> bool:
    record = store.trial(trial.id).record()
    return record is not None and record.status.finished
