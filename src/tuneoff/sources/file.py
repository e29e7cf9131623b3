"""Rows and base models on this machine: files of rows, a data set saved in a folder, or a folder of model files."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from tuneoff.checksums import sha256
from tuneoff.errors import DataError, SourceNotFound, did_you_mean
from tuneoff.files import special_kind
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources import _saved as saved
from tuneoff.sources._disguise import PICKLES
from tuneoff.sources._joining import joined
from tuneoff.sources._tables import KNOWN, read_table
from tuneoff.sources._weights import check_weights, find_weights
from tuneoff.suffixes import DATA_SUFFIXES, data_suffix, is_data_file

_MODEL_SUFFIXES = (".gguf", ".safetensors", *PICKLES)


class File(Source):
    """A path: a file of rows, a pattern of several, a folder of `save_to_disk`; a model folder or a GGUF file."""

    title = "Local file"
    summary = (
        "CSV, TSV, .tab, JSONL, JSON, Parquet, Arrow or Feather rows, compressed or not; a pattern such as rows/*.csv; "
        "a data set saved by save_to_disk; a model folder (safetensors) or a GGUF file"
    )
    priority = 20

    def claims(self, reference: str) -> bool:
        """Tells whether a reference is or looks like a path, so that a misspelt path is not looked up at a hub."""
        if reference.startswith(("./", "../", "~", "/")) or reference in {".", ".."} or reference.count("/") > 1:
            return True
        if data_suffix(reference) in {*DATA_SUFFIXES, *_MODEL_SUFFIXES} or "\\" in reference or "*" in reference:
            return True
        return os.path.exists(reference)  # unlike Path.exists, False for what is too long to be a path

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Reads all rows of the file, or of the files of a pattern: that is one split, whichever role it has. A saved
        data set may have several."""
        _refuse_hub_keys(spec, ("config", "revision"))
        paths = _find(spec.source)
        if len(paths) == 1 and paths[0].is_dir():
            return _read_folder(paths[0], spec, split)
        _refuse_hub_keys(spec, ("split",))
        if not _is_pattern(spec.source):
            return read_table(paths[0], spec.source)
        parts = [replace(read_table(path, str(path)), files={str(path): sha256(path)}) for path in paths]
        return joined(parts, spec.source)

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

    def splits(self, reference: str) -> tuple[str, ...]:
        """Returns the splits of a saved data set; empty for files."""
        path = Path(os.path.expanduser(reference))
        return saved.splits(path, reference) if path.is_dir() and saved.is_saved(path) else ()

    def local_bytes(self, reference: str) -> int | None:
        """Returns the bytes of the files; 0 for a missing file, which raises an error when it is read."""
        path = os.path.expanduser(reference)
        paths = glob.glob(path, recursive=True) if _is_pattern(reference) else [path]
        if os.path.isdir(path):
            paths = glob.glob(f"{glob.escape(path)}/**/*.arrow", recursive=True)
        return sum(os.path.getsize(entry) for entry in paths if os.path.isfile(entry))

    def fingerprint(self, reference: str) -> str:
        """Computes the SHA-256 of the file, or of the names and contents of several: those of a pattern, of a saved
        data set, or a model folder's configuration, tokenizer and weights."""
        paths = _find(reference)
        if not _is_pattern(reference) and paths[0].is_file():
            return sha256(paths[0])
        names = {path: path.name for path in paths}
        if paths[0].is_dir():
            names = {path: path.relative_to(paths[0]).as_posix() for path in _describing_files(paths[0], reference)}
        content = [[name, path.stat().st_size, sha256(path)] for path, name in names.items()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _is_pattern(reference: str) -> bool:
    """Tells whether a reference names files by a pattern: by stars, unless there is a file of that very name."""
    return "*" in reference and not os.path.exists(os.path.expanduser(reference))


def _find(reference: str) -> list[Path]:
    """Returns the path that a reference is, or the files of its pattern in order of their names.

    Raises:
        SourceNotFound: if there are none.
        DataError: if one cannot be read.
    """
    if not _is_pattern(reference):
        return [_require_path(reference)]
    paths = [
        name for name in sorted(glob.glob(os.path.expanduser(reference), recursive=True)) if not os.path.isdir(name)
    ]
    if not paths:
        raise SourceNotFound(f"no file {reference!r}: nothing has such a name", hint=_make_path_hint(Path(reference)))
    return [_require_path(name) for name in paths]


def _describing_files(folder: Path, reference: str) -> list[Path]:
    """Returns the files of a folder that its fingerprint covers, in order."""
    if saved.is_saved(folder):
        tables = [folder / name for name in saved.splits(folder, reference)] or [folder]
        return sorted(path for table in tables for path in saved.table_files(table, reference))
    suffixes = (".json", ".safetensors", ".gguf", ".txt", ".model")
    return [entry for entry in sorted(folder.iterdir()) if entry.is_file() and entry.suffix.lower() in suffixes]


def _read_folder(folder: Path, spec: SourceSpec, role: str) -> Rows:
    """Reads one table of a saved data set.

    Raises:
        SourceNotFound: if the folder is none, or has no such split.
    """
    if not saved.is_saved(folder):
        names = sorted(entry.name for entry in folder.iterdir() if is_data_file(entry.name))
        examples = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        pattern = f"{spec.source.rstrip('/')}/*{data_suffix(names[0])}" if names else ""
        raise SourceNotFound(
            f"{spec.source} is a folder; rows are read from files",
            hint=f"It holds {examples}. Several are named by a pattern, such as '{pattern}'."
            if names
            else f"Files of rows end in {KNOWN}.",
        )
    table = saved.table_folder(folder, spec.split, role, spec.source)
    origin = spec.source if table == folder else f"{spec.source} {table.name}"
    checksums = {str(path): sha256(path) for path in saved.table_files(table, origin)}
    return replace(saved.read(table, origin), files=checksums)


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
