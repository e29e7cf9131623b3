"""A trial's checkpoints: what its training needs to continue after its process has ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.store.files import (
    DAMAGED,
    check_version,
    checksum,
    give_usual_modes,
    read_json,
    sealed,
    unsealed,
    validated,
)

CHECKPOINT_VERSION = 1
KEPT = 2
"""Checkpoints that are kept: if the newest is damaged, the one before is used."""
MANIFEST = "manifest.json"
TRIALS = "trials at once"
"""Figure of the identity that names the trials which are trained in one process, in order."""


class Manifest(Frozen):
    """What a checkpoint holds.

    Attributes:
        identity: what must be the same where it is used: figure -> its value.
        step: optimizer steps done.
        files: file -> its SHA-256.
    """

    checkpoint_version: int = CHECKPOINT_VERSION
    identity: dict[str, str]
    step: int = Field(ge=0)
    files: dict[str, str]


class StoredCheckpoint:
    """One checkpoint in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def number(self) -> int:
        """Returns its number; the newest has the greatest."""
        return int(self.folder.name)

    def manifest(self) -> Manifest:
        """Reads the manifest.

        Raises:
            CorruptRecord: if it is missing, or not what was written.
            StoreError: if another version of tuneoff wrote it.
        """
        path = self.folder / MANIFEST
        body = unsealed(path, read_json(path))
        check_version(path, "checkpoint", body.get("checkpoint_version"), CHECKPOINT_VERSION)
        return validated(Manifest, body, path, "a checkpoint's manifest")

    def verify(self) -> None:
        """Checks that the files are those that were written, no more and no less.

        Raises:
            CorruptRecord: names the first one that is not.
            StoreError: if another version of tuneoff wrote the checkpoint.
        """
        files = self.manifest().files
        present = {path.relative_to(self.folder).as_posix() for path in _files(self.folder)} - {MANIFEST}
        for name in sorted(files.keys() | present):
            path = self.folder / name
            if name not in present:
                raise CorruptRecord(f"{path} is missing", hint=DAMAGED)
            if name not in files or checksum(path) != files[name]:
                raise CorruptRecord(f"{path} does not match the checksum in {MANIFEST}", hint=DAMAGED)


@dataclass(frozen=True)
class KeptCheckpoints:
    """What is kept of a training.

    Attributes:
        step: optimizer steps of the newest checkpoint; None where it cannot be read.
        files, bytes: of all checkpoints; a file that has several names counts once.
    """

    step: int | None
    files: int
    bytes: int


class Checkpoints:
    """The checkpoints of one trial, each in a folder that is there whole or not at all, numbered from 1.

    Args:
        folder: of all of them; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest_first(self) -> list[StoredCheckpoint]:
        """Returns the checkpoints, the newest first; none of them is checked."""
        return [self.numbered(number) for number in sorted(self._numbers(), reverse=True)]

    def numbered(self, number: int) -> StoredCheckpoint:
        """Returns the checkpoint of a number."""
        return StoredCheckpoint(self.folder / str(number))

    def newest_step(self) -> int:
        """Returns how many steps the newest checkpoint tells of; -1 where there is none, or it cannot be read."""
        manifest = self._newest_manifest()
        return -1 if manifest is None else manifest.step

    def kept(self) -> KeptCheckpoints | None:
        """Returns what is kept; None where there is nothing. Files may come and go meanwhile."""
        sizes: dict[int, int] = {}
        for path in _files(self.folder):
            with suppress(OSError):
                status = path.lstat()
                sizes[status.st_ino] = status.st_size
        if not sizes:
            return None
        manifest = self._newest_manifest()
        return KeptCheckpoints(None if manifest is None else manifest.step, len(sizes), sum(sizes.values()))

    def trained_together(self) -> tuple[str, ...]:
        """Returns the ids of the trials, in order, beside which the training of the newest checkpoint went on, its own
        included; empty where there is none, it cannot be read, or it was trained alone."""
        manifest = self._newest_manifest()
        names = () if manifest is None else tuple(manifest.identity.get(TRIALS, "").split())
        return names if len(names) > 1 else ()

    def _newest_manifest(self) -> Manifest | None:
        """Reads the manifest of the newest checkpoint; None where there is none, or it cannot be read."""
        return next((_manifest(checkpoint) for checkpoint in self.newest_first()), None)

    def save(self, write: Callable[[Path], object], identity: Mapping[str, str], step: int) -> None:
        """Adds a checkpoint; `prune` then removes those that are not needed any more.

        Args:
            write: writes its files into a folder.
            identity: what must be the same where it is used.
            step: optimizer steps done.

        Raises:
            StoreError: when it cannot be written, e.g. on a full disk; the earlier ones stay as they are.
        """
        number = 1 + max(self._numbers(), default=0)
        staging = self.folder / f".{number}"
        try:
            self.sweep()
            staging.mkdir(parents=True)
            write(staging)
            files = {path.relative_to(staging).as_posix(): checksum(path) for path in _files(staging)}
            manifest = Manifest(identity=dict(identity), step=step, files=files)
            (staging / MANIFEST).write_text(sealed(manifest.model_dump(mode="json")), encoding="utf-8")
            for path in _files(staging):
                _flush(path)
            give_usual_modes(staging)
            staging.rename(self.folder / str(number))
        except Exception as error:
            # safetensors raises an error of its own class for a full disk.
            if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
                raise StoreError(f"a checkpoint cannot be written to {self.folder}: {error}") from error
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def prune(self, identity: Mapping[str, str], step: int) -> None:
        """Removes the checkpoints that are not needed any more once the training has one of this step. One that came
        further and cannot be used here, as of another processor, stays until this training has passed it."""
        ahead = self._furthest_ahead(identity, step)
        for old in self.newest_first()[KEPT:]:
            if old.number != ahead:
                self._remove(old)

    def remove_newest(self) -> None:
        """Removes the checkpoint that was saved last."""
        for newest in self.newest_first()[:1]:
            self._remove(newest)

    def _remove(self, checkpoint: StoredCheckpoint) -> None:
        # Under another name first, so that a half removed one is never taken for a damaged one.
        hidden = checkpoint.folder.with_name(f".{checkpoint.folder.name}")
        with suppress(OSError):  # the next time it is tried again
            checkpoint.folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _furthest_ahead(self, identity: Mapping[str, str], step: int) -> int | None:
        """Returns the number of the checkpoint of another identity with the most steps, if it has more than `step`."""
        manifests = {checkpoint.number: _manifest(checkpoint) for checkpoint in self.newest_first()}
        steps = {
            number: manifest.step
            for number, manifest in manifests.items()
            if manifest is not None and manifest.identity != dict(identity) and manifest.step > step
        }
        return max(steps, key=lambda number: (steps[number], number), default=None)

    def sweep(self) -> None:
        """Removes what processes that were killed have left half written or half removed."""
        for path in self.folder.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)

    def discard(self) -> None:
        """Removes all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _numbers(self) -> list[int]:
        return [int(path.name) for path in self.folder.glob("*") if path.name.isdigit()]


def _manifest(checkpoint: StoredCheckpoint) -> Manifest | None:
    """Reads the manifest; None where it cannot be read."""
    try:
        return checkpoint.manifest()
    except StoreError:
        return None


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.is_dir()]


def _flush(path: Path) -> None:
    """Waits until a file is on the disk; raises OSError where it cannot be."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
