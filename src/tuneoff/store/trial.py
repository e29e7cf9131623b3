"""One trial's folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import CorruptRecord, RecordExists, StoreError
from tuneoff.files import stays_inside
from tuneoff.planning.plan import trial_id
from tuneoff.records.record import (
    RECORD_VERSION,
    Finding,
    Prediction,
    PredictionsInfo,
    Status,
    TrialRecord,
)
from tuneoff.records.served import Reply, Served
from tuneoff.records.upgrades import upgraded_record, upgraded_spec
from tuneoff.store.checkpoints import Checkpoints
from tuneoff.store.deployability import DeployabilityFile
from tuneoff.store.files import (
    DAMAGED,
    check_version,
    checksum,
    link,
    read_json,
    sealed,
    unsealed,
    validated,
    write_atomically,
)
from tuneoff.store.folder import MEMBERS, SERIES_FILE
from tuneoff.store.replies import Replies
from tuneoff.store.trackers import given_up
from tuneoff.store.trial_log import TrialLog

CHECKPOINTS = "checkpoints"
"""Folder of what a training continues from, which outlives the attempt that wrote it."""
REPLIES = "replies.jsonl"
"""File of what a served model said, which outlives every attempt: each reply was paid for."""


def difference(first: TrialRecord, second: TrialRecord) -> str:
    """Describes in what two records of one trial differ: rows, base weights, scores or predictions; empty where they
    agree. What they cost may differ."""
    if first.contents != second.contents:
        return "other rows or base weights"
    for metric, other in zip(first.metrics, second.metrics, strict=False):
        if metric != other:
            return f"{metric.split} {metric.name} {metric.value:.6g} here, {other.value:.6g}"
    sums = [{split: info.sha256 for split, info in record.predictions.items()} for record in (first, second)]
    return "other predictions" if sums[0] != sums[1] else ""


class TrialStore(TrialLog):
    """One trial's folder."""

    @property
    def spec_path(self) -> Path:
        return self.folder / "trial.json"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    @property
    def record_path(self) -> Path:
        return self.folder / "record.json"

    @property
    def checkpoints(self) -> Checkpoints:
        """Returns what its training continues from, should its process end before it is finished."""
        return Checkpoints(self.folder / CHECKPOINTS)

    @property
    def replies(self) -> Replies:
        """Returns what a served model said to this trial's requests."""
        return Replies(self.folder / REPLIES)

    def replies_of_others(self) -> dict[str, Reply]:
        """Returns request -> reply, of what other trials of the study were told and, where the study is a member of a
        series, those of all members."""
        folder = self.folder.resolve()
        trials, members = folder.parent, folder.parent.parent.parent
        in_series = members.name == MEMBERS and (members.parent / SERIES_FILE).is_file()
        paths = members.glob(f"*/{trials.name}/*/{REPLIES}") if in_series else trials.glob(f"*/{REPLIES}")
        others = (path for path in paths if path.parent != folder)
        return {key: reply for path in sorted(others) for key, reply in Replies(path).read().items()}

    @property
    def deployability(self) -> DeployabilityFile:
        """Returns what is kept of the forms in which its trained model was measured again."""
        return DeployabilityFile(self.folder)

    def write_spec(self, spec: TrialSpec) -> None:
        """Writes what is to be run, in place of what was there before."""
        with suppress(CorruptRecord):
            if self.spec() == spec:
                return
        write_atomically(self.spec_path, spec.model_dump_json(indent=1))

    def spec(self) -> TrialSpec:
        """Reads what is to be run, or was.

        Raises:
            CorruptRecord: if it is missing, or not what the folder's name was made of.
        """
        spec = validated(TrialSpec, upgraded_spec(read_json(self.spec_path)), self.spec_path, "a trial")
        self._check_identity(spec, self.spec_path)
        return spec

    def _check_identity(self, spec: TrialSpec, path: Path) -> None:
        """Refuses the specification of another trial, and one that was changed after the trial got its id."""
        if spec.id != self.folder.name:
            raise CorruptRecord(f"{path} belongs to another trial, {spec.id}", hint=DAMAGED)
        if spec.fingerprints is not None and trial_id(spec) != spec.id:
            raise CorruptRecord(f"{path} was changed: what it asks for is not what {spec.id} was made of", hint=DAMAGED)

    def begin_attempt(self, *, again: bool = False) -> None:
        """Moves the files of an unfinished attempt to `attempts/`, where they are kept. Checkpoints stay, so that the
        next attempt continues from them, and so do replies of a served model; of a finished attempt in a file of their
        own, because its record tells of the file as it was.

        Args:
            again: move the files of a finished attempt too, weights included, so that the trial runs once more from its
                beginning.

        Raises:
            RecordExists: if the trial is finished and nothing of it is damaged.
            StoreError: if the folder cannot be written.
        """
        record = self.finished_record()
        if record is not None and not again:
            raise RecordExists(f"trial {record.spec.id} is finished; its record is immutable")
        if again:
            self.checkpoints.discard()
        items = self.folder.iterdir() if self.folder.is_dir() else ()
        kept = {"trial.json", "attempts", CHECKPOINTS, REPLIES}
        leftovers = [item for item in items if item.name not in kept]
        if not leftovers:
            return
        try:
            attempt = self._new_attempt()
            for item in leftovers:
                if (item.name == "weights" and not again) or item.name.startswith("."):
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
                else:
                    os.replace(item, attempt / item.name)
            if again and self.replies.path.is_file():
                link(self.replies.path, attempt / REPLIES)
                write_atomically(self.replies.path, self.replies.path.read_bytes())
        except OSError as error:
            raise StoreError(f"cannot set aside the earlier attempt in {self.folder}: {error.strerror}") from error

    def discard_scratch(self) -> None:
        """Removes what a process that has ended was still writing."""
        for item in self.folder.glob(".*"):
            if item.is_dir():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)

    def write_record(self, record: TrialRecord) -> None:
        """Writes the trial's result with its checksum; it never changes afterwards. A trial that is finished, or that
        diverged and would do so again, needs no checkpoints any more.

        Where a trial was run twice at the same time, as by a node that was taken for dead, the first result stays. A
        second one is kept in `attempts/`.

        Raises:
            RecordExists: if the trial has a record already.
        """
        document = sealed(record.model_dump(mode="json"))
        try:
            write_atomically(self.record_path, document, make_folder=False, exclusive=True)
        except FileExistsError:
            self._keep_second(record, document)
            raise RecordExists(f"trial {record.spec.id} has a record already; records are immutable") from None
        if record.status.is_answer:
            self.checkpoints.discard()

    def _keep_second(self, record: TrialRecord, document: str) -> None:
        """Keeps the second result of a trial aside, if there is room for it, and notes in what it differs from the
        first."""
        try:
            kept = self._new_attempt() / self.record_path.name
            write_atomically(kept, document)
            first = self.record()
        except (OSError, StoreError):
            return
        misfit = difference(first, record) if first is not None else ""
        message = f"it was run twice at once; the second result, {kept.relative_to(self.folder)}, "
        message += f"differs: {misfit}" if misfit else "is the same"
        self.append_event({"kind": "finding", "name": "second_result", "message": message})

    def _new_attempt(self) -> Path:
        """Makes the folder of the next attempt that is set aside."""
        while True:
            numbers = (item.name for item in (self.folder / "attempts").glob("*"))
            number = 1 + max((int(name) for name in numbers if name.isdigit()), default=0)
            folder = self.folder / "attempts" / str(number)
            with suppress(FileExistsError):  # another process has just made it
                folder.mkdir(parents=True)
                return folder

    def record(self) -> TrialRecord | None:
        """Reads the trial's result; None where there is none yet.

        Raises:
            CorruptRecord: if it was changed or damaged since it was written, or belongs to another trial.
        """
        if not self.record_path.exists():
            return None
        hint = f"It was changed or damaged after it was written. {DAMAGED}"
        body = upgraded_record(unsealed(self.record_path, read_json(self.record_path), hint=hint))
        check_version(self.record_path, "record", body.get("record_version"), RECORD_VERSION)
        record = validated(TrialRecord, body, self.record_path, "a record")
        self._check_identity(record.spec, self.record_path)
        return record

    def verify(self, record: TrialRecord, *, weights: bool = True) -> None:
        """Checks what the record refers to: the trial's specification, and the files that were kept.

        Args:
            record: this trial's record.
            weights: whether to check the trained weights too, which may be large. A folder of weights that was removed
                as a whole is no damage.

        Raises:
            CorruptRecord: names the first file that has changed.
        """
        excluded = {"execution", "halved_batches", "times_inference", "fingerprints", "contents"}
        if self.spec().model_dump(exclude=excluded) != record.spec.model_dump(exclude=excluded):
            raise CorruptRecord(f"{self.spec_path} does not ask for what its record tells of", hint=DAMAGED)
        for info in record.predictions.values():
            self._check_file(self.folder, info.file, info.sha256)
        if record.served is not None:
            self._check_file(self.folder, record.served.file, record.served.sha256)
        if weights and self.weights.is_dir():
            for name, sha256 in (record.kept_files or {}).items():
                self._check_file(self.weights, name, sha256)

    def _check_file(self, folder: Path, name: str, sha256: str) -> Path:
        """Returns a file that the record names, checked."""
        if not stays_inside(name):
            raise CorruptRecord(f"{self.record_path} names the file {name!r}, which is not the trial's", hint=DAMAGED)
        path = folder / name
        if checksum(path) != sha256:
            raise CorruptRecord(f"{path} does not match the checksum in its record", hint=DAMAGED)
        return path

    def damage(self) -> str:
        """Describes what is damaged of the trial's result or a file that it refers to; empty where nothing is."""
        try:
            record = self.record()
            if record is not None:
                self.verify(record)
        except CorruptRecord as error:
            return error.message
        return ""

    def intact_record(self) -> TrialRecord | None:
        """Returns the trial's result; None also where it, or a file that it refers to, is damaged and must be made
        again."""
        try:
            record = self.record()
            if record is not None:
                self.verify(record)
            return record
        except CorruptRecord:
            return None

    def finished_record(self) -> TrialRecord | None:
        """Returns the trial's result where it is finished and undamaged, so that the trial need not be run; else
        None."""
        record = self.intact_record()
        return record if record is not None and record.status.finished else None

    def answer(self) -> TrialRecord | None:
        """Returns the trial's result where it is undamaged and one that a re-run keeps; else None."""
        record = self.intact_record()
        return record if record is not None and record.status.is_answer else None

    def has_failed_before(self) -> bool:
        """Tells whether an earlier attempt, which was set aside to run the trial again, had ended without a score."""
        for path in (self.folder / "attempts").glob(f"*/{self.record_path.name}"):
            with suppress(StoreError):
                status = upgraded_record(unsealed(path, read_json(path), hint=DAMAGED)).get("status")
                if status not in {Status.COMPLETED, Status.CANCELLED}:
                    return True
        return False

    def weight_checksums(self) -> dict[str, str]:
        """Returns the files of the trained weights, by their paths in `weights/`, with their SHA-256."""
        files = (path for path in sorted(self.weights.rglob("*")) if path.is_file())
        return {path.relative_to(self.weights).as_posix(): checksum(path) for path in files}

    def write_predictions(self, split: str, predictions: Iterable[Prediction]) -> PredictionsInfo:
        """Writes one line per example; returns what the record says of the file. `split` is part of its name."""
        lines = [prediction.model_dump_json() for prediction in predictions]
        data = "".join(f"{line}\n" for line in lines).encode()
        name = f"predictions-{split}.jsonl"
        write_atomically(self.folder / name, data, make_folder=False)
        return PredictionsInfo(file=name, sha256=hashlib.sha256(data).hexdigest(), rows=len(lines))

    def described(self, served: Served) -> Served:
        """Returns what was asked of a served model with the file of its replies."""
        return served.model_copy(update={"file": REPLIES, "sha256": checksum(self.folder / REPLIES)})

    def predictions(self, split: str = "test") -> list[Prediction] | None:
        """Reads a split's predictions in row order; None where none were kept.

        Raises:
            CorruptRecord: if the file does not match the checksum in the record.
        """
        rows = self.prediction_rows(split)
        return None if rows is None else [Prediction.model_validate(row) for row in rows]

    def prediction_rows(self, split: str = "test", record: TrialRecord | None = None) -> list[dict[str, Any]] | None:
        """Reads the same as plain data, which is several times faster for a report of many trials.

        Args:
            split: whose.
            record: the trial's, where it was read already.

        Raises:
            CorruptRecord: likewise.
        """
        record = record or self.record()
        info = record.predictions.get(split) if record else None
        return None if info is None else self.rows_of(info)

    def rows_of(self, info: PredictionsInfo) -> list[dict[str, Any]]:
        """Reads a file of predictions as plain data, in row order.

        Raises:
            CorruptRecord: if it does not match its checksum.
        """
        data = self._check_file(self.folder, info.file, info.sha256).read_bytes()
        # JSON escapes line breaks, so the lines joined with commas are one list.
        rows: list[dict[str, Any]] = from_json(b"[" + b",".join(data.splitlines()) + b"]")
        return rows

    @property
    def attempts(self) -> int:
        """Counts the earlier attempts that did not finish."""
        return sum(item.name.isdigit() for item in (self.folder / "attempts").glob("*"))

    def write_tracker_failures(self, failures: Mapping[str, str]) -> None:
        """Writes which trackers were given up, name -> why, for the record. If this cannot be written it is lost, never
        the trial."""
        with suppress(StoreError):
            write_atomically(self.folder / "trackers.json", json.dumps(failures), make_folder=False)

    def tracker_findings(self) -> tuple[Finding, ...]:
        """Returns a finding for each tracker that was given up before this trial ended."""
        with suppress(StoreError):
            return tuple(given_up(*item) for item in read_json(self.folder / "trackers.json").items())
        return ()
