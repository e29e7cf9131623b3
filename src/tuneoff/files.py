"""Opens only regular files: opening a named pipe waits for ever, and a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path, PurePosixPath

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


NON_BLOCKING = getattr(os, "O_NONBLOCK", 0)
"""Flag of `os.open` with which a named pipe does not wait for its other end; systems without it have no such pipes."""


def open_file(path: Path) -> BufferedReader:
    """Opens a file for reading bytes; refuses everything else, such as pipes and devices.

    Raises:
        OSError: if it cannot be opened, or is no file.
    """
    handle = os.open(path, os.O_RDONLY | NON_BLOCKING | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'a folder')}, not a file", str(path))
    return os.fdopen(handle, "rb")


def read_text(path: Path) -> str:
    """Reads a file of UTF-8 text; refuses everything else, such as pipes and devices.

    Raises:
        OSError: if it cannot be opened, or is no file.
        UnicodeDecodeError: if it is not UTF-8.
    """
    with open_file(path) as file:
        return file.read().decode("utf-8")


def special_kind(path: Path) -> str:
    """Returns what stands at a path that is neither a file nor a folder, e.g. `a named pipe`; else an empty string.

    Links are followed. A path that is not there, or cannot be looked at, is nothing special.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return ""


def stays_inside(name: object) -> bool:
    """Tells whether a name that somebody wrote down is that of a file in a folder or below it, and leads nowhere else
    on any system."""
    if not isinstance(name, str) or any(sign in name for sign in "\\:\0"):
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
