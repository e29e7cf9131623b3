"""What methods need to find inside a transformer: its blocks, its head and its output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.methods.base import TaskView


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


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer's blocks in order; an encoder-decoder's encoder comes first. A block that serves as several
    layers (ALBERT's) is there once.

    Raises:
        UnsupportedModel: if there is no list of blocks.
    """
    whole: Any = model
    if not getattr(whole.config, "is_encoder_decoder", False):
        return _stack(whole.base_model)
    return [*_stack(whole.get_encoder()), *_stack(whole.get_decoder())]


def _stack(part: nn.Module) -> list[nn.Module]:
    """The list that holds most of a part's parameters; of several, the outermost."""
    from torch.nn import ModuleList

    lists = [module for module in part.modules() if isinstance(module, ModuleList)]
    if not lists:
        raise UnsupportedModel(f"{type(part).__name__}: its transformer blocks cannot be found")
    found = list(lists[max(range(len(lists)), key=lambda number: _size(lists[number]))])
    while all(isinstance(block, ModuleList) for block in found):
        found = [block for stage in found for block in stage.children()]
    inner = next((child for child in found[0].children() if isinstance(child, ModuleList)), None)
    # Groups of blocks, and nothing in them besides (ALBERT's): not a block that lists its different parts (T5's).
    if inner is not None and len({type(part) for part in inner}) == 1 and _size(inner) == _size(found[0]):
        return [block for group in found for child in group.children() for block in child.children()]
    return found


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
