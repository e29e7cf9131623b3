"""Folders that `datasets` wrote with `save_to_disk`: one table (Dataset), or one for each split (DatasetDict)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, SourceNotFound, did_you_mean, first_line
from tuneoff.interfaces import Rows
from tuneoff.sources._hub_rows import convert_table
from tuneoff.sources._packed import ALWAYS_TABLE_BYTES, UnpackedSize

_SPLITS, _STATE = "dataset_dict.json", "state.json"


def is_saved(folder: Path) -> bool:
    """Tells whether a folder is such a one."""
    return (folder / _SPLITS).is_file() or ((folder / _STATE).is_file() and (folder / "dataset_info.json").is_file())


def splits(folder: Path, origin: str) -> tuple[str, ...]:
    """Returns the names of the splits that the folder holds; empty where it is one table.

    Raises:
        DataError: if the file that lists them is damaged.
    """
    if not (folder / _SPLITS).is_file():
        return ()
    names = _read_json(folder / _SPLITS, origin).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise DataError(f"{origin}: its {_SPLITS} names no splits", hint="Save the data set again.")
    return tuple(names)


def table_folder(folder: Path, split: str | None, role: str, origin: str) -> Path:
    """Returns the folder of the table to read.

    Args:
        folder: a saved data set.
        split: as the study names it; None: the role's own.
        role: train, validation or test.
        origin: what to call the folder.

    Raises:
        SourceNotFound: if there is no such split.
    """
    names = splits(folder, origin)
    if not names:
        if split is not None:
            raise SourceNotFound(f"{origin} holds one table and no split {split!r}", hint="Leave out `split`.")
        return folder
    wanted = split or role
    if wanted not in names:
        hint = f"It has {', '.join(names)}. Set `split:` of this source to one that has no other role"
        hint += f", or leave task.data.{role} out to cut rows off train." if role != "train" else "."
        raise SourceNotFound(f"{origin} has no split {wanted!r}{did_you_mean(wanted, names)}", hint=hint)
    return folder / wanted


def table_files(folder: Path, origin: str) -> list[Path]:
    """Returns the files of one table: its rows in order, then what describes them.

    Raises:
        DataError: if one is not there, or lies elsewhere.
    """
    entries = _read_json(folder / _STATE, origin).get("_data_files")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    names = [str(entry.get("filename")) for entry in entries]
    if not all(Path(name).name == name and (folder / name).is_file() for name in names):
        raise DataError(f"{origin} lacks files of rows that its {_STATE} names", hint="Copy the whole folder again.")
    return [folder / name for name in (*names, "dataset_info.json")]


def read(folder: Path, origin: str) -> Rows:
    """Reads one table.

    Raises:
        DataError: if it is damaged or has no rows.
    """
    files = table_files(folder, origin)
    import datasets

    size = UnpackedSize(sum(path.stat().st_size for path in files if path.is_file()), origin, ALWAYS_TABLE_BYTES)

    try:
        saved = datasets.load_from_disk(str(folder))
        table = saved.with_format("arrow")[:]
    except Exception as error:  # every kind of builtin error stands for some damage
        raise DataError(f"{origin} cannot be read: {type(error).__name__}: {first_line(error, 300)}") from None
    if not table.num_rows:
        raise DataError(f"{origin} has no rows")
    size.add_table(table)
    return convert_table(table, saved.features, origin)


def _read_json(path: Path, origin: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{origin}: {path.name} cannot be read: {first_line(error)}") from None
    return content if isinstance(content, dict) else {}
