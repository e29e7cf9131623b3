"""Recognises that memory ran out, in all the forms that libraries give it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from tuneoff.errors import OutOfMemory, TuneoffError, without_passwords

_MEMORY_MESSAGES = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|not enough memory|failed to allocate memory|bad_alloc"
    r"|ALLOC_FAILED",
    re.IGNORECASE,
)
"""Messages of errors without a type of their own: torch's CPU allocator, the C++ library, files that cannot be mapped,
CUDA's libraries."""


def exhausted(error: BaseException) -> BaseException | None:
    """Returns the error by which memory ran out: this one, or one that caused it; None where the cause is another.

    Loaders turn any error into one that says what could not be loaded; the original error is its cause or context.
    """
    visited: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in visited:
        if _is_shortage(current):
            return current
        visited.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, OutOfMemory)) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # This package's own errors quote the error that caused them.
    return not isinstance(error, TuneoffError) and _MEMORY_MESSAGES.search(str(error)) is not None


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Raises, while open, an error that says what was being loaded when memory runs out.

    Raises:
        OutOfMemory: where memory ran out.
    """
    try:
        yield
    except Exception as error:
        shortage = exhausted(error)
        if shortage is None or isinstance(shortage, OutOfMemory):
            raise
        raise OutOfMemory(
            f"out of memory while loading {what}{said(shortage)}",
            hint="Free memory on this machine, or take a smaller model or fewer rows (protocol.train_rows).",
        ) from error


def said(error: BaseException) -> str:
    """Returns the first line of an error after a colon; empty where it has none."""
    lines = without_passwords(str(error)).strip().splitlines()
    return f": {lines[0]}" if lines else ""
