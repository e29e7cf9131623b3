"""GGUF weights, dequantised once.

Reading a GGUF file takes transformers some twenty seconds for a hundred megabytes, in every trial anew. So the first
trial keeps the float32 tensors and the tokenizer in the cache, and the others read those. `checksums.json` beside them
holds the checksums of these files as they were written; files that have changed since are made again.
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

from tuneoff.interfaces import ModelFiles
from tuneoff.sources import cache_folder, sha256
from tuneoff.store import give_usual_modes

CHECKSUMS = "checksums.json"


def dequantised(files: ModelFiles) -> ModelFiles:
    """Returns the same model as a folder of float32 safetensors with its tokenizer, made if it is not there yet.

    The checksum stays that of the GGUF file. Where the cache cannot be written, the files are returned as they are.

    Raises:
        ValueError, OSError, KeyError: as transformers does, for a file that it cannot read.
    """
    if files.gguf_file is None:
        return files
    checksum = files.checksum or sha256(Path(files.path) / files.gguf_file)
    folder = cache_folder() / "dequantised" / checksum[:16]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _make(files, folder)
    except PermissionError:
        return files
    return replace(files, path=str(folder), gguf_file=None, checksum=checksum)


def _make(files: ModelFiles, folder: Path) -> None:
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
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        model.save_pretrained(str(staging))
        tokenizer.save_pretrained(str(staging))
        checksums = {file.name: sha256(file) for file in staging.iterdir()}
        (staging / CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")
        give_usual_modes(staging)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_intact(folder: Path) -> bool:
    """Returns whether every file has the bytes with which it was written."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(checksums) and all(sha256(folder / name) == checksum for name, checksum in checksums.items())
    except (OSError, ValueError, AttributeError):
        return False
