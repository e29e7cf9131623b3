"""What every folder of results has: a file that says what it is, a lock for one run at a time, and a report."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tuneoff.errors import CorruptRecord
from tuneoff.store import lock

SERIES_FILE = "series.json"
"""What makes a folder that of a series of studies (`tuneoff.store.series`)."""
MEMBERS = "members"
"""Folder inside a series' folder that holds those of its studies."""


class ResultFolder(ABC):
    """A folder of results, of one study or of a series of them."""

    MANIFEST: ClassVar[str]
    """The file that makes it one."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def report_folder(self) -> Path:
        return self.root / "report"

    @property
    def is_there(self) -> bool:
        """Tells whether the folder holds results of this kind."""
        return self._manifest_path.is_file()

    def set_aside_damage(self) -> None:
        """Renames a damaged manifest; `create` then makes it anew, and finds what is in the folder."""
        if self.is_there:
            try:
                self._check_manifest()
            except CorruptRecord:
                os.replace(self._manifest_path, self._damaged_path)

    @abstractmethod
    def _check_manifest(self) -> None:
        """Reads the manifest.

        Raises:
            CorruptRecord: if it is damaged.
        """

    def refuse_lost(self) -> None:
        """Refuses to go on where the folder that a run of this process writes to is no longer there.

        Raises:
            StoreError: if it was removed, renamed, or replaced by another.
        """
        lock.refuse_lost(self._lock_path)

    def running_since(self) -> float | None:
        """Returns when the run that writes to this folder now began, in seconds since 1970; None where there is
        none."""
        return lock.held_since(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        return self.root / "lock"

    @property
    def _manifest_path(self) -> Path:
        return self.root / self.MANIFEST

    @property
    def _damaged_path(self) -> Path:
        return self.root / f"{self.MANIFEST}.damaged"
