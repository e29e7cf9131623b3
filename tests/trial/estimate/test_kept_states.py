"""Frozen first blocks in a forecast: computed once for each row, and passed over in every step and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trial_helpers import forecast_of, make_study, runner_of, some_features
from tuneoff.analysis.search_rounds import outline
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.planning.plan import plan
from tuneoff.trial.estimate.fake_model import FakeModel
from tuneoff.trial.estimate.step_cost import MemoryTracker, Setup
from tuneoff.trial.modeling import hidden_states
from tuneoff.trial.modeling.frozen_prefix import find
from tuneoff.trial.training import prefix
from tuneoff.trial.training.scored_position import compute_first_position

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

KEPT = {"train", "validation", "test"}


def study(model: Path, data: Path, method: str, **changes: Any) -> StudySpec:
    protocol = {"seeds": 1, "epochs": 4, "batch_size": 8, "max_length": 24, "precision": "fp32"}
    return make_study(model, data, {method: {}}, **{**changes, "protocol": {**protocol, **changes.get("protocol", {})}})


def trial(model: Path, data: Path, method: str, **changes: Any) -> TrialSpec:
    (spec,) = plan(study(model, data, method, **changes))
    return spec


def fake(method: str, folder: Path, data: Path, keeps_frozen: bool = True) -> FakeModel:
    runner, _ = runner_of(method)
    spec = trial(folder, data, method, protocol={"dropout": 0.0})
    return FakeModel(spec, runner.task, Setup("fp32", "eager", keeps_frozen=keeps_frozen))


@pytest.mark.parametrize("method", ["head", "last_block"])
def test_a_step_is_counted_as_one_that_reads_kept_states(method: str, bert_folder: Path, news_csv: Path) -> None:
    runner, _ = runner_of(method)
    features = some_features()
    batch = runner.task.collate(features, 0)
    counted = fake(method, bert_folder, news_csv).step(batch, len(features))
    real = find(runner.attached, lambda: runner.logits(features))
    assert real is not None
    kept = real.capture(lambda: runner.logits(features))
    compute_first_position(runner.attached.model)
    module = runner.attached.module.train()
    real.quiet()
    with real.reading(kept.get), MemoryTracker([*module.parameters(), *module.buffers(), *batch.values()]) as tracker:
        runner.task.loss(runner.task.forward(runner.attached, batch), batch).backward()  # type: ignore[no-untyped-call]
    assert counted.operations == tracker.operations
    assert counted.operations < 0.6 * fake(method, bert_folder, news_csv, keeps_frozen=False).step(batch, 1).operations


@pytest.mark.parametrize("method", ["head", "last_block"])
@pytest.mark.parametrize("folder", ["bert_folder", "gpt_folder"])
def test_the_parts_of_a_forward_pass_make_the_whole(
    method: str, folder: str, news_csv: Path, request: pytest.FixtureRequest
) -> None:
    model = fake(method, request.getfixturevalue(folder), news_csv)
    batch = model.task.collate(some_features(), 0)
    whole, frozen, rest = model.evaluation(batch), model.evaluation(batch, "frozen"), model.evaluation(batch, "rest")
    # Predictions of BERT's kind compute one position of the last block.
    cut = folder == "bert_folder" and method == "last_block"
    assert (whole.operations > frozen.operations + rest.operations) == cut
    assert cut or whole.operations == frozen.operations + rest.operations
    assert 0 < rest.operations < whole.operations
    config: Any = model.attached.model.config
    assert model.kept_bytes(batch) == 4 * config.hidden_size


def test_nothing_is_passed_over_where_all_blocks_are_trained(bert_folder: Path, news_csv: Path) -> None:
    models = [fake("lora", bert_folder, news_csv, keeps_frozen) for keeps_frozen in (True, False)]
    batch = models[0].task.collate(some_features(), 0)
    assert models[0].kept_bytes(batch) == 0
    assert models[0].step(batch, 1) == models[1].step(batch, 1)


@pytest.mark.parametrize("profile", [True, False])
def test_frozen_blocks_are_paid_once(profile: bool, bert_folder: Path, news_csv: Path) -> None:
    asked = study(bert_folder, news_csv, "head", protocol={"search": {"trials": 2}})
    (final,) = plan(asked)
    arm = forecast_of(final, profile, search=outline(asked)[0])
    assert arm.kept_seconds.keys() == {*KEPT, "tokenize"}
    assert all(0 < arm.kept_seconds[phase] < arm.seconds[phase] for phase in KEPT)
    assert arm.kept_seconds["tokenize"] == arm.seconds["tokenize"]
    assert arm.train_seconds == arm.seconds["train"] == pytest.approx(sum(arm.train_parts.values()))
    assert arm.train_parts["frozen"] == arm.kept_seconds["train"]
    # Of another seed, so the batches differ a little.
    assert arm.search_seconds["train"] == pytest.approx(arm.seconds["train"] - arm.kept_seconds["train"], rel=0.1)


def test_seeds_with_rows_of_their_own_share_no_tokens(bert_folder: Path, news_csv: Path) -> None:
    own_rows = trial(bert_folder, news_csv, "lora", protocol={"splits": "per_seed"})
    shared, own = forecast_of(trial(bert_folder, news_csv, "lora")), forecast_of(own_rows)
    assert shared.kept_seconds.keys() == {"tokenize"}
    assert own.kept_seconds == {}


def test_training_takes_the_memory_of_the_frozen_blocks_where_that_is_more(bert_folder: Path, news_csv: Path) -> None:
    many, few = (
        forecast_of(trial(bert_folder, news_csv, "head", protocol={"evaluation_batch_size": size})) for size in (32, 1)
    )
    assert many.estimated_steps == few.estimated_steps
    assert many.memory["activations"] > few.memory["activations"] >= few.estimated_steps[0].activations_bytes


@pytest.mark.parametrize(
    ("changes", "devices"),
    [({"protocol": {"frozen_dropout": True}}, 1), ({"execution": {"engine": "plain"}}, 1), ({}, 2)],
)
def test_nothing_is_kept_where_a_trial_keeps_nothing(
    changes: dict[str, Any], devices: int, bert_folder: Path, news_csv: Path
) -> None:
    spec = trial(bert_folder, news_csv, "head", **changes)
    arm = forecast_of(spec.model_copy(update={"devices": devices}))
    assert arm.kept_seconds.keys().isdisjoint(KEPT)
    assert ("tokenize" in arm.kept_seconds) == (spec.execution.engine == "fast")
    kept = forecast_of(trial(bert_folder, news_csv, "head"))
    assert arm.estimated_steps[0].operations > 2 * kept.estimated_steps[0].operations


def test_nothing_is_kept_of_a_model_that_fails_the_check(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix, "reproduces", lambda *args: False)
    arm = forecast_of(trial(bert_folder, news_csv, "head"), profile=True)
    assert arm.kept_seconds.keys().isdisjoint(KEPT)
    assert arm.profiled_steps


@pytest.mark.parametrize("profile", [True, False])
def test_nothing_is_kept_where_there_is_no_room(
    profile: bool, bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = trial(bert_folder, news_csv, "head")
    kept = forecast_of(spec)
    monkeypatch.setattr(hidden_states, "LIMIT_BYTES", 1000)
    arm = forecast_of(spec, profile)
    assert arm.kept_seconds.keys().isdisjoint(KEPT)
    assert arm.estimated_steps[0].operations > 2 * kept.estimated_steps[0].operations
