"""Scores of an exported model on a benchmark that the hub knows, as the hub reads them: `.eval_results/NAME.yaml`."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tuneoff.records.record import TrialRecord
from tuneoff.sources import BenchmarkTask, benchmark_tasks
from tuneoff.store import write_atomically

FOLDER = ".eval_results"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def write_eval_results(record: TrialRecord, folder: Path) -> None:
    """Writes the file where the whole test split of a registered benchmark was scored; else writes nothing.

    Scores of a part of a split, of a split that was cut from training rows, and of random weights are none of the
    benchmark's.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    metric = record.primary_metric
    value = record.metric(metric, "test") if metric is not None else None
    task = _task(record) if value is not None else None
    if task is None:
        return
    commits = record.data.commits if record.data else {}
    entry = EvalResultEntry(
        dataset_id=task.dataset,
        task_id=task.task,
        value=value,
        dataset_revision=commits.get("test"),
        date=record.environment.started_at if record.environment else None,
        notes=f"{metric}; fine-tuned by {record.spec.method}, one seed ({record.spec.seed}); the comparison with other "
        "methods is in README.md",
    )
    path = folder / FOLDER / f"{task.dataset.rpartition('/')[2]}.yaml"
    write_atomically(path, yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True))


def _task(record: TrialRecord) -> BenchmarkTask | None:
    """Returns the benchmark's task whose rows were scored, all of them; None where there is none, or several."""
    source, data = record.spec.task.data.test, record.data
    if source is None or data is None or _HUB_ID.fullmatch(source.source) is None:
        return None
    is_part = record.spec.protocol.test_rows is not None or bool(data.skipped.get("test"))
    if is_part or (record.model is not None and record.model.random_weights):
        return None
    config, split = source.config or "default", source.split or "test"
    tasks = [
        task
        for task in benchmark_tasks(source.source, data.commits.get("test"))
        if (task.config, task.split) == (config, split)
    ]
    return tasks[0] if len(tasks) == 1 else None
