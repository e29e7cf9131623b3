"""The sums over a forecast, the size of predictions to come, and the file."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from forecast_helpers import arm_forecast
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.records import forecast
from tuneoff.records.forecast import ArmForecast, EstimatedStep, ProfiledStep, Remedy, Shape, StudyForecast
from tuneoff.records.forecast_correction import corrected
from tuneoff.records.forecast_sums import recorded_seconds, study_forecast
from tuneoff.records.predictions import predictions_size
from tuneoff.records.record import Prediction
from tuneoff.records.upgrades import upgraded_forecast
from tuneoff.store import StudyStore

PAGE = Path(__file__).parents[2] / "docs" / "plan.md"
MODELS = [
    kind
    for kind in vars(forecast).values()
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == forecast.__name__
]


def arms(**changes: ArmForecast) -> dict[str, ArmForecast]:
    return {"full": arm_forecast("full"), "lora": arm_forecast("lora", stored_bytes=500), **changes}


def test_every_trial_counts_once_and_search_trials_with_their_own_time() -> None:
    made = arms(lora=arm_forecast("lora", seconds={"train": 4.0, "test": 1.0}, search_seconds={"train": 2.0}))
    total = study_forecast(made, ["full", "lora", "full", "lora"], ["lora", "lora", "lora"])
    assert total.total_seconds == pytest.approx(2 * 15 + 2 * 5 + 3 * 2)
    assert total.missing == {}


def test_what_is_kept_is_computed_by_one_trial_of_an_arm() -> None:
    made = arms(lora=arm_forecast("lora", kept_seconds={"train": 3.0, "test": 1.0}))
    total = study_forecast(made, ["lora", "full", "lora", "lora"]).total_seconds
    assert total == pytest.approx(4 * 15 - 2 * 4)


def test_the_base_model_is_scored_once_for_all_arms() -> None:
    kept = {"retention": 3.0}
    made = arms(lora=arm_forecast("lora", kept_seconds=kept), full=arm_forecast("full", kept_seconds=kept))
    total = study_forecast(made, ["lora", "full", "lora", "full"]).total_seconds
    assert total == pytest.approx(4 * 15 - 3 * 3)


def test_tokens_are_made_once_for_the_trials_of_a_search() -> None:
    search_seconds = {"tokenize": 2.0, "train": 3.0}
    shared, own = (
        arms(lora=arm_forecast("lora", search_seconds=search_seconds, kept_seconds=kept))
        for kept in ({"tokenize": 4.0}, {})
    )
    assert study_forecast(own, [], ["lora"] * 3).total_seconds == pytest.approx(3 * 5)
    assert study_forecast(shared, [], ["lora"] * 3).total_seconds == pytest.approx(3 * 5 - 2 * 2)


def test_records_count_what_a_trial_finds_and_the_run_does_not() -> None:
    seconds = {"tokenize": 4.0, "train": 4.0, "test": 2.0, "inference": 1.0}
    kept = {"tokenize": 4.0, "train": 1.0, "test": 1.0}
    arm = arm_forecast("head", seconds=seconds, kept_seconds=kept, search_seconds={"tokenize": 2.0, "train": 3.0})
    assert study_forecast({"head": arm}, ["head"] * 3, ["head"] * 2, untimed=["head"] * 2).total_seconds == (
        pytest.approx(3 * 11 - 2 * 6 - 2 + 2 * 5 - 2)
    )
    assert recorded_seconds(arm, 1, 2, [1.0, 1.0]) == pytest.approx(3 * 11 - 2 - 2 + 2 * 5)
    assert recorded_seconds(arm_forecast("full", seconds={}), 1, 0) is None
    assert recorded_seconds(arm_forecast("full"), 1, 0, [1.0]) is None


def test_a_trial_that_does_not_time_the_model_takes_less() -> None:
    made = arms(lora=arm_forecast("lora", seconds={"train": 4.0, "inference": 1.0}))
    total = study_forecast(made, ["lora", "full", "lora", "lora"], untimed=["lora", "lora"]).total_seconds
    assert total == pytest.approx(3 * 5 + 15 - 2)


def test_search_trials_with_fewer_steps_train_in_proportion() -> None:
    made = arms(lora=arm_forecast("lora", search_seconds={"load": 1.0, "train": 8.0}))
    total = study_forecast(made, [], ["lora", "lora", "lora"], search_shares=[0.25, 0.25, 1.0]).total_seconds
    assert total == pytest.approx(3 * 1 + 2 * 2 + 8)


def test_disk_holds_weights_and_predictions_of_the_verdict_alone() -> None:
    made = arms()
    trials = ["full", "full", "lora"]
    assert study_forecast(made, trials, ["lora"] * 9).disk_bytes == 2 * ((1 << 20) + 2000) + 500 + 2000
    assert study_forecast(made, trials, keep_weights=False).disk_bytes == 3 * 2000


def test_a_sum_with_an_unknown_part_is_null_with_the_rows_that_lack_it() -> None:
    made = arms(
        ia3=arm_forecast("ia3", seconds={}, missing={"seconds": "why"}), head=arm_forecast("head", stored_bytes=None)
    )
    total = study_forecast(made, ["full", "ia3", "head"], ["full"])
    assert (total.total_seconds, total.disk_bytes) == (None, None)
    assert total.missing == {
        "total_seconds": "no time is known of ia3, full",
        "disk_bytes": "what is kept is not known of head",
    }
    assert study_forecast(made, ["full", "head"], keep_weights=False).missing == {}


def test_rows_that_do_not_fit_are_told() -> None:
    made = arms(lora=arm_forecast("lora", fits=False), head=arm_forecast("head", fits=None))
    assert [arm.label for arm in study_forecast(made, ["full"]).unfit] == ["lora"]


def test_the_predicted_size_of_a_classifiers_predictions_is_close_to_that_of_real_ones() -> None:
    chance, labels = random.Random(0), ["acq", "crude", "earn", "a longer label"]
    targets = [chance.choice(labels) for _ in range(300)]
    real = 0
    for index, target in enumerate(targets):
        scores = tuple(round(-chance.expovariate(0.5), 6) for _ in labels)
        line = Prediction(index=index, target=target, output=chance.choice(labels), scores=scores)
        real += len(line.model_dump_json()) + 1
    assert predictions_size(targets, labels) == pytest.approx(real, rel=0.05)


def test_the_predicted_size_of_written_texts_counts_sources_and_bytes_of_the_text() -> None:
    short, long = predictions_size(["a"] * 10), predictions_size(["äöü" * 100] * 10)
    assert long - short == pytest.approx(2 * 10 * 599, abs=10)
    assert predictions_size(["a"] * 10, sources=["x" * 500] * 3) - short == 1500
    assert predictions_size(["a"] * 10, metrics=4) > short + 10 * 4 * 20


def test_a_forecast_is_kept_in_the_studys_folder(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    assert store.forecast() is None
    remedy = Remedy(change="protocol.gradient_accumulation_steps=2", peak_memory_bytes=5, same_result=True)
    arm = arm_forecast("lora", largest=Shape(examples=16, tokens=64), fits=False, remedies=(remedy,))
    made = StudyForecast(arms={"lora": arm}, total_seconds=30.0, missing={"disk_bytes": "why"})
    store.write_forecast(made)
    assert store.forecast() == made
    assert json.loads((tmp_path / "forecast.json").read_text())["arms"]["lora"]["largest"]["tokens"] == 64


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", CorruptRecord, "cannot be read"),
        ('{"forecast_version": 2, "arms": 3}', CorruptRecord, "is not a forecast"),
        ('{"forecast_version": 1, "rows": [3]}', CorruptRecord, "is not a forecast"),
        ('{"forecast_version": 99, "arms": {}}', StoreError, "forecast version 99"),
        ("[]", CorruptRecord, "is not a forecast"),
    ],
)
def test_a_file_that_is_none_is_named(content: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "forecast.json").write_text(content)
    with pytest.raises(error, match=message):
        StudyStore(tmp_path).forecast()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: str(model.__name__))
def test_every_key_of_a_forecast_is_described(model: type[BaseModel]) -> None:
    text = PAGE.read_text(encoding="utf-8").partition(f"### {model.__name__}\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == set(model.model_fields)


def test_the_forecasts_models_are_all_found() -> None:
    assert {model.__name__ for model in MODELS} >= {"StudyForecast", "ArmForecast", "Remedy", "Shape", "EstimatedStep"}


def test_a_very_short_phase_is_corrected_by_seconds_and_not_by_a_factor() -> None:
    estimated = arm_forecast("lora", how="estimate", seconds={"train": 10.0, "checkpoint": 0.001})
    profiled = arm_forecast("lora", seconds={"train": 5.0, "checkpoint": 0.051})
    other = arm_forecast("full", how="estimate", seconds={"train": 20.0, "checkpoint": 0.4})
    made = corrected(other, estimated, profiled)
    assert made.seconds == pytest.approx({"train": 10.0, "checkpoint": 0.45})
    assert made.corrected_by == "lora"


def test_what_is_kept_is_corrected_with_its_phase() -> None:
    arm = arm_forecast("head", kept_seconds={"train": 4.0})
    estimated, profiled = (arm_forecast("lora", seconds={"train": seconds}) for seconds in (6.0, 3.0))
    assert corrected(arm, estimated, profiled).kept_seconds == {"train": 2.0}


def test_each_part_of_training_is_corrected_by_its_own_error() -> None:
    estimated = arm_forecast(
        "lora",
        seconds={"train": 10.02, "test": 2.0},
        train_parts={"calls": 4.0, "work": 6.0, "update": 0.02},
    )
    profiled = arm_forecast(
        "lora",
        seconds={"train": 4.03, "test": 3.0},
        train_parts={"calls": 1.0, "work": 3.0, "update": 0.03},
    )
    arm = arm_forecast(
        "last_block",
        seconds={"train": 12.0, "test": 4.0},
        train_seconds=12.0,
        train_parts={"calls": 2.0, "work": 5.0, "update": 1.0, "frozen": 4.0},
        kept_seconds={"train": 4.0, "test": 2.0},
        search_seconds={"load": 1.0, "train": 4.0},
    )
    made = corrected(arm, estimated, profiled)
    # What frozen blocks give is computed like a test; an update that is estimated to be very short errs by seconds.
    assert made.train_parts == pytest.approx({"calls": 0.5, "work": 2.5, "update": 1.01, "frozen": 6.0})
    assert made.train_seconds == made.seconds["train"] == pytest.approx(10.01)
    assert made.kept_seconds == pytest.approx({"train": 6.0, "test": 3.0})
    assert made.search_seconds["train"] == pytest.approx(4.0 * (0.5 + 2.5 + 1.01) / 8.0)


def test_what_frozen_blocks_give_is_paid_by_a_share_of_the_trials() -> None:
    arm = arm_forecast("head", kept_seconds={"train": 4.0, "test": 1.0})
    assert arm.mean_trial_seconds(1.0) == arm.trial_seconds == 15.0
    # What a record counts of other trials, it counts in full.
    assert arm.mean_trial_seconds(0.2) == pytest.approx(15.0 - 0.8)
    assert arm_forecast("head", seconds={}).mean_trial_seconds(1.0) is None


def test_a_forecast_of_the_first_version_is_read_in_todays_words() -> None:
    shape = Shape(examples=8, tokens=24)
    profiled = arm_forecast(
        "lora",
        estimated_steps=(EstimatedStep(shape=shape, activations_bytes=5, operations=7),),
        profiled_steps=(ProfiledStep(shape=shape, steps=3, seconds=0.5, peak_bytes=9),),
        missing={"profile": "larger steps were not run"},
    )
    estimated = arm_forecast("full", how="estimate", missing={"profile": "several devices", "stored_bytes": "why"})
    total = study_forecast({"lora": profiled, "full": estimated}, ["full", "lora"])
    body = total.model_dump(mode="json")
    rows = body.pop("arms")
    old = {**body, "forecast_version": 1, "rows": rows}
    for arm, how in ((rows["lora"], "probed"), (rows["full"], "counted")):
        arm["how"] = how
        arm["counted"], arm["probed"] = arm.pop("estimated_steps"), arm.pop("profiled_steps")
        arm["missing"]["probed"] = arm["missing"].pop("profile")
    assert StudyForecast.model_validate(upgraded_forecast(old)) == total
    assert upgraded_forecast({"forecast_version": 99}) == {"forecast_version": 99}
