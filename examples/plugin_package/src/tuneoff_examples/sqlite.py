"""Rows in an SQLite database: one table for each split."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from tuneoff.checksums import sha256
from tuneoff.errors import DataError, SourceNotFound, did_you_mean
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec


class Sqlite(Source):
    """A database file; the table has the split's name, or the one that `split` names."""

    title = "SQLite"
    summary = "tables of an SQLite database, one for each split"
    priority = 10  # before files, which would claim any path

    def claims(self, reference: str) -> bool:
        return Path(reference).suffix.lower() in {".sqlite", ".sqlite3", ".db"}

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        path, table = _require_file(spec.source), spec.split or split
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
                tables = [name for (name,) in names]
                if table not in tables:
                    raise SourceNotFound(
                        f"{spec.source} has no table {table!r}{did_you_mean(table, tables)}",
                        hint=f"It has {', '.join(sorted(tables)) or 'no tables'}. Name one by the key `split`.",
                    )
                quoted = table.replace('"', '""')
                cursor = connection.execute(f'SELECT * FROM "{quoted}"')
                columns = [column for column, *_ in cursor.description]
                values = list(cursor)
        except sqlite3.Error as error:
            raise DataError(f"{spec.source} cannot be read as an SQLite database: {error}") from error
        return Rows(
            {column: [row[number] for row in values] for number, column in enumerate(columns)},
            origin=f"{spec.source} table {table}",
        )

    def model(self, spec: ModelSpec) -> ModelFiles:
        raise SourceNotFound(f"{spec.source} holds rows, not a model")

    def fingerprint(self, reference: str) -> str:
        return sha256(_require_file(reference))

    def local_bytes(self, reference: str) -> int | None:
        path = Path(os.path.expanduser(reference))
        return path.stat().st_size if path.is_file() else 0


def _require_file(reference: str) -> Path:
    path = Path(os.path.expanduser(reference))
    if not path.is_file():
        raise SourceNotFound(f"there is no file {reference}", hint="Paths are relative to where tuneoff runs.")
    return path


plugin = Sqlite
