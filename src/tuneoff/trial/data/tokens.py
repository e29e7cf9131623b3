"""Tokens of a run's rows in a file: its first trial tokenizes them, the others read them."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from tuneoff.errors import StoreError
from tuneoff.interfaces import Features
from tuneoff.store import write_atomically

SplitFeatures = dict[str, list[Features]]
_SECONDS = "seconds"


def shared(path: Path | None, encode: Callable[[], SplitFeatures]) -> tuple[SplitFeatures, float]:
    """Returns the tokens of every split: from the file where an earlier trial left them there, else what `encode` says.

    The second value is how many seconds longer than reading the tokens it took the earlier trial to make them; 0 where
    they are made here. With these seconds a trial costs the same whether it finds its tokens or not.

    Args:
        path: the file, whose name tells apart all that the tokens depend on; None: nothing is shared.
        encode: tokenizes. Where all it returns are `Features` with plain numbers, they are written to the file.

    Raises:
        TuneoffError: whatever `encode` raises.
    """
    if path is None:
        return encode(), 0.0
    started = time.perf_counter()
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        features, seconds = read(path)
        return features, seconds - (time.perf_counter() - started)
    started = time.perf_counter()
    features = encode()
    with suppress(StoreError):
        write(path, features, time.perf_counter() - started)
    return features, 0.0


def write(path: Path, features: Mapping[str, Sequence[Features]], seconds: float) -> None:
    """Writes the tokens of every split, and the seconds that making them took; writes nothing where some are of another
    kind.

    Raises:
        StoreError: if the file cannot be written.
    """
    arrays: dict[str, Any] = {_SECONDS: np.array(seconds)}
    for split, examples in features.items():
        if any(type(example) is not Features for example in examples):
            return
        for column in fields(Features):
            cells = [getattr(example, column.name) for example in examples]
            if all(isinstance(cell, int) for cell in cells):
                arrays[f"{split}/{column.name}"] = np.array(cells, dtype=np.int64)
                continue
            sizes = [len(cell) for cell in cells]
            values = np.array([value for cell in cells for value in cell])
            if sum(sizes) and (values.ndim != 1 or values.dtype.kind not in "if"):
                return
            arrays[f"{split}/{column.name}"] = values
            arrays[f"{split}/{column.name}/sizes"] = np.array(sizes, dtype=np.int64)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def read(path: Path) -> tuple[SplitFeatures, float]:
    """Reads the tokens of every split, and the seconds that making them took.

    Raises:
        OSError: if there is no such file.
        ValueError, KeyError, EOFError, BadZipFile: if it is damaged.
    """
    with np.load(path, allow_pickle=False) as arrays:
        splits = dict.fromkeys(name.split("/")[0] for name in arrays.files if name != _SECONDS)
        if not splits:
            raise ValueError("the file has no splits")
        return {split: _examples(split, arrays) for split in splits}, float(arrays[_SECONDS])


def _examples(split: str, arrays: Mapping[str, Any]) -> list[Features]:
    columns: dict[str, list[Any]] = {}
    for column in fields(Features):
        name = f"{split}/{column.name}"
        values = arrays[name].tolist()
        if f"{name}/sizes" in arrays:
            ends = np.cumsum(arrays[f"{name}/sizes"]).tolist()
            # What an example has none of stays the empty default.
            values = [values[start:end] or () for start, end in zip([0, *ends], ends, strict=False)]
        columns[column.name] = values
    names = list(columns)
    return [Features(**dict(zip(names, cells, strict=True))) for cells in zip(*columns.values(), strict=True)]
