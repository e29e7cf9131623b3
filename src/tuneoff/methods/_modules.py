"""What methods need to find inside a transformer: its blocks and their projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.methods.base import TaskView

ATTENTION_OUTPUTS = (
    "attention.output.dense",
    "attn.attention.out_proj",
    "attn.c_proj",
    "self_attn.o_proj",
    "self_attn.out_proj",
    "attention.out_lin",
    "attention.dense",
)
"""Projection that ends a block's attention, by the family's own name: BERT and RoBERTa, GPT-Neo, GPT-2,
Llama-like, OPT, DistilBERT, GPT-NeoX."""

FEEDFORWARD_OUTPUTS = ("mlp.c_proj", "mlp.down_proj", "mlp.dense_4h_to_h", "output.dense", "ffn.lin2", "fc2")
"""Projection that ends a block's feed-forward part: GPT-2 and GPT-Neo, Llama-like, GPT-NeoX, BERT and RoBERTa,
DistilBERT, OPT."""


def freeze(model: nn.Module) -> None:
    """Freezes every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def train_head(model: nn.Module, task: TaskView) -> None:
    """Unfreezes the modules that the task added."""
    for name in task.head:
        for parameter in model.get_submodule(name).parameters():
            parameter.requires_grad_(True)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer's blocks in order.

    Raises:
        UnsupportedModel: if no list of as many modules as the configuration has layers is found.
    """
    from torch.nn import ModuleList

    config: Any = model.config
    layers = config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, ModuleList) and len(module) == layers:
            return list(module)
    raise UnsupportedModel(f"{type(model).__name__}: its transformer blocks cannot be found")


def first_submodule(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """The first of these submodules that a block has.

    Raises:
        UnsupportedModel: if it has none.
    """
    present = {name for name, _ in block.named_modules()}
    for name in names:
        if name in present:
            return block.get_submodule(name)
    raise UnsupportedModel(f"{type(block).__name__} has none of the projections {', '.join(names)}")
