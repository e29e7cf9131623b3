"""Records as a data frame."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from record_helpers import World, build_store, make_record, small_study
from tuneoff.analysis.figures import train_loss, why_missing
from tuneoff.analysis.table import trials_frame
from tuneoff.planning.plan import plan
from tuneoff.records.record import CurvePoint, Status, TrialRecord


def test_one_row_per_trial_with_blanks_where_nothing_was_measured(tmp_path: Path) -> None:
    study = small_study("majority", "lora")
    store = build_store(tmp_path / "s", study, World(fail={("lora", 1): Status.DIVERGED}))
    frame = trials_frame(store.records())
    assert list(frame["label"]) == ["majority", "lora", "lora", "majority"]
    assert list(frame.columns[:6]) == ["id", "label", "method", "seed", "status", "learning_rate"]
    broken = frame[frame["status"] == "diverged"].iloc[0]
    assert pd.isna(broken["accuracy"])
    assert pd.isna(broken["train_seconds"])
    good = frame[(frame["label"] == "lora") & (frame["status"] == "completed")].iloc[0]
    assert good["trainable_parameters"] == 148_996
    assert good["validation_accuracy"] == good["accuracy"]


def test_whole_numbers_stay_whole_in_csv() -> None:
    trial = plan(small_study("lora"))[0]
    broken = TrialRecord(spec=trial, status=Status.FAILED, cause="x")
    text = trials_frame([make_record(trial), broken]).to_csv(index=False)
    back = pd.read_csv(io.StringIO(text), dtype=str)
    assert back["peak_memory_bytes"][0].isdigit()
    assert pd.isna(back["peak_memory_bytes"][1])


def test_no_records_make_an_empty_table() -> None:
    assert list(trials_frame([]).columns) == ["id", "label", "method", "seed", "status"]


def test_train_loss_weighs_each_point_by_its_steps() -> None:
    record = make_record(plan(small_study("lora"))[0])
    points = [(10, 4.0), (40, 1.0)]
    curve = tuple(
        CurvePoint(step=step, epoch=1, train_seconds=1, learning_rate=1e-3, train_loss=loss) for step, loss in points
    )
    assert train_loss(record.model_copy(update={"curve": curve})) == pytest.approx((10 * 4 + 30 * 1) / 40)
    assert train_loss(record.model_copy(update={"curve": ()})) is None


def test_a_missing_figure_is_explained_by_the_nearest_name() -> None:
    record = make_record(plan(small_study("lora"))[0], missing={"inference": "not asked", "x.energy": "no meter"})
    assert why_missing(record, "inference.latency_seconds_median") == "not asked"
    assert why_missing(record, "stored_bytes") == "not recorded"
