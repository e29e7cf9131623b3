"""Full fine-tuning: every parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.interfaces import Attached, LearningRate, Method, MethodOptions, Prior, Reference, TaskView

if TYPE_CHECKING:
    from torch import nn


class Full(Method[MethodOptions]):
    """Trains every parameter of the base model and the head, but those that the architecture itself holds fixed."""

    title = "Full fine-tuning"
    summary = "Trains every parameter: the reference for quality, and the dearest in memory and storage."
    usual = True
    paper = "Devlin et al. 2019, BERT, https://arxiv.org/abs/1810.04805"
    references = (
        Reference(
            "devlin2019bert",
            "Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina",
            "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
            2019,
            arxiv="1810.04805",
        ),
    )
    mergeable = True
    shardable = True
    learning_rate = LearningRate(5e-5, over_full=1)
    prior = Prior(1.0, 1.0, "by definition: it is the yardstick")

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        return Attached(model, model)


plugin = Full
