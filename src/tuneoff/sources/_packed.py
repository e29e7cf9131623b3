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

import numpy as np
from numpy.typing import NDArray

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
_VIEWS = {"string_view", "binary_view"}
"""Arrow types whose cells may be parts of one text."""


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
        self.add(table_bytes(table) + CELL_BYTES * table.num_rows * table.num_columns)


def refuse_sparse(cells: int, filled: int, origin: str) -> None:
    """Refuses objects that would make a table of far more cells than they fill: as many columns as keys, and each of
    all rows.

    Raises:
        DataError: if these are so many that they may fill the memory.
    """
    if CELL_BYTES * cells > max(ALWAYS_TABLE_BYTES, MOST_TIMES * CELL_BYTES * filled):
        raise DataError(
            f"{origin} has objects of so many different keys that a table of them has {cells:,} cells, {filled:,} of "
            "them filled: it may be made to fill the memory",
            hint="Give all rows the same keys.",
        )


def table_bytes(table: Any) -> int:
    """Returns the bytes of an Arrow table, or a batch of one, where each cell has a value of its own.

    Arrow may write a value once for all cells that have it; as objects of Python each takes its room.
    """
    columns = [getattr(column, "chunks", [column]) for column in table.columns]
    return sum(_array_bytes(chunk) for chunks in columns for chunk in chunks)


def _array_bytes(array: Any) -> int:
    from pyarrow import types

    kind = array.type
    if hasattr(kind, "storage_type"):
        return _array_bytes(array.storage)
    if not _shares_values(kind):
        return int(array.nbytes)
    if types.is_dictionary(kind):
        numbers = array.indices.drop_null().to_numpy(zero_copy_only=False)
        return int(_entry_bytes(array.dictionary)[numbers].sum())
    if types.is_run_end_encoded(kind):
        ends = np.clip(array.run_ends.to_numpy(), array.offset, array.offset + len(array)).astype(np.int64)
        return int((_entry_bytes(array.values) * np.diff(ends, prepend=array.offset)).sum())
    if types.is_struct(kind):
        return sum(map(_array_bytes, array.flatten()))
    if types.is_map(kind):
        return _array_bytes(array.keys) + _array_bytes(array.items)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _array_bytes(array.flatten())
    if str(kind) in _VIEWS:
        return int(_entry_bytes(array).sum())
    ends = np.concatenate([[0], np.cumsum(_entry_bytes(array.values))])
    first = array.offsets.to_numpy().astype(np.int64)
    return int((ends[first + array.sizes.to_numpy()] - ends[first]).sum())


def _shares_values(kind: Any) -> bool:
    """Tells whether cells of an Arrow type, or their parts, may share a value that is written once."""
    from pyarrow import types

    is_view = str(kind) in _VIEWS or str(kind).startswith(("list_view", "large_list_view"))
    once = types.is_dictionary(kind) or types.is_run_end_encoded(kind) or is_view
    return once or any(_shares_values(kind.field(i).type) for i in range(kind.num_fields))


def _entry_bytes(values: Any) -> NDArray[np.int64]:
    """Returns the bytes of each entry of an Arrow array."""
    from pyarrow import compute, types

    if types.is_primitive(values.type):
        return np.full(len(values), values.type.bit_width // 8)
    if str(values.type) in _VIEWS:
        # A view is four numbers, the first its length.
        views = np.frombuffer(values.buffers()[1], dtype=np.int32)[::4]
        return views[values.offset : values.offset + len(values)].astype(np.int64)
    if str(values.type) in {"string", "large_string", "binary", "large_binary"}:
        lengths = compute.fill_null(compute.binary_length(values), 0)
        return np.asarray(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.array([_array_bytes(values.slice(i, 1)) for i in range(len(values))], dtype=np.int64)


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
