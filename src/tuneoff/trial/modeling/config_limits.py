"""Checks a model's config.json before anything is built from it: implausibly large numbers are refused at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuneoff.errors import UnsupportedModel

MAX_BYTES = 16 * 2**20
MAX_COUNTS = {"layer": 512, "expert": 4_096, "num_labels": 100_000}
"""Part of a key's name -> the greatest whole number accepted. Each such unit is built as modules of its own, or as an
entry of a table; the deepest models published have fewer than 200 layers."""


def check_config_file(folder: str, name: str) -> None:
    """Checks the config.json of a model's folder; without one there is nothing to check.

    Args:
        folder: where the model's files are.
        name: what to call the model in messages.

    Raises:
        UnsupportedModel: if it is not a JSON object of a plausible size, or counts more than `MAX_COUNTS`.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        return
    if path.stat().st_size > MAX_BYTES:
        raise UnsupportedModel(f"{name}: its config.json has {path.stat().st_size:,} bytes, which no configuration has")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        counts = list(_list_counts(config))
    except (ValueError, RecursionError) as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UnsupportedModel(f"{name}: its config.json cannot be read: {problem}") from None
    if not isinstance(config, dict):
        raise UnsupportedModel(f"{name}: its config.json is not a JSON object")
    for key, value in counts:
        for fragment, limit in MAX_COUNTS.items():
            if fragment in key and value > limit:
                raise UnsupportedModel(
                    f"{name}: its config.json says {key}: {value:,}; at most {limit:,} are taken",
                    hint="Correct config.json, or name another model.",
                )


def _list_counts(value: Any) -> Iterator[tuple[str, int]]:
    """Yields every key with a whole number, those of nested configurations included; a table counts its entries."""
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if isinstance(item, int):
            yield key, item
        elif isinstance(item, dict):
            yield ("num_labels", len(item)) if key in {"id2label", "label2id"} else (key, 0)
            yield from _list_counts(item)
