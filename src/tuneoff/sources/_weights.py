"""A model's weights: which files hold them, and whether those are what their names say.

Weights are safetensors or one GGUF file. A pickle can run code when it is opened, so none is ever opened, whatever it
is called and whatever names it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from tuneoff.checksums import sha256
from tuneoff.errors import SourceError, SourceNotFound
from tuneoff.sources._disguise import PICKLES, recognise

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
DESCRIBING = (".json", ".txt", ".model", ".jinja", ".tiktoken")
"""Endings of the files that configurations and tokenizers are made of."""
_UNSAFE_SUFFIXES = (*PICKLES, ".h5", ".msgpack")
_TRAINER_FILES = {
    "training_args.bin",
    "optimizer.bin",
    "optimizer.pt",
    "scheduler.pt",
    "scheduler.bin",
    "rng_state.pth",
}
"""Files that trainers save beside a model."""

_CONVERT = "Convert it: load it with transformers once and `save_pretrained` it, which writes safetensors."


def find_weights(names: Collection[str], model: str, hint: str = "") -> str | None:
    """Returns None where the files of a model hold safetensors, else the name of its only GGUF file.

    Args:
        names: names of all its files.
        model: what to call it in a message.
        hint: where else safetensors may be found.

    Raises:
        SourceNotFound: if there are neither, or several GGUF files to choose from.
    """
    if ADAPTER_CONFIG in names:
        # transformers would put the adapter on top of the model, or load another model that the adapter names.
        raise SourceNotFound(
            f"{model} holds a trained adapter ({ADAPTER_CONFIG}), not a plain base model",
            hint="Give the model that the adapter was trained on, or merge the adapter and give the result.",
        )
    if "config.json" in names and (WEIGHTS in names or WEIGHTS_INDEX in names):
        return None
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    if len(gguf) == 1:
        return gguf[0]
    if gguf:
        raise SourceNotFound(
            f"{model} holds {len(gguf)} GGUF files",
            hint=f"Give the path of one of them, downloaded if need be: {', '.join(gguf[:6])}.",
        )
    if others := sorted(
        name for name in names if name.lower().endswith(_UNSAFE_SUFFIXES) and name not in _TRAINER_FILES
    ):
        raise SourceNotFound(
            f"{model} holds its weights only as {others[0]}; a pickle can run code, so tuneoff opens safetensors or "
            "GGUF, never others",
            hint=f"{_CONVERT} {hint}".strip(),
        )
    if "config.json" in names:
        raise SourceNotFound(
            f"{model} has a config.json but no weights ({WEIGHTS})",
            hint="`--random-weights` builds the architecture alone; quality then means nothing.",
        )
    raise SourceNotFound(
        f"{model} is not a model folder: it has no config.json",
        hint="A base model is a folder with config.json and model.safetensors, or a .gguf file.",
    )


def weight_names(folder: Path, gguf_file: str | None, model: str) -> list[str]:
    """Lists the names of the weight files in `folder`, shards as their index lists them; opens none of them.

    Raises:
        SourceError: if the index is not one, or names what is not a safetensors file of this very folder.
    """
    if gguf_file is not None:
        return [gguf_file]
    # As transformers chooses.
    if (folder / WEIGHTS).exists() or not (folder / WEIGHTS_INDEX).exists():
        return [WEIGHTS]
    try:
        index = json.loads((folder / WEIGHTS_INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()), key=str)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SourceError(f"{model}: {WEIGHTS_INDEX} is not an index of safetensors files") from None
    for shard in shards:
        if not isinstance(shard, str) or not shard.endswith(".safetensors"):
            raise SourceError(
                f"{model}: {WEIGHTS_INDEX} names {shard!r}, which is not a safetensors file; tuneoff opens no others",
                hint=_CONVERT,
            )
        if "/" in shard or "\\" in shard or "\0" in shard:
            raise SourceError(
                f"{model}: {WEIGHTS_INDEX} names {shard!r}, which is outside the model's folder",
                hint="All weights must lie beside config.json.",
            )
    if not shards:
        raise SourceError(f"{model}: {WEIGHTS_INDEX} names no files")
    return shards


def has_weights(folder: Path) -> bool:
    """Tells whether a model's folder holds safetensors, complete by their names."""
    try:
        return all((folder / name).is_file() for name in weight_names(folder, None, folder.name))
    except SourceError:
        return False


def describing_checksums(folder: Path) -> dict[str, str]:
    """Returns the name of each configuration and tokenizer file in a model's folder -> its SHA-256."""
    described = (entry for entry in sorted(folder.iterdir()) if entry.suffix in DESCRIBING and entry.is_file())
    return {entry.name: sha256(entry) for entry in described}


def check_weights(folder: Path, gguf_file: str | None, model: str) -> None:
    """Checks the beginning of each file, so that a file that cannot be loaded is found before training.

    Raises:
        SourceNotFound: if one is missing.
        SourceError: if one is not what its name says, is cut short, or is a shard linked from outside the folder.
    """
    names = weight_names(folder, gguf_file, model)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceNotFound(f"{model} lacks {len(missing)} of {len(names)} weight files, first {missing[0]}")
    for name in names:
        if name not in (WEIGHTS, gguf_file) and not _is_inside(folder / name, folder):
            raise SourceError(
                f"{model}: {name} is a link to {(folder / name).resolve()}, outside the model's folder",
                hint="Put the file itself there.",
            )
        _check_file(folder / name, f"{model}: {name}")


def _is_inside(path: Path, folder: Path) -> bool:
    root = folder.resolve()
    # The hub's own cache keeps what snapshots link to elsewhere in it: <cache>/models--org--name/snapshots/<commit>.
    home = root.parents[2] if root.parent.name == "snapshots" and len(root.parents) > 2 else root
    return path.resolve().is_relative_to(home)


def _check_file(path: Path, what: str) -> None:
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        first_bytes = file.read(32)
    if path.name.endswith(".gguf"):
        if first_bytes.startswith(b"GGUF"):
            return
        kind = "GGUF"
    else:
        kind = "safetensors"
        if first_bytes[8:9] == b"{":
            try:
                with safe_open(path, framework="numpy"):
                    return
            except SafetensorError as error:
                raise SourceError(
                    f"{what} is damaged or cut short: {error}", hint="Fetch or write the file again."
                ) from None
    content = (recognise(first_bytes) or "something else") if first_bytes else "empty"
    raise SourceError(f"{what} is not {kind}: it is {content}", hint="Fetch or write the file again.")
