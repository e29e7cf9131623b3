"""The lock of a study's folder: held while a run writes there; others can see whether it is held without holding it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tuneoff.errors import StoreError
from tuneoff.files import NON_BLOCKING

PATIENCE_SECONDS = 0.5
"""How long a run waits for the lock: `is_held` takes it for a moment."""


_HELD: dict[Path, tuple[int, int]] = {}
"""Lock that this process holds -> device and inode of its folder, which differ from another folder of that name."""


def refuse_lost(path: Path) -> None:
    """Refuses to go on where the folder of a lock that this process holds is no longer there.

    Raises:
        StoreError: if it was removed, renamed, or replaced by another.
    """
    identity = _HELD.get(path.absolute())
    if identity is not None and identity != _identity(path.parent):
        raise StoreError(
            f"{path.parent} was removed or renamed while this run wrote to it",
            hint="What had finished lies where the folder is now; name that with --out to go on there.",
        )


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def _registered(path: Path) -> Iterator[None]:
    """Registers the folder of this lock until the block ends, so that `refuse_lost` recognises it."""
    if (identity := _identity(path.parent)) is not None:
        _HELD[path.absolute()] = identity
    handle = None
    with suppress(OSError):  # a system that opens no folders
        # While it is open, no other folder gets its inode number.
        handle = os.open(path.parent, os.O_RDONLY)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        _HELD.pop(path.absolute(), None)


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Holds the lock; the time of its file then says since when.

    Folders that were made for the lock and hold nothing else at the end are removed.

    Raises:
        StoreError: if another run holds it.
    """
    lock = FileLock(path, timeout=PATIENCE_SECONDS)
    new_folders = [folder for folder in path.parents if not folder.exists()]
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
        with _registered(path):
            yield
    finally:
        with suppress(OSError):  # a system that removes no open file, or somebody removed the folder
            if new_folders and os.listdir(path.parent) == [path.name]:
                path.unlink()
                for folder in new_folders:
                    folder.rmdir()
        lock.release()


if sys.platform == "win32":

    def is_held(path: Path) -> bool:
        """Tells whether a run holds the lock now."""
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
        """Tells whether a run holds the lock now, here or on another machine that shares the folder. Writes nothing."""
        try:
            handle = os.open(path, os.O_RDONLY | NON_BLOCKING)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            # Held; or the file system has no such locks, and then the file exists only while a run does.
            return True
        finally:
            os.close(handle)
        return False


def held_since(path: Path) -> float | None:
    """Returns when the run that holds the lock now began, in seconds since 1970; None where none does."""
    if not is_held(path):
        return None
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return None
