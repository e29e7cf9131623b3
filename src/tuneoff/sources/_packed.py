"""Compressed files, unpacked in memory and no further than is reasonable: a file may be made to fill all memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, first_line
from tuneoff.suffixes import PACKED_SUFFIXES

ALWAYS_BYTES = 64 * 2**20
"""Bytes that any file may unpack to."""
MOST_TIMES = 100
"""How many times its own size a file may unpack to beyond that. Text seldom passes 20; gzip can reach 1,000."""
ALWAYS_TABLE_BYTES = 2**30
"""Bytes that the rows of any file may take in memory. Parquet writes a value that repeats once."""
CELL_BYTES = 8
"""What a cell takes at least."""
_CHUNK = 2**20


def is_packed(path: Path) -> bool:
    """Tells by its name whether a file is compressed."""
    return path.suffix.lower() in PACKED_SUFFIXES


class UnpackedSize:
    """Adds up what is unpacked.

    Args:
        packed_bytes: size of the files.
        origin: what to call them.
        always_bytes: what any file may unpack to.
    """

    def __init__(self, packed_bytes: int, origin: str, always_bytes: int) -> None:
        self._most = max(always_bytes, MOST_TIMES * packed_bytes)
        self._packed_bytes, self._origin, self._bytes = packed_bytes, origin, 0

    def add(self, count: int) -> None:
        """Adds bytes.

        Raises:
            DataError: if it is far more than the size of the files.
        """
        self._bytes += count
        if self._bytes > self._most:
            times = self._bytes / max(1, self._packed_bytes)
            raise DataError(
                f"{self._origin} unpacks to more than {self._most // 2**20:,} MiB, {times:,.0f} times "
                "its size or more: it may be made to fill the memory, so no more of it is unpacked",
                hint="If you trust it, unpack it yourself and name the unpacked file.",
            )

    def add_table(self, table: Any) -> None:
        """Adds an Arrow table, or a batch of one; an empty cell takes room, too, once it is an object of Python."""
        self.add(table.nbytes + CELL_BYTES * table.num_rows * table.num_columns)


def read_bytes(path: Path, origin: str) -> bytes:
    """Reads a file, unpacked where its name says that it is compressed.

    Raises:
        OSError: if it cannot be read.
        DataError: if it is not what its name says, ends early, or unpacks to far more than its own size.
    """
    return b"".join(_unpack(path, origin)) if is_packed(path) else path.read_bytes()


def check(path: Path, origin: str) -> None:
    """Unpacks a file that others will read, and keeps nothing of it.

    Raises:
        OSError, DataError: as `read_bytes`.
    """
    if is_packed(path):
        for _ in _unpack(path, origin):
            pass
    elif path.suffix.lower() == ".zip":
        # No more of a member is read than its declared size.
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            UnpackedSize(path.stat().st_size, origin, ALWAYS_BYTES).add(
                sum(member.file_size for member in archive.infolist())
            )


def _unpack(path: Path, origin: str) -> Iterator[bytes]:
    kind = PACKED_SUFFIXES[path.suffix.lower()]
    size = UnpackedSize(path.stat().st_size, origin, ALWAYS_BYTES)
    try:
        with _open(path, kind) as stream:
            while part := stream.read(_CHUNK):
                size.add(len(part))
                yield part
    except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        message = f"{origin} is not whole, or not compressed with {kind}: {first_line(error)}"
        raise DataError(message, hint="Copy or compress it again.") from None


def _open(path: Path, kind: str) -> Any:
    """Opens a stream of the unpacked bytes."""
    if kind == "zstd":
        import pyarrow

        return pyarrow.input_stream(path, compression="zstd")
    open_file: dict[str, Callable[[Path], Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return open_file[kind](path)
