"""Configurations that ship with the package, so that a base model can be built without its weights."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

KNOWN_AS: dict[str, tuple[str, ...]] = {
    "gpt2": ("openai-community/gpt2",),
    "roberta-base": ("FacebookAI/roberta-base",),
    "gpt-neo-125m": ("EleutherAI/gpt-neo-125m",),
    "llama-3.2-3b": ("meta-llama/Llama-3.2-3B",),
    "minilm": ("sentence-transformers/all-MiniLM-L6-v2", "nreimers/MiniLM-L6-H384-uncased"),
    "smollm2-135m": ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M"),
}
"""Architecture -> the hub ids of models that have it."""


def find(reference: str) -> dict[str, Any] | None:
    """The configuration of a model known by this name or hub id, or None."""
    bare = reference.partition(":")[2] if reference.startswith(("hub:", "package:")) else reference
    for name, ids in KNOWN_AS.items():
        if bare.lower() in {name, *(i.lower() for i in ids)}:
            config: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text(encoding="utf-8"))
            return config
    return None


def names() -> list[str]:
    """Names of the architectures that ship."""
    return sorted(KNOWN_AS)
