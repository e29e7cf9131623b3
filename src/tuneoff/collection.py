"""Python's search for cycles in memory, paused while much is read that has none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Pauses the search for cycles in memory: what is read of thousands of trials has none and stays, and to go through
    it again and again takes as long as reading it. Serves as a decorator, too."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
