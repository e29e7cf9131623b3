"""The lock of a study's folder: held while a run writes there, and looked at without holding it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tuneoff._special import NON_BLOCKING
from tuneoff.errors import StoreError

PATIENCE_SECONDS = 0.5
"""Whoever looks at the lock takes it for a moment (`is_held`); a run that begins in that moment waits so long."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Holds the lock; its file's time then says since when.

    A folder that was made for the lock and holds nothing else at the end is taken away again.

    Raises:
        StoreError: if another run holds it.
    """
    lock = FileLock(path, timeout=PATIENCE_SECONDS)
    new = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another run is writing to {path.parent}", hint="Wait for it, or name another folder with --out."
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot write to {path.parent}: {error.strerror or error}", hint="Name another folder with --out."
        ) from error
    try:
        with suppress(OSError):
            os.utime(path)
        yield
    finally:
        with suppress(OSError):  # a system that removes no open file, or somebody removed the folder
            if new and os.listdir(path.parent) == [path.name]:
                path.unlink()
                path.parent.rmdir()
        lock.release()


if sys.platform == "win32":

    def is_held(path: Path) -> bool:
        """Whether a run holds the lock now."""
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except (Timeout, OSError):
            return True

else:
    import fcntl

    def is_held(path: Path) -> bool:
        """Whether a run holds the lock now, here or on another machine that shares the folder. Writes nothing."""
        try:
            handle = os.open(path, os.O_RDONLY | NON_BLOCKING)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            # Held; or this file system knows no such locks, and then the file is there only while a run is.
            return True
        finally:
            os.close(handle)
        return False
