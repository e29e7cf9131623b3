"""Tiny random models of the real architectures, and a batch for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tuneoff.methods.base import Attached
from tuneoff.tasks.base import Batch, Features
from tuneoff.tasks.classification import Classification

SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "roberta": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 66,
        "pad_token_id": 1,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 90, "eos_token_id": 90},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "max_position_embeddings": 64,
        "bos_token_id": 90,
        "eos_token_id": 90,
    },
    "llama": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
}
ARCHITECTURES = sorted(SIZES)
DECODERS = ("gpt2", "gpt_neo", "llama")
LABELS = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def task() -> Classification:
    return Classification({"labels": LABELS})


@pytest.fixture
def tiny(task: Classification) -> Callable[..., nn.Module]:
    """Builds a tiny model of an architecture; the same weights every time."""

    def build(architecture: str, **changes: Any) -> nn.Module:
        from transformers import AutoConfig

        sizes = {"vocab_size": 96, **SIZES[architecture], **changes}
        config = AutoConfig.for_model(architecture, **sizes)
        for key, value in task.model_arguments().items():
            setattr(config, key, value)
        torch.manual_seed(0)
        model: nn.Module = task.model_class(config).from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Biases and norms that start at zero or one would hide mistakes.
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model.eval()

    return build


def features(seed: int = 0, sizes: tuple[int, ...] = (3, 9, 5, 12)) -> list[Features]:
    """Random token ids that keep clear of special ones."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Features(torch.randint(5, 80, (size,), generator=generator).tolist(), i % len(LABELS), size)
        for i, size in enumerate(sizes)
    ]


@torch.no_grad()
def logits(task: Classification, attached: Attached, batch: Batch) -> torch.Tensor:
    attached.module.eval()
    return task.forward(attached, batch)
