"""GGUF weights, dequantised once.

Reading a GGUF file takes transformers some twenty seconds for a hundred megabytes, in every trial anew. So the first
trial keeps the float32 tensors and the tokenizer in the cache, and the others read those. `checksums.json` beside them
says what they were when they were made; what is no longer so is made again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from tuneoff.sources import ModelFiles, cache_folder, sha256
from tuneoff.store import give_usual_modes

CHECKSUMS = "checksums.json"


def dequantised(files: ModelFiles) -> ModelFiles:
    """The same model as a folder of float32 safetensors with its tokenizer; made if it is not there yet.

    The checksum stays that of the GGUF file. Where the cache cannot be written, the files are returned as they are.

    Raises:
        ValueError, OSError, KeyError: as transformers does, for a file that it cannot read.
    """
    if files.gguf_file is None:
        return files
    checksum = files.checksum or sha256(Path(files.path) / files.gguf_file)
    place = cache_folder() / "dequantised" / checksum[:16]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not _as_made(place):
                shutil.rmtree(place, ignore_errors=True)
                _make(files, place)
    except PermissionError:
        return files
    return replace(files, path=str(place), gguf_file=None, checksum=checksum)


def _make(files: ModelFiles, place: Path) -> None:
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": files.gguf_file, "trust_remote_code": False}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(files.path, dtype=torch.float32, **arguments)
    except ValueError:
        model = AutoModel.from_pretrained(files.path, dtype=torch.float32, **arguments)
    # The tensors are plain float32 by now; without this, transformers still takes the model for a quantised one.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(files.path, **arguments)
    fresh = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        model.save_pretrained(str(fresh))
        tokenizer.save_pretrained(str(fresh))
        sums = {file.name: sha256(file) for file in fresh.iterdir()}
        (fresh / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")
        give_usual_modes(fresh)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _as_made(place: Path) -> bool:
    """Whether every file has the bytes that it was made with."""
    try:
        sums = json.loads((place / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(sums) and all(sha256(place / name) == checksum for name, checksum in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
