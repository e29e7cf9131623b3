"""Learning curves: of validations as recorded, of the training loss as trials told of their steps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from record_helpers import World, build_store, small_study
from tuneoff.analysis import curves
from tuneoff.analysis.curves import LearningCurves, learning_curves
from tuneoff.analysis.results import gather
from tuneoff.store import StudyStore


def told(store: StudyStore, seed: int, steps: range, loss: float = 0.0) -> None:
    """Writes the log of a trial whose loss falls by the step, with noise that smoothing removes."""
    trial_id = next(trial_id for trial_id in store.trial_ids() if f"-s{seed}-" in trial_id)
    for step in steps:
        value = loss + 2 - step / 100 + 0.3 * (-1) ** step
        store.trial(trial_id).append_event({"kind": "step", "step": step, "loss": value})


def of(store: StudyStore) -> LearningCurves:
    results = gather(store)
    return learning_curves(results.arms, results.primary, store)


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return build_store(tmp_path / "s", small_study("lora"), World(test_rows=20))


def test_the_training_loss_begins_at_the_first_step_and_is_smooth(store: StudyStore) -> None:
    told(store, 0, range(1, 101))
    told(store, 1, range(1, 101, 3), loss=0.5)
    (curve,) = of(store).train_loss
    assert (curve.steps[0], curve.steps[-1]) == (1, 100)
    assert len(curve.steps) == curves.POINTS
    assert curve.mean[0] == pytest.approx(2.2, abs=0.2)
    assert all(later < earlier + 0.15 for earlier, later in zip(curve.mean, curve.mean[1:], strict=False))
    assert curve.lowest[20] < curve.mean[20] < curve.highest[20]
    assert [len(seed.values) for seed in curve.seeds] == [curves.POINTS] * 2


def test_what_was_recorded_at_validations_counts_where_a_seed_told_nothing(store: StudyStore) -> None:
    recorded = of(store).train_loss
    assert recorded[0].steps == (20, 40, 60, 80, 100, 126)
    told(store, 0, range(1, 101))
    assert of(store).train_loss == recorded
    told(store, 1, range(1, 2))
    assert of(store).train_loss == recorded


def test_steps_without_a_finite_loss_and_lines_of_nonsense_are_left_out(store: StudyStore) -> None:
    for seed in (0, 1):
        told(store, seed, range(1, 31))
        place = store.trial(next(trial_id for trial_id in store.trial_ids() if f"-s{seed}-" in trial_id))
        place.append_event({"kind": "step", "step": 31, "loss": math.nan})
        place.append_event({"kind": "step", "step": "32", "loss": 1.0})
        place.append_event({"kind": "step", "step": 33, "loss": None})
    (curve,) = of(store).train_loss
    assert curve.steps[-1] == 30
    assert all(map(math.isfinite, curve.mean))


def test_of_very_many_trials_no_log_is_read(store: StudyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (0, 1):
        told(store, seed, range(1, 31))
    monkeypatch.setattr(curves, "TRIALS_READ", 1)
    assert of(store).train_loss[0].steps == (20, 40, 60, 80, 100, 126)
