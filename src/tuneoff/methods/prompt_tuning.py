"""Prompt tuning: trained embeddings before the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task
from tuneoff.methods.base import Attached, LearningRate, MethodOptions, TaskView

if TYPE_CHECKING:
    import torch
    from torch import nn


class PromptTuningOptions(MethodOptions):
    """Options of `prompt_tuning`."""

    tokens: int = Field(20, ge=1, description="virtual tokens; they count against the model's positions")


class PromptTuning(PeftMethod[PromptTuningOptions]):
    """Trains the embeddings of virtual tokens put before the input; the transformer stays frozen."""

    title = "Prompt tuning"
    summary = "Trains embeddings of virtual tokens before the input; nothing inside the transformer changes."
    paper = "Lester, Al-Rfou & Constant 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, https://arxiv.org/abs/2104.08691"
    learning_rate = LearningRate(3e-2, 1e-3, 5e-1)
    Options = PromptTuningOptions

    @property
    def virtual_tokens(self) -> int:
        return self.options.tokens

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import PromptTuningConfig, PromptTuningInit

        config = PromptTuningConfig(
            task_type=peft_task(task),
            num_virtual_tokens=self.options.tokens,
            prompt_tuning_init=PromptTuningInit.RANDOM,
        )
        attached = attach_peft(model, config)
        wrapped: Any = attached.module

        def soft_prompt(batch_size: int) -> torch.Tensor:
            prompt: torch.Tensor = wrapped.get_prompt(batch_size)
            return prompt

        attached.soft_prompt = soft_prompt
        attached.virtual_tokens = self.options.tokens
        return attached


plugin = PromptTuning
