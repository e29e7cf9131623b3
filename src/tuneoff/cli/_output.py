"""The standard streams, with errors of their own that differ from all other errors."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from tuneoff.errors import TuneoffError

GONE = frozenset({errno.EPIPE, errno.EBADF, *([errno.EINVAL] if os.name == "nt" else [])})
"""Error numbers that mean that nobody reads any more: the pipe's reader ended (EINVAL on Windows), or the stream was
closed."""


class OutputGone(Exception):
    """Nobody reads what is printed any more (`| head`, `>&-`, a closed terminal). This is no failure, but nothing more
    can be printed."""


class OutputFailed(TuneoffError):
    """What is printed cannot be written, e.g. because a disk is full."""


class Output:
    """A stream whose writes raise `OutputGone` or `OutputFailed` in the place of `OSError`.

    Args:
        stream: what to write to.
        silent: raise nothing; what cannot be written is lost. For messages on stderr.
    """

    def __init__(self, stream: TextIO, silent: bool = False) -> None:
        self.stream = stream
        self.silent = silent
        # Checked now: once a terminal is closed, `isatty` no longer says that it was one.
        self._gone = GONE | {errno.EIO} if stream.isatty() else GONE

    def write(self, text: str) -> int:
        """Writes text; see the class for what it raises."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self._fail(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Passes on what was written so far."""
        try:
            self.stream.flush()
        except OSError as error:
            self._fail(error)

    def discard(self) -> None:
        """Discards what could not be written, so that Python does not try again and complain when it ends."""
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError):
            return  # a stream without a file, as in tests
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, descriptor)
        if null_device != descriptor:
            os.close(null_device)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _fail(self, error: OSError) -> None:
        if self.silent:
            self.discard()
        elif error.errno in self._gone:
            raise OutputGone from None
        else:
            raise OutputFailed(f"cannot write the output: {error.strerror or error}") from None


@contextmanager
def guarded_streams() -> Iterator[Output]:
    """Guards both standard streams until the block ends; yields stdout. Messages that stderr cannot take are lost
    without an error."""
    streams = sys.stdout, sys.stderr
    out, messages = Output(sys.stdout), Output(sys.stderr, silent=True)
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", messages)
    try:
        yield out
    finally:
        sys.stdout, sys.stderr = streams
