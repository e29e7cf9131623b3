"""Linear probe: the head alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, LearningRate, Method, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._modules import freeze, train_head

if TYPE_CHECKING:
    from torch import nn


class Head(Method[MethodOptions]):
    """Trains only the head that the task adds, on frozen features."""

    title = "Linear probe"
    summary = "Trains the task's head alone; says how much the frozen features already hold."
    usual = True
    paper = "Alain & Bengio 2016, Understanding intermediate layers using linear classifier probes, https://arxiv.org/abs/1610.01644"
    references = (
        Reference(
            "alain2016understanding",
            "Alain, Guillaume and Bengio, Yoshua",
            "Understanding intermediate layers using linear classifier probes",
            2016,
            arxiv="1610.01644",
        ),
    )
    needs = "head"
    mergeable = True
    learning_rate = LearningRate(1e-2)
    prior = Prior(
        0.1,
        0.95,
        "the output layer alone reaches 64 % of the score on GLUE, and less of the gain, in Lee, Tang & Lin "
        "2019, https://arxiv.org/abs/1911.03090; 0.88 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        if not task.head:
            raise UnsupportedModel(
                "head trains the head that a task adds, and this task adds no head",
                hint="Leave head out (--methods); last_block trains the output layer and the block below it.",
            )
        freeze(model)
        train_head(model, task)
        return Attached(model, model)


plugin = Head
