from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from trial_helpers import context_of, runner_of, some_features
from tuneoff.config.protocol import Protocol
from tuneoff.errors import Diverged
from tuneoff.records.record import Event
from tuneoff.trial.data.batching import training_batches
from tuneoff.trial.estimate.schedule import Lengths, batch_schedule
from tuneoff.trial.phases import Phases
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.trainer import train

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (3, 9, 5, 12, 7, 4, 10, 6, 8, 11)
NO_DROPOUT: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def protocol(**options: Any) -> Protocol:
    return Protocol.model_validate({"epochs": 1, "batch_size": 4, "warmup_steps": 0, **options})


@dataclass
class Run:
    """A runner after training, and all that the loop told."""

    runner: ModelRunner
    training: Trained
    phases: Phases
    validated: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.runner.attached.module.named_parameters()}


def run(name: str = "full", rate: float = 1e-3, seed: int = 0, dropout: bool = False, **options: Any) -> Run:
    runner, method = runner_of(name, **({} if dropout else NO_DROPOUT))
    validated: list[int] = []
    events: list[Event] = []

    def validate(step: int) -> dict[str, float]:
        validated.append(step)
        return {"accuracy": float(step)}

    context = context_of(runner, protocol(**options), rate, seed, events.append)
    training = train(context, runner, method, some_features(SIZES), validate)
    return Run(runner, training, context.phases, validated, events)


def effective_batches(**options: Any) -> list[list[int]]:
    """Returns the batches of a run at seed 0."""
    return [list(batch) for batch in training_batches([(size,) for size in SIZES], protocol(**options), seed=0)]


# --- order and steps


@pytest.mark.parametrize(
    ("options", "steps", "points"),
    [
        ({}, 3, {3}),
        ({"epochs": 3}, 9, {3, 6, 9}),
        ({"epochs": 2, "evaluations_per_epoch": 3}, 6, {1, 2, 3, 4, 5, 6}),
        # More evaluations than steps: one a step.
        ({"evaluations_per_epoch": 50}, 3, {1, 2, 3}),
        ({"epochs": 2, "evaluations_per_epoch": 2}, 6, {2, 3, 5, 6}),
        # Cut short in the middle of an epoch: scored at the end all the same.
        ({"epochs": 3, "max_steps": 5}, 5, {3, 5}),
        ({"max_steps": 1}, 1, {1}),
        ({"epochs": 2, "max_steps": 100}, 6, {3, 6}),
        ({"batch_size": 64}, 1, {1}),
    ],
)
def test_steps_and_evaluations(options: dict[str, Any], steps: int, points: set[int]) -> None:
    chosen = protocol(**options)
    assert chosen.total_steps(10) == steps
    assert chosen.evaluation_steps(10) == points


def test_the_loop_does_what_was_announced() -> None:
    done = run(epochs=3, max_steps=8, evaluations_per_epoch=2)
    assert done.training.steps == 8
    assert done.validated == sorted(protocol(epochs=3, max_steps=8, evaluations_per_epoch=2).evaluation_steps(10))
    assert [point.step for point in done.training.curve] == done.validated
    assert done.training.curve[-1].validation == {"accuracy": 8.0}
    # Two whole epochs of ten rows and two batches of four.
    assert done.training.examples == 28
    assert done.training.curve[-1].epoch == pytest.approx(2.8)
    assert len(done.training.gradient_norms) == 8


@pytest.mark.parametrize("batching", ["length", "random"])
def test_tokens_are_counted_with_and_without_padding(batching: str) -> None:
    done = run(epochs=2, batching=batching)
    assert done.training.tokens == 2 * sum(SIZES)
    batches = effective_batches(epochs=2, batching=batching)
    padded = sum(len(batch) * max(SIZES[i] for i in batch) for batch in batches)
    assert done.training.computed_tokens == padded > done.training.tokens


@pytest.mark.parametrize("batching", ["length", "random"])
def test_the_order_is_the_one_that_is_forecast(batching: str) -> None:
    options: dict[str, Any] = {"epochs": 2, "batching": batching, "gradient_accumulation_steps": 2}
    schedule = batch_schedule(Lengths(some_features(SIZES), apart=False), protocol(**options), seed=0)
    rows = [row for step in schedule for micro in step for row in micro.rows]
    assert run(**options).training.order == hashlib.sha256(np.array(rows, dtype=np.int64).tobytes()).hexdigest()


@pytest.mark.parametrize("batching", ["length", "random"])
def test_every_method_trains_in_the_same_order(batching: str) -> None:
    orders = {run(name, epochs=2, batching=batching).training.order for name in ("head", "lora", "full")}
    assert len(orders) == 1
    assert orders != {run("head", epochs=2, batching=batching, seed=1).training.order}


def test_time_of_training_is_steps_and_data_and_grows_along_the_curve() -> None:
    done = run(epochs=2)
    seconds = done.phases.watch.seconds
    assert done.phases.train_seconds == pytest.approx(seconds["train_step"] + seconds["data_wait"])
    times = [point.train_seconds or 0.0 for point in done.training.curve]
    assert 0 < times[0] < times[1] == pytest.approx(done.phases.train_seconds)
    assert 0 < done.training.first_steps_seconds <= done.phases.train_seconds


def test_a_steady_step_leaves_the_first_ones_out() -> None:
    done = run(epochs=2)
    first = replace(done.training, step_seconds=(9.0, 8.0, 7.0))
    assert first.step_seconds_median is None, "all are first steps"
    assert replace(first, step_seconds=(9.0, 8.0, 7.0, 1.0, 3.0, 2.0)).step_seconds_median == 2.0
    assert len(done.training.step_seconds) == done.training.steps
    assert sum(done.training.step_seconds) == pytest.approx(done.phases.train_seconds, rel=0.05)


# --- updates


@pytest.mark.parametrize("name", ["full", "lora"])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_accumulation_changes_no_update(name: str, parts: int) -> None:
    """Ten rows in batches of four: the last batch is smaller, and three parts do not divide any."""
    # Adam divides a gradient by its size: with a small epsilon, the rounding of gradients that are zero but for it
    # (keys' biases) would become steps.
    whole = run(name, epochs=2, adam_epsilon=1e-3)
    split = run(name, epochs=2, adam_epsilon=1e-3, gradient_accumulation_steps=parts)
    untrained, _ = runner_of(name, **NO_DROPOUT)
    before = {n: p.detach() for n, p in untrained.attached.module.named_parameters()}
    for parameter, value in whole.weights.items():
        assert (split.weights[parameter] - value).abs().max() <= 1e-6, parameter
    assert any((value - before[n]).abs().max() > 5e-4 for n, value in whole.weights.items())
    assert split.training.gradient_norms == pytest.approx(whole.training.gradient_norms, rel=1e-4)
    losses = [[point.train_loss for point in done.training.curve] for done in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert whole.training.order == split.training.order


def test_two_runs_at_one_seed_are_equal_and_two_seeds_are_not() -> None:
    first, again, other = (run("lora", epochs=2, dropout=True, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert any(not torch.equal(first.weights[name], other.weights[name]) for name in first.weights)
    assert first.training.gradient_norms == again.training.gradient_norms
    assert first.training.order != other.training.order


def test_the_first_update_by_hand() -> None:
    """AdamW's first step moves every weight by the rate, against the sign of its gradient."""
    done = run("head", rate=1e-2, weight_decay=0.0, max_steps=1, clip_norm=None)
    runner, _ = runner_of("head", **NO_DROPOUT)
    features = some_features(SIZES)
    batch = runner.task.collate([features[i] for i in effective_batches()[0]], 0)
    runner.attached.module.train()
    loss = runner.task.loss(runner.task.forward(runner.attached, batch), batch) / 4
    loss.backward()  # type: ignore[no-untyped-call]
    head = runner.attached.model.get_submodule("classifier").weight
    assert isinstance(head, torch.nn.Parameter)
    assert head.grad is not None
    expected = head.detach() - 1e-2 * head.grad.sign()
    assert torch.allclose(done.weights["classifier.weight"], expected, atol=1e-5)
    assert done.training.curve[0].train_loss == pytest.approx(float(loss.detach()), abs=1e-6)


def test_gradient_norms_are_those_before_clipping() -> None:
    clipped = run(max_steps=1, clip_norm=1e-3)
    free = run(max_steps=1, clip_norm=None)
    wide = run(max_steps=1, clip_norm=1e6)
    assert clipped.training.gradient_norms == pytest.approx(free.training.gradient_norms)
    assert clipped.training.gradient_norms[0] > 1e-3
    for name, value in free.weights.items():
        assert torch.equal(wide.weights[name], value), name


def test_clipping_bounds_what_a_step_can_do() -> None:
    # Where the optimizer's epsilon is large, a step is in proportion to the gradient, so that clipping shows.
    options: dict[str, Any] = {"max_steps": 1, "adam_epsilon": 1.0, "weight_decay": 0.0, "rate": 1.0}
    untrained, _ = runner_of("full", **NO_DROPOUT)
    before = {n: p.detach() for n, p in untrained.attached.module.named_parameters()}

    def moved(clip: float | None) -> float:
        done = run(clip_norm=clip, **options)
        return math.sqrt(sum(float(((value - before[n]) ** 2).sum()) for n, value in done.weights.items()))

    assert moved(0.01) == pytest.approx(0.01, rel=0.05)
    assert moved(None) > 2 * moved(0.01)


def test_the_curve_tells_the_rate_in_force() -> None:
    done = run(epochs=2, rate=0.01, schedule="linear")
    assert [point.learning_rate for point in done.training.curve] == pytest.approx([0.01 * 4 / 6, 0.01 * 1 / 6])


# --- trouble


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_stops_the_trial_and_names_the_step(value: float) -> None:
    runner, method = runner_of("head", **NO_DROPOUT)

    def poison(step: int) -> dict[str, float]:
        with torch.no_grad():
            runner.attached.model.get_submodule("classifier").weight.fill_(value)  # type: ignore[operator]
        return {}

    context = context_of(runner, protocol(epochs=3), 0.25)
    with pytest.raises(Diverged, match="at step 4 of 9") as caught:
        train(context, runner, method, some_features(SIZES), poison)
    assert "lower learning rate than 0.25" in caught.value.hint


def test_progress_is_told_at_every_evaluation() -> None:
    done = run(epochs=2)
    steps = [event for event in done.events if event["kind"] == "step"]
    assert [event["step"] for event in steps if event["step"] in done.validated] == done.validated
    last = steps[-1]
    assert (last["steps"], last["epoch"], last["epochs"]) == (6, 2.0, 2)
    assert math.isfinite(last["loss"])
    assert last["examples_per_second"] > 0


def test_a_method_is_told_of_every_step() -> None:
    runner, method = runner_of("head", **NO_DROPOUT)
    told: list[tuple[int, int]] = []
    method.after_step = lambda attached, step, total_steps: told.append((step, total_steps))  # type: ignore[method-assign]
    train(context_of(runner, protocol(epochs=2), 0.01), runner, method, some_features(SIZES), lambda step: {})
    assert told == [(step, 6) for step in range(1, 7)]
