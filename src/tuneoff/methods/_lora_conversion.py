"""Turns the update of any PEFT method that is added to frozen weights into a plain LoRA, where its rank is low.

Imports torch and peft, so import this inside functions.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME, ModulesToSaveWrapper
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

from tuneoff.errors import StoreError
from tuneoff.interfaces import Attached


def write_as_lora(attached: Attached, folder: Path) -> None:
    """Writes a plain LoRA whose product is each layer's update, with the trained head, in PEFT's layout.

    Its rank is that of the update itself, so nothing is cut off but what float32 rounds away. PEFT's own conversion
    takes the rank as given and approximates; here an update of full rank is refused.

    Raises:
        StoreError: why there is no such LoRA.
    """
    try:
        from peft.tuners.lora.conversion import convert_to_lora
    except ImportError:
        raise StoreError(
            "the installed PEFT converts nothing to LoRA", hint="Install a newer one: pip install -U peft."
        ) from None
    peft_model: Any = attached.module
    if not peft_model.supports_lora_conversion():
        raise StoreError("it adds nothing to the weights of frozen linear layers, which is all that a LoRA does")
    try:
        with warnings.catch_warnings():
            # `peft:lora` goes the same way: what its options add to the weights (rsLoRA's scale, ranks of layers) is a
            # plain LoRA afterwards.
            warnings.filterwarnings("ignore", "Converting a PEFT adapter to LoRA that is already")
            config, tensors = convert_to_lora(peft_model, rank=_common_rank(peft_model))
    except (TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"PEFT does not convert it: {error}") from None
    config.task_type = peft_model.peft_config["default"].task_type
    # GPT-2's transposed layers; PEFT would set it when it loads, and warn.
    config.fan_in_fan_out = any(isinstance(part, Conv1D) for part in peft_model.modules())
    # PEFT's conversion mixes up the parts of a head that has several layers, so the head is taken as PEFT saves it.
    heads = tuple(f"{name}." for name, part in peft_model.named_modules() if isinstance(part, ModulesToSaveWrapper))
    saved = get_peft_model_state_dict(peft_model, save_embedding_layers=False)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
    tensors |= {name: tensor for name, tensor in saved.items() if name.startswith(heads)}
    written = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(written, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _common_rank(peft_model: Any) -> int:
    """Returns the greatest rank of any layer's update.

    Raises:
        StoreError: where a LoRA of that rank would hold more numbers than the weight.
    """
    greatest = 1
    for name, module in peft_model.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        layer: Any = module
        update = layer.get_delta_weight("default").detach().float()
        if update.ndim != 2:
            raise StoreError(f"the update of {name} is no matrix")
        rank = int(torch.linalg.matrix_rank(update))
        if rank * sum(update.shape) >= update.numel():
            short = name.removeprefix("base_model.model.")
            raise StoreError(
                f"its update of {short} has rank {rank} of {min(update.shape)}: a LoRA that is equal to it would be "
                "larger than the weight"
            )
        greatest = max(greatest, rank)
    return greatest
