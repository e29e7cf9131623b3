"""Hidden states of examples in files, found again by the tokens that they were computed of.

Each process writes files of its own, an index last, so that several may share a folder. What is read is exactly what
was written, in the same type. Files are read piece by piece: what is not needed now takes no memory.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneoff.store import write_atomically

LIMIT_BYTES = 4 << 30
"""Most bytes of a run's hidden states, and never more than half of what is free on the disk."""


def limit_bytes(folder: Path, used: int = 0) -> int:
    """Returns how many bytes a run's hidden states may take in this folder, which need not exist yet; `used` are there
    already."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    return min(LIMIT_BYTES, used + shutil.disk_usage(place).free // 2)


@dataclass(frozen=True)
class Stored:
    """Where one example's hidden states lie.

    Attributes:
        file: the file.
        offset: of the first byte.
        tokens: how many tokens it has.
        seconds: what computing them took.
    """

    file: Path
    offset: int
    tokens: int
    seconds: float


class HiddenStates:
    """The hidden states in one folder, of one model under one precision.

    Args:
        folder: of this model; made when it is first written to. Folders beside it count for the limit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored: dict[bytes, Stored] = {}
        self._read_indices: set[Path] = set()
        self._open: dict[Path, int] = {}
        self._numbers = itertools.count()
        self.width = 0
        self.dtype = torch.float32
        self.refresh()

    def refresh(self) -> None:
        """Takes in what other processes have written since."""
        for index in sorted(self.folder.glob("*.json")):
            if index in self._read_indices:
                continue
            self._read_indices.add(index)
            self._take_in(index, json.loads(index.read_text(encoding="ascii")))

    def _take_in(self, index: Path, body: dict[str, Any]) -> None:
        self.width, self.dtype = body["width"], getattr(torch, body["dtype"])
        offset, file = 0, index.with_suffix(".bin")
        for key, tokens in body["examples"]:
            self._stored[bytes.fromhex(key)] = Stored(file, offset, tokens, tokens * body["seconds_per_token"])
            offset += tokens * self.width * self.dtype.itemsize

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Returns those of the keys that nothing is stored of."""
        return [key for key in keys if key not in self._stored]

    def seconds(self, keys: Iterable[bytes]) -> float:
        """Returns what computing these took, whoever did it."""
        return sum(self._stored[key].seconds for key in dict.fromkeys(keys) if key in self._stored)

    def get(self, key: bytes) -> torch.Tensor | None:
        """Reads one example's hidden states, of shape (tokens, width); returns None where nothing is stored of it, or
        it cannot be read any more."""
        stored = self._stored.get(key)
        if stored is None:
            return None
        size = stored.tokens * self.width * self.dtype.itemsize
        try:
            if stored.file not in self._open:
                self._open[stored.file] = os.open(stored.file, os.O_RDONLY)
            data = os.pread(self._open[stored.file], size, stored.offset)
        except OSError:
            return None
        if len(data) != size:
            return None
        return torch.frombuffer(bytearray(data), dtype=self.dtype).view(stored.tokens, self.width)

    def has_room(self, tokens: int, width: int, dtype: torch.dtype) -> bool:
        """Tells whether so many tokens may be added."""
        run = self.folder.parent
        used = sum(file.stat().st_size for file in run.glob("*/*.bin"))
        return used + tokens * width * dtype.itemsize <= limit_bytes(run, used)

    def write(self, examples: Mapping[bytes, torch.Tensor], seconds: float) -> None:
        """Adds examples, and what computing them took.

        Args:
            examples: key -> hidden states of shape (tokens, width), all of one type.
            seconds: of all of them together.

        Raises:
            OSError, StoreError: if they cannot be written.
        """
        if not examples:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{next(self._numbers)}"
        first = next(iter(examples.values()))
        with (self.folder / f"{name}.bin").open("wb") as file:
            for states in examples.values():
                file.write(states.contiguous().view(torch.uint8).numpy().tobytes())
        tokens = sum(states.shape[0] for states in examples.values())
        body = {
            "width": first.shape[1],
            "dtype": str(first.dtype).removeprefix("torch."),
            "seconds_per_token": seconds / max(1, tokens),
            "examples": [[key.hex(), states.shape[0]] for key, states in examples.items()],
        }
        # The index comes last: whoever sees it sees all of its states.
        write_atomically(self.folder / f"{name}.json", json.dumps(body), make_folder=False)
        self.refresh()
