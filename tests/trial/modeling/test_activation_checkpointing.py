"""Activations that are computed again: where, under what precision, and where not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rank_helpers import examples, features, runner_for
from trial_helpers import make_study, runner_of, some_features
from tuneoff.errors import StudyError, UnsupportedModel
from tuneoff.methods._modules import blocks
from tuneoff.planning.plan import plan
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.context import ALONE
from tuneoff.trial.inspection import inspect_study
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.training.evaluate import ModelRunner, predict, write

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def computed(model: nn.Module) -> Counter[int]:
    """How often the last projection inside each block is computed from now on."""
    times: Counter[int] = Counter()
    for number, block in enumerate(blocks(model)):
        norm = next(module for module in block.modules() if isinstance(module, nn.LayerNorm))

        def note(*_: Any, number: int = number) -> None:
            times[number] += 1

        norm.register_forward_hook(note)
    return times


def step(runner: ModelRunner) -> torch.Tensor:
    runner.attached.module.train()
    batch = runner.batch(some_features())
    with runner.autocast():
        logits = runner.task.forward(runner.attached, batch)
    loss = runner.task.loss(logits, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@pytest.mark.parametrize(
    ("method", "times"),
    [("full", [2, 2]), ("lora", [2, 2]), ("prompt_tuning", [2, 2]), ("last_block", [1, 2]), ("head", [1, 1])],
)
def test_blocks_without_a_gradient_are_computed_once(method: str, times: list[int]) -> None:
    runner, _ = runner_of(method)
    checkpoint_activations(runner.attached.model)
    seen = computed(runner.attached.model)
    step(runner)
    assert [seen[0], seen[1]] == times


def test_an_evaluation_computes_once_and_the_same() -> None:
    plain, again = (runner_of("lora")[0] for _ in range(2))
    checkpoint_activations(again.attached.model)
    seen = computed(again.attached.model)
    batch = again.batch(some_features())
    for runner in (plain, again):
        runner.attached.module.eval()
    # With gradients, too: what counts is that the module does not train.
    made = again.task.forward(again.attached, batch)
    assert torch.equal(made, plain.task.forward(plain.attached, batch))
    assert seen == {0: 1, 1: 1}


@pytest.mark.parametrize("name", ["lora", "prefix_tuning"])
def test_texts_are_written_as_ever(name: str) -> None:
    rows, texts = features("text"), examples("text")
    found = []
    for recomputes in (False, True):
        runner, _ = runner_for(name, "text", "gpt2", ALONE, recomputes)
        runner.attached.module.eval()
        written, _ = write(runner, rows, texts, predict(runner, rows, texts))
        found.append(written)
    assert found[0] == found[1]
    assert any(prediction.output for prediction in found[0])


@pytest.mark.parametrize("method", ["full", "lora", "adapter"])
def test_the_precision_is_that_of_the_first_time(method: str) -> None:
    """The context of reduced precision is left before the backward pass begins."""
    gradients = []
    for recomputes in (False, True):
        plain, _ = runner_of(method, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1)
        runner = replace(plain, autocast=apply_policy("bf16", torch.device("cpu")).autocast)
        if recomputes:
            checkpoint_activations(runner.attached.model)
        torch.manual_seed(3)
        loss = step(runner)
        trained = [p.grad for p in runner.attached.module.parameters() if p.grad is not None]
        gradients.append([loss, *trained])
    assert len(gradients[0]) == len(gradients[1]) > 4
    for before, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, before, atol=1e-6, rtol=1e-6)


def test_dropout_draws_on_as_without() -> None:
    """What is drawn for the next step must not hang on blocks having been computed again."""
    draws = []
    for recomputes in (False, True):
        runner, _ = runner_of("full", hidden_dropout_prob=0.1)
        if recomputes:
            checkpoint_activations(runner.attached.model)
        torch.manual_seed(3)
        step(runner)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_a_model_whose_blocks_cannot_be_found_is_refused_before_it_is_trained(
    bert_folder: Path, news_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(part: nn.Module) -> list[nn.Module]:
        raise UnsupportedModel(f"{type(part).__name__}: its transformer blocks cannot be found")

    monkeypatch.setattr("tuneoff.trial.modeling.activation_checkpointing.blocks", none)
    study = make_study(bert_folder, news_csv, ["full"], protocol={"gradient_checkpointing": True})
    with pytest.raises(StudyError) as caught:
        inspect_study(study, plan(study), require_data=False)
    (problem,) = caught.value.problems
    assert problem.where == "methods.full"
    assert problem.message.startswith("protocol.gradient_checkpointing: Bert")
    assert "gradient_accumulation_steps saves memory" in problem.message


def test_a_trial_is_the_same_and_says_so_in_its_record(make_place: Callable[..., TrialStore]) -> None:
    import time

    from tuneoff.trial.run import run

    records = []
    for on in (False, True):
        place = make_place("lora", protocol={"dropout": 0.1, "precision": "fp32", "gradient_checkpointing": on})
        records.append(run(place, "cpu", time.perf_counter()))
        assert (
            json.loads((place.folder / "record.json").read_text())["spec"]["protocol"]["gradient_checkpointing"] is on
        )
    plain, again = records
    assert plain.spec.id != again.spec.id
    assert [m.value for m in again.metrics] == pytest.approx([m.value for m in plain.metrics], rel=1e-5)
    assert again.gradient_norm.per_step == pytest.approx(plain.gradient_norm.per_step, rel=1e-5)


def test_a_block_that_serves_as_all_layers_is_wrapped_once() -> None:
    """ALBERT's: gradients are those of a model that keeps all."""
    gradients = []
    for recomputes in (False, True):
        runner, _ = runner_of("full", "albert", num_hidden_layers=3)
        if recomputes:
            checkpoint_activations(runner.attached.model)
        step(runner)
        gradients.append([p.grad for p in runner.attached.module.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)
