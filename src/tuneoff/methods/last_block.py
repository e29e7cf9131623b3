"""The last transformer blocks and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, LearningRate, Method, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._modules import blocks, freeze, train_head, untie

if TYPE_CHECKING:
    from torch import nn


class LastBlockOptions(MethodOptions):
    """Options of `last_block`."""

    blocks: int = Field(1, ge=1, description="how many transformer blocks are trained, counted from the last")
    lm_head: bool = Field(
        True, description="for tasks that write: train the output layer too, untied from the embeddings"
    )


class LastBlock(Method[LastBlockOptions]):
    """Trains the last transformer block (or blocks) and the head; all before stays frozen.

    For a task that writes text the head is the model's own output layer. Where that is tied to the input
    embeddings, training it would change the input of the first block, so it is given weights of its own and
    the embeddings stay as they are; those weights are counted as head and stored. In an encoder-decoder the last
    block is the decoder's.
    """

    title = "Last block"
    summary = "Trains the last transformer block and the head (a tied output layer is untied); no gradient below it."
    paper = "Lee, Tang & Lin 2019, What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning, https://arxiv.org/abs/1911.03090"
    references = (
        Reference(
            "lee2019what",
            "Lee, Jaejun and Tang, Raphael and Lin, Jimmy",
            "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning",
            2019,
            arxiv="1911.03090",
        ),
    )
    mergeable = True
    learning_rate = LearningRate(3e-4)
    prior = Prior(
        0.4,
        1.0,
        "0.87 for one of BERT's layers on MNLI in Houlsby et al. 2019; a fourth of the layers gives nine tenths of the "
        "score on GLUE in Lee, Tang & Lin 2019, one layer less; two of GPT-2's are level on E2E and behind on WebNLG "
        "and DART in Li & Liang 2021; 0.98 for MiniLM on AG News in benchmarks/studies/ag-news-minilm",
    )
    Options = LastBlockOptions

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        all_blocks = blocks(model)
        if self.options.blocks > len(all_blocks):
            raise UnsupportedModel(
                f"last_block: {self.options.blocks} blocks asked for, {type(model).__name__} has {len(all_blocks)}"
            )
        freeze(model)
        for block in all_blocks[-self.options.blocks :]:
            for parameter in block.parameters():
                parameter.requires_grad_(True)
        train_head(model, task)
        attached = Attached(model, model)
        if self.options.lm_head and task.output is not None:
            added_parameters = untie(model)
            for parameter in model.get_submodule(task.output).parameters():
                parameter.requires_grad_(True)
            if added_parameters:
                message = (
                    "the output layer is tied to the embeddings; it was given weights of its own: "
                    f"{added_parameters:,} more parameters"
                )
                attached.extra["findings"] = [("untied_head", message)]
        return attached


plugin = LastBlock
