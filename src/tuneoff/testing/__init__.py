"""Contract suites for plug-ins: what every method, task, metric, source, tracker and executor promises, as classes for
pytest.

A plug-in's author derives a test class and names the plug-in as its entry point does:

    from tuneoff.testing import MethodContract

    class TestNorms(MethodContract):
        method = "norms"

tuneoff's own plug-ins are tested by these same suites. They need pytest: `pip install 'tuneoff[testing]'`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tuneoff.testing.executors import ExecutorContract as ExecutorContract
    from tuneoff.testing.methods import MethodContract as MethodContract
    from tuneoff.testing.metrics import MetricContract as MetricContract
    from tuneoff.testing.sources import SourceContract as SourceContract
    from tuneoff.testing.tasks import TaskContract as TaskContract
    from tuneoff.testing.trackers import TrackerContract as TrackerContract

_HOMES = {
    "ExecutorContract": "executors",
    "MethodContract": "methods",
    "MetricContract": "metrics",
    "SourceContract": "sources",
    "TaskContract": "tasks",
    "TrackerContract": "trackers",
}

__all__ = ["ExecutorContract", "MethodContract", "MetricContract", "SourceContract", "TaskContract", "TrackerContract"]

# So that a failed assertion of a suite shows its values, as one of a test file does.
_METHOD_SUITES = ("method_attachment", "method_training", "method_resumption")
for _module in (*_HOMES.values(), *_METHOD_SUITES):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")


def __getattr__(name: str) -> Any:
    """Imports a suite on first use: those of methods and tasks need torch, the others do not before a test runs."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
