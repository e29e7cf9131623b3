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


def added_metric(name: str) -> MetricDefinition | None:
    """Returns a metric that a study added; None where it, or what it is computed with, is not installed here."""
    try:
        metric = registry.metrics()[name]
    except StudyError:
        return None
    return None if metric.lacks() else metric


def definition(task: str, metric: Metric) -> MetricDefinition:
    """Returns the definition of a recorded metric: its task's, or the one that the study added.

    One that is not known here is a mean of the values that predictions hold under its name.
    """
    plugin = task_named(task)
    own = plugin.metrics if plugin is not None else ()
    declared = next((one for one in own if one.name == metric.name), None)
    return declared or added_metric(metric.name) or _undeclared(metric)


def _undeclared(metric: Metric) -> MetricDefinition:
    from tuneoff.interfaces import MeanMetric

    return MeanMetric(name=metric.name, direction=metric.direction, unit=metric.unit)
