"""What the methods that PEFT implements share."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import (
    ADAPTER_FILES,
    Attached,
    Method,
    MethodOptions,
    PlainCode,
    TaskView,
    misfit,
    saved_shapes,
)
from tuneoff.methods._modules import is_tied, untie
from tuneoff.methods._peft_import import show_bitsandbytes

if TYPE_CHECKING:
    from torch import nn

O = TypeVar("O", bound=MethodOptions)  # noqa: E741 - as in base

_CONFIG = "adapter_config.json"
_INIT = "init_lora_weights"
SHAPING = {
    "peft_type": "the kind of adapter",
    "r": "r",
    "lora_alpha": "alpha",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
}
"""Fields of PEFT's configurations on which it depends what the same weights do -> what an arm's option is called."""
MOVING = ("corda", "loftq", "lora_ga", "olora", "pissa")
"""Beginnings of PEFT's `init_lora_weights` with which a start is taken out of the base model's weights."""
TAKE_OUTPUTS = {("peft.tuners.lora.layer", "Linear"), ("peft.tuners.ia3.layer", "Linear")}
"""PEFT's layers that need only the output of the layer they wrap."""


def attach_peft(model: nn.Module, config: Any, task: TaskView, *, theirs: bool = False) -> Attached:
    """Wraps a model with PEFT, which trains a copy of every module of the head and saves it with the adapter.

    Args:
        model: changed in place.
        config: PEFT's configuration of the method.
        task: knows the head.
        theirs: whether the method's options are PEFT's parameters, so that PEFT's error may name them.

    Raises:
        UnsupportedModel: with PEFT's own message where it refuses, unless that names its parameters, which are not
            the method's options.
    """
    from peft import get_peft_model

    show_bitsandbytes()
    # PEFT itself adds, for its task type, the names that most classifiers have.
    default_names = {"classifier", "score"} if task.peft_task_type in ("SEQ_CLS", "TOKEN_CLS") else set()
    modules_to_save = [
        *(getattr(config, "modules_to_save", None) or ()),
        *(name for name in task.head if name not in default_names),
    ]
    if modules_to_save and hasattr(config, "modules_to_save"):
        config.modules_to_save = list(dict.fromkeys(modules_to_save))
    try:
        with warnings.catch_warnings():
            # PEFT sets it right by itself for GPT-2's transposed projections, and says so each time.
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            # Training leaves the embeddings alone, and a merge unties them first.
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            module = get_peft_model(model, config)
    except (ValueError, NotImplementedError, TypeError) as error:
        method = str(getattr(config.peft_type, "value", config.peft_type)).lower()
        message, hint = str(error), ""
        if not theirs and any("_" in word for word in re.findall(r"\w+", message) if hasattr(config, word)):
            message = "PEFT finds no layer in it to change, or none outside the head, which every method trains anyway"
        if message.startswith("Please specify `target_modules`"):
            message, hint = "PEFT has no choice of layers for it", "Name the layers by the option target_modules."
        raise UnsupportedModel(
            f"{method} cannot be attached to {type(model).__name__}: {message}", hint=hint
        ) from error
    return Attached(model=module.get_base_model(), module=module, reads=tuple(_find_read_layers(module)))


def _find_read_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yields layers whose weights PEFT reads itself, instead of using their output only."""
    layer: Any
    for layer in module.modules():
        layer_class = type(layer)
        if not layer_class.__module__.startswith("peft.") or not hasattr(layer, "base_layer"):
            continue
        # DoRA and the like are variants.
        if (layer_class.__module__, layer_class.__name__) not in TAKE_OUTPUTS or getattr(layer, "lora_variant", None):
            yield from layer.base_layer.modules()


class PeftMethod(Method[O]):
    """A method saved in PEFT's own layout, so that PEFT loads its files."""

    def save(self, attached: Attached, folder: Path) -> None:
        peft_model: Any = attached.module
        peft_model.save_pretrained(str(folder), save_embedding_layers=False)
        # PEFT writes sets in the order of their hashes, which no two processes share.
        fields = vars(peft_model.peft_config["default"])
        edit_config(folder, {name: sorted(value) for name, value in fields.items() if isinstance(value, set)})

    def plain_code(self, attached: Attached, task: TaskView) -> PlainCode:
        return PlainCode(
            ("from peft import PeftModel",), ("model = PeftModel.from_pretrained(model, FOLDER)",), peft=True
        )

    def load(self, attached: Attached, folder: Path) -> None:
        self.put(attached, read_adapter(folder), folder)

    def why_no_start(self, attached: Attached, folder: Path) -> str:
        from peft import get_peft_model_state_dict

        if not all((folder / name).is_file() for name in ADAPTER_FILES):
            return "it holds no adapter of PEFT: it is of another method"
        try:
            saved = read_config(folder)
        except ValueError:
            return f"its {ADAPTER_FILES[0]} is no JSON object"
        module: Any = attached.module
        config = module.peft_config["default"]
        odd = []
        for field, option in SHAPING.items():
            there, here = saved.get(field), getattr(config, field, None)
            if field in saved and hasattr(config, field) and (there or None) != (getattr(here, "value", here) or None):
                odd.append(f"{option} is {there} there and {getattr(here, 'value', here)} here")
        there, here = (_moving_init(each) for each in (saved.get(_INIT), getattr(config, _INIT, None)))
        if there != here:
            odd.append(
                f"{_INIT} is {there or 'another'} there and {here or 'another'} here, and that start is taken out of "
                "the base model's weights (PEFT's path_initial_model_for_weight_conversion saves a plain LoRA)"
            )
        if odd:
            return "; ".join(odd)
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in get_peft_model_state_dict(module, save_embedding_layers=False).items()
        }
        return misfit(saved_shapes(folder / ADAPTER_FILES[1]), shapes)

    def put(self, attached: Attached, weights: dict[str, Any], folder: Path) -> None:
        """Loads weights in PEFT's layout into the model; `folder` is where they were read, for the error message."""
        from peft import set_peft_model_state_dict

        peft_model: Any = attached.module
        result = set_peft_model_state_dict(peft_model, weights)
        # PEFT puts a soft prompt into its place by hand and still reports its key.
        unexpected = [key for key in result.unexpected_keys if key != "prompt_embeddings"]
        if unexpected:
            raise StoreError(f"{folder} does not fit this model and method: {', '.join(unexpected[:3])}")

    def write_lora(self, attached: Attached, folder: Path) -> None:
        from tuneoff.methods._lora_conversion import write_as_lora

        write_as_lora(attached, folder)

    def merge(self, attached: Attached) -> nn.Module:
        from peft.utils import ModulesToSaveWrapper

        peft_model: Any = attached.module
        base = peft_model.get_base_model()
        # PEFT's own unwrapping fails for IA3 on a head of several layers (RoBERTa's), so it is done here.
        for name, module in list(base.named_modules()):
            if isinstance(module, ModulesToSaveWrapper):
                parent, _, last = name.rpartition(".")
                setattr(base.get_submodule(parent), last, module.modules_to_save["default"])
        if is_tied(base) and hasattr(base.get_output_embeddings(), "base_layer"):
            # Merging into a weight that is the embeddings too would change the input.
            untie(base)
        was_tied = base.config.tie_word_embeddings
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Model with `tie_word_embeddings=True`|Input and output embeddings"
            )
            merged: nn.Module = peft_model.merge_and_unload()
        if getattr(base.config, "is_encoder_decoder", False):
            # As `untie` explains.
            base.config.tie_word_embeddings = was_tied
        return merged


def read_adapter(folder: Path, device: str = "cpu") -> dict[str, Any]:
    """Reads the weights that PEFT saved in a folder.

    Raises:
        StoreError: if they are not there as safetensors; PEFT itself would open a pickle instead, or ask the hub.
    """
    from peft import load_peft_weights
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    if not (folder / SAFETENSORS_WEIGHTS_NAME).is_file():
        raise StoreError(f"{folder} lacks {SAFETENSORS_WEIGHTS_NAME}, the trained weights", hint="Run the trial again.")
    weights: dict[str, Any] = load_peft_weights(str(folder), device=device)
    return weights


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the configuration file that PEFT wrote into a folder.

    Raises:
        ValueError: if it is none.
    """
    config: Any = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"{folder / _CONFIG} holds no JSON object")
    return config


def edit_config(folder: Path, changes: dict[str, Any]) -> None:
    """Changes fields of that file."""
    config = {**read_config(folder), **changes}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def _moving_init(init: object) -> str:
    """Returns an initialisation that takes its start out of the base model's weights; empty for any other."""
    return init if isinstance(init, str) and init.startswith(MOVING) else ""


def peft_task(task: TaskView) -> Any:
    """Returns PEFT's enumeration value for the task."""
    from peft import TaskType

    return TaskType[task.peft_task_type]
