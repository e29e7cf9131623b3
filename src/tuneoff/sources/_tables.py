"""Tables in files: CSV, TSV, Orange's .tab, JSON lines, JSON arrays, Parquet, Arrow and Feather, compressed or not.

Cells of CSV, TSV and .tab stay strings (a label "0" is not the number 0); values of the others keep their
types. An empty cell is None. Everything that cannot be read is one `DataError` that names the file and the line.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, first_line
from tuneoff.interfaces import Rows
from tuneoff.sources._conll import parse_conll
from tuneoff.sources._disguise import PICKLES, recognise
from tuneoff.sources._packed import (
    ALWAYS_TABLE_BYTES,
    CELL_BYTES,
    UnpackedSize,
    is_packed,
    read_bytes,
    refuse_sparse,
    table_bytes,
)
from tuneoff.suffixes import DATA_SUFFIXES, PACKED_SUFFIXES, data_suffix

FIELD_LIMIT = 64 * 2**20
"""Bytes of the longest cell accepted: above any text to train on, below a file that an open quote makes one cell."""

BATCH_ROWS = 1024
"""Rows of Parquet that are unpacked at once: the file may hold one long value that stands in all of them."""

Table = tuple[list[list[str]], list[int]]
"""Records, header first, and the line each starts on."""


def read_table(path: Path, origin: str) -> Rows:
    """Reads a file by its suffix.

    Args:
        path: an existing file.
        origin: what to call it in messages.

    Raises:
        DataError: for a suffix that is none of `READERS`, or contents that are not such a table.
    """
    reader = READERS.get(data_suffix(path.name))
    if reader is None:
        if path.suffix.lower() in PICKLES:
            raise DataError(
                f"{origin}: a pickle or NumPy file can run code when it is opened, so tuneoff never opens one",
                hint=f"Save the rows as one of {', '.join(READERS)}.",
            )
        suffix = data_suffix(path.name)
        ending = f"ending in {suffix!r}" if suffix else "without an ending such as .csv"
        raise DataError(f"{origin}: files {ending} cannot be read", hint=f"Known: {KNOWN}.")
    csv.field_size_limit(max(FIELD_LIMIT, csv.field_size_limit()))
    try:
        return reader(path, origin)
    except OSError as error:
        raise DataError(f"{origin} cannot be read: {error.strerror or error}") from None


def _decode(data: bytes, origin: str) -> str:
    """Decodes UTF-8 with or without a byte-order mark; line ends become "\\n" where a file has only "\\r"."""
    if kind := recognise(data[:32]):
        raise DataError(f"{origin} is {kind}, not text", hint=f"Save the rows as one of {', '.join(READERS)}.")
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise DataError(f"{origin} is UTF-16 text, not UTF-8", hint="Save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted in the whole file: the decoder itself counts after the byte-order mark.
        offset = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, offset) + 1
        raise DataError(
            f"{origin} line {line}: byte 0x{data[offset]:02x} (offset {offset}) is not UTF-8 text",
            hint=f"Re-save it as UTF-8, e.g. `iconv -f WINDOWS-1252 -t UTF-8 {Path(origin).name}`.",
        ) from None
    return text.replace("\r", "\n") if "\r" in text and "\n" not in text else text


def _split(text: str, delimiter: str) -> Table:
    """Splits a text in which quotes have no meaning into records, one per line."""
    records: list[list[str]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if content := line.removesuffix("\r"):
            records.append(content.split(delimiter))
            lines.append(number)
    return records, lines


def _unquote(text: str, delimiter: str) -> Table:
    """Parses a text with quoted cells, which may hold delimiters and line ends, into records.

    Raises:
        csv.Error: where a quote is left open or is followed by anything but a delimiter.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        for record in reader:
            if record:
                records.append(record)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {start}: {error}") from None
    return records, lines


def _has_equal_lengths(records: Sequence[Sequence[str]]) -> bool:
    return len({len(record) for record in records}) <= 1


def _parse_tabs(text: str) -> Table:
    """Parses quoted cells where the whole file is consistent with them; else quotes are plain text, as in GLUE."""
    try:
        table = _unquote(text, "\t")
    except csv.Error:
        return _split(text, "\t")
    suspicious = not _has_equal_lengths(table[0]) or any("\n" in cell for record in table[0] for cell in record)
    if suspicious:
        unquoted = _split(text, "\t")
        if _has_equal_lengths(unquoted[0]) or not _has_equal_lengths(table[0]):
            return unquoted
    return table


_DECLARATION = re.compile(r'"?sep=([^"\r\n])"?(?=\r?\n)', re.IGNORECASE)
"""The first line that gives Excel the delimiter; it is no row."""


def _parse_commas(text: str, origin: str) -> Table:
    if declaration := _DECLARATION.match(text):
        # The line end stays in the text, so that line numbers remain correct.
        delimiter, text = declaration[1], text[declaration.end() :]
    else:
        header = text.lstrip("\n\r").partition("\n")[0]
        delimiter = max(",;\t", key=lambda mark: len(next(csv.reader([header], delimiter=mark), [])))
    if '"' not in text:
        return _split(text, delimiter)
    try:
        return _unquote(text, delimiter)
    except csv.Error as error:
        raise DataError(
            f"{origin} {error}",
            hint="A quoted cell must be closed, and a double quote inside it is written twice.",
        ) from None


def _read_comma(path: Path, origin: str) -> Rows:
    return _build_rows(*_parse_commas(_decode(read_bytes(path, origin), origin), origin), origin)


def _read_tab(path: Path, origin: str) -> Rows:
    text = _decode(read_bytes(path, origin), origin)
    if _DECLARATION.match(text):
        return _build_rows(*_parse_commas(text, origin), origin)
    records, lines = _parse_tabs(text) if '"' in text else _split(text, "\t")
    if data_suffix(path.name) == ".tab" and _is_orange(records):
        del records[1:3], lines[1:3]
        # Orange pads its three header lines with an empty row in some files.
        if len(records) > 1 and not any(records[1]):
            del records[1], lines[1]
    return _build_rows(records, lines, origin)


_ORANGE_TYPES = {"d", "discrete", "c", "continuous", "s", "string", "t", "time", "m", "meta", "basket", ""}
_ORANGE_FLAGS = {"class", "meta", "m", "i", "ignore", "weight", ""}


def _is_orange(records: Sequence[Sequence[str]]) -> bool:
    """Tells whether the second line gives types and the third gives roles, as Orange writes them."""
    if len(records) < 3 or not any(records[1]):
        return False
    types, flags = records[1], records[2]
    # A discrete column may list its values ("neg pos") instead of the letter d: one known type is enough,
    # as long as the flags are flags.
    return any(cell in _ORANGE_TYPES - {""} for cell in types) and all(
        word in _ORANGE_FLAGS or "=" in word for cell in flags for word in cell.split(" ")
    )


def _build_rows(records: list[list[str]], lines: list[int], origin: str) -> Rows:
    if not records:
        raise DataError(f"{origin} is empty", hint="The first line must name the columns.")
    names = _name_columns(records[0], origin)
    del records[0], lines[0]
    if not records:
        raise DataError(f"{origin} has a header ({', '.join(names)}) but no rows")
    bad_indices = [index for index, record in enumerate(records) if len(record) != len(names)]
    if bad_indices:
        first = bad_indices[0]
        count = f"; {len(bad_indices)} rows differ from it" if len(bad_indices) > 1 else ""
        raise DataError(
            f"{origin} line {lines[first]} has {len(records[first])} columns, the header has {len(names)}{count}",
            hint="A cell that holds the delimiter must stand in double quotes.",
        )
    columns: dict[str, list[Any]] = {
        name: [cell or None for cell in cells] for name, cells in zip(names, zip(*records, strict=True), strict=True)
    }
    return Rows(columns, origin, lines=tuple(lines))


def _name_columns(header: Sequence[str], origin: str) -> list[str]:
    # pandas writes its index under an empty name.
    names = [cell.strip() or f"column_{number}" for number, cell in enumerate(header, start=1)]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{origin}: the header names column {repeated!r} more than once", hint="Rename one of them.")
    return names


def _read_json(path: Path, origin: str) -> Rows:
    text = _decode(read_bytes(path, origin), origin)
    if not text.strip():
        raise DataError(f"{origin} is empty")
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{origin} line {error.lineno} is not JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{origin} holds JSON that {_explain_json_error(error)}") from None
        return _from_objects(items, [], origin)
    return _from_objects(*_json_lines(text, origin), origin)


def _read_conll(path: Path, origin: str) -> Rows:
    return parse_conll(_decode(read_bytes(path, origin), origin), origin)


def _json_lines(text: str, origin: str) -> tuple[list[Any], list[int]]:
    items: list[Any] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            items.append(json.loads(line))
        except json.JSONDecodeError as error:
            hint = "Each line must be one JSON object; a list of rows must stand in [ ]."
            raise DataError(f"{origin} line {number} is not JSON: {error.msg}", hint=hint) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{origin} line {number} holds JSON that {_explain_json_error(error)}") from None
        lines.append(number)
    return items, lines


def _explain_json_error(error: ValueError | RecursionError) -> str:
    """Says which limit of Python's JSON reader a valid text exceeds: nesting depth, or digits of an integer."""
    return "is nested too deeply" if isinstance(error, RecursionError) else "has a whole number of too many digits"


def _from_objects(items: list[Any], lines: list[int], origin: str) -> Rows:
    """Builds one row per object; a key that a row lacks is None there."""
    if not items:
        raise DataError(f"{origin} has no rows")
    names: dict[str, None] = {}
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            place = f"line {lines[index]}" if lines else f"row {index + 1}"
            raise DataError(f"{origin} {place} is not a JSON object but {type(item).__name__}")
        names.update(dict.fromkeys(item))
    if not names:
        raise DataError(f"{origin} has rows without a single key")
    refuse_sparse(len(names) * len(items), sum(map(len, items)), origin)
    columns = {name: [_clean_value(item.get(name)) for item in items] for name in names}
    return Rows(columns, origin, lines=tuple(lines))


def _clean_value(value: Any) -> Any:
    """Returns None for an empty string or a float that is NaN, else the value."""
    return None if value == "" or (isinstance(value, float) and value != value) else value


def _read_parquet(path: Path, origin: str) -> Rows:
    import pyarrow
    import pyarrow.parquet

    size = UnpackedSize(path.stat().st_size, origin, ALWAYS_TABLE_BYTES)
    try:
        with pyarrow.parquet.ParquetFile(_arrow_file(path, origin)) as file:
            size.add(CELL_BYTES * file.metadata.num_rows * file.metadata.num_columns)
            batches = []
            for batch in file.iter_batches(BATCH_ROWS):
                size.add(table_bytes(batch))
                batches.append(batch)
            return _from_arrow(pyarrow.Table.from_batches(batches, file.schema_arrow), origin)
    except pyarrow.ArrowException as error:
        raise DataError(f"{origin} is not a Parquet file: {first_line(error)}") from None


def _read_arrow(path: Path, origin: str) -> Rows:
    """Reads Arrow's own formats: a file, which Feather is since 2020, or a stream, as `datasets` writes it."""
    import pyarrow

    try:
        source = _arrow_file(path, origin)
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        size = UnpackedSize(path.stat().st_size, origin, ALWAYS_TABLE_BYTES)
        with (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source) as reader:
            batches = []
            for batch in map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader:
                size.add_table(batch)
                batches.append(batch)
            return _from_arrow(pyarrow.Table.from_batches(batches, reader.schema), origin)
    except pyarrow.ArrowException as error:
        raise DataError(f"{origin} is not an Arrow file: {first_line(error)}") from None


def _arrow_file(path: Path, origin: str) -> Any:
    """Returns what Arrow reads from: the file, or its unpacked bytes."""
    import pyarrow

    return pyarrow.BufferReader(read_bytes(path, origin)) if is_packed(path) else pyarrow.memory_map(str(path))


def _from_arrow(table: Any, origin: str) -> Rows:
    import pyarrow

    repeated = next((name for name, count in Counter(table.column_names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{origin} names column {repeated!r} more than once")
    if not table.num_rows or not table.column_names:
        raise DataError(f"{origin} has no rows")
    columns = {}
    for name in table.column_names:
        try:
            columns[name] = [_clean_value(value) for value in table.column(name).to_pylist()]
        except (ArithmeticError, ValueError, pyarrow.ArrowException) as error:  # a date after the year 9999, say
            raise DataError(f"{origin}: column {name!r} holds a value that cannot be read: {error}") from None
    return Rows(columns, origin, class_names=_class_names(table.schema.metadata or {}))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Reads the names of integer classes, also of those in lists, which the hub's own Parquet files carry in their
    schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        items = {name: _item_feature(feature) for name, feature in features.items()}
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in items.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _item_feature(feature: Any) -> Any:
    """Returns what the schema says of the items of a list, or of a list of lists; of what is none, what it says."""
    while isinstance(feature, list) or (isinstance(feature, dict) and "feature" in feature):
        feature = feature["feature"] if isinstance(feature, dict) else next(iter(feature), None)
    return feature


_READERS: dict[str, Callable[[Path, str], Rows]] = {
    "commas": _read_comma,
    "tabs": _read_tab,
    "json": _read_json,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "conll": _read_conll,
}
READERS = {suffix: _READERS[kind] for suffix, kind in DATA_SUFFIXES.items()}
"""Suffix of a file -> function that reads it."""

KNOWN = f"{', '.join(READERS)}, each also with {', '.join(PACKED_SUFFIXES)} after it"
"""Which files are read, for messages."""
