"""What is known of an executor before it runs anything; `tuneoff.executors.base` has the whole contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tuneoff.config.base import Frozen


class ExecutorOptions(Frozen):
    """Base of an executor's options: frozen, unknown keys refused. Describe every field."""


class ExecutorPlugin(Protocol):
    """An executor's class, or what stands in for one.

    Attributes:
        title, summary: what `tuneoff list executors` says of it.
        Options: its keys in a study file, below `executor`.
    """

    title: str
    summary: str
    Options: type[ExecutorOptions]

    def create(self, device: str, options: Mapping[str, Any]) -> Any:
        """Makes an executor; see `Executor.create`."""
        ...
