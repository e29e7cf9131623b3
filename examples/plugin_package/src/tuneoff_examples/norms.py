"""Layer norms: their scales and shifts, and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, LearningRate, Method, MethodOptions, TaskView

if TYPE_CHECKING:
    from torch import nn


class NormsOptions(MethodOptions):
    """Options of `norms`."""

    shifts: bool = Field(True, description="train the norms' shifts (biases) beside their scales")


class Norms(Method[NormsOptions]):
    """Trains the scales and shifts of every layer norm, and the head."""

    title = "Layer norms"
    summary = "Trains the layer norms and the head."
    paper = "Zhao et al. 2023, Tuning LayerNorm in Attention, https://arxiv.org/abs/2312.11420"
    mergeable = True  # trained in place: the model is its own merged form
    learning_rate = LearningRate(2e-3)
    Options = NormsOptions

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        model.requires_grad_(False)
        norms = [module for module in model.modules() if type(module).__name__.endswith("Norm")]
        if not norms:
            raise UnsupportedModel(f"{type(model).__name__} has no layer norms to train")
        for norm in norms:
            for name, parameter in norm.named_parameters():
                parameter.requires_grad_(name == "weight" or self.options.shifts)
        for name in task.head:
            model.get_submodule(name).requires_grad_(True)
        return Attached(model, model)


plugin = Norms
