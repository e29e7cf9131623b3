"""Which commits of the hub's models and data sets a trial reads: those that its study began with.

A branch may move while a study runs, or between two runs of it. The first trial that is finished settles what the
branches stand for; what comes later asks for the same commits, so that a row never mixes two of them.
"""

from __future__ import annotations

from tuneoff.errors import CorruptRecord
from tuneoff.record import TrialRecord
from tuneoff.spec import TrialSpec
from tuneoff.store import TrialStore


def at_commits(spec: TrialSpec, record: TrialRecord) -> TrialSpec:
    """The trial with the commits that a record names as the revisions of what both read."""
    model, data = spec.model, spec.task.data
    if record.model is not None and record.model.commit and model == record.spec.model:
        model = model.model_copy(update={"revision": record.model.commit})
    pinned = {}
    for role, commit in (record.data.commits if record.data is not None else {}).items():
        source = getattr(data, role)
        if source == getattr(record.spec.task.data, role):
            pinned[role] = source.model_copy(update={"revision": commit})
    task = spec.task.model_copy(update={"data": data.model_copy(update=pinned)})
    return spec.model_copy(update={"model": model, "task": task})


def settle(spec: TrialSpec, place: TrialStore) -> TrialSpec:
    """The trial with the commits that finished trials beside it in its study were run with; as it is where there are
    none."""
    for folder in sorted(place.folder.parent.iterdir()):
        try:
            record = TrialStore(folder).record() if folder != place.folder else None
        except CorruptRecord:
            continue
        if record is None or not record.status.finished or record.data is None:
            continue
        spec = at_commits(spec, record)
        if record.model is not None:
            break
    return spec
