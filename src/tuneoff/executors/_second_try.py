"""Whether a trial that ran out of memory is run once more, with half the micro-batch."""

from __future__ import annotations

from contextlib import suppress

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import StoreError
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import TrialStore


def halved(trial: TrialSpec) -> TrialSpec:
    """Returns the trial with half the micro-batch; unchanged where its batches are of one example already."""
    smaller = trial.model_copy(update={"halved_batches": True})
    return trial if smaller.as_run().protocol == trial.protocol else smaller


def second_try(record: TrialRecord) -> TrialSpec | None:
    """Returns what is run after a trial that ran out of memory; None after any other, and where this was the second
    try or none is asked for."""
    trial = record.spec
    if record.status is not Status.OUT_OF_MEMORY or not trial.execution.retry_out_of_memory or trial.halved_batches:
        return None
    return smaller if (smaller := halved(trial)) != trial else None


def as_left(store: TrialStore, trial: TrialSpec) -> TrialSpec:
    """Returns a trial as its last attempt ran it, where that left a checkpoint: a second try that was interrupted
    goes on with half the micro-batch. Without a checkpoint it begins anew, as planned."""
    with suppress(StoreError):
        if trial.execution.retry_out_of_memory and store.checkpoints.newest_first() and store.spec().halved_batches:
            return halved(trial)
    return trial
