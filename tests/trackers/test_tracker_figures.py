"""What trackers are given: names of metrics, configurations, ids of runs."""

from __future__ import annotations

import math
from pathlib import Path

from record_helpers import make_record
from tuneoff.interfaces import flatten
from tuneoff.testing.trackers import EVENTS, SPEED, STEP, failed_record, make_study
from tuneoff.trackers._figures import final_metrics, metrics_of, run_id, step_of, study_info, trial_info


def test_a_step_gives_the_curves_of_training() -> None:
    assert metrics_of({**STEP, **SPEED}) == {
        "train/loss": 1.5,
        "train/learning_rate": 1e-3,
        "train/gradient_norm": 2.5,
        "train/examples_per_second": 40.0,
        "train/epoch": 0.5,
    }


def test_validation_and_machine_give_theirs_and_other_lines_nothing() -> None:
    found = [metrics_of(event) for event in EVENTS]
    assert found[4] == {"validation/accuracy": 0.5, "validation/loss": 1.25}
    assert found[1] == {"system/cpu_percent": 99.0, "system/resident_bytes": float(512 << 20)}
    assert found[0] == found[2] == {}


def test_what_is_no_finite_number_is_left_out() -> None:
    event = {"kind": "validation", "metrics": {"loss": math.nan, "accuracy": None, "mcc": math.inf, "f1": True, "a": 0}}
    assert metrics_of(event) == {"validation/a": 0.0}
    assert metrics_of({"kind": "machine", "gpu_percent": None, "time": "2026-01-01", "share": 0.5}) == {}
    assert metrics_of({"kind": "validation"}) == {}


def test_a_line_without_a_step_belongs_to_the_last_one() -> None:
    assert step_of({"kind": "step", "step": 7}, 3) == 7
    assert step_of({"kind": "machine"}, 3) == 3


def test_final_metrics_are_scores_and_costs_without_those_that_are_null(tmp_path: Path) -> None:
    _, (trial,) = make_study(tmp_path / "study")
    record = make_record(trial)
    found = final_metrics(record)
    assert found["final/test/accuracy"] == record.metric("accuracy")
    assert found["final/validation/accuracy"] == record.metric("accuracy", "validation")
    assert found["final/train_seconds"] == record.timing.train_seconds
    assert found["final/trainable_parameters"] == 147_456 + 1540
    assert "final/energy_joules" not in found
    assert final_metrics(failed_record(trial)) == {}


def test_ids_are_of_folder_and_trial(tmp_path: Path) -> None:
    _, trials = make_study(tmp_path / "study", seeds=2)
    first, again = trial_info(trials[0], "a-key", 1), trial_info(trials[0], "a-key", 2)
    assert (first.id, again.attempt) == (again.id, 2)
    others = {trial_info(trials[1], "a-key", 1).id, trial_info(trials[0], "b-key", 1).id, run_id("a-key", "study")}
    assert len({first.id, *others}) == 4
    assert first.id.isalnum()


def test_infos_say_what_is_followed_and_nothing_of_how_it_is_run(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    info, study = trial_info(trial, "0123456789", 1), study_info(store.study(), "0123456789")
    assert (info.name, info.label, info.purpose, info.seed) == (trial.id, "lora", "final", 0)
    assert info.configuration["options"] == dict(trial.options)
    assert "execution" not in {*info.configuration, *study.configuration}
    assert (study.name, study.group) == ("small", "small-012345")
    assert study.configuration["model"]["source"] == "minilm"


def test_flat_names_are_dotted_and_nulls_left_out() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}, "e": [1, "é"], "f": True, "g": {}, "h": "x"}
    assert flatten(nested) == {"a.b.c": 1, "e": '[1, "é"]', "f": True, "h": "x"}
