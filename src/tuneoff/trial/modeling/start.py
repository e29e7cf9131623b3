"""Trained weights that a training starts from: whether they fit, where they come from, and what they have seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.checksums import content_hash, folder_checksums
from tuneoff.config.data import SourceSpec, TaskSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ContentChanged, DataError, SourceNotFound, StoreError, TuneoffError, UnsupportedModel
from tuneoff.interfaces import ADAPTER_FILES, Attached, Example, Method, Task, is_trained_folder
from tuneoff.records.record import Finding, ModelInfo, TrialRecord
from tuneoff.records.start import Start
from tuneoff.store import StudyStore, TrialStore
from tuneoff.trial.data import commits
from tuneoff.trial.data import load as trial_data

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SAME = "Name weights of the same method and base model, or give the arm the options that they were trained with."


def refuse_misfit(spec: TrialSpec, method: Method[Any], attached: Attached) -> None:
    """Checks that a training can go on from the weights that the trial names; works on the meta device.

    Raises:
        SourceNotFound, ContentChanged: if they are not there, or are others than planned.
        UnsupportedModel: if they do not fit the method, its options or the model.
    """
    if spec.start_from is None:
        return
    folder = Path(spec.start_from)
    if not is_trained_folder(folder):
        raise SourceNotFound(
            f"{spec.label}: start_from: {folder} holds no trained weights here",
            hint="The folder must be there on every machine that runs trials.",
        )
    planned = (spec.fingerprints or {}).get(spec.start_from)
    if planned is not None and content_hash(folder_checksums(folder)) != planned:
        raise ContentChanged(f"{spec.label}: start_from: {folder} has changed since the study was planned")
    if reason := method.why_no_start(attached, folder):
        raise UnsupportedModel(f"{spec.label} cannot go on from {folder}: {reason}", hint=SAME)


def load(spec: TrialSpec, method: Method[Any], attached: Attached) -> None:
    """Loads the weights that the trial's training starts from, where it names some, once they are known to fit.

    Raises:
        As `refuse_misfit`.
    """
    if spec.start_from is None:
        return
    refuse_misfit(spec, method, attached)
    try:
        method.load(attached, Path(spec.start_from))
    except (StoreError, RuntimeError) as error:
        raise UnsupportedModel(f"{spec.label} cannot go on from {spec.start_from}: {error}", hint=SAME) from error


def trace(
    spec: TrialSpec, task: Task, test: Sequence[Example], model: ModelInfo | None
) -> tuple[Start | None, tuple[Finding, ...]]:
    """Returns where the weights come from that the trial's training starts from, and what a reader must know of them.

    Args:
        spec: the trial.
        task: fitted.
        test: the trial's test rows.
        model: the base model as loaded; None where it is not yet.

    Raises:
        UnsupportedModel: if they were trained by another method, on another base model or for other classes.
        DataError: if they have seen test rows, unless `protocol.duplicates` is `warn`.
    """
    if spec.start_from is None:
        return None, ()
    folder = Path(spec.start_from)
    start = Start(source=spec.start_from, files=folder_checksums(folder))
    lineage = list(_lineage(folder))
    if not lineage:
        _refuse_other_base(spec, folder)
        message = f"its training goes on from {folder}; on which rows that was trained is not known, test rows perhaps"
        return start, (Finding(name="started_from", message=message),)
    _, earlier, record = lineage[0]
    _refuse_other_training(spec, task, earlier, record, model)
    rows = record.data.splits["train"] if record.data else None
    seen = _count_seen(spec, test, lineage)
    start = start.model_copy(
        update={
            "study": earlier.study,
            "trial": earlier.id,
            "label": earlier.label,
            "seed": earlier.seed,
            "earlier": tuple(own.id for _, own, _ in lineage[1:]),
            "train_rows": rows.rows if rows else None,
            "train_fingerprint": rows.fingerprint if rows else None,
            "steps": record.selected_step,
            "test_rows_seen": seen,
        }
    )
    message = f"its training goes on from trial {earlier.id} of study {earlier.study}"
    message += f", which was trained on {rows.rows} rows" if rows else ""
    message += (
        ""
        if seen is not None
        else "; these rows are not there any more, so whether test rows are among them is not known"
    )
    findings = [Finding(name="started_from", message=message)]
    if seen:
        message = (
            f"{seen} of {len(test)} test rows were among the rows that the start was trained on: its scores flatter it"
        )
        findings.append(Finding(name="start_saw_test", message=message))
    return start, tuple(findings)


def _lineage(folder: Path) -> Iterator[tuple[TrialStore, TrialSpec, TrialRecord]]:
    """Yields the trial that kept weights, the one that its own training started from, and so on, as far as they are
    there."""
    known: set[Path] = set()
    while folder not in known:
        known.add(folder)
        place = TrialStore(folder.parent)
        record = place.record() if folder.name == place.weights.name else None
        if record is None:
            return
        yield place, record.spec, record
        if record.spec.start_from is None:
            return
        folder = Path(record.spec.start_from)


def _refuse_other_training(
    spec: TrialSpec, task: Task, earlier: TrialSpec, record: TrialRecord, model: ModelInfo | None
) -> None:
    """Refuses what was trained by another method, for other classes, or on another base model."""
    reason = ""
    labels = record.data.labels if record.data else ()
    if earlier.method != spec.method:
        reason = f"it was trained by {earlier.method}, and this arm is {spec.method}"
    elif task.adds_head and earlier.task.name != spec.task.name:
        reason = f"its head was trained for {earlier.task.name}, and the task is {spec.task.name}"
    elif task.adds_head and labels and task.labels and labels != task.labels:
        reason = f"its classes are {', '.join(labels)}, and here they are {', '.join(task.labels)}, in this order"
    elif (
        model is not None
        and record.model is not None
        and None not in (model.checksum, record.model.checksum)
        and model.checksum != record.model.checksum
    ):
        reason = f"it was trained on other weights of the base model ({record.model.source})"
    if reason:
        raise UnsupportedModel(f"{spec.label} cannot go on from trial {earlier.id}: {reason}", hint=SAME)


def _refuse_other_base(spec: TrialSpec, folder: Path) -> None:
    """Refuses an adapter that says that it is of another model of the hub."""
    with suppress(OSError, ValueError, AttributeError):
        config = json.loads((folder / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
        named, own = str(config.get("base_model_name_or_path") or ""), spec.model.source.removeprefix("hub:")
        are_ids = _HUB_ID.fullmatch(named) and _HUB_ID.fullmatch(own) and not Path(own).exists()
        if are_ids and named.casefold() != own.casefold():
            raise UnsupportedModel(
                f"{spec.label} cannot go on from {folder}: it is an adapter of {named}, not of {own}", SAME
            )


def _count_seen(
    spec: TrialSpec, test: Sequence[Example], lineage: Sequence[tuple[TrialStore, TrialSpec, TrialRecord]]
) -> int | None:
    """Counts the test rows that any of these trials was trained on; None where the rows of one are not known.

    Raises:
        DataError: if there are any, unless `protocol.duplicates` is `warn`.
    """
    trained: list[Example] = []
    is_whole = True
    for place, earlier, record in lineage:
        rows = _training_rows(place, earlier, record)
        trained += rows or ()
        is_whole = is_whole and rows is not None
    seen = trial_data.count_shared(test, trained)
    if seen and spec.protocol.duplicates != "warn":
        raise DataError(
            f"{spec.label}: {seen} of {len(test)} test rows were among the rows that {lineage[0][1].id}, from which it "
            "goes on, was trained on, so its scores would flatter it",
            hint="Give the study test rows of its own, such as the earlier study's. protocol.duplicates: warn runs it "
            "all the same, and the report says so.",
        )
    return seen if seen or is_whole else None


def _training_rows(place: TrialStore, spec: TrialSpec, record: TrialRecord) -> list[Example] | None:
    """Reads the rows again that a trial was trained on; None where they are no longer there, or others."""
    origin = None
    with suppress(StoreError):  # a trial's folder that was copied out of its study
        origin = StudyStore(place.folder.parent.parent).origin()
    try:
        seen = commits.as_seen(spec)
        task = registry.create_task(seen.task)
        data = trial_data.load(task, _from_origin(seen.task, origin), seen.protocol)
    except TuneoffError:
        return None
    fingerprint = record.data.splits["train"].fingerprint if record.data else None
    return data.splits["train"] if data.info.splits["train"].fingerprint == fingerprint else None


def _from_origin(task: TaskSpec, origin: Path | None) -> TaskSpec:
    """Returns a task whose relative files are meant from the folder that its study was run from."""

    def located(source: SourceSpec | None) -> SourceSpec | None:
        if source is None or origin is None or not (path := origin / source.source.removeprefix("file:")).exists():
            return source
        return source.model_copy(update={"source": str(path)})

    roles = {role: located(getattr(task.data, role)) for role in ("train", "validation", "test")}
    return task.model_copy(update={"data": task.data.model_copy(update=roles)})
