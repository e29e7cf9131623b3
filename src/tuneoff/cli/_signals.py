"""Turns the system's requests to end into an interrupt: what was begun is ended, recorded and cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

POLITE = ("SIGTERM", "SIGUSR2", "SIGHUP")
"""Signals from a batch system or a container, also ahead of a time limit, and from a closed terminal or a lost
connection."""


@contextmanager
def like_an_interrupt() -> Iterator[None]:
    """Makes a request to end (see `POLITE`) interrupt as Ctrl-C does until the block ends; only once, because a closed
    terminal may send several.

    Signals that the caller of this process set to be ignored (`nohup`) stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if handlers[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, handlers[number])
