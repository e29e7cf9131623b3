"""Compressed files, unpacked in memory and no further than is reasonable: a file may be made to fill all memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, first_line

ALWAYS_BYTES = 64 * 2**20
"""Bytes that any file may unpack to."""
MOST_TIMES = 100
"""How many times its own size a file may unpack to beyond that. Text seldom passes 20; gzip can reach 1,000."""
_CHUNK = 2**20
_ENDINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}


def is_packed(path: Path) -> bool:
    """Tells by its name whether a file is compressed."""
    return path.suffix.lower() in _ENDINGS


def read_bytes(path: Path, origin: str) -> bytes:
    """Reads a file, unpacked where its name says that it is compressed.

    Raises:
        OSError: if it cannot be read.
        DataError: if it is not what its name says, ends early, or unpacks to far more than its own size.
    """
    kind = _ENDINGS.get(path.suffix.lower())
    if kind is None:
        return path.read_bytes()
    most = max(ALWAYS_BYTES, MOST_TIMES * path.stat().st_size)
    parts: list[bytes] = []
    size = 0
    try:
        with _open(path, kind) as stream:
            while part := stream.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise DataError(
                        f"{origin} unpacks to more than {most // 2**20:,} MiB, {size / path.stat().st_size:,.0f} times "
                        "its size or more: it may be made to fill the memory, so no more of it is unpacked",
                        hint="If you trust it, unpack it yourself and name the unpacked file.",
                    )
    except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        message = f"{origin} is not whole, or not compressed with {kind}: {first_line(error)}"
        raise DataError(message, hint="Copy or compress it again.") from None
    return b"".join(parts)


def _open(path: Path, kind: str) -> Any:
    """Opens a stream of the unpacked bytes."""
    if kind == "zstd":
        import pyarrow

        return pyarrow.input_stream(path, compression="zstd")
    open_file: dict[str, Callable[[Path], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return open_file[kind](path)
