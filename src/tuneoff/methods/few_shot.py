"""In-context learning: the base model with solved examples before each input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.interfaces import Attached, Method, MethodOptions, Reference, TaskView
from tuneoff.methods._modules import freeze, refuse_fresh_head

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
    paper = "Brown et al. 2020, Language Models are Few-Shot Learners, https://arxiv.org/abs/2005.14165"
    references = (
        Reference(
            "brown2020language",
            "Brown, Tom B. and Mann, Benjamin and Ryder, Nick and Subbiah, Melanie and others",
            "Language Models are Few-Shot Learners",
            2020,
            arxiv="2005.14165",
        ),
    )
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
