"""No gradient is computed below the lowest part that a method trains, and nothing is kept for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import runner_of, some_features
from tuneoff import registry
from tuneoff.methods._modules import blocks
from tuneoff.trial.training.evaluate import ModelRunner

pytestmark = pytest.mark.usefixtures("one_thread")
pytest_plugins = ("trial_fixtures",)

TRAINED = [name for name, method in registry.methods().items() if method.trains]


def is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def lowest_trained(runner: ModelRunner) -> int:
    """The first block that a gradient must go through: the first that is trained, or that follows what is."""
    model: Any = runner.attached.model
    if is_trained(model.get_input_embeddings()) or runner.attached.virtual_tokens:
        return 0
    parts = blocks(model)
    return next((number for number, block in enumerate(parts) if is_trained(block)), len(parts))


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("method", TRAINED)
def test_gradients_and_what_is_kept_for_them_end_at_what_is_trained(method: str, architecture: str) -> None:
    if (method, architecture) == ("prefix_tuning", "bert"):
        pytest.skip("the method does not take this model")
    runner, _ = runner_of(method, architecture)
    runner.attached.module.train()
    model: Any = runner.attached.model
    lowest = lowest_trained(runner)
    reached: dict[int, bool] = {}
    kept: list[int] = []
    current: list[int] = []
    for number, block in enumerate(blocks(model)):

        def enter(*_: Any, number: int = number) -> None:
            current.append(number)

        def leave(_: Any, __: Any, output: Any, number: int = number) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            reached[number] = hidden.requires_grad
            current.pop()

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.extend(current)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        runner.task.forward(runner.attached, runner.batch(some_features()))
    assert reached == {number: number >= lowest for number in range(len(blocks(model)))}
    assert all(number >= lowest for number in kept)
