"""What trials are expected to take, by the study's forecast."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import StoreError
from tuneoff.executors._placement import Need
from tuneoff.store import StudyStore


def expected_needs(store: StudyStore, trials: Sequence[TrialSpec]) -> dict[str, Need]:
    """Returns what trials are expected to take by the study's forecast: trial id -> need. Those of which nothing is
    known are left out."""
    forecast = None
    with suppress(StoreError):
        forecast = store.forecast()
    needs = {}
    for trial in trials:
        arm = forecast.arms.get(trial.label) if forecast is not None else None
        if arm is not None:
            phases = arm.seconds if trial.purpose == "final" else arm.search_seconds
            needs[trial.id] = Need(sum(phases.values()) if phases else None, arm.peak_memory_bytes)
    return needs
