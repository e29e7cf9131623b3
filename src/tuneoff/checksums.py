"""Checksums of plain data and of files.

Those of files are computed from the bytes themselves, and remembered within one process and what it starts for a run.

A cache on disk, keyed by size and time, would trust exactly what a careless copy, a failing disk or an attacker leaves
unchanged.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tuneoff.files import open_file

SETTLED_SECONDS = 2.0
"""A file changed more lately than this is hashed anew each time: file systems count time in steps, and a second change
within one step would not show."""

_DIGESTS: dict[tuple[int, ...], str] = {}


def content_hash(content: Any) -> str:
    """Computes the SHA-256 (hex) of plain data, independent of key order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Half a surrogate pair, which only a damaged file holds, is hashed like any other content.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def sha256(path: Path) -> str:
    """Computes the SHA-256 (hex) of a file's bytes; reads it once per process as long as the system has seen no write
    to it.

    The time of the last change of any kind (`ctime`) is part of the key by which a file is recognised. Unlike the time
    stamp that a user may set, it cannot be set back.

    Raises:
        OSError: if the file cannot be read.
    """
    with open_file(path) as file:
        key = _identity(os.fstat(file.fileno()))
        if (cached := _DIGESTS.get(key)) is not None:
            return cached
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    if key == _identity(status) and time.time() - max(status.st_ctime, status.st_mtime) > SETTLED_SECONDS:
        _DIGESTS[key] = digest
    return digest


def remembered() -> list[tuple[tuple[int, ...], str]]:
    """Returns the checksums that this process remembers, for `remember` in the processes that it starts for a run."""
    return list(_DIGESTS.items())


def remember(digests: Iterable[tuple[Sequence[int], str]]) -> None:
    """Remembers the checksums that another process of the run computed, each as long as the system has seen no write to
    its file."""
    _DIGESTS.update((tuple(key), digest) for key, digest in digests)


def file_states(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Returns for each file in a folder by what a write to it would be known; None where that cannot be told: one was
    written just now, so that another write would not show, or went away meanwhile, or the folder cannot be listed."""
    try:
        statuses = {entry.name: entry.stat() for entry in sorted(folder.iterdir()) if entry.is_file()}
    except OSError:
        return None
    settled = all(time.time() - max(one.st_ctime, one.st_mtime) > SETTLED_SECONDS for one in statuses.values())
    return {name: _identity(status) for name, status in statuses.items()} if settled else None


def folder_checksums(folder: Path) -> dict[str, str]:
    """Returns the files in a folder and below it, by their paths there, with their SHA-256.

    Raises:
        OSError: if one cannot be read.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
