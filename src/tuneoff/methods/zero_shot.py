"""The baseline of a task that generates text: the base model as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.interfaces import Attached, Method, MethodOptions, Reference, TaskView
from tuneoff.methods._modules import freeze, refuse_fresh_head

if TYPE_CHECKING:
    from torch import nn


class ZeroShot(Method[MethodOptions]):
    """The base model with the task's template and nothing else; what training must improve on."""

    title = "Zero-shot"
    summary = "No training: the base model with the task's template."
    usual = True
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf"
    references = (
        Reference(
            "radford2019language",
            "Radford, Alec and Wu, Jeffrey and Child, Rewon and Luan, David and Amodei, Dario and Sutskever, Ilya",
            "Language Models are Unsupervised Multitask Learners",
            2019,
            url="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
        ),
    )
    needs = "no_head"
    trains = False

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        refuse_fresh_head(task, "zero_shot")
        freeze(model)
        return Attached(model, model)


plugin = ZeroShot
