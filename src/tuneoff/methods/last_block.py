"""The last transformer blocks and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.errors import UnsupportedModel
from tuneoff.methods._modules import blocks, freeze, train_head
from tuneoff.methods.base import Attached, LearningRate, Method, MethodOptions, TaskView

if TYPE_CHECKING:
    from torch import nn


class LastBlockOptions(MethodOptions):
    """Options of `last_block`."""

    blocks: int = Field(1, ge=1, description="how many transformer blocks are trained, counted from the last")


class LastBlock(Method[LastBlockOptions]):
    """Trains the last transformer block (or blocks) and the head; all before stays frozen."""

    title = "Last block"
    summary = "Trains the last transformer block and the head; no gradient flows below it."
    paper = "Lee, Tang & Lin 2019, What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning, https://arxiv.org/abs/1911.03090"
    mergeable = True
    learning_rate = LearningRate(3e-4, 1e-5, 3e-3)
    Options = LastBlockOptions

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        found = blocks(model)
        if self.options.blocks > len(found):
            raise UnsupportedModel(
                f"last_block: {self.options.blocks} blocks asked for, {type(model).__name__} has {len(found)}"
            )
        freeze(model)
        for block in found[-self.options.blocks :]:
            for parameter in block.parameters():
                parameter.requires_grad_(True)
        train_head(model, task)
        return Attached(model, model)


plugin = LastBlock
