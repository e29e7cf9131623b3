"""Requests to stop, heeded at once or, where something is under way that should be completed, after that."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuneoff.errors import Cancelled

SIGNALS = ("SIGTERM", "SIGUSR2")
"""Signals that ask a trial to stop: from executors and batch systems, and from those that warn before a time limit."""


class _Requests:
    """Whether a request came, and whether it may be heeded at once."""

    came = False
    waits = False


def heed_signals() -> None:
    """Makes this process heed the signals that ask it to stop."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _hear)


def _hear(number: int, frame: FrameType | None) -> None:
    _Requests.came = True
    if not _Requests.waits:
        check()


def came() -> bool:
    """Tells whether a request to stop came and waits."""
    return _Requests.came


@contextmanager
def deferred() -> Iterator[None]:
    """Lets requests wait while open; in the end one that came is heeded. Whoever asked kills a process that takes too
    long.

    Raises:
        Cancelled: where one came.
    """
    with _waiting(True):
        yield


@contextmanager
def allowed() -> Iterator[None]:
    """Heeds requests at once while open, also one that came before.

    Raises:
        Cancelled: where one came.
    """
    with _waiting(False):
        yield


@contextmanager
def _waiting(waits: bool) -> Iterator[None]:
    before, _Requests.waits = _Requests.waits, waits
    try:
        if not waits:
            check()
        yield
    finally:
        _Requests.waits = before
    if not before:
        check()


def check() -> None:
    """Heeds a request that came.

    Raises:
        Cancelled: where one came.
    """
    if _Requests.came:
        _Requests.came = False
        raise Cancelled("the trial was asked to stop")
