"""Checks that can be made before torch is imported. A child process takes seconds to import it, so the caller checks
here first; the child checks again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tuneoff import registry
from tuneoff.config.data import SourceSpec
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import DataError, Problem, StoreError, StudyError, TuneoffError, listed
from tuneoff.interfaces import Baseline, Example, Method, Rows, Task
from tuneoff.records.record import DataInfo, TrialRecord
from tuneoff.sources import local_bytes, read_rows
from tuneoff.store import TrialStore
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.sizes import check_sizes

SMALL_BYTES = 32 * 2**20
"""The largest files that are read once more for an early check: this takes about a second."""


def refuse_study(study: StudySpec, trials: Sequence[TrialSpec], required: bool) -> None:
    """Checks the rows in small local files, and whether the methods suit the task.

    Args:
        study: a checked study.
        trials: those to come.
        required: refuse rows that cannot be used even where the study declares its labels.

    Raises:
        SourceError, DataError: if the rows cannot be used.
        StudyError: naming every method that does not suit the task.
    """
    task = registry.create_task(study.task)
    required = required or not task.fitted
    if _has_small_files(study):
        try:
            trial_data.load(task, study.task, study.protocol)
        except TuneoffError:
            if required:
                raise
    refuse_arms(study, misfits(task, trials), [])


def refuse_sizes(study: StudySpec, sizes: Sequence[int]) -> bool:
    """Checks several numbers of training rows on rows in small local files; returns whether it did.

    Raises:
        StudyError, SourceError, DataError: as `check_sizes`.
    """
    if not _has_small_files(study):
        return False
    check_sizes(study, sizes)
    return True


def _has_small_files(study: StudySpec) -> bool:
    """Tells whether all rows are in local files that are soon read."""
    sizes = [local_bytes(registry.sources(), reference) for reference in study.task.data.references]
    return all(size is not None and size <= SMALL_BYTES for size in sizes)


def misfits(task: Task, trials: Sequence[TrialSpec]) -> dict[str, list[str]]:
    """Returns why a method does not suit a task, whatever the model -> the labels of its rows."""
    problems: dict[str, list[str]] = {}
    for trial in {trial.label: trial for trial in trials}.values():
        method = registry.methods()[trial.method]
        reason = ""
        if issubclass(method, Baseline) and method.produces != task.produces:
            reason = (
                f"{trial.method} predicts a {method.produces}; the task {trial.task.name} asks for a {task.produces}"
            )
        elif method.needs == "head" and not task.adds_head:
            reason = f"{trial.method} trains the head that a task adds, and this task adds none: leave the row out"
        elif method.needs == "no_head" and task.adds_head:
            reason = (
                f"{trial.method} trains nothing, and this task puts a fresh head on the model, which knows nothing "
                "yet. For classification by a causal LM set task.scoring: likelihood, or leave this row out"
            )
        else:
            reason = method.create(trial.options).why_unfit(task)
        if reason:
            problems.setdefault(reason, []).append(trial.label)
    return problems


def refuse_arms(study: StudySpec, problems: Mapping[str, Sequence[str]], runnable: Sequence[str]) -> None:
    """Raises the problems of rows, each reason once for all rows that it stops.

    Args:
        study: of the rows.
        problems: reason -> labels.
        runnable: labels of rows that are known to run; where none is given, all others may.

    Raises:
        StudyError: if there is any problem.
    """
    if not problems:
        return
    stopped_labels = {label for labels in problems.values() for label in labels}
    runnable = runnable or [label for label in study.methods if label not in stopped_labels]
    hint = f"The others can run: --methods {','.join(runnable)}" if runnable else ""
    raise StudyError(
        [Problem(f"methods.{', '.join(labels)}", reason) for reason, labels in problems.items()], hint=hint
    )


def finished(place: TrialStore) -> tuple[TrialSpec, TrialRecord]:
    """Returns the specification and record of a trial whose model can be built again.

    Raises:
        StoreError: if it is not completed, has no model or kept no weights.
    """
    spec, record = place.spec(), place.record()
    if record is None or not record.status.finished or record.data is None:
        raise StoreError(f"trial {spec.id} is not completed", hint="Run the study again to complete it.")
    method = registry.methods()[spec.method]
    if not issubclass(method, Method):
        raise StoreError(f"{spec.label} uses no model", hint="Name a trial of a row that does.")
    if method.trains and spec.purpose == "search":
        raise StoreError(f"trial {spec.id} belongs to the search, which keeps no weights", hint="Name another trial.")
    if method.trains and not place.weights.is_dir():
        raise StoreError(
            f"trial {spec.id} kept no weights",
            hint=f"Move {place.folder} away and run the study again with --set execution.keep_weights=true.",
        )
    return spec, record


def refuse_export(place: TrialStore, out: Path, merged: bool) -> None:
    """Checks that a trial can be exported.

    Raises:
        StoreError: if nothing was trained or kept, the method cannot be merged, or `out` is not empty.
    """
    spec = place.spec()
    method = registry.methods()[spec.method]
    if not method.trains:
        raise StoreError(
            f"{spec.method} trains nothing, so there is nothing to export",
            hint="Export a trial of a row that trains.",
        )
    if merged and not method.mergeable:
        mergeable = [name for name in registry.methods() if registry.methods()[name].mergeable]
        raise StoreError(
            f"{spec.method} cannot be merged into the base model's weights",
            hint=f"Export it without --merged. Mergeable methods: {', '.join(mergeable)}.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out} is there already and not an empty folder", hint="Name another folder.")
    finished(place)


def task_of(spec: TrialSpec, record: TrialRecord) -> Task:
    """Returns the task as the trial had it, with its classes and what it chose on validation."""
    data = record.data or DataInfo()
    labels = {"labels": list(data.labels)} if data.labels else {}
    options = {**spec.task.options, **labels, **data.fitted, **record.chosen}
    return registry.create_task(spec.task.model_copy(update={"options": options}))


def rows_to_predict(place: TrialStore, file: str) -> tuple[dict[str, str], list[Example]]:
    """Returns role -> column of a file, and its rows as examples; target values need not be there.

    Raises:
        StoreError: as `finished`.
        SourceError, DataError: if the file cannot be read or lacks an input column.
    """
    spec, record = finished(place)
    task = task_of(spec, record)
    assert record.data is not None
    source = SourceSpec(source=file)
    rows, columns = _columns(task, read_rows(registry.sources(), source, "test", record.data.columns.values()), record)
    return columns, _unanswered(task, rows, columns)


def _columns(task: Task, rows: Rows, record: TrialRecord) -> tuple[Rows, dict[str, str]]:
    """Returns the input columns, by role. A file with one column holds the input, whatever the column is called."""
    assert record.data is not None
    columns = {role: column for role, column in record.data.columns.items() if role != task.target_role}
    absent = [column for column in columns.values() if column not in rows.columns]
    if absent and len(columns) == len(rows.columns) == 1:
        return rows, dict.fromkeys(columns, next(iter(rows.columns)))
    if absent:
        role = next(role for role, column in columns.items() if column == absent[0])
        raise DataError(
            f"{rows.origin} has no column {absent[0]!r}, the {role} that trial {record.spec.id} was trained on",
            hint=f"Its columns: {listed(rows.columns)}.",
        )
    return rows, columns


def _unanswered(task: Task, rows: Rows, columns: dict[str, str]) -> list[Example]:
    """Returns the rows as examples, checked by the task as in training; a placeholder fills the column of targets."""
    target = "answer"
    while target in rows.columns:
        target += "_"
    placeholders = [task.placeholder_target] * len(rows)
    filled_rows = replace(rows, columns={**rows.columns, target: placeholders}, class_names={})
    return task.examples(filled_rows, {**columns, task.target_role: target}, "to predict")
