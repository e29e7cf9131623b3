"""What tasks declare of the metrics that a study's records hold.

A study can be read on a machine without its task: then means over recorded values and scores per seed remain, and
metrics are called by their keys. Imports nothing heavy: the axes that the command line offers lead here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff import registry
from tuneoff.errors import StudyError

if TYPE_CHECKING:
    from tuneoff.interfaces import MetricDefinition, Task
    from tuneoff.records.record import Metric


def task_named(name: str) -> type[Task] | None:
    """Returns a task; None where it is not installed here, or cannot be imported."""
    try:
        return registry.tasks()[name]
    except StudyError:
        return None


def definition(task: str, metric: Metric) -> MetricDefinition:
    """Returns a task's definition of a recorded metric.

    One that the task does not declare is a mean of the values that predictions hold under its name.
    """
    plugin = task_named(task)
    try:
        return plugin.metric(metric.name) if plugin is not None else _undeclared(metric)
    except KeyError:
        return _undeclared(metric)


def _undeclared(metric: Metric) -> MetricDefinition:
    from tuneoff.interfaces import MeanMetric

    return MeanMetric(name=metric.name, direction=metric.direction, unit=metric.unit)
