"""In-context learning: the base model with solved examples before each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.interfaces import Attached, Method, MethodOptions, TaskView
from tuneoff.methods._modules import freeze, refuse_fresh_head
from tuneoff.methods._references import FEW_SHOT, FEW_SHOT_PAPER

if TYPE_CHECKING:
    from torch import nn


class FewShotOptions(MethodOptions):
    """Options of `few_shot`."""

    examples: int = Field(
        3, ge=1, description="solved training examples shown before each input; they take positions of the model"
    )


class FewShot(Method[FewShotOptions]):
    """The base model with the task's template and a few training examples, drawn by the trial's seed."""

    title = "Few-shot"
    summary = "No training: the base model shown a few solved training examples before each input."
    paper = FEW_SHOT_PAPER
    references = (FEW_SHOT,)
    needs = "no_head"
    trains = False
    Options = FewShotOptions

    @property
    def demonstrations(self) -> int:
        return self.options.examples

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        refuse_fresh_head(task, "few_shot")
        freeze(model)
        return Attached(model, model)


plugin = FewShot
