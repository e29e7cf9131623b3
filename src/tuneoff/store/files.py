"""Files that are there whole or not at all, and documents that are read back only as what they were written."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tuneoff.checksums import content_hash, sha256
from tuneoff.errors import CorruptRecord, StoreError
from tuneoff.files import read_text

Model = TypeVar("Model", bound=BaseModel)
DAMAGED = "Restore it from a copy, or run the study again: that repeats what is damaged and nothing else."


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


_HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}")
"""Names of the files that `write_atomically` writes before it puts them in their place."""


def is_half_written(path: Path) -> bool:
    """Tells whether a file is what `write_atomically` leaves when its process is killed."""
    return _HALF_WRITTEN.fullmatch(path.name) is not None


def sweep(folder: Path) -> None:
    """Removes from a folder the files that killed processes left half written."""
    for path in filter(is_half_written, folder.glob(".*")):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, data: str | bytes, *, make_folder: bool = True, exclusive: bool = False) -> None:
    """Writes a file so that it is on disk either whole or not at all.

    Args:
        path: the file.
        data: its content.
        make_folder: whether a missing folder is made; else it stays missing and `StoreError` is raised.
        exclusive: never write over a file that is there, even if another process writes it at the same time.

    Raises:
        StoreError: when the disk is full or the folder cannot be written; nothing else is lost.
        FileExistsError: if the file is there and the write is exclusive.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        if exclusive:
            _link_new(temporary, path)
        else:
            os.replace(temporary, path)
            temporary = None
    except FileNotFoundError:
        raise StoreError(
            f"cannot write {path}: its folder is no longer there", hint="Run the same command again."
        ) from None
    except OSError as error:
        # Where the folder itself is a file, there is something to free.
        if exclusive and isinstance(error, FileExistsError) and path.parent.is_dir():
            raise
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}",
            hint="Free some space or name another place to write to, then run the same command again: "
            "finished trials are kept.",
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _link_new(source: str, path: Path) -> None:
    """Gives a file a second name, which must be new.

    Raises:
        FileExistsError: if that name is taken.
    """
    try:
        os.link(source, path)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no links: two processes that write within the same instant are not told apart.
        if path.exists():
            raise FileExistsError(path) from None
        os.rename(source, path)


def checksum(path: Path) -> str:
    """Computes the SHA-256 (hex) of a file of a study.

    Raises:
        CorruptRecord: if it is missing or cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror or error}", hint=DAMAGED) from None


def refuse_overwriting(out: Path, read: Iterable[Path]) -> None:
    """Refuses to write over anything that is read.

    Args:
        out: what is to be written.
        read: files and folders that are read.

    Raises:
        StoreError: if `out` is one of the files, under whatever name, or lies in one of the folders.
    """
    ancestors = [ancestor for ancestor in (out.resolve(), *out.resolve().parents) if ancestor.exists()]
    for path in read:
        if path.exists() and any(ancestor.samefile(path) for ancestor in ancestors):
            problem = f"lies in {path}, which is read" if path.is_dir() else "is what is read"
            raise StoreError(f"{out} {problem}; nothing is written over it", hint="Name another place to write to.")


def give_usual_modes(folder: Path) -> None:
    """Gives a folder and all files in it the modes that new files have here; files written by libraries may be
    private."""
    folder.chmod(0o777 & ~_UMASK)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~_UMASK)


def read_json(path: Path) -> Any:
    """Reads a file of JSON.

    Raises:
        CorruptRecord: if it is missing or cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except FileNotFoundError:
        raise CorruptRecord(f"{path} is missing", hint=DAMAGED) from None
    except OSError as error:
        raise CorruptRecord(f"{path} cannot be read: {error.strerror or error}", hint=DAMAGED) from None
    except (ValueError, RecursionError) as error:
        raise CorruptRecord(f"{path} cannot be read: {error}", hint=DAMAGED) from None


def sealed(body: dict[str, Any]) -> str:
    """Returns a document as JSON text with its checksum."""
    return json.dumps({"sha256": content_hash(body), **body}, indent=1, ensure_ascii=False)


def unsealed(path: Path, document: Any, *, hint: str = DAMAGED, required: bool = True) -> dict[str, Any]:
    """Returns the content of a document that was read from a file, without its checksum.

    Args:
        path: the file.
        document: what `read_json` returned of it.
        hint: what to do where it was changed.
        required: whether one without a checksum is refused.

    Raises:
        CorruptRecord: if it is not what was written.
    """
    body = dict(document) if isinstance(document, dict) else {}
    seal = body.pop("sha256", None)
    if seal != content_hash(body) and (required or seal is not None):
        raise CorruptRecord(f"{path} does not match its checksum", hint=hint)
    return body


def check_version(path: Path, what: str, version: Any, supported: int) -> None:
    """Refuses a document that this version of tuneoff cannot read.

    Args:
        path: the document, or the folder that it describes.
        what: the kind of document, e.g. `record`.
        version: the version in the document.
        supported: the version that this tuneoff reads.

    Raises:
        StoreError: if the two differ.
    """
    if version != supported:
        raise StoreError(
            f"{path} has {what} version {version}, this tuneoff reads {supported}",
            hint="Install the version of tuneoff that wrote it.",
        )


def validated(kind: type[Model], body: Any, path: Path, what: str) -> Model:
    """Returns a document's content as a checked model.

    Raises:
        CorruptRecord: if it is not `what`, e.g. `a record`.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise CorruptRecord(f"{path} is not {what}: {error}", hint=DAMAGED) from None


def link(source: str | Path, target: str | Path) -> None:
    """Gives a file a second name (a hard link); copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
