"""Polite requests to end, as an interrupt: what was begun is ended, recorded and cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

POLITE = ("SIGTERM", "SIGHUP")
"""From a batch system or a container, and from a terminal that was closed or a connection that was lost."""


@contextmanager
def like_an_interrupt() -> Iterator[None]:
    """While open, a polite request to end interrupts as Ctrl-C does; once: a closed terminal may send several.

    What the caller of this process had ignored (`nohup`) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def interrupt(*_: Any) -> None:
        nonlocal asked
        if not asked:
            asked = True
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in POLITE if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
