"""Weights in 8 and 4 bits, by bitsandbytes through transformers, as a user of an export would pack them."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from tuneoff.errors import UnsupportedModel, first_line
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.deployability.loading import load_folder
from tuneoff.trial.modeling.precision import choose_device


def quantise_folder(
    place: TrialStore, merged: Path, folder: Path, *, bits: Literal[8, 4], device: str
) -> tuple[str, ...]:
    """Writes the merged model with its linear layers packed, the task's head and the output layer left as they are.

    Returns:
        What to know of it.

    Raises:
        UnsupportedModel: if bitsandbytes is missing or cannot pack the model.
    """
    from transformers import BitsAndBytesConfig

    spec, record = early.finished(place)
    task = early.task_of(spec, record)
    chosen = choose_device(device)
    # Its names alone are wanted here.
    full, _ = load_folder(task, merged, chosen)
    view = task.view(full)
    kept = [*view.head, *([view.output] if view.output else [])]
    del full
    packing: dict[str, Any] = (
        {"load_in_8bit": True}
        if bits == 8
        else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    )
    try:
        config = BitsAndBytesConfig(llm_int8_skip_modules=kept, **packing)
        model, _ = load_folder(task, merged, chosen, quantization_config=config)
        packed = [name for name, part in model.named_modules() if type(part).__module__.startswith("bitsandbytes.")]
        if not packed:
            raise UnsupportedModel("bitsandbytes finds no linear layer in it to pack")
        model.save_pretrained(str(folder))
    except (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"bitsandbytes does not pack it: {first_line(error)}") from None
    # What scores it needs the tokenizer, too.
    for path in merged.glob("*token*"):
        shutil.copyfile(path, folder / path.name)
    return (
        f"{len(packed)} linear layers in {bits} bits by bitsandbytes {metadata.version('bitsandbytes')}; embeddings, "
        f"norms{', ' + ' and '.join(kept) if kept else ''} in float32",
    )
