"""What a model must do before anything can be compared on it: mask padding, read in order where it writes text, and
keep fixed what its architecture keeps fixed."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import TaskView
from tuneoff.trial.modeling.precision import relative_change

TOLERANCE = 1e-3
"""Allowed change of a hidden state by what follows it, relative to its size; rounding changes it by about 1e-6."""


def keep_fixed(model: nn.Module, built: nn.Module) -> None:
    """Freezes what an architecture holds fixed (Pegasus's positions), which transformers unfreezes as it loads files.

    Args:
        model: loaded from files.
        built: the same without weights.
    """
    fixed_names = {name for name, parameter in built.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in fixed_names:
            parameter.requires_grad_(False)


def check_masks(model: nn.Module) -> None:
    """Makes sure that a model takes an attention mask.

    Raises:
        UnsupportedModel: for one without (FNet), whose scores would depend on an example's neighbours in its batch.
    """
    if "attention_mask" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModel(
            f"{type(model).__name__} takes no attention mask, so padding would change its outputs",
            hint="Use another model.",
        )


def check_order(model: nn.Module, task: TaskView) -> None:
    """Makes sure that a causal language model's hidden states do not depend on the tokens that follow.

    Raises:
        UnsupportedModel: for one that reads both ways (XLNet), which would see the words that it is to predict.
    """
    any_model: Any = model
    if task.output is None or any_model.config.is_encoder_decoder:
        return
    ids = torch.tensor([[0, 1]])
    training = model.training
    model.eval()
    with torch.no_grad():
        first_alone, first_followed = (
            any_model.base_model(input_ids=part, attention_mask=torch.ones_like(part), use_cache=False)[0][:, 0]
            for part in (ids[:, :1], ids)
        )
    model.train(training)
    change = relative_change(first_alone, first_followed)
    if not change <= TOLERANCE:
        raise UnsupportedModel(
            f"{type(model).__name__} reads a text both ways, so it would see the words that it is to predict",
            hint="Use a causal language model (GPT-2, Llama, Gemma, …).",
        )
