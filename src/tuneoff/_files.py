"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tuneoff.errors import CorruptRecord, StoreError


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_atomically(path: Path, data: str | bytes) -> None:
    """Writes a file so that it is there whole, on disk, or not at all.

    Raises:
        StoreError: when the disk is full or the folder cannot be written; nothing else is lost.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another folder with --out, then run the same command again: "
            "finished trials are kept.",
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a file of JSON holds.

    Raises:
        StoreError: if it is missing.
        CorruptRecord: if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise CorruptRecord(f"{path} cannot be read: {error}") from None
