"""Benchmarks that the hub knows: data sets whose repository says, in `eval.yaml`, which tasks it counts scores of."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from tuneoff.errors import SourceError
from tuneoff.sources import _hub_files

FILE = "eval.yaml"


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of a registered benchmark.

    Attributes:
        dataset: the data set's id at the hub.
        task: the task's own.
        config, split: the rows that it is scored on.
    """

    dataset: str
    task: str
    config: str
    split: str


def benchmark_tasks(dataset: str, commit: str | None) -> list[BenchmarkTask]:
    """Reads the tasks that a data set of the hub is registered for; none where it is no benchmark, or where neither the
    hub nor its cache tells."""
    try:
        repository = _hub_files.resolve("dataset", dataset, commit)
        if FILE not in repository.files:
            return []
        text = (_hub_files.fetch(repository, [FILE]) / FILE).read_text(encoding="utf-8")
        body = yaml.safe_load(text)
    except (SourceError, OSError, ValueError, yaml.YAMLError):
        return []
    tasks = body.get("tasks") if isinstance(body, dict) else None
    return [
        BenchmarkTask(dataset, task["id"], str(task.get("config") or "default"), str(task.get("split") or "test"))
        for task in (tasks if isinstance(tasks, list) else ())
        if isinstance(task, dict) and isinstance(task.get("id"), str)
    ]
