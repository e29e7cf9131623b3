"""BitFit: bias terms and the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, LearningRate, Method, MethodOptions, Prior, Reference, TaskView
from tuneoff.methods._modules import freeze, train_head

if TYPE_CHECKING:
    from torch import nn


class BitFit(Method[MethodOptions]):
    """Trains every bias of the base model and the head."""

    title = "BitFit"
    summary = "Trains the bias terms and the head."
    paper = "Ben Zaken, Goldberg & Ravfogel 2022, BitFit, https://arxiv.org/abs/2106.10199"
    references = (
        Reference(
            "benzaken2022bitfit",
            "Ben Zaken, Elad and Goldberg, Yoav and Ravfogel, Shauli",
            "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models",
            2022,
            arxiv="2106.10199",
        ),
    )
    mergeable = True
    needs = "biases"
    learning_rate = LearningRate(2e-3)
    prior = Prior(
        0.65,
        1.02,
        "as good as full fine-tuning on small and medium data in Ben Zaken et al. 2022; well behind on summaries and "
        "translation in He et al. 2022, https://arxiv.org/abs/2110.04366; 0.98 for MiniLM on AG News in "
        "benchmarks/studies/ag-news-minilm",
    )

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        freeze(model)
        biases = [p for name, p in model.named_parameters() if name.split(".")[-1] == "bias"]
        inside_head = {id(p) for name in task.head for p in model.get_submodule(name).parameters()}
        if all(id(bias) in inside_head for bias in biases):
            raise UnsupportedModel(
                f"bitfit trains bias terms, and {type(model).__name__} of this configuration has none",
                hint="Leave bitfit out (--methods), or use a model with biases (BERT, RoBERTa, GPT-2, GPT-Neo).",
            )
        for bias in biases:
            bias.requires_grad_(True)
        train_head(model, task)
        return Attached(model, model)


plugin = BitFit
