"""One study's folder."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tuneoff.config.spec import SPEC_VERSION, StudySpec, TrialSpec
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.files import stays_inside
from tuneoff.records.forecast import FORECAST_VERSION, StudyForecast
from tuneoff.records.record import TrialRecord
from tuneoff.records.upgrades import upgraded_forecast, with_former_values
from tuneoff.store import lock
from tuneoff.store.checkpoints import KeptCheckpoints
from tuneoff.store.files import (
    check_version,
    is_half_written,
    read_json,
    sealed,
    sweep,
    unsealed,
    validated,
    write_atomically,
)
from tuneoff.store.folder import MEMBERS, SERIES_FILE, ResultFolder
from tuneoff.store.joining import joined, refuse_other
from tuneoff.store.trackers import StudyTrackers
from tuneoff.store.transfer import adopt
from tuneoff.store.trial import TrialStore

_RERUN_HINT = "Run the study file into this folder again (--out): it makes study.json anew and keeps what was trained."


def siblings(root: Path) -> list[Path]:
    """Returns the folders beside one whose names differ only in the last part, as those that `run` makes do."""
    stem = root.name.rpartition("-")[0]
    return [folder for folder in sorted(root.parent.glob(f"{stem}-??????")) if folder != root] if stem else []


class StudyStore(ResultFolder):
    """One study's folder."""

    MANIFEST = "study.json"

    @property
    def job_folder(self) -> Path:
        return self.root / "jobs"

    @property
    def trackers(self) -> StudyTrackers:
        """Returns what is stored of the study's trackers."""
        return StudyTrackers(self.root)

    @classmethod
    def open(cls, root: Path | str) -> StudyStore:
        """Opens a folder that holds a study.

        Raises:
            StoreError: if it does not.
        """
        store = cls(Path(root))
        if not store.is_there:
            if (store.root / SERIES_FILE).is_file():
                members = ", ".join(str(folder) for folder in sorted(store.root.glob(f"{MEMBERS}/*")))
                raise StoreError(f"{root} holds a series of studies; one is asked for", hint=f"Name one: {members}.")
            problem = "is not a study folder (no study.json)" if store.root.is_dir() else "is not there"
            matches = ", ".join(str(folder) for folder in store._of_that_name())
            note = f" Of that name there is {matches}." if matches else ""
            raise StoreError(f"{root} {problem}", hint=f"Name the folder that `tuneoff run` printed.{note}")
        return store

    def _of_that_name(self) -> list[Path]:
        """Returns the folders in `runs` of the recipe or study file that was named instead of a folder."""
        name, runs = self.root.stem.removesuffix(".study"), Path("runs")
        if self.root.parent != Path() or not runs.is_dir():
            return []
        return [folder for folder in sorted(runs.iterdir()) if folder.name[:-7] == name and StudyStore(folder).is_there]

    @classmethod
    def create(cls, root: Path | str, study: StudySpec, trials: list[TrialSpec]) -> StudyStore:
        """Makes a study's folder, or adds trials to one that asks the same question.

        In a study with a search an arm has one configuration: trials of another one, which an earlier and shorter
        search had chosen, are no longer trials of the study. Their folders stay.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        store = cls(Path(root))
        final = [trial.id for trial in trials if trial.purpose == "final"]
        searched = [trial.id for trial in trials if trial.purpose == "search"]
        store.refuse_lost()
        store.check(study)
        if not store.is_there and store._damaged_path.exists():
            final = [*store._recovered(trials), *final]
        elif not store.is_there:
            # A run that was killed before it wrote study.json left these; `check` knows them.
            shutil.rmtree(store.root / "trials", ignore_errors=True)
        else:
            study = joined(store.study(), study)
            final = store._merged(study, trials)
            searched = [*(trial_id for trial_id in store.search_ids() if trial_id not in searched), *searched]
        for trial in trials:
            trial_store = store.trial(trial.id)
            try:
                trial_store.spec()
            except CorruptRecord:
                trial_store.write_spec(trial)
        body = {"spec_version": SPEC_VERSION, "study": study.model_dump(mode="json"), "trials": final}
        if searched:
            body["search_trials"] = searched
        with suppress(OSError, ValueError):  # no relative path to another drive, no path to a deleted folder
            body["origin"] = Path(os.path.relpath(Path.cwd(), store.root.resolve())).as_posix()
        write_atomically(store._manifest_path, sealed(body))
        return store

    def _check_manifest(self) -> None:
        self.study()

    def _recovered(self, trials: list[TrialSpec]) -> list[str]:
        """Returns the ids of trials in this folder, besides these, that answer the same question."""

        def question(spec: TrialSpec) -> tuple[Any, ...]:
            protocol = spec.protocol.model_copy(update={"seeds": ()})
            return spec.purpose, spec.model, spec.task, protocol, spec.execution.engine

        ids, questions = {trial.id for trial in trials}, [question(trial) for trial in trials]
        recovered = []
        for trial_store in map(self.trial, sorted(folder.name for folder in self.root.glob("trials/*"))):
            with suppress(CorruptRecord):
                if trial_store.folder.name not in ids and question(trial_store.spec()) in questions:
                    recovered.append(trial_store.folder.name)
        return recovered

    def _merged(self, study: StudySpec, trials: list[TrialSpec]) -> list[str]:
        """Returns the ids of the trials so far, then of those asked for now, so that of one arm and seed the last is
        what was asked for last. Leaves out trials of a configuration that the search no longer chooses."""
        final = {trial.id: trial for trial in trials if trial.purpose == "final"}
        if study.protocol.search is None:
            return [*(trial_id for trial_id in self.trial_ids() if trial_id not in final), *final]
        per_seed = study.protocol.search.per_seed
        asked = {(trial.label, trial.seed if per_seed else None): trial for trial in final.values()}
        merged = []
        for trial_id in (trial_id for trial_id in self.trial_ids() if trial_id not in final):
            try:
                spec = self.trial(trial_id).spec()
            except CorruptRecord:
                merged.append(trial_id)  # Its specification is damaged; reports name it.
                continue
            chosen_trial = asked.get((spec.label, spec.seed if per_seed else None), spec)
            if _configuration(chosen_trial) == _configuration(spec):
                merged.append(trial_id)
        return [*merged, *final]

    def check(self, study: StudySpec) -> None:
        """Checks whether a study may be kept here; changes nothing.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        if self.is_there:
            refuse_other(self.root, self.study(), study)
        elif self.root.is_dir() and not (self._is_begun() or self._damaged_path.exists()):
            raise StoreError(f"{self.root} is not empty and not a study", hint="Name another folder with --out.")

    def _is_begun(self) -> bool:
        """Tells whether the folder is empty or holds only what a run leaves that is killed before it has written
        study.json."""
        items = [item for item in self.root.iterdir() if item.name not in {"lock", "trials"}]
        trial_files = [item for item in self.root.glob("trials/*/*") if item.name != "trial.json"]
        return all(map(is_half_written, (*items, *trial_files)))

    @property
    def relatives(self) -> list[StudyStore]:
        """Returns the studies in folders beside this one whose names differ only in the last part, as those that `run`
        makes do."""
        return [store for folder in siblings(self.root) if (store := StudyStore(folder)).is_there]

    def adopt(self, study: StudySpec, trials: list[TrialSpec], relatives: Iterable[StudyStore]) -> None:
        """Takes over the results that relatives have of these trials: a trial of the same id is the same trial.

        Raises:
            StoreError: if this folder cannot be written.
        """
        stores = list(relatives)
        missing = {trial.id for trial in trials if stores and self.trial(trial.id).finished_record() is None}
        finished = {}
        for trial_store in (store.trial(trial_id) for store in stores for trial_id in sorted(missing)):
            with suppress(StoreError):  # what cannot be read there is run again here
                if (record := trial_store.finished_record()) is not None:
                    finished[record.spec.id] = trial_store
        if finished:
            StudyStore.create(self.root, study, trials)
            for trial_id, trial_store in finished.items():
                adopt(self.trial(trial_id), trial_store)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder's lock while a run writes to it. Removes files that an earlier run left half written, and
        checkpoints that it did not come to remove.

        Raises:
            StoreError: if another run holds it.
        """
        with lock.hold(self._lock_path):
            sweep(self.root)
            for folder in self.root.glob("trials/*/checkpoints"):
                trial_store = TrialStore(folder.parent)
                if trial_store.answer() is not None:
                    trial_store.checkpoints.discard()
            yield

    def study(self) -> StudySpec:
        """Returns the study as it was last run, with the arms and seeds of earlier runs."""
        return validated(StudySpec, with_former_values(self._manifest()["study"]), self._manifest_path, "a study")

    def origin(self) -> Path | None:
        """Returns the folder that the study was last run from, which its relative paths start from. None where it is
        not known, or is no longer there (the study was copied elsewhere)."""
        relative = self._manifest().get("origin")
        folder = (self.root.resolve() / relative).resolve() if isinstance(relative, str) else None
        return folder if folder is not None and folder.is_dir() else None

    def trial_ids(self) -> list[str]:
        """Returns the ids of the study's trials, in order, without those of its search."""
        return list(self._manifest()["trials"])

    def search_ids(self) -> list[str]:
        """Returns the ids of the trials of the study's search, in the order in which they were tried."""
        return list(self._manifest().get("search_trials", ()))

    def write_search(self, search: dict[str, Any]) -> None:
        """Writes what the search tried, found and chose, for whoever opens the folder; no code reads it back."""
        text = json.dumps(search, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(self.root / "search.json", text, make_folder=False)

    def write_job_trials(self, name: str, trial_ids: list[str]) -> None:
        """Writes which trials the jobs of a name run on a cluster, in the order of their numbers."""
        write_atomically(self._job_path(name), json.dumps(trial_ids, indent=1))

    def job_trials(self, name: str) -> list[str] | None:
        """Returns the ids of the trials that the jobs of a name run; None where that was not written.

        Raises:
            CorruptRecord: if it cannot be read.
        """
        path = self._job_path(name)
        if not path.exists():
            return None
        trial_ids = read_json(path)
        if not isinstance(trial_ids, list):
            raise CorruptRecord(f"{path} is no list of trials", hint=f"Cancel the job (scancel --name={name}).")
        return [str(trial_id) for trial_id in trial_ids]

    def _job_path(self, name: str) -> Path:
        return self.job_folder / f"{name}.json"

    def write_forecast(self, forecast: StudyForecast) -> None:
        """Writes what the study is expected to take."""
        write_atomically(self.root / "forecast.json", forecast.model_dump_json(indent=1), make_folder=False)

    def forecast(self) -> StudyForecast | None:
        """Returns what the study was expected to take, as described in docs/plan.md; None where no forecast was made.

        Raises:
            StoreError: if another version of tuneoff made it.
            CorruptRecord: if it cannot be read.
        """
        path = self.root / "forecast.json"
        if not path.exists():
            return None
        body = read_json(path)
        if isinstance(body, dict):
            body = upgraded_forecast(body)
            check_version(path, "forecast", body.get("forecast_version"), FORECAST_VERSION)
        return validated(StudyForecast, body, path, "a forecast")

    def note_look(self, study: StudySpec, relatives: Iterable[StudyStore] = ()) -> None:
        """Writes down that all that was asked for is there to be looked at, and what relatives were looked at whose
        trials these are."""
        ids, looks = set(self.trial_ids()), self.looks()
        for store in relatives:
            with suppress(StoreError):
                looks += store.looks() if ids & set(store.trial_ids()) else []
        race = study.protocol.race
        look = {
            "seeds": len(study.protocol.seeds) if race is None else None,
            "race": None if race is None else race.model_dump(),
        }
        unique = {json.dumps(entry, sort_keys=True): entry for entry in [*looks, look]}
        write_atomically(self._looks_path, json.dumps(list(unique.values())), make_folder=False)

    def looks(self) -> list[dict[str, Any]]:
        """Returns at how many `seeds` the study has been looked at, or by which `race`; the other is null."""
        with suppress(CorruptRecord, FileNotFoundError):
            return list(read_json(self._looks_path))
        return []

    @property
    def _looks_path(self) -> Path:
        return self.root / "looks.json"

    def write_spent(self, seconds: float) -> None:
        """Writes how long the study's runs with a budget of time have taken."""
        write_atomically(self._budget_path, json.dumps({"spent_seconds": round(seconds, 1)}), make_folder=False)

    def spent_seconds(self) -> float:
        """Returns how long the study's runs with a budget of time have taken; 0 where there was none that tells it."""
        with suppress(CorruptRecord, FileNotFoundError, KeyError, TypeError, ValueError):
            return float(read_json(self._budget_path)["spent_seconds"])
        return 0.0

    @property
    def _budget_path(self) -> Path:
        return self.root / "budget.json"

    def _manifest(self) -> dict[str, Any]:
        body = read_json(self._manifest_path)
        if isinstance(body, dict):
            check_version(self.root, "study", body.get("spec_version", SPEC_VERSION), SPEC_VERSION)
        if not isinstance(body, dict) or not {"study", "trials"} <= body.keys():
            raise CorruptRecord(f"{self._manifest_path} is not a study's manifest", hint=_RERUN_HINT)
        # Older manifests have no checksum.
        manifest = unsealed(self._manifest_path, body, hint=_RERUN_HINT, required=False)
        for ids in (manifest["trials"], manifest.get("search_trials", [])):
            if not isinstance(ids, list) or not all(stays_inside(name) and "/" not in name for name in ids):
                raise CorruptRecord(f"{self._manifest_path} holds a trial's id that is none", hint=_RERUN_HINT)
        return manifest

    def trial(self, trial_id: str) -> TrialStore:
        """Returns one trial's folder, whether it exists yet or not."""
        return TrialStore(self.root / "trials" / trial_id)

    def checkpoints(self) -> dict[str, tuple[KeptCheckpoints, bool]]:
        """Returns what is kept of trainings, also of trials that the study no longer has: trial id -> the checkpoints,
        and whether the trial would continue from them."""
        found = {}
        for trial_store in (TrialStore(folder.parent) for folder in sorted(self.root.glob("trials/*/checkpoints"))):
            if (kept := trial_store.checkpoints.kept()) is not None:
                found[trial_store.folder.name] = kept, trial_store.answer() is None
        return found

    def find_trial(self, reference: str) -> TrialStore:
        """Finds a trial by its id or by the beginning of one.

        Raises:
            StoreError: if no trial or several begin so.
        """
        ids = [*self.trial_ids(), *self.search_ids()]
        matches = [i for i in ids if i == reference] or [i for i in ids if i.startswith(reference)]
        if len(matches) != 1:
            count_text = "no trial" if not matches else f"{len(matches)} trials"
            raise StoreError(
                f"{count_text} of {self.root} begin{'' if matches else 's'} with {reference!r}",
                hint="Trials: " + ", ".join(matches or ids),
            )
        return self.trial(matches[0])

    def records(self) -> list[TrialRecord]:
        """Returns the records that exist, in the study's order, without those of its search.

        A trial of which something is damaged is left out, with a warning (`warnings`) that names it.
        """
        records = []
        for trial_id in self.trial_ids():
            trial_store = self.trial(trial_id)
            try:
                record = trial_store.record()
                if record is not None:
                    trial_store.verify(record, weights=False)
                    records.append(record)
            except CorruptRecord as error:
                warnings.warn(f"trial {trial_id} is left out: {error.message}", stacklevel=2)
        return records


def _configuration(trial: TrialSpec) -> tuple[Any, ...]:
    """Returns what a search may choose of a trial, and its method."""
    return trial.method, trial.options, trial.learning_rate, trial.protocol.searchable
