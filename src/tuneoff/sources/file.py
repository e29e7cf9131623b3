"""Rows and base models on this machine: a file of rows, or a folder of model files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from tuneoff.checksums import sha256
from tuneoff.errors import DataError, SourceNotFound, did_you_mean
from tuneoff.files import special_kind
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources._disguise import PICKLES
from tuneoff.sources._tables import READERS, read_table
from tuneoff.sources._weights import check_weights, find_weights

_MODEL_SUFFIXES = (".gguf", ".safetensors", *PICKLES)


class File(Source):
    """A path: CSV, TSV, .tab, JSONL, JSON or Parquet rows; a model folder or a GGUF file."""

    title = "Local file"
    summary = "CSV, TSV, .tab, JSONL, JSON or Parquet rows; a model folder (safetensors) or a GGUF file"
    priority = 20

    def claims(self, reference: str) -> bool:
        """Tells whether a reference is or looks like a path, so that a misspelt path is not looked up at a hub."""
        if reference.startswith(("./", "../", "~", "/")) or reference in {".", ".."} or reference.count("/") > 1:
            return True
        if Path(reference).suffix.lower() in {*READERS, *_MODEL_SUFFIXES} or "\\" in reference:
            return True
        return os.path.exists(reference)  # unlike Path.exists, False for what is too long to be a path

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Reads all rows of the file: a file is one split, whichever role it has."""
        _refuse_hub_keys(spec, ("split", "config", "revision"))
        path = _require_path(spec.source)
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in READERS)
            examples = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
            raise SourceNotFound(
                f"{spec.source} is a folder; rows are read from one file",
                hint=f"It holds {examples}." if names else f"Files of rows end in {', '.join(READERS)}.",
            )
        return read_table(path, spec.source)

    def model(self, spec: ModelSpec) -> ModelFiles:
        """Finds a folder with config.json and safetensors, or a GGUF file (or a folder that holds one)."""
        _refuse_hub_keys(spec, ("revision",))
        path = _require_path(spec.source)
        if path.is_file():
            if path.suffix.lower() == ".gguf":
                check_weights(path.parent, path.name, spec.source)
                return ModelFiles(str(path.parent), gguf_file=path.name)
            pickle = path.suffix.lower() in PICKLES
            raise SourceNotFound(
                f"{spec.source} is a file, but a base model is a folder (or a .gguf file)"
                + ("; a pickle can run code, so tuneoff never opens one" if pickle else ""),
                hint=f"Its folder is {path.parent}." if (path.parent / "config.json").exists() else "",
            )
        if spec.random_weights and (path / "config.json").exists():
            return ModelFiles(str(path))
        gguf_file = find_weights({entry.name for entry in path.iterdir()}, spec.source)
        check_weights(path, gguf_file, spec.source)
        return ModelFiles(str(path), gguf_file=gguf_file)

    def local_bytes(self, reference: str) -> int | None:
        """Returns the bytes of the file; 0 for a missing file, which raises an error when it is read."""
        path = os.path.expanduser(reference)
        return os.path.getsize(path) if os.path.isfile(path) else 0

    def fingerprint(self, reference: str) -> str:
        """Computes the SHA-256 of the file, or of a model folder's configuration, tokenizer and weights."""
        path = _require_path(reference)
        if path.is_file():
            return sha256(path)
        suffixes = (".json", ".safetensors", ".gguf", ".txt", ".model")
        content = [
            [entry.name, entry.stat().st_size, sha256(entry)]
            for entry in sorted(path.iterdir())
            if entry.is_file() and entry.suffix.lower() in suffixes
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _refuse_hub_keys(spec: SourceSpec | ModelSpec, keys: tuple[str, ...]) -> None:
    for key in keys:
        if getattr(spec, key) is not None:
            raise SourceNotFound(
                f"{spec.source} is a local file, which has no {key}", hint=f"Leave out `{key}`, or name a hub id."
            )


def _require_path(reference: str) -> Path:
    """Returns the path after checking that it exists and can be read.

    Raises:
        SourceNotFound: says which name in that folder is near, or which folder is missing.
        DataError: if the system does not let us look.
    """
    path = Path(os.path.expanduser(reference))
    try:
        if path.exists():
            if not os.access(path, os.R_OK):
                raise DataError(f"{reference} cannot be read: permission denied")
            _refuse_special(path, reference)
            return path
        folder = path.parent
        if not folder.is_dir():
            raise SourceNotFound(
                f"no file {reference!r}: there is no folder {str(folder)!r}", hint=_make_path_hint(path)
            )
        suggestion = did_you_mean(path.name, [entry.name for entry in folder.iterdir()])
    except OSError as error:
        raise DataError(f"{reference} cannot be read: {error.strerror or error}") from None
    raise SourceNotFound(f"no file {reference!r}{suggestion}", hint=_make_path_hint(path))


def _refuse_special(path: Path, reference: str) -> None:
    """Refuses a path that is neither a file nor a folder, and a folder that contains one.

    Raises:
        DataError: names it.
    """
    if kind := special_kind(path):
        raise DataError(f"{reference} is {kind}, not a file", hint="Copy what it gives into a file and name that.")
    for entry in sorted(path.iterdir()) if path.is_dir() else ():
        if kind := special_kind(entry):
            raise DataError(f"{reference} holds {entry.name}, which is {kind}, not a file", hint="Remove it.")


def _make_path_hint(path: Path) -> str:
    return "" if path.is_absolute() else f"Paths are taken from where tuneoff runs, {Path.cwd()}."


plugin = File
