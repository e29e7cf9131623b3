"""What runs in a task of Ray, and how what it tells gets to the run that asked for it: as bytes and text."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.executors._elsewhere import FollowedTrial
from tuneoff.executors.base import Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.store import StudyStore, TrialStore
from tuneoff.store.transfer import trial_files

MIRROR_SECONDS = 1.0
"""How often a task sends what its trial has logged."""


@dataclass(frozen=True)
class News:
    """What an attempt at a trial has added to one of its files.

    Attributes:
        trial: id of the trial.
        attempt: tells this attempt from others, after a node was lost.
        name: of the file.
        offset: in bytes, of what was added.
        data: what was added; empty where only the trial's beginning is told.
    """

    trial: str
    attempt: str
    name: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class TrialFiles:
    """What an attempt left: the files, as `TrialStore.files` returns them."""

    attempt: str
    files: list[tuple[str, bytes]]


def version_here() -> str:
    """Returns the version of tuneoff where this runs."""
    return version("tuneoff")


def run_trial(spec: str, root: str | None, device: str, cpus: int, folder: str | None, news: Any) -> TrialFiles | None:
    """Runs one trial on a node, sealed whatever happens to its process.

    Args:
        spec: the trial, as JSON.
        root: the study's folder where all nodes see it; None: a folder of the task's own.
        device: auto, cpu or cuda.
        cpus: threads that it uses.
        folder: that relative paths of the study start from, where it is there; None: the one that the task starts in.
        news: the actor of a queue, for what the trial logs.

    Returns:
        What it left; None where it wrote that to the study's folder.
    """
    if folder is not None and Path(folder).is_dir():
        os.chdir(folder)
    # Ray confines no task to the cores that it was given.
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(cpus))
    trial = TrialSpec.model_validate_json(spec)
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch, LocalExecutor(device) as executor:
        store = StudyStore(Path(root or scratch))
        # Nothing waits for an answer: a task that waits gives its cores to another.
        mirror = Mirror(news.put_nowait.remote, store.trial(trial.id), with_content=root is None)
        # The run that asked for it makes the second try, and so knows which one Ray may end, and keeps the first.
        executor.tries_again = False
        executor.run(store, [trial], mirror.listen)
        return None if root is not None else TrialFiles(mirror.attempt, trial_files(store.trial(trial.id)))


class Mirror:
    """Sends what a trial logs to the run that asked for it, while it runs; what is lost comes with the result.

    Args:
        send: takes news.
        store: the trial's folder.
        with_content: whether what the files hold is sent, or only that the trial runs.
    """

    def __init__(self, send: Callable[[News], Any], store: TrialStore, with_content: bool) -> None:
        self.attempt = secrets.token_hex(8)
        self._send, self._store, self._with_content = send, store, with_content
        self._sent = dict.fromkeys((store.log_path, store.events_path), 0)
        self._due = 0.0

    def listen(self, progress: Progress) -> None:
        """Sends, if it is time, what was added to the files."""
        if progress.kind == "started":
            # Once more, where the trial is tried again: what it logs begins anew.
            self.attempt = secrets.token_hex(8)
            self._sent = dict.fromkeys(self._sent, 0)
        if progress.kind == "event" and (time.monotonic() < self._due or not self._with_content):
            return
        self._due = time.monotonic() + MIRROR_SECONDS
        for path, offset in self._sent.items():
            data = b""
            with suppress(OSError), path.open("rb") as file:
                if self._with_content:
                    file.seek(offset)
                    data = file.read()
            if data or progress.kind == "started":
                with suppress(Exception):
                    self._send(News(self._store.folder.name, self.attempt, path.name, offset, data))
                self._sent[path] += len(data)


class Inbox:
    """Writes what tasks send into the study's folder, where it is followed.

    Args:
        with_content: whether what files hold is sent; else trials write to the study's folder themselves.
    """

    def __init__(self, with_content: bool) -> None:
        self._with_content = with_content
        self._attempts: dict[str, list[str]] = {}

    def note(self, one: FollowedTrial, attempt: str) -> bool:
        """Tells whether an attempt is the trial's latest; when it is a new one, sets aside what the one before has
        sent."""
        attempts = self._attempts.setdefault(one.trial.id, [])
        if attempt not in attempts:
            if attempts and self._with_content:
                one.store.begin_attempt()
            attempts.append(attempt)
        return attempt == attempts[-1]

    def take(self, one: FollowedTrial, news: News) -> None:
        """Adds to a trial's log or events what its task has sent; what is out of order comes with the result."""
        if not self.note(one, news.attempt) or not self._with_content:
            return
        path = {path.name: path for path in (one.store.log_path, one.store.events_path)}.get(news.name)
        if path is not None:
            with suppress(OSError), path.open("ab") as file:
                if file.tell() == news.offset:
                    file.write(news.data)
