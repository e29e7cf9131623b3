"""(IA)3: trained vectors that rescale keys, values and feed-forward activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task
from tuneoff.methods.base import Attached, LearningRate, MethodOptions, Prior, TaskView

if TYPE_CHECKING:
    from torch import nn


class IA3Options(MethodOptions):
    """Options of `ia3`."""

    targets: tuple[str, ...] | None = Field(
        None, description="names of the modules to rescale; unset: PEFT's choice for the architecture"
    )
    feedforward: tuple[str, ...] | None = Field(
        None, description="those of `targets` that are rescaled at their input; unset: as for `targets`"
    )

    @model_validator(mode="after")
    def _together(self) -> IA3Options:
        if (self.targets is None) != (self.feedforward is None):
            raise ValueError("targets and feedforward are given together or not at all")
        if self.targets is not None and self.feedforward is not None and not {*self.feedforward} <= {*self.targets}:
            raise ValueError("feedforward must be some of targets")
        return self


class IA3(PeftMethod[IA3Options]):
    """Rescales keys, values and feed-forward activations by trained vectors; merges into the weights."""

    title = "IA3"
    summary = "Trains vectors that rescale keys, values and feed-forward activations; very few parameters."
    paper = "Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning, https://arxiv.org/abs/2205.05638"
    mergeable = True
    learning_rate = LearningRate(1e-2, 1e-3, 5e-2)
    prior = Prior(
        0.6,
        1.05,
        "ahead of full fine-tuning with few examples in Liu et al. 2022 (T0-3B); 0.34 of accuracy against 0.50 on "
        "MetaMathQA in PEFT's method comparison (Llama-3.2-3B); level for MiniLM on AG News in "
        "benchmarks/studies/ag-news-minilm",
    )
    Options = IA3Options

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        from peft import IA3Config

        config = IA3Config(
            task_type=peft_task(task),
            target_modules=None if self.options.targets is None else list(self.options.targets),
            feedforward_modules=None if self.options.feedforward is None else list(self.options.feedforward),
        )
        return attach_peft(model, config, task)


plugin = IA3
