"""Which commits of the hub's models and data sets a trial reads.

A branch may move while a study runs: all of its trials read the commits that the run saw before the first trial. A
branch may also have moved when a trained model is used: the commits that its trial read are read again.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff.config.data import DataSpec
from tuneoff.config.retention import HeldSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import TrialRecord

_ROLES = ("train", "validation", "test")
TEXT = "text"
"""The role of a held text; a held task has those of a study."""


def commit_of_rows(role: str) -> str:
    """Returns the key of `TrialSpec.contents` that holds the commit of a role's rows."""
    return f"{role} commit"


def commit_of_held(label: str, role: str) -> str:
    """Returns the key of `TrialSpec.contents` that holds the commit of something that is held."""
    return f"{role} commit of held {label}"


def as_seen(spec: TrialSpec) -> TrialSpec:
    """Returns the trial with the commits that its run saw as the revisions; unchanged where model and rows come from no
    hub."""
    rows = {role: spec.contents[key] for role in _ROLES if (key := commit_of_rows(role)) in spec.contents}
    seen = _at(spec, spec.contents.get("model"), rows)
    if spec.retention is None:
        return seen
    held = {label: _held_as_seen(spec, label, one) for label, one in spec.retention.held.items()}
    return seen.model_copy(update={"retention": spec.retention.model_copy(update={"held": held})})


def _held_as_seen(spec: TrialSpec, label: str, held: HeldSpec) -> HeldSpec:
    keys = {role: commit_of_held(label, role) for role in (TEXT, *_ROLES)}
    seen = {role: spec.contents[key] for role, key in keys.items() if key in spec.contents}
    if held.text is not None and TEXT in seen:
        return held.model_copy(update={TEXT: held.text.model_copy(update={"revision": seen[TEXT]})})
    if held.task is not None:
        return held.model_copy(update={"task": held.task.model_copy(update={"data": _rows_at(held.task.data, seen)})})
    return held


def as_recorded(spec: TrialSpec, record: TrialRecord) -> TrialSpec:
    """Returns the trial with the commits that its record names as the revisions."""
    return _at(spec, record.model.commit if record.model else None, record.data.commits if record.data else {})


def _at(spec: TrialSpec, model_commit: str | None, row_commits: Mapping[str, str]) -> TrialSpec:
    model = spec.model
    if model_commit is not None:
        model = model.model_copy(update={"revision": model_commit})
    task = spec.task.model_copy(update={"data": _rows_at(spec.task.data, row_commits)})
    return spec.model_copy(update={"model": model, "task": task})


def _rows_at(data: DataSpec, commits: Mapping[str, str]) -> DataSpec:
    sources = {role: getattr(data, role) for role in commits}
    return data.model_copy(
        update={
            role: source.model_copy(update={"revision": commits[role]})
            for role, source in sources.items()
            if source is not None
        }
    )
