"""What methods need to find inside a transformer: its blocks, its head and its output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.interfaces import TaskView


def freeze(model: nn.Module) -> None:
    """Freezes every parameter."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def train_head(model: nn.Module, task: TaskView) -> None:
    """Unfreezes the modules of the head, which are newly initialised."""
    for name in task.head:
        for parameter in model.get_submodule(name).parameters():
            parameter.requires_grad_(True)


def refuse_fresh_head(task: TaskView, method: str) -> None:
    """Refuses a task that adds a head; for methods that do not train.

    Raises:
        UnsupportedModel: if the task adds a head, which knows nothing before it is trained.
    """
    if task.head:
        raise UnsupportedModel(
            f"{method} trains nothing, and this task puts a fresh head on the model, which knows nothing yet",
            hint="For classification by a causal LM set task.scoring: likelihood, or leave this row out.",
        )


def blocks(model: nn.Module) -> list[nn.Module]:
    """Returns the transformer's blocks in order; an encoder-decoder's encoder comes first.

    A block that is used as several layers (ALBERT's) is listed once.

    Raises:
        UnsupportedModel: if there is no list of blocks.
    """
    any_model: Any = model
    if not getattr(any_model.config, "is_encoder_decoder", False):
        return _stack(any_model.base_model)
    return [*_stack(any_model.get_encoder()), *_stack(any_model.get_decoder())]


def _stack(part: nn.Module) -> list[nn.Module]:
    """Returns the blocks of the module list with the most parameters; of equal lists, the outermost."""
    from torch.nn import ModuleList

    lists = [module for module in part.modules() if isinstance(module, ModuleList)]
    if not lists:
        raise UnsupportedModel(f"{type(part).__name__}: its transformer blocks cannot be found")
    layers = list(lists[max(range(len(lists)), key=lambda number: _size(lists[number]))])
    while all(isinstance(block, ModuleList) for block in layers):
        layers = [block for stage in layers for block in stage.children()]
    inner = next((child for child in layers[0].children() if isinstance(child, ModuleList)), None)
    # Groups of blocks, and nothing in them besides (ALBERT's): not a block that lists its different parts (T5's).
    if inner is not None and len({type(part) for part in inner}) == 1 and _size(inner) == _size(layers[0]):
        return [block for group in layers for child in group.children() for block in child.children()]
    return layers


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def is_encoder(model: nn.Module) -> bool:
    """Tells whether a model reads in both directions and cannot generate: BERT, RoBERTa and the like."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
        return False
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_tied(model: nn.Module) -> bool:
    """Tells whether the output layer shares its weight with the input embeddings."""
    any_model: Any = model
    output, embeddings = any_model.get_output_embeddings(), any_model.get_input_embeddings()
    return output is not None and output.weight is embeddings.weight


def untie(model: nn.Module) -> int:
    """Gives an output layer that is tied to the embeddings its own weight; returns how many parameters that adds.

    The function stays as it is, and what `save_pretrained` writes then loads as it is. An encoder-decoder's
    configuration keeps saying "tied": there the word also ties both stacks' embeddings (BART) and scales hidden
    states (T5), and transformers 5 leaves an output layer alone that is saved with other values.
    """
    from torch import nn

    if not is_tied(model):
        return 0
    any_model: Any = model
    output = any_model.get_output_embeddings()
    # A method may have wrapped it with its own layer.
    layer = getattr(output, "base_layer", output)
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    if not getattr(any_model.config, "is_encoder_decoder", False):
        any_model.config.tie_word_embeddings = False
    names = {name for name, module in any_model.named_modules(remove_duplicate=False) if module is output}
    # transformers ties by this list again whenever it loads or saves.
    keys = getattr(any_model, "all_tied_weights_keys", {})
    any_model.all_tied_weights_keys = {k: v for k, v in keys.items() if k.rpartition(".")[0] not in names}
    return int(layer.weight.numel())
