"""Which executor a study or a series uses: one that was handed over, or one of its own for as long as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tuneoff import registry
from tuneoff.config.execution import ExecutorSpec
from tuneoff.executors.base import Executor


class ExecutorChoice:
    """Chooses where trials run.

    Args:
        executor: a name, which the study's specification has by then, or an executor that is used as it is, on its own
            device, and left open.
    """

    def __init__(self, executor: str | Executor | None) -> None:
        self.name = executor if isinstance(executor, str) else None
        self._handed = executor if isinstance(executor, Executor) else None
        self._started: tuple[ExecutorSpec, Executor] | None = None

    @property
    def is_at_hand(self) -> bool:
        """Tells whether an executor was handed over, or is started."""
        return self._handed is not None or self._started is not None

    @contextmanager
    def open(self, spec: ExecutorSpec, device: str) -> Iterator[Executor]:
        """Yields the executor that was handed over, or else one by its specification, whose processes end with the
        block."""
        if self._handed is not None:
            yield self._handed
            return
        if self._started is not None and self._started[0] == spec:
            yield self._started[1]
            return
        with registry.executors()[spec.name].create(device, spec.options) as executor:
            yield executor

    @contextmanager
    def started(self, spec: ExecutorSpec, device: str) -> Iterator[None]:
        """Begins to start an executor's processes; what is opened within by this specification is that executor."""
        with self.open(spec, device) as executor:
            executor.warm_up()
            self._started = spec, executor
            try:
                yield
            finally:
                self._started = None

    @contextmanager
    def using(self, executor: Executor) -> Iterator[None]:
        """Uses an executor for all that is opened within, and leaves it open."""
        before, self._handed = self._handed, executor
        try:
            yield
        finally:
            self._handed = before
