from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from trial_helpers import runner_of, some_features
from tuneoff.config.protocol import Precision, Protocol
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, Batch, Features
from tuneoff.measure.parameters import BaseIdentity
from tuneoff.tasks.classification import Classification
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.training import preflight
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.optim import adamw

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES = some_features((3, 9, 5, 12))


@pytest.mark.parametrize("name", ["full", "lora", "prompt_tuning", "head"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_sound_methods_pass_and_leave_no_trace(name: str, architecture: str) -> None:
    runner, _ = runner_of(name, architecture)
    module = runner.attached.module
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    preflight.check(runner, FEATURES, name)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())


@pytest.mark.parametrize("name", ["full", "lora"])
def test_training_is_the_same_with_and_without_it(name: str) -> None:
    """Dropout is on, so a random number used up would show."""
    results = []
    for checked in (False, True):
        runner, method = runner_of(name)
        torch.manual_seed(7)
        if checked:
            preflight.check(runner, FEATURES, name)
        runner.attached.module.train()
        optimizer = adamw(method.parameter_groups(runner.attached, 0.01), Protocol(), 1e-2)
        batch = runner.task.collate(FEATURES, 0)
        for _ in range(2):
            loss = runner.task.loss(runner.task.forward(runner.attached, batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        results.append(runner.logits(FEATURES).detach())
    assert torch.equal(*results)


def test_a_trained_parameter_without_gradient_is_named() -> None:
    runner, _ = runner_of("head")
    runner.attached.module.register_parameter("forgotten", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(UnsupportedModel, match=r"^mine: 1 trained parameters get no gradient, e.g. forgotten"):
        preflight.check(runner, FEATURES, "mine")


def test_a_part_cut_off_the_graph_is_named() -> None:
    """The usual way it happens: something before a trained layer runs without gradients."""
    runner, _ = runner_of("full")
    model: Any = runner.attached.model
    model.bert.encoder.register_forward_hook(
        lambda module, inputs, output: type(output)(last_hidden_state=output.last_hidden_state.detach())
    )
    with pytest.raises(UnsupportedModel, match=r"trained parameters get no gradient, e.g. bert\.embeddings"):
        preflight.check(runner, FEATURES, "full")
    assert all(p.grad is None for p in model.parameters())


def test_a_few_tensors_that_other_tasks_use_stay_as_they_are() -> None:
    runner, _ = runner_of("full", "xlnet")
    before = BaseIdentity.of(runner.attached.model, runner.task.view(runner.attached.model))
    idle = preflight.check(runner, FEATURES, "full", before)
    assert "transformer.mask_emb" in idle
    assert all(name.startswith("transformer.") for name in idle)
    with pytest.raises(UnsupportedModel, match=r"e\.g\. transformer\.mask_emb"):
        preflight.check(runner, FEATURES, "full")
    model: Any = runner.attached.model
    model.transformer.word_embedding.register_forward_hook(lambda module, inputs, output: output.detach())
    with pytest.raises(UnsupportedModel, match="trained parameters get no gradient"):
        preflight.check(runner, FEATURES, "full", before)


def test_a_frozen_parameter_with_gradient_is_named() -> None:
    """A method that thaws a weight while the model runs and freezes it again afterwards."""
    runner, _ = runner_of("head")
    model: Any = runner.attached.model
    weight = model.bert.pooler.dense.weight
    assert not weight.requires_grad

    def thaw(module: torch.nn.Module, inputs: Any) -> None:
        weight.requires_grad_(True)

    model.register_forward_pre_hook(thaw)
    weight.requires_grad_(True)
    weight.register_post_accumulate_grad_hook(lambda parameter: parameter.requires_grad_(False))
    weight.requires_grad_(False)
    with pytest.raises(UnsupportedModel, match=r"^leaky: 1 frozen parameters get a gradient, e.g. bert\.pooler"):
        preflight.check(runner, FEATURES, "leaky")
    assert weight.grad is None


class LastPlace(Classification):
    """Reads a decoder's class at the last place of the batch, be it padding or not."""

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        model: Any = attached.model
        hidden = model.base_model(input_ids=batch["input_ids"]).last_hidden_state
        scored: torch.Tensor = model.score(hidden[:, -1])
        return scored


class NoMask(Classification):
    """Forgets an encoder's attention mask."""

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        return super().forward(attached, {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])})


@pytest.mark.parametrize(("architecture", "kind"), [("gpt2", LastPlace), ("bert", NoMask)])
def test_a_task_that_padding_moves_is_refused(architecture: str, kind: type[Classification]) -> None:
    task = kind({"labels": ["a", "b"]})
    runner, _ = runner_of("full", architecture, task)
    with pytest.raises(UnsupportedModel, match=r"full: an example's logits change by [\d.]+% when it is padded"):
        preflight.check(runner, FEATURES, "full")
    sound = replace(runner, task=Classification({"labels": ["a", "b"]}))
    preflight.check(sound, FEATURES, "full")


class NotANumber(Classification):
    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        return super().forward(attached, batch) * torch.nan


def test_reduced_precision_is_no_padding_error() -> None:
    runner, _ = runner_of("full", "gpt2")
    device = torch.device("cpu")
    policies: tuple[Precision, ...] = ("bf16", "fp32-medium")
    for name in policies:
        policy = apply_policy(name, device)
        preflight.check(replace(runner, autocast=policy.autocast), FEATURES, "full")
        assert torch.get_float32_matmul_precision() == ("medium" if name == "fp32-medium" else "highest")


def test_logits_that_are_no_numbers_do_not_pass() -> None:
    runner, _ = runner_of("full", task=NotANumber({"labels": ["a", "b"]}))
    with pytest.raises(UnsupportedModel):
        preflight.check(runner, FEATURES, "full")


def lengths(features: Sequence[Features]) -> list[int]:
    return [len(feature.input_ids) for feature in features]


def test_the_shortest_is_padded_by_the_longest() -> None:
    """The check takes the pair that pads most, wherever the two stand."""
    seen: list[list[int]] = []

    class Watching(ModelRunner):
        def logits(self, features: Sequence[Features]) -> torch.Tensor:
            seen.append(lengths(features))
            return super().logits(features)

    runner, _ = runner_of("head")
    preflight.check(Watching(**vars(runner)), FEATURES, "head")
    assert seen == [[3], [3, 12]]
    # A single example has nothing to be padded by, and passes.
    preflight.check(runner, FEATURES[:1], "head")
