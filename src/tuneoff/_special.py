"""Tells files from what only looks like one: opening a named pipe waits for ever, a device may never end."""

from __future__ import annotations

import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def special_kind(path: Path) -> str:
    """Returns what stands at a path that is neither a file nor a folder, e.g. `a named pipe`; else an empty string.

    Links are followed. A path that is not there, or cannot be looked at, is nothing special.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):  # ValueError: a path with a NUL character
        return ""
