"""Requests to end that come while one is being heeded."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Notes interrupts until the block ends instead of raising them, so that nothing stops halfway; yields a function
    that tells whether one came."""
    interrupted = False

    def note(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True

    numbers = [
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR2", "SIGHUP", "SIGALRM") if hasattr(signal, name)
    ]
    is_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {
        number: handler for number in numbers if is_main_thread and callable(handler := signal.getsignal(number))
    }
    for number in handlers:
        signal.signal(number, note)
    try:
        yield lambda: interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
