"""What methods need to find inside a transformer: its blocks, their projections and its output layer."""

from __future__ import annotations

import re
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
    "layer.0.SelfAttention.o",
)
"""Projection that ends a block's self-attention, by the family's own name: BERT and RoBERTa, GPT-Neo, GPT-2,
Llama-like, OPT and BART, DistilBERT, GPT-NeoX, T5."""

FEEDFORWARD_OUTPUTS = (
    "mlp.c_proj",
    "mlp.down_proj",
    "mlp.dense_4h_to_h",
    "output.dense",
    "ffn.lin2",
    "fc2",
    "layer.1.DenseReluDense.wo",
    "layer.2.DenseReluDense.wo",
)
"""Projection that ends a block's feed-forward part: GPT-2 and GPT-Neo, Llama-like, GPT-NeoX, BERT and RoBERTa,
DistilBERT, OPT and BART, T5's encoder, T5's decoder."""


def freeze(model: nn.Module) -> None:
    """Freezes every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def train_head(model: nn.Module, task: TaskView) -> None:
    """Unfreezes the modules that start fresh."""
    for name in task.head:
        for parameter in model.get_submodule(name).parameters():
            parameter.requires_grad_(True)


def refuse_fresh_head(task: TaskView, method: str) -> None:
    """For methods without training.

    Raises:
        UnsupportedModel: if the task adds a head, which knows nothing before it is trained.
    """
    if task.head:
        raise UnsupportedModel(
            f"{method} trains nothing, and this task puts a fresh head on the model, which knows nothing yet",
            hint="For classification by a causal LM set task.scoring: likelihood, or leave this row out.",
        )


def decoder_layers(config: Any) -> int:
    """Blocks of the decoder; of the whole model where there is but one stack."""
    if not getattr(config, "is_encoder_decoder", False):
        return int(config.num_hidden_layers)
    named = (getattr(config, name, None) for name in ("num_decoder_layers", "decoder_layers"))
    return int(next((layers for layers in named if layers is not None), config.num_hidden_layers))


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer's blocks in order; an encoder-decoder's encoder comes first.

    Raises:
        UnsupportedModel: if no list of as many modules as the configuration has layers is found.
    """
    model_any: Any = model
    config = model_any.config
    if not getattr(config, "is_encoder_decoder", False):
        return _stack(model, config.num_hidden_layers)
    found = [_stack(model_any.get_encoder(), config.num_hidden_layers)]
    found.append(_stack(model_any.get_decoder(), decoder_layers(config)))
    return [block for stack in found for block in stack]


def _stack(part: nn.Module, layers: int) -> list[nn.Module]:
    from torch.nn import ModuleList

    for module in part.modules():
        if isinstance(module, ModuleList) and len(module) == layers:
            return list(module)
    raise UnsupportedModel(f"{type(part).__name__}: its transformer blocks cannot be found")


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


def attention_projections(model: nn.Module) -> list[str]:
    """Names of all projections of attention, from the attention module's own name on (`attn.c_proj`,
    `attention.self.query`, `SelfAttention.q`): every two-dimensional weight inside a block below a module that is
    called attention. A module's full name ends with exactly one of them, if it is one.

    Raises:
        UnsupportedModel: if there is none.
    """
    names = set()
    for block in blocks(model):
        for name, module in block.named_modules():
            inside = re.search(r"(?:^|\.)(\w*att(?:n|ention)\w*\..+)", name, re.IGNORECASE)
            if inside and is_projection(module):
                names.add(inside.group(1))
    if not names:
        raise UnsupportedModel(f"{type(model).__name__}: no projections of attention are found")
    return sorted(names)


def is_projection(module: nn.Module) -> bool:
    """Whether a module is a linear layer, GPT-2's transposed ones included."""
    from torch.nn import Linear

    return isinstance(module, Linear) or type(module).__name__ == "Conv1D"


def is_encoder(model: nn.Module) -> bool:
    """Whether a model reads in both directions and cannot write: BERT, RoBERTa and the like."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
        return False
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_tied(model: nn.Module) -> bool:
    """Whether the output layer's weight is the input embeddings'."""
    whole: Any = model
    output, words = whole.get_output_embeddings(), whole.get_input_embeddings()
    return output is not None and output.weight is words.weight


def untie(model: nn.Module) -> int:
    """Gives an output layer that is tied to the embeddings a weight of its own; returns how many parameters that adds.

    The function stays as it is, and what `save_pretrained` writes then loads as it is. An encoder-decoder's
    configuration keeps saying "tied": there the word also ties both stacks' embeddings (BART) and scales hidden
    states (T5), and transformers 5 leaves an output layer alone that is saved with other values.
    """
    from torch import nn

    if not is_tied(model):
        return 0
    whole: Any = model
    output = whole.get_output_embeddings()
    # A method may have put a layer of its own around it.
    layer = getattr(output, "base_layer", output)
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    if not getattr(whole.config, "is_encoder_decoder", False):
        whole.config.tie_word_embeddings = False
    own = {name for name, module in whole.named_modules(remove_duplicate=False) if module is output}
    # transformers ties by this list again whenever it loads or saves.
    keys = getattr(whole, "all_tied_weights_keys", {})
    whole.all_tied_weights_keys = {k: v for k, v in keys.items() if k.rpartition(".")[0] not in own}
    return int(layer.weight.numel())
