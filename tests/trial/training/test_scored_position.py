"""The last block computes the scored position alone where nobody reads the others, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import runner_of, some_features
from tuneoff import registry
from tuneoff.interfaces import Example
from tuneoff.methods._modules import blocks
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.training.evaluate import ModelRunner, predict
from tuneoff.trial.training.scored_position import compute_where_equal
from tuneoff.trial.training.trainer import accumulate

pytestmark = pytest.mark.usefixtures("one_thread")
pytest_plugins = ("trial_fixtures",)

TRAINED = [name for name, method in registry.methods().items() if method.trains]


def without_dropout(method: str, architecture: str = "bert") -> ModelRunner:
    runner, _ = runner_of(method, architecture)
    runner.attached.module.train()
    for module in runner.attached.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return runner


def gradients(runner: ModelRunner) -> tuple[float, dict[str, torch.Tensor]]:
    runner.attached.module.train()
    loss = accumulate(runner, [runner.batch(some_features())], 4)
    return loss, {n: p.grad for n, p in runner.attached.module.named_parameters() if p.grad is not None}


def positions(runner: ModelRunner) -> int:
    """Positions that the last block's second half computes in one pass."""
    seen: list[int] = []
    last: Any = blocks(runner.attached.model)[-1]
    handle = last.intermediate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    runner.task.forward(runner.attached, runner.batch(some_features()))
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("method", [name for name in TRAINED if name != "prefix_tuning"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_losses_and_gradients_are_those_of_all_positions(method: str, recomputed: bool) -> None:
    whole, cut = without_dropout(method), without_dropout(method)
    assert compute_where_equal(cut, some_features()) is not cut
    if recomputed:
        checkpoint_activations(cut.attached.model)
    (loss, expected), (cut_loss, computed) = gradients(whole), gradients(cut)
    assert positions(cut) == 1 < positions(whole)
    assert cut_loss == pytest.approx(loss, rel=1e-6)
    assert computed.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(computed[name], expected[name], rtol=1e-4, atol=1e-6)


def test_predictions_of_classes_compute_one_position_and_a_timed_example_all() -> None:
    features = some_features()
    examples = [Example(f"text {i}", "a", i, f"row {i}") for i in range(len(features))]
    whole = without_dropout("lora")
    runner = compute_where_equal(without_dropout("lora"), features)
    widths: list[int] = []
    last: Any = blocks(runner.attached.model)[-1]
    last.intermediate.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    for one, other in zip(predict(runner, features, examples), predict(whole, features, examples), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-6)
    assert set(widths) == {1}
    with runner.evaluating():
        assert positions(runner) == 12


def test_the_cut_ends_with_what_failed_within_it() -> None:
    runner = compute_where_equal(without_dropout("lora"), some_features())
    with pytest.raises(KeyError), runner.predicting():
        raise KeyError
    with runner.evaluating():
        assert positions(runner) == 12


@pytest.mark.parametrize("architecture", ["gpt2", "albert", "bart", "xlnet"])
def test_other_blocks_are_left_as_they_are(architecture: str) -> None:
    runner, _ = runner_of("full", architecture)
    assert compute_where_equal(runner, some_features()) is runner


def test_a_task_that_writes_is_left_as_it_is() -> None:
    runner, _ = runner_of("full", "gpt2", Generation({}))
    assert compute_where_equal(runner, some_features()) is runner


def test_where_another_position_is_read_all_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = without_dropout("full")
    model: Any = runner.attached.model
    pooler = model.bert.pooler
    monkeypatch.setattr(pooler, "forward", lambda hidden: pooler.activation(pooler.dense(hidden.mean(1))))
    expected = gradients(runner)[0]
    assert compute_where_equal(runner, some_features()) is runner
    assert gradients(runner)[0] == expected
    assert positions(runner) == 12


def test_where_the_model_fails_without_the_others_all_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = without_dropout("full")
    model: Any = runner.attached.model
    pooler = model.bert.pooler
    monkeypatch.setattr(pooler, "forward", lambda hidden: pooler.activation(pooler.dense(hidden[:, 2])))
    assert compute_where_equal(runner, some_features()) is runner
    assert positions(runner) == 12


@pytest.mark.parametrize("answer", [True, False])
def test_an_answer_that_is_known_is_not_looked_for(answer: bool) -> None:
    runner = without_dropout("lora")
    passes: list[int] = []
    runner.attached.module.register_forward_pre_hook(lambda *_: passes.append(1))
    assert (compute_where_equal(runner, some_features(), lambda check: answer) is not runner) is answer
    assert not passes
    assert positions(runner) == (1 if answer else 12)
