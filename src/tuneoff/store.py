"""One directory per study, one per trial; the only owner of file names.

    STUDY/
      study.json               the study as it was last run, the ids of its trials, and where it was run from
      search.json              what its search tried, found and chose; made anew from the records
      forecast.json            what it was expected to take, made before its first trial
      lock                     held while a run writes here
      trackers.json            what became of the trackers, and which trials they followed
      trackers/NAME/           a tracker's own files, where it keeps them here
      report/                  made anew from the records at any time
      trials/ID/
        trial.json             the trial's specification
        record.json            its sealed result
        predictions-SPLIT.jsonl
        weights/               what must be kept beside the base model
        events.jsonl           progress, one line each
        log.txt                everything the process printed
        log-rank-N.txt         likewise, of further ranks on several devices
        trackers.json          trackers that were given up before it ended, if any
        attempts/N/            what earlier, unfinished attempts left

All paths inside are relative, so a study can be copied anywhere. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import from_json

from tuneoff import _lock
from tuneoff._files import read_json
from tuneoff._files import write_atomically as write_atomically
from tuneoff.errors import CorruptRecord, RecordExists, StoreError
from tuneoff.events import utc
from tuneoff.forecast import FORECAST_VERSION, StudyForecast
from tuneoff.plan import content_hash, difference, question
from tuneoff.record import RECORD_VERSION, Event, Finding, Prediction, PredictionsInfo, TrialRecord
from tuneoff.search import spaces
from tuneoff.spec import SPEC_VERSION, StudySpec, TrialSpec


class TrialStore:
    """One trial's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

    @property
    def spec_path(self) -> Path:
        return self.folder / "trial.json"

    @property
    def events_path(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def record_path(self) -> Path:
        return self.folder / "record.json"

    def write_spec(self, spec: TrialSpec) -> None:
        """Keeps what is to be run."""
        write_atomically(self.folder / "trial.json", spec.model_dump_json(indent=1))

    def spec(self) -> TrialSpec:
        """What is to be run, or was."""
        try:
            return TrialSpec.model_validate(read_json(self.folder / "trial.json"))
        except ValidationError as error:
            raise CorruptRecord(f"{self.folder / 'trial.json'} is not a trial: {error}") from None

    def begin_attempt(self) -> None:
        """Moves what an unfinished attempt left out of the way, keeping it.

        Raises:
            RecordExists: if the trial is finished.
            StoreError: if the folder cannot be written.
        """
        record = self.record() if self.record_path.exists() else None
        if record is not None and record.status.finished:
            raise RecordExists(f"trial {record.spec.id} is finished; its record is immutable")
        left = [item for item in self.folder.iterdir() if item.name not in {"trial.json", "attempts"}]
        if not left:
            return
        numbers = (item.name for item in (self.folder / "attempts").glob("*"))
        number = 1 + max((int(name) for name in numbers if name.isdigit()), default=0)
        attempt = self.folder / "attempts" / str(number)
        try:
            attempt.mkdir(parents=True)
            for item in left:
                if item.name == "weights" or item.name.startswith("."):
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
                else:
                    os.replace(item, attempt / item.name)
        except OSError as error:
            raise StoreError(f"cannot set aside the earlier attempt in {self.folder}: {error.strerror}") from error

    def write_record(self, record: TrialRecord) -> None:
        """Seals the trial's result.

        Raises:
            RecordExists: if the trial has a record already.
        """
        if self.record_path.exists():
            raise RecordExists(f"trial {record.spec.id} has a record already; records are immutable")
        body = record.model_dump(mode="json")
        sealed = {"sha256": content_hash(body), **body}
        write_atomically(self.record_path, json.dumps(sealed, indent=1, ensure_ascii=False))

    def record(self) -> TrialRecord | None:
        """The trial's result, or None where there is none yet.

        Raises:
            CorruptRecord: if it was changed or damaged since it was written.
        """
        if not self.record_path.exists():
            return None
        body = read_json(self.record_path)
        seal = body.pop("sha256", None) if isinstance(body, dict) else None
        if seal is None or content_hash(body) != seal:
            raise CorruptRecord(
                f"{self.record_path} does not match its checksum",
                hint="It was changed or damaged after it was written. Move the trial's folder away and run "
                "the study again to repeat that trial alone.",
            )
        if body.get("record_version") != RECORD_VERSION:
            raise StoreError(
                f"{self.record_path} has record version {body.get('record_version')}, this tuneoff reads "
                f"{RECORD_VERSION}",
                hint="Install the version of tuneoff that wrote it.",
            )
        try:
            return TrialRecord.model_validate(body)
        except ValidationError as error:
            raise CorruptRecord(f"{self.record_path} is not a record: {error}") from None

    def write_predictions(self, split: str, predictions: Iterable[Prediction]) -> PredictionsInfo:
        """Keeps one line per example; returns what the record says of the file."""
        lines = [prediction.model_dump_json() for prediction in predictions]
        data = "".join(f"{line}\n" for line in lines).encode()
        name = f"predictions-{split}.jsonl"
        write_atomically(self.folder / name, data)
        return PredictionsInfo(file=name, sha256=hashlib.sha256(data).hexdigest(), rows=len(lines))

    def predictions(self, split: str = "test") -> list[Prediction] | None:
        """A split's predictions in row order, or None where none were kept.

        Raises:
            CorruptRecord: if the file does not match the checksum in the record.
        """
        rows = self.prediction_rows(split)
        return None if rows is None else [Prediction.model_validate(row) for row in rows]

    def prediction_rows(self, split: str = "test") -> list[dict[str, Any]] | None:
        """The same as plain data, which a report of many trials reads several times faster.

        Raises:
            CorruptRecord: likewise.
        """
        record = self.record()
        info = record.predictions.get(split) if record else None
        if info is None:
            return None
        path = self.folder / info.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptRecord(f"{path} cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != info.sha256:
            raise CorruptRecord(f"{path} does not match the checksum in its record")
        # A line break stands in JSON only as an escape, so the lines are a list but for its commas.
        rows: list[dict[str, Any]] = from_json(b"[" + b",".join(data.splitlines()) + b"]")
        return rows

    def append_event(self, event: Event) -> None:
        """Adds one progress line with the time, in one piece: threads may write at once. Progress that cannot be
        written is lost, never the trial."""
        line = json.dumps({**event, "time": utc()}) + "\n"
        with suppress(OSError):
            handle = os.open(self.events_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Whole lines from a byte offset on, and the offset after them."""
        try:
            with self.events_path.open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], 0
        end = data.rfind(b"\n") + 1
        events = []
        for line in data[:end].splitlines():
            # A line torn by a full disk is lost; the others count.
            with suppress(ValueError):
                if isinstance(event := json.loads(line), dict):
                    events.append(event)
        return events, offset + end

    @property
    def attempts(self) -> int:
        """How many earlier attempts did not come to their end."""
        return sum(item.name.isdigit() for item in (self.folder / "attempts").glob("*"))

    def write_tracker_failures(self, failures: Mapping[str, str]) -> None:
        """Leaves word of trackers that were given up, name -> why, for the record. A word that cannot be written is
        lost, never the trial."""
        with suppress(StoreError):
            write_atomically(self.folder / "trackers.json", json.dumps(failures))

    def tracker_findings(self) -> tuple[Finding, ...]:
        """A finding for each tracker that was given up before this trial ended."""
        with suppress(StoreError):
            return tuple(_tracker_failed(*item) for item in read_json(self.folder / "trackers.json").items())
        return ()

    def rank_log(self, rank: int) -> Path:
        """What one process of a trial on several devices printed."""
        return self.folder / f"log-rank-{rank}.txt" if rank else self.log_path

    def log_tail(self, lines: int = 12, rank: int = 0) -> tuple[str, ...]:
        """The last lines the trial's process printed, or that one of its ranks."""
        path = self.rank_log(rank)
        if not path.exists():
            return ()
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16384))
            text = file.read().decode("utf-8", "replace")
        kept = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
        return tuple([line for line in kept if line][-lines:])


class StudyStore:
    """One study's folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def report_folder(self) -> Path:
        return self.root / "report"

    @property
    def is_there(self) -> bool:
        """Whether the folder holds a study."""
        return (self.root / "study.json").is_file()

    @classmethod
    def open(cls, root: Path | str) -> StudyStore:
        """A folder that holds a study.

        Raises:
            StoreError: if it does not.
        """
        store = cls(Path(root))
        if not store.is_there:
            what = "is not a study folder (no study.json)" if store.root.is_dir() else "is not there"
            raise StoreError(f"{root} {what}", hint="Name the folder that `tuneoff run` printed.")
        return store

    @classmethod
    def create(cls, root: Path | str, study: StudySpec, trials: list[TrialSpec]) -> StudyStore:
        """Makes a study's folder, or adds trials to one that asks the same question.

        In a study with a search a row has one configuration: trials of another one, which an earlier and shorter
        search had chosen, are no longer trials of the study. Their folders stay.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        store = cls(Path(root))
        path = store.root / "study.json"
        verdict = [trial.id for trial in trials if trial.purpose == "verdict"]
        searched = [trial.id for trial in trials if trial.purpose == "search"]
        store.check(study)
        if store.is_there:
            before = store.study()
            study = study.model_copy(
                update={
                    "methods": {**before.methods, **study.methods},
                    "protocol": study.protocol.model_copy(
                        update={"seeds": tuple(sorted({*before.protocol.seeds, *study.protocol.seeds}))}
                    ),
                }
            )
            verdict = store._merged(study, trials)
            searched = list(dict.fromkeys([*store.search_ids(), *searched]))
        for trial in trials:
            place = store.trial(trial.id)
            if not (place.folder / "trial.json").exists():
                place.write_spec(trial)
        body = {"spec_version": SPEC_VERSION, "study": study.model_dump(mode="json"), "trials": verdict}
        if searched:
            body["search_trials"] = searched
        with suppress(OSError, ValueError):  # another drive has no relative path, a folder that is gone no path at all
            body["origin"] = Path(os.path.relpath(Path.cwd(), store.root.resolve())).as_posix()
        write_atomically(path, json.dumps(body, indent=1, ensure_ascii=False))
        return store

    def _merged(self, study: StudySpec, trials: list[TrialSpec]) -> list[str]:
        """Ids of the trials so far and of new ones, without those of a configuration that the search chose no more."""
        verdict = {trial.id: trial for trial in trials if trial.purpose == "verdict"}
        if study.protocol.search is None:
            return list(dict.fromkeys([*self.trial_ids(), *verdict]))
        chosen = {trial.label: trial for trial in verdict.values()}
        kept = []
        for spec in (self.trial(trial_id).spec() for trial_id in self.trial_ids() if trial_id not in verdict):
            now = chosen.get(spec.label, spec)
            if (now.method, now.options, now.learning_rate) == (spec.method, spec.options, spec.learning_rate):
                kept.append(spec.id)
        return [*kept, *verdict]

    def check(self, study: StudySpec) -> None:
        """Whether a study may be kept here; changes nothing.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        if self.is_there:
            before = self.study()
            if question(before) != question(study):
                raise StoreError(
                    f"{self.root} holds a study that asks something else ({difference(before, study)})",
                    hint="Name another folder with --out: results of different questions are never mixed.",
                )
            _refuse_unequal(self.root, before, study)
        elif self.root.is_dir() and any(item.name != "lock" for item in self.root.iterdir()):
            raise StoreError(f"{self.root} is not empty and not a study", hint="Name another folder with --out.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a run writes to this folder.

        Raises:
            StoreError: if another run holds it.
        """
        with _lock.hold(self._lock_path):
            yield

    def running_since(self) -> float | None:
        """When the run that writes to this folder now began, in seconds since 1970; None where there is none."""
        if not _lock.is_held(self._lock_path):
            return None
        with suppress(FileNotFoundError):
            return self._lock_path.stat().st_mtime
        return None

    @property
    def _lock_path(self) -> Path:
        return self.root / "lock"

    def study(self) -> StudySpec:
        """The study as it was last run, with the rows and seeds of earlier runs."""
        try:
            return StudySpec.model_validate(self._manifest()["study"])
        except ValidationError as error:
            raise CorruptRecord(f"{self.root / 'study.json'} is not a study: {error}") from None

    def origin(self) -> Path | None:
        """The folder that the study was last run from: its relative paths are meant from there. None where that is not
        known, or is not there any more (the study was copied elsewhere)."""
        told = self._manifest().get("origin")
        place = (self.root.resolve() / told).resolve() if isinstance(told, str) else None
        return place if place is not None and place.is_dir() else None

    def trial_ids(self) -> list[str]:
        """The ids of the study's trials, in order; those of its search are apart."""
        return list(self._manifest()["trials"])

    def search_ids(self) -> list[str]:
        """The ids of the trials of the study's search, in the order in which they were tried."""
        return list(self._manifest().get("search_trials", ()))

    def write_search(self, found: dict[str, Any]) -> None:
        """Keeps what the search tried, found and chose."""
        write_atomically(self.root / "search.json", json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False))

    def search(self) -> dict[str, Any] | None:
        """What the search tried, found and chose, as described in docs/protocol.md; None where there was none.

        Raises:
            CorruptRecord: if it cannot be read.
        """
        path = self.root / "search.json"
        found: dict[str, Any] | None = read_json(path) if path.exists() else None
        return found

    def write_forecast(self, forecast: StudyForecast) -> None:
        """Keeps what the study is expected to take."""
        write_atomically(self.root / "forecast.json", forecast.model_dump_json(indent=1))

    def forecast(self) -> StudyForecast | None:
        """What the study was expected to take, as described in docs/plan.md; None where no forecast was made.

        Raises:
            StoreError: if another version of tuneoff made it.
            CorruptRecord: if it cannot be read.
        """
        path = self.root / "forecast.json"
        if not path.exists():
            return None
        body = read_json(path)
        if isinstance(body, dict) and body.get("forecast_version") != FORECAST_VERSION:
            raise StoreError(
                f"{path} has forecast version {body.get('forecast_version')}, this tuneoff reads {FORECAST_VERSION}"
            )
        try:
            return StudyForecast.model_validate(body)
        except ValidationError as error:
            raise CorruptRecord(f"{path} is not a forecast: {error}") from None

    def tracker_folder(self, name: str) -> Path:
        """Where a tracker keeps its own files."""
        return self.root / "trackers" / name

    def write_tracked(self, key: str, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps what became of the trackers of a run, beside those of earlier runs; docs/trackers.md says what."""
        body = {"trackers_version": 1, "key": key, "trackers": {**self._tracked().get("trackers", {}), **found}}
        write_atomically(self.root / "trackers.json", json.dumps(body, indent=1, ensure_ascii=False))

    def tracked(self) -> tuple[str, dict[str, dict[str, int]]]:
        """A word that names this folder wherever it lies, and tracker -> trial -> the attempt that it followed."""
        body = self._tracked()
        trials = {name: dict(found["trials"]) for name, found in body.get("trackers", {}).items()}
        return body.get("key") or uuid4().hex, trials

    def tracker_findings(self) -> tuple[Finding, ...]:
        """A finding for each tracker that was given up in the last run that it was asked to follow."""
        found = self._tracked().get("trackers", {})
        return tuple(_tracker_failed(name, it["reason"]) for name, it in found.items() if it["reason"])

    def _tracked(self) -> dict[str, Any]:
        """What is known of trackers. Bookkeeping of theirs that is damaged is lost, never the study."""
        with suppress(StoreError):
            body = read_json(self.root / "trackers.json")
            if isinstance(body, dict):
                return body
        return {}

    def _manifest(self) -> dict[str, Any]:
        body = read_json(self.root / "study.json")
        if isinstance(body, dict) and body.get("spec_version", SPEC_VERSION) != SPEC_VERSION:
            raise StoreError(
                f"{self.root} has study version {body['spec_version']}, this tuneoff reads {SPEC_VERSION}",
                hint="Install the version of tuneoff that wrote it.",
            )
        if not isinstance(body, dict) or not {"study", "trials"} <= body.keys():
            raise CorruptRecord(f"{self.root / 'study.json'} is not a study's manifest")
        return body

    def trial(self, trial_id: str) -> TrialStore:
        """One trial's folder, whether it is there yet or not."""
        return TrialStore(self.root / "trials" / trial_id)

    def find_trial(self, reference: str) -> TrialStore:
        """A trial by its id or by the beginning of one.

        Raises:
            StoreError: if none or several begin so.
        """
        ids = [*self.trial_ids(), *self.search_ids()]
        found = [i for i in ids if i == reference] or [i for i in ids if i.startswith(reference)]
        if len(found) != 1:
            what = "no trial" if not found else f"{len(found)} trials"
            raise StoreError(
                f"{what} of {self.root} begin with {reference!r}",
                hint="Trials: " + ", ".join(found or ids),
            )
        return self.trial(found[0])

    def records(self) -> list[TrialRecord]:
        """The records there are, in the study's order; not those of its search."""
        records = (self.trial(trial_id).record() for trial_id in self.trial_ids())
        return [record for record in records if record is not None]


def _refuse_unequal(root: Path, before: StudySpec, study: StudySpec) -> None:
    """More search trials for some rows alone would make the search unequal.

    Raises:
        StoreError: if they would.
    """
    asked, had = study.protocol.search, before.protocol.search
    others = [label for label in spaces(before) if label not in study.methods]
    if asked is not None and had is not None and asked.trials != had.trials and others:
        raise StoreError(
            f"the search of {root} gave every row {had.trials} trials; {asked.trials} for some rows alone would not be "
            "equal",
            hint=f"Run all rows with that number, {', '.join(others)} too, or name another folder with --out.",
        )


def _tracker_failed(name: str, reason: str) -> Finding:
    message = f"the tracker {name} was given up: {reason}; what was measured does not depend on it"
    return Finding(name="tracker_failed", message=message)
