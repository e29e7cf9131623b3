"""Real trainings that are killed at moments of chance, again and again: nothing is lost, and all end with the same
bytes. How many kills there were, and where they struck, is printed (`pytest -s`)."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from running_helpers import SharedExecutor, Tiny, write_rows
from tuneoff.executors.base import Progress
from tuneoff.executors.local import LocalExecutor
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.slow

KILLS = 20
"""Of each kind of training."""
MOST_IN_A_ROW = 4
"""Kills of one trial; then it may end."""
WRITING = {"name": "generation", "template": "{source} => ", "max_target_length": 5}
PAIRS = [(f"{word} {number} and more", f"{word} {number}") for number, word in enumerate(["red", "blue", "green"] * 20)]


class Killer:
    """Kills the trial that runs some time after its training begins, and counts where it was then."""

    def __init__(self, executor: LocalExecutor, store: StudyStore, seconds: float | None) -> None:
        self.executor, self.store, self.seconds = executor, store, seconds
        self.where: Counter[str] = Counter()
        self.phase = ""
        self._timer: threading.Timer | None = None

    def hear(self, progress: Progress) -> None:
        """Listens to the executor."""
        self.phase = progress.event.get("phase", self.phase)
        if progress.kind == "event" and self.phase == "train" and self.seconds is not None and self._timer is None:
            self._timer = threading.Timer(self.seconds, self._kill)
            self._timer.start()

    def _kill(self) -> None:
        (parent,) = psutil.Process().children()
        for child in parent.children():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        writes = any(self.store.root.glob("trials/*/checkpoints/.*"))
        self.where["while a checkpoint was written" if writes else f"phase {self.phase}"] += 1

    def done(self) -> None:
        """Waits for the timer, if it was set; one that did not strike is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()


def outcome(record: TrialRecord) -> Any:
    kept = ("status", "metrics", "selected_step", "steps", "gradient_norm", "predictions", "kept_files", "data")
    curve = [point.model_dump(exclude={"train_seconds"}) for point in record.curve]
    return record.model_dump(include=set(kept)), curve


@pytest.mark.parametrize("kind", ["lora", "full", "writing"])
def test_killed_trainings_lose_nothing(
    kind: str, tiny: Tiny, executor: SharedExecutor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny.study(
        ("full" if kind == "full" else "lora",), epochs=10, gradient_accumulation_steps=2, evaluations_per_epoch=2
    )
    raw["execution"] |= {"checkpoint_minutes": 1e-9}
    if kind == "writing":
        pairs = write_rows(tmp_path / "pairs.csv", PAIRS, ("article", "summary"))
        raw |= {"model": str(tiny.llama), "task": {**WRITING, "data": {"train": str(pairs)}}}
        raw["protocol"] |= {"select_metric": "rouge_l", "epochs": 4, "evaluations_per_epoch": 1}
    study = Study(raw)
    (trial,) = plan(study.spec)

    def fresh(name: str) -> StudyStore:
        return StudyStore.create(tmp_path / name, study.spec, [trial])

    def run(store: StudyStore, seconds: float | None) -> tuple[TrialRecord, Killer]:
        killer = Killer(executor, store, seconds)
        executor.run(store, [trial], killer.hear)
        killer.done()
        record = store.trial(trial.id).record()
        assert record is not None
        return record, killer

    whole, _ = run(fresh("whole"), None)
    assert whole.timing.train_seconds is not None
    chance, kills, resumed, number = random.Random(kind), Counter[str](), 0, 0
    while kills.total() < KILLS:
        number += 1
        store, in_a_row = fresh(f"killed-{number}"), 0
        while True:
            seconds = chance.uniform(0.0, 1.5 * whole.timing.train_seconds) if in_a_row < MOST_IN_A_ROW else None
            record, killer = run(store, seconds)
            kills += killer.where
            in_a_row += 1
            if record.status is Status.COMPLETED:
                break
            assert record.status is Status.FAILED
            assert "SIGKILL" in record.cause
        assert outcome(record) == outcome(whole)
        with store.lock():
            # As the next run does: a kill between record and removal leaves checkpoints behind.
            assert not store.trial(trial.id).checkpoints.newest_first()
        resumed += record.resumed
    assert resumed > 0
    with capsys.disabled():
        print(f"\n{kind}: {kills.total()} kills of {number} trials, {resumed} continued, 0 lost: {dict(kills)}")
