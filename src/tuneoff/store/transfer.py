"""A trial's files taken over by another folder of the same trial, on this machine or another."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tuneoff.errors import CorruptRecord, RecordExists, StoreError
from tuneoff.files import stays_inside
from tuneoff.store.files import link, write_atomically
from tuneoff.store.trial import CHECKPOINTS, TrialStore


def adopt(trial: TrialStore, other: TrialStore) -> None:
    """Takes over a finished trial of another folder, the same one by its id. Files are linked, so that weights take
    no space twice; where they cannot be linked, they are copied.

    Raises:
        RecordExists: if the one that takes over is finished.
        StoreError: if the folder cannot be written.
    """
    trial.begin_attempt()
    names = [item.name for item in _items(other)]
    # The record comes last: until it is there, a run begins the trial anew.
    names.sort(key=lambda name: name == trial.record_path.name)
    try:
        for name in names:
            if (source := other.folder / name).is_dir():
                shutil.copytree(source, trial.folder / name, copy_function=link)
            else:
                link(source, trial.folder / name)
    except OSError as error:
        raise StoreError(f"cannot take over {other.folder}: {error.strerror or error}") from error


def trial_files(trial: TrialStore) -> list[tuple[str, bytes]]:
    """Returns what a trial left, for another folder to `receive`: path within the folder and content, the record
    last. Its specification, checkpoints and earlier attempts are left out."""
    names = [
        path.relative_to(trial.folder).as_posix()
        for item in _items(trial)
        for path in (sorted(item.rglob("*")) if item.is_dir() else [item])
        if path.is_file()
    ]
    names.sort(key=lambda name: name == trial.record_path.name)
    return [(name, (trial.folder / name).read_bytes()) for name in names]


def _items(trial: TrialStore) -> list[Path]:
    """Returns what is taken over of a trial's folder, in order of the names."""
    left_out = {"trial.json", "attempts", CHECKPOINTS}
    # What begins with a dot is still being written.
    return [
        item for item in sorted(trial.folder.iterdir()) if item.name not in left_out and not item.name.startswith(".")
    ]


def receive(trial: TrialStore, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes what the same trial left in another folder, as `trial_files` returned it there.

    Raises:
        RecordExists: if the trial has a record already.
        CorruptRecord: if a name leads out of the folder, or there is no whole record of this trial among them. The
            files are set aside then, as of an unfinished attempt.
        StoreError: if the folder cannot be written.
    """
    if trial.record_path.exists():
        raise RecordExists(f"trial {trial.folder.name} has a record already; records are immutable")
    try:
        for name, data in files:
            if not stays_inside(name):
                raise CorruptRecord(f"a file of trial {trial.folder.name} has the name {name!r}")
            write_atomically(trial.folder / name, data)
        record = trial.record()
        if record is None:
            raise CorruptRecord(f"no record of trial {trial.folder.name} came with its files")
        trial.verify(record)
    except CorruptRecord:
        trial.begin_attempt()
        raise
    if record.status.is_answer:
        trial.checkpoints.discard()
