"""Which commits of the hub's models and data sets a trial reads.

A branch may move while a study runs: all of its trials read the commits that the run saw before the first trial. A
branch may also have moved when a trained model is used: the commits that its trial read are read again.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff.config.spec import TrialSpec
from tuneoff.records.record import TrialRecord

_ROLES = ("train", "validation", "test")


def commit_of_rows(role: str) -> str:
    """Returns the key of `TrialSpec.contents` that holds the commit of a role's rows."""
    return f"{role} commit"


def as_seen(spec: TrialSpec) -> TrialSpec:
    """Returns the trial with the commits that its run saw as the revisions; unchanged where model and rows come from no
    hub."""
    rows = {role: spec.contents[key] for role in _ROLES if (key := commit_of_rows(role)) in spec.contents}
    return _at(spec, spec.contents.get("model"), rows)


def as_recorded(spec: TrialSpec, record: TrialRecord) -> TrialSpec:
    """Returns the trial with the commits that its record names as the revisions."""
    return _at(spec, record.model.commit if record.model else None, record.data.commits if record.data else {})


def _at(spec: TrialSpec, model_commit: str | None, row_commits: Mapping[str, str]) -> TrialSpec:
    model, data = spec.model, spec.task.data
    if model_commit is not None:
        model = model.model_copy(update={"revision": model_commit})
    for role, commit in row_commits.items():
        source = getattr(data, role)
        if source is not None:
            data = data.model_copy(update={role: source.model_copy(update={"revision": commit})})
    return spec.model_copy(update={"model": model, "task": spec.task.model_copy(update={"data": data})})
