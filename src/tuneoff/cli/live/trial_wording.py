"""What a running trial writes and goes by, and how its continuation and its end are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.cli.wording import seconds

if TYPE_CHECKING:
    from tuneoff.config.spec import TrialSpec
    from tuneoff.interfaces import Task
    from tuneoff.records.record import TrialRecord


def selects(trial: TrialSpec) -> str:
    """Returns the validation metric that selects the trial's checkpoint; empty where its task is not installed here."""
    task = _task(trial)
    return trial.protocol.select_metric or "" if task is None else task.selects(trial.protocol.select_metric)


def writes(trial: TrialSpec) -> bool:
    """Tells whether the trial's test generates text."""
    task = _task(trial)
    return task is not None and task.produces == "text"


def _task(trial: TrialSpec) -> Task | None:
    from tuneoff import registry
    from tuneoff.errors import StudyError

    try:
        return registry.create_task(trial.task)
    except StudyError:
        # Tasks and metrics may be a third party's plug-ins, which need not be installed where `watch` runs.
        return None


def continued(event: dict[str, Any]) -> str:
    """Describes from where a trial continues."""
    spent = seconds(float(event.get("earlier_seconds") or 0.0))
    return f"continues from step {event.get('step')} of {event.get('steps')} (a checkpoint after {spent})"


def outcome(record: TrialRecord, spent: float | None, earlier: bool) -> str:
    """Describes in one line how a trial ended."""
    if not record.status.finished:
        cause = record.cause.strip().splitlines()
        return f"{record.status.value} after {seconds(spent)}" + (f": {cause[0]}" if cause else "")
    search = record.spec.purpose == "search"
    name, split = (selects(record.spec), "validation") if search else (record.primary_metric, "test")
    score = None if name is None else record.metric(name, split)
    score_text = "" if score is None else f", {split} {name} {score:.3f}"
    return f"finished earlier{score_text}" if earlier else f"completed in {seconds(spent)}{score_text}"
