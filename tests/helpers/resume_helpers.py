"""What tests of trainings that are cut off share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tuneoff.records.record import Event, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial.run import run

PROTOCOL: dict[str, Any] = {
    "epochs": 2,
    "max_steps": 7,
    "gradient_accumulation_steps": 2,
    "evaluations_per_epoch": 2,
    "learning_rate": 0.01,
    "train_rows": 30,
    "dropout": 0.1,
}
"""Seven steps, the last three of them in the second epoch; scored after the second, fourth, sixth and last."""
EVERY_STEP = {"checkpoint_minutes": 1e-9, "latency_examples": 1}


class Killed(BaseException):
    """Stands for the end of a process: nothing after it is done."""


def finish(place: TrialStore, scratch: Path | None = None) -> TrialRecord:
    """Runs a trial in this process, from its last checkpoint if it has one."""
    place.begin_attempt()
    return run(place, "cpu", time.perf_counter(), scratch=scratch)


def die_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, *, after: bool = True) -> None:
    """Ends the process in a call of a function, the first being 1, after or before what it does."""
    original, count = getattr(owner, name), 0

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == call and not after:
            raise Killed
        result = original(*arguments, **options)
        if count == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


def outcome(place: TrialStore, record: TrialRecord) -> dict[str, Any]:
    """All that must be equal: a record without times and what the machine did, with checksums of the files."""
    kept = ("metrics", "selected_step", "steps", "parameters", "gradient_norm", "stored_bytes", "data", "model")
    body = record.model_dump(include={*kept, "precision", "predictions", "kept_files"})
    body["curve"] = [point.model_dump(exclude={"train_seconds"}) for point in record.curve]
    body["padding"] = record.throughput.padding_share
    body["findings"] = [finding for finding in record.findings if finding.name != "contended"]
    assert place.damage() == ""
    return body


def told(place: TrialStore, kind: str) -> list[Event]:
    return [event for event in place.events()[0] if event["kind"] == kind]
