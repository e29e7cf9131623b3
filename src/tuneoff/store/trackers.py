"""What a study's folder keeps of its trackers: their own files, what became of them, and what they followed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from tuneoff.errors import StoreError
from tuneoff.records.record import Finding
from tuneoff.store.files import read_json, write_atomically


class StudyTrackers:
    """The trackers of one study's folder.

    Args:
        root: the study's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "trackers.json"

    def folder(self, name: str) -> Path:
        """Returns where a tracker keeps its own files."""
        return self._root / "trackers" / name

    def write(self, key: str, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes what became of the trackers of a run, beside those of earlier runs; docs/trackers.md describes it."""
        body = {"trackers_version": 1, "key": key, "trackers": {**self._read().get("trackers", {}), **entries}}
        write_atomically(self._path, json.dumps(body, indent=1, ensure_ascii=False), make_folder=False)

    def followed(self) -> tuple[str, dict[str, dict[str, int]]]:
        """Returns a key that names this folder wherever it is copied, and tracker -> trial -> the attempt that it
        followed."""
        body = self._read()
        trials = {name: dict(entry["trials"]) for name, entry in body.get("trackers", {}).items()}
        return body.get("key") or uuid4().hex, trials

    def findings(self) -> tuple[Finding, ...]:
        """Returns a finding for each tracker that was given up in the last run that it was asked to follow."""
        trackers = self._read().get("trackers", {})
        return tuple(given_up(name, entry["reason"]) for name, entry in trackers.items() if entry["reason"])

    def _read(self) -> dict[str, Any]:
        """Reads what is known of trackers. If the file is damaged, only this is lost, never the study."""
        with suppress(StoreError):
            body = read_json(self._path)
            if isinstance(body, dict):
                return body
        return {}


def given_up(name: str, reason: str) -> Finding:
    """Returns the finding that a tracker was given up."""
    message = f"the tracker {name} was given up: {reason}; what was measured does not depend on it"
    return Finding(name="tracker_failed", message=message)
