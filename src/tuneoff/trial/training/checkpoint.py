"""The best weights so far, on disk, so that keeping them costs no memory."""

from __future__ import annotations

import shutil
from pathlib import Path

from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached, Method, MethodOptions
from tuneoff.store import give_usual_modes
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.context import ALONE, RankContext


class Checkpoint:
    """Keeps what a method must store in a folder that holds all of it or nothing.

    Of several ranks the first alone writes; every rank calls every method but `stored_bytes` and `discard`.
    """

    def __init__(
        self, folder: Path, method: Method[MethodOptions], attached: Attached, ranks: RankContext = ALONE
    ) -> None:
        self.folder = folder
        self.method = method
        self.attached = attached
        self.ranks = ranks
        self.step: int | None = None

    def save(self, step: int) -> None:
        """Replaces the kept weights.

        Raises:
            StoreError: when it cannot be written, e.g. on a full disk.
        """
        if self.ranks.is_main:
            self._replace()
        elif self.ranks.sharded:
            fsdp.save(self.attached, None)
        self.step = step

    def _replace(self) -> None:
        staging = self.folder.with_name(f".{self.folder.name}.new")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir()
            if self.ranks.sharded:
                fsdp.save(self.attached, staging)
            else:
                self.method.save(self.attached, staging)
            give_usual_modes(staging)
            shutil.rmtree(self.folder, ignore_errors=True)
            staging.rename(self.folder)
        except Exception as error:
            shutil.rmtree(staging, ignore_errors=True)
            # safetensors raises an error of its own class for a full disk.
            if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
                raise StoreError(f"the weights cannot be written to {self.folder}: {error}") from error
            raise

    def restore(self) -> None:
        """Puts the kept weights back into the model."""
        self.ranks.wait()
        if self.ranks.sharded:
            fsdp.load(self.attached, self.folder)
        else:
            self.method.load(self.attached, self.folder)

    def stored_bytes(self) -> int:
        """Counts the bytes of the files that must be kept beside the base model; a README is not counted."""
        return sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file() and f.suffix != ".md")

    def discard(self) -> None:
        """Removes the kept weights."""
        shutil.rmtree(self.folder, ignore_errors=True)
