"""What names of files of rows end in."""

from __future__ import annotations

from pathlib import PurePath

DATA_SUFFIXES = {
    ".csv": "commas",
    ".tsv": "tabs",
    ".tab": "tabs",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
}
"""Suffix of a file of rows -> how it is written."""
PACKED_SUFFIXES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Suffix of a compressed file, which follows one of `DATA_SUFFIXES` -> with what."""


def data_suffix(name: str) -> str:
    """Returns the ending that says what kind of table a file is, in lower case: `.jsonl` of `rows.JSONL.gz`."""
    path = PurePath(name)
    return PurePath(path.stem if path.suffix.lower() in PACKED_SUFFIXES else path.name).suffix.lower()


def is_data_file(name: str) -> bool:
    """Tells whether a name is one of a file of rows."""
    return data_suffix(name) in DATA_SUFFIXES


def without_suffixes(name: str) -> str:
    """Returns the name of a file of rows without what it ends in: `rows.v2` of `rows.v2.jsonl.gz`; others as they
    are."""
    if not is_data_file(name):
        return name
    path = PurePath(name)
    return PurePath(path.stem).stem if path.suffix.lower() in PACKED_SUFFIXES else path.stem
