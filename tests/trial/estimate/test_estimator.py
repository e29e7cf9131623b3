"""An arm's forecast: all its figures or why they are missing, as a profile and as an estimate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import forecast_of, make_study, save_writer, write_csv
from tuneoff.analysis.search_rounds import outline
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import Cancelled, DataError
from tuneoff.executors._children import Spawner
from tuneoff.executors.local import LocalExecutor
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import ArmForecast
from tuneoff.trial import requests
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.estimate import estimator, memory, profiler
from tuneoff.trial.estimate.counts import ForecastCounts
from tuneoff.trial.estimate.estimator import estimate_arms
from tuneoff.trial.estimate.evaluations import _within
from tuneoff.trial.estimate.process import EstimateFailed, FakeModelProcess
from tuneoff.trial.modeling import load as trial_model

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

PHASES = {"load", "tokenize", "preflight", "train", "validation", "checkpoint", "test", "inference"}
PARTS = {"process", "weights", "gradients", "optimizer", "activations"}


def study(model: Path, data: Path, method: str, **changes: Any) -> StudySpec:
    protocol = {"seeds": 1, "epochs": 2, "batch_size": 8, "max_length": 24, "precision": "fp32"}
    given = {**changes, "protocol": {**protocol, **changes.get("protocol", {})}}
    return make_study(model, data, {method: {}}, **given)


def trial(model: Path, data: Path, method: str, **changes: Any) -> TrialSpec:
    (spec,) = plan(study(model, data, method, **changes))
    return spec


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model that writes and pairs of texts."""
    folder = tmp_path_factory.mktemp("writer")
    save_writer(folder / "gpt2", "gpt2", n_positions=128)
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps({"text": f"say {i} " * (i % 5 + 1), "title": f"{i}"}) + "\n" for i in range(40)))
    return folder / "gpt2", data


TEXT: dict[str, Any] = {"name": "generation", "source": "text", "target": "title", "max_target_length": 20}


def writing(writer: tuple[Path, Path], method: str) -> TrialSpec:
    model, data = writer
    return trial(model, data, method, task={**TEXT, "data": str(data)}, protocol={"max_length": 64})


def check(arm: ArmForecast) -> None:
    """What every forecast keeps: null figures have reasons, parts add up."""
    values = arm.model_dump()
    for name in ("peak_memory_bytes", "train_seconds", "stored_bytes", "predictions_bytes", "largest", "fits"):
        assert (values[name] is None) == (name in arm.missing), (name, arm.missing)
    if arm.memory:
        assert arm.peak_memory_bytes == sum(arm.memory.values())
    if arm.train_seconds is not None:
        assert arm.seconds["train"] == arm.train_seconds > 0
        assert sum(arm.train_parts.values()) == pytest.approx(arm.train_seconds)
        assert all(seconds >= 0 for seconds in arm.train_parts.values())
    assert all(seconds >= 0 for seconds in [*arm.seconds.values(), *arm.search_seconds.values()])
    assert arm.forecast_seconds > 0


@pytest.mark.parametrize("profile", [True, False])
def test_an_arm_that_trains_has_every_figure(profile: bool, bert_folder: Path, news_csv: Path) -> None:
    spec = trial(bert_folder, news_csv, "lora")
    arm = forecast_of(spec, profile)
    check(arm)
    assert (arm.label, arm.trial, arm.how, arm.device) == ("lora", spec.id, "profile" if profile else "estimate", "cpu")
    assert arm.seconds.keys() == PHASES
    assert arm.memory.keys() == PARTS
    assert arm.search_seconds == {}
    assert arm.memory["optimizer"] == 2 * arm.memory["gradients"] > 0
    assert arm.memory["process"] > 100e6
    assert arm.fits is True
    assert arm.remedies == ()
    assert arm.largest is not None
    assert arm.largest.examples == 8
    assert arm.largest in [step.shape for step in arm.estimated_steps]
    assert bool(arm.profiled_steps) == profile
    assert arm.available_bytes is not None
    assert arm.peak_memory_bytes is not None
    assert arm.available_bytes > arm.peak_memory_bytes
    # The adapter and the head.
    assert arm.stored_bytes == pytest.approx(arm.memory["gradients"], rel=0.5)


def test_an_estimate_loads_no_weights_and_runs_nothing(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(trial_model, "load", refuse)
    monkeypatch.setattr(profiler, "assemble", refuse)
    assert forecast_of(trial(bert_folder, news_csv, "full")).train_seconds


def test_a_trial_of_the_search_takes_less(bert_folder: Path, news_csv: Path) -> None:
    asked = study(bert_folder, news_csv, "lora", protocol={"search": {"trials": 2, "max_steps": 2}})
    (final,) = plan(asked)
    arm = forecast_of(final, True, search=outline(asked)[0])
    check(arm)
    assert arm.search_seconds.keys() == PHASES - {"test", "inference"}
    assert arm.search_seconds["train"] < 0.5 * arm.seconds["train"]


def test_the_timing_of_single_examples_is_bounded_as_in_a_trial(writer: tuple[Path, Path]) -> None:
    assert _within(2.5, [1.0] * 9) == 2.0
    assert _within(0.0, [1.0] * 9) == 1.0
    assert _within(99.0, [1.0] * 9) == 9.0
    spec = writing(writer, "zero_shot")
    execution = spec.execution.model_copy(update={"latency_examples": 0})
    assert forecast_of(spec.model_copy(update={"execution": execution})).seconds["inference"] == 0
    assert forecast_of(spec.model_copy(update={"times_inference": False})).seconds["inference"] == 0


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("method", ["prompt_tuning", "zero_shot"])
def test_arms_that_write(method: str, profile: bool, writer: tuple[Path, Path]) -> None:
    arm = forecast_of(writing(writer, method), profile)
    check(arm)
    assert arm.seconds["test"] > 0
    assert arm.predictions_bytes is not None
    assert arm.predictions_bytes > 100
    if method == "zero_shot":
        assert arm.stored_bytes == 0
        assert arm.memory["gradients"] == 0
        assert "train" not in arm.seconds
        assert arm.missing["train_seconds"] == "this method does not train"
    else:
        assert arm.largest is not None
        assert arm.largest.targets > 0


def test_a_baseline_without_a_model_is_cheap(bert_folder: Path, news_csv: Path) -> None:
    arm = forecast_of(trial(bert_folder, news_csv, "majority"), True)
    check(arm)
    assert arm.stored_bytes == 0
    assert arm.seconds.keys() == {"load", "test"}
    assert arm.missing["peak_memory_bytes"] == "this method uses no model"


# --- memory of another device


@pytest.mark.parametrize("profile", [True, False])
def test_a_gpu_that_is_asked_about(profile: bool, bert_folder: Path, news_csv: Path) -> None:
    arm = forecast_of(trial(bert_folder, news_csv, "full"), profile, 8 * 10**9)
    check(arm)
    assert arm.memory.keys() == {"reserve", *PARTS} - {"process"}
    assert arm.memory["reserve"] == memory.GPU_RESERVE_BYTES
    assert arm.available_bytes == 8 * 10**9
    assert arm.fits is True
    assert "not measured" in arm.missing["memory.reserve"]


def test_what_does_not_fit_is_told_what_would_help(bert_folder: Path, news_csv: Path) -> None:
    spec = trial(bert_folder, news_csv, "lora", protocol={"max_length": 48})
    whole = forecast_of(spec, limit=8 * 10**9)
    assert whole.peak_memory_bytes is not None
    limit = whole.peak_memory_bytes - whole.memory["activations"] // 3
    arm = forecast_of(spec, limit=limit)
    assert arm.fits is False
    first = arm.remedies[0]
    assert (first.change, first.same_result) == ("protocol.gradient_accumulation_steps=2", True)
    assert all(remedy.peak_memory_bytes <= limit for remedy in arm.remedies)
    tight = whole.memory["activations"] // 7
    arm = forecast_of(spec, limit=whole.peak_memory_bytes - whole.memory["activations"] + tight)
    changes = [remedy.change for remedy in arm.remedies if remedy.same_result]
    assert changes == ["protocol.gradient_accumulation_steps=8"]


def test_computing_activations_again_is_suggested_where_it_is_enough(bert_folder: Path, news_csv: Path) -> None:
    change = {"gradient_checkpointing": True}
    spec, again = (
        trial(bert_folder, news_csv, "full", protocol={"max_length": 48, **changes}) for changes in ({}, change)
    )
    whole, less = (forecast_of(one, limit=8 * 10**9) for one in (spec, again))
    assert whole.peak_memory_bytes is not None
    assert less.peak_memory_bytes is not None
    assert less.peak_memory_bytes < whole.peak_memory_bytes
    arm = forecast_of(spec, limit=less.peak_memory_bytes)
    found = {remedy.change: remedy for remedy in arm.remedies}
    assert list(found)[:2] == ["protocol.gradient_accumulation_steps=2", "protocol.gradient_checkpointing=true"]
    remedy = found["protocol.gradient_checkpointing=true"]
    assert (remedy.peak_memory_bytes, remedy.same_result) == (less.peak_memory_bytes, True)
    tighter = forecast_of(again, limit=less.peak_memory_bytes - 1)
    assert tighter.fits is False
    assert "protocol.gradient_checkpointing=true" not in [remedy.change for remedy in tighter.remedies]


def test_nothing_is_suggested_where_nothing_helps(bert_folder: Path, news_csv: Path) -> None:
    arm = forecast_of(trial(bert_folder, news_csv, "full"), limit=1000)
    check(arm)
    assert arm.fits is False
    assert arm.remedies == ()


def test_this_machines_own_memory_decides_otherwise(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "resident_bytes", lambda: 0)
    monkeypatch.setattr(estimator, "free_bytes", lambda device: 10**6)
    arm = forecast_of(trial(bert_folder, news_csv, "full"))
    assert arm.available_bytes == 10**6
    assert arm.fits is False


# --- what cannot be known


def no_kernels(*args: Any, **kwargs: Any) -> Any:
    raise EstimateFailed("no kernels")


def test_a_step_that_cannot_be_estimated_is_profiled_all_the_same(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeModelProcess, "build", no_kernels)
    spec = trial(bert_folder, news_csv, "lora")
    profiled = forecast_of(spec, True)
    assert profiled.train_seconds is not None
    # Its largest shape was run.
    assert profiled.peak_memory_bytes is not None
    assert "no kernels" in profiled.missing["estimate"]
    estimated = forecast_of(spec)
    check(estimated)
    assert estimated.peak_memory_bytes is None
    assert "no kernels" in estimated.missing["peak_memory_bytes"]
    limited = forecast_of(spec, True, 10**9)
    assert limited.peak_memory_bytes is None
    assert limited.fits is None
    assert limited.available_bytes == 10**9


def test_a_model_that_cannot_be_built_is_the_reason(writer: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeModelProcess, "build", no_kernels)
    arm = forecast_of(writing(writer, "zero_shot"))
    check(arm)
    assert arm.missing["peak_memory_bytes"] == "this arm cannot be estimated: no kernels"


@pytest.mark.parametrize("limit", [None, 1000])
def test_changes_that_cannot_be_estimated_are_no_remedies(
    limit: int | None, bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimator, "free_bytes", lambda device: -(10**12))
    monkeypatch.setattr(ForecastCounts, "activations", no_kernels)
    arm = forecast_of(trial(bert_folder, news_csv, "lora"), limit=limit)
    check(arm)
    assert (arm.fits, arm.remedies) == (False, ())
    assert arm.missing["remedies"] == "changes cannot be estimated: no kernels"


def test_too_long_a_protocol_is_refused_as_in_a_trial(bert_folder: Path, news_csv: Path) -> None:
    with pytest.raises(DataError, match="positions"):
        forecast_of(trial(bert_folder, news_csv, "lora", protocol={"max_length": 600}))


# --- asked of a child process


def test_the_verb_answers_plain_data(bert_folder: Path, news_csv: Path) -> None:
    spec = trial(bert_folder, news_csv, "head")
    asked = {"trial": spec.model_dump(mode="json"), "search_trial": None, "device": "cpu", "memory_limit_bytes": None}
    answer = json.loads(json.dumps(requests._do("profile", asked, 0.0)))
    arm = ArmForecast.model_validate(answer)
    assert (arm.trial, arm.how) == (spec.id, "profile")
    check(arm)


@pytest.mark.slow
def test_a_forecast_comes_true(tmp_path: Path, bert_folder: Path) -> None:
    from tuneoff.store import StudyStore

    rows = [(f"{'goal match team score ' * (i % 6 + 1)}{i}", ("sport", "trade")[i % 2]) for i in range(400)]
    data = write_csv(tmp_path / "rows.csv", rows)
    asked = study(bert_folder, data, "full", protocol={"epochs": 4})
    trials = plan(asked)
    with LocalExecutor("cpu") as executor:
        forecast = executor.profile(trials[0])
        store = StudyStore.create(tmp_path / "study", asked, trials)
        executor.run(store, trials, lambda progress: None)
    (record,) = store.records()
    assert forecast.peak_memory_bytes == pytest.approx(record.memory.peak_memory_bytes, rel=0.15)
    # Others may use the machine while tests run.
    assert forecast.train_seconds == pytest.approx(record.timing.train_seconds, rel=0.6)
    assert forecast.stored_bytes == record.stored_bytes


# --- many arms at once


@pytest.mark.parametrize(("error", "goes_on"), [(Cancelled("enough"), False), (DataError("no such column"), True)])
def test_an_interrupt_ends_the_estimates_of_arms_and_a_failure_does_not(
    error: Exception, goes_on: bool, bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> ArmForecast:
        raise error

    monkeypatch.setattr(estimator, "_estimate_arm", fails)
    forecasts = estimate_arms([(trial(bert_folder, news_csv, "lora"), None)] * 2, "cpu", None)
    if goes_on:
        assert list(forecasts) == [error, error]
    else:
        with pytest.raises(Cancelled):
            next(forecasts)


def test_arms_estimated_together_are_those_estimated_alone(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []
    load = trial_data.load

    def noted(*given: Any) -> trial_data.TrialData:
        loads.append(given)
        return load(*given)

    monkeypatch.setattr(trial_data, "load", noted)
    methods = ("lora", "full", "prompt_tuning", "majority")
    pairs = [(trial(bert_folder, news_csv, method), None) for method in methods]
    together = list(estimate_arms(pairs, "cpu", None))
    # Once for the arms with a model, once for the baseline without.
    assert len(loads) == 2
    for (spec, _), arm in zip(pairs, together, strict=True):
        assert isinstance(arm, ArmForecast)
        alone = forecast_of(spec)
        assert (arm.label, arm.trial, arm.how) == (alone.label, alone.trial, alone.how)
        assert arm.estimated_steps == alone.estimated_steps
        assert arm.stored_bytes == alone.stored_bytes
        assert {part: size for part, size in arm.memory.items() if part != "process"} == {
            part: size for part, size in alone.memory.items() if part != "process"
        }
        assert arm.seconds.keys() == alone.seconds.keys()


def test_an_arm_that_cannot_be_leaves_the_others_theirs(bert_folder: Path, news_csv: Path) -> None:
    long = trial(bert_folder, news_csv, "lora", protocol={"max_length": 600})
    pairs = [[spec.model_dump(mode="json"), None] for spec in (long, trial(bert_folder, news_csv, "head"))]
    asked = {"pairs": pairs, "device": "cpu", "memory_limit_bytes": 10**9}
    failed, made = json.loads(json.dumps(requests._do("estimate", asked, 0.0)))
    assert failed["error"]["type"] == "DataError"
    assert "positions" in failed["error"]["message"]
    arm = ArmForecast.model_validate(made["arm"])
    assert (arm.label, arm.how, arm.available_bytes) == ("head", "estimate", 10**9)
    check(arm)


def test_an_executor_gives_errors_as_what_they_were(bert_folder: Path, news_csv: Path) -> None:
    long = trial(bert_folder, news_csv, "lora", protocol={"max_length": 600})
    with LocalExecutor("cpu", starter=Spawner) as executor:
        (found,) = executor.estimate([(long, None)])
    assert isinstance(found, DataError)
