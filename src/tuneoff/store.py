"""One directory per study, one per trial; the only owner of file names.

    STUDY/
      study.json               the study as it was last run, and the ids of its trials
      lock                     held while a run writes here
      report/                  made anew from the records at any time
      trials/ID/
        trial.json             the trial's specification
        record.json            its sealed result
        predictions-SPLIT.jsonl
        weights/               what must be kept beside the base model
        events.jsonl           progress, one line each
        log.txt                everything the process printed
        attempts/N/            what earlier, unfinished attempts left

All paths inside are relative, so a study can be copied anywhere. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tuneoff.errors import CorruptRecord, RecordExists, StoreError
from tuneoff.plan import content_hash, question
from tuneoff.record import RECORD_VERSION, Event, Prediction, PredictionsInfo, TrialRecord
from tuneoff.spec import SPEC_VERSION, StudySpec, TrialSpec


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a file so that it is there whole, on disk, or not at all.

    Raises:
        StoreError: when the disk is full or the folder cannot be written; nothing else is lost.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder with --out, then run the same command again: "
            "finished trials are kept.",
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise CorruptRecord(f"{path} cannot be read: {error}") from None


class TrialStore:
    """One trial's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def log_path(self) -> Path:
        return self.folder / "log.txt"

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
            return TrialSpec.model_validate(_read_json(self.folder / "trial.json"))
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
        body = _read_json(self.record_path)
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
        return [Prediction.model_validate_json(line) for line in data.splitlines()]

    def append_event(self, event: Event) -> None:
        """Adds one progress line. Progress that cannot be written is lost, never the trial."""
        try:
            with self.events_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError:
            pass

    def events(self, offset: int = 0) -> tuple[list[Event], int]:
        """Whole lines from a byte offset on, and the offset after them."""
        if not self.events_path.exists():
            return [], 0
        with self.events_path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        events = []
        for line in data[:end].splitlines():
            # A line torn by a full disk is lost; the others count.
            with suppress(ValueError):
                events.append(json.loads(line))
        return events, offset + end

    def log_tail(self, lines: int = 12) -> tuple[str, ...]:
        """The last lines the trial's process printed."""
        if not self.log_path.exists():
            return ()
        with self.log_path.open("rb") as file:
            file.seek(max(0, self.log_path.stat().st_size - 16384))
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

    @classmethod
    def open(cls, root: Path | str) -> StudyStore:
        """A folder that holds a study.

        Raises:
            StoreError: if it does not.
        """
        store = cls(Path(root))
        if not (store.root / "study.json").is_file():
            what = "is not a study folder (no study.json)" if store.root.is_dir() else "is not there"
            raise StoreError(f"{root} {what}", hint="Name the folder that `tuneoff run` printed.")
        return store

    @classmethod
    def create(cls, root: Path | str, study: StudySpec, trials: list[TrialSpec]) -> StudyStore:
        """Makes a study's folder, or adds trials to one that asks the same question.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        store = cls(Path(root))
        path = store.root / "study.json"
        ids = [trial.id for trial in trials]
        store.check(study)
        if path.exists():
            before = store.study()
            study = study.model_copy(
                update={
                    "methods": {**before.methods, **study.methods},
                    "protocol": study.protocol.model_copy(
                        update={"seeds": tuple(sorted({*before.protocol.seeds, *study.protocol.seeds}))}
                    ),
                }
            )
            ids = list(dict.fromkeys([*store.trial_ids(), *ids]))
        for trial in trials:
            place = store.trial(trial.id)
            if not (place.folder / "trial.json").exists():
                place.write_spec(trial)
        body = {"spec_version": SPEC_VERSION, "study": study.model_dump(mode="json"), "trials": ids}
        write_atomically(path, json.dumps(body, indent=1, ensure_ascii=False))
        return store

    def check(self, study: StudySpec) -> None:
        """Whether a study may be kept here; changes nothing.

        Raises:
            StoreError: if the folder holds another question, or something else.
        """
        if (self.root / "study.json").exists():
            before = self.study()
            if question(before) != question(study):
                raise StoreError(
                    f"{self.root} holds a study that asks something else ({_difference(before, study)})",
                    hint="Name another folder with --out: results of different questions are never mixed.",
                )
        elif self.root.is_dir() and any(item.name != "lock" for item in self.root.iterdir()):
            raise StoreError(f"{self.root} is not empty and not a study", hint="Name another folder with --out.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a run writes to this folder.

        Raises:
            StoreError: if another run holds it.
        """
        lock = FileLock(self.root / "lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another run is writing to {self.root}", hint="Wait for it, or name another folder with --out."
            ) from None
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.root}: {error.strerror or error}", hint="Name another folder with --out."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def study(self) -> StudySpec:
        """The study as it was last run, with the rows and seeds of earlier runs."""
        try:
            return StudySpec.model_validate(self._manifest()["study"])
        except ValidationError as error:
            raise CorruptRecord(f"{self.root / 'study.json'} is not a study: {error}") from None

    def trial_ids(self) -> list[str]:
        """The ids of the study's trials, in order."""
        return list(self._manifest()["trials"])

    def _manifest(self) -> dict[str, Any]:
        body = _read_json(self.root / "study.json")
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
        ids = self.trial_ids()
        found = [i for i in ids if i == reference] or [i for i in ids if i.startswith(reference)]
        if len(found) != 1:
            what = "no trial" if not found else f"{len(found)} trials"
            raise StoreError(
                f"{what} of {self.root} begin with {reference!r}",
                hint="Trials: " + ", ".join(found or ids),
            )
        return self.trial(found[0])

    def records(self) -> list[TrialRecord]:
        """The records there are, in the study's order."""
        records = (self.trial(trial_id).record() for trial_id in self.trial_ids())
        return [record for record in records if record is not None]


def _difference(before: StudySpec, after: StudySpec) -> str:
    """Names the first few keys in which two studies' questions differ."""
    old, new = _flat(question(before)), _flat(question(after))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    shown = [f"{key}: {old.get(key)} there, {new.get(key)} here" for key in keys[:3]]
    return "; ".join(shown) + ("; …" if len(keys) > 3 else "")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        flat: dict[str, Any] = {}
        for key, item in value.items():
            flat |= _flat(item, f"{path}.{key}" if path else str(key))
        return flat
    return {path: value}
