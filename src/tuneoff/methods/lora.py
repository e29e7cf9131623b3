"""LoRA: low-rank updates beside frozen projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task
from tuneoff.methods.base import Attached, LearningRate, MethodOptions, TaskView

if TYPE_CHECKING:
    from torch import nn


class LoraOptions(MethodOptions):
    """Options of `lora`."""

    r: int = Field(8, ge=1, description="rank of the update")
    alpha: float = Field(16, gt=0, description="the update is scaled by alpha / r")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the update")
    targets: str | tuple[str, ...] = Field(
        "default",
        description="'default' (PEFT's choice for the architecture: query and value), 'all-linear', or module names",
    )


class Lora(PeftMethod[LoraOptions]):
    """Adds a trained product of two thin matrices to frozen projections; merges into them."""

    title = "LoRA"
    summary = "Trains low-rank updates of frozen projections; merging leaves inference as fast as the base model."
    paper = "Hu et al. 2022, LoRA, https://arxiv.org/abs/2106.09685"
    mergeable = True
    learning_rate = LearningRate(2e-3, 5e-5, 1e-2)
    Options = LoraOptions

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import LoraConfig

        targets = self.options.targets
        names = targets if isinstance(targets, str) else list(targets)
        if isinstance(names, str) and names not in {"default", "all-linear"}:
            names = [names]
        config = LoraConfig(
            task_type=peft_task(task),
            r=self.options.r,
            lora_alpha=self.options.alpha,
            lora_dropout=self.options.dropout,
            target_modules=None if names == "default" else names,
        )
        return attach_peft(model, config)


plugin = Lora
