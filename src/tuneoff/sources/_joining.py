"""Rows of several files as one table."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.errors import SourceError
from tuneoff.interfaces import Rows


def joined(parts: Sequence[Rows], origin: str) -> Rows:
    """Returns the rows of several tables, one after the other. A column that a table lacks is empty there.

    Raises:
        SourceError: if they name the classes of a column differently, or one is a data set of the hub.
    """
    if len(parts) == 1:
        return parts[0]
    names = dict.fromkeys(name for rows in parts for name in rows.columns)
    class_names: dict[str, tuple[str, ...]] = {}
    for rows in parts:
        if rows.commit:
            raise SourceError(
                f"{rows.origin} is a data set of the hub, and a list names files alone",
                hint="Name one data set, or files.",
            )
        for column, classes in rows.class_names.items():
            if class_names.setdefault(column, classes) != classes:
                raise SourceError(
                    f"{rows.origin} numbers the classes of column {column!r} otherwise than {parts[0].origin}",
                    hint="Write the classes as names, or read one of the files.",
                )
    return Rows(
        {name: [cell for rows in parts for cell in rows.columns.get(name, [None] * len(rows))] for name in names},
        origin,
        class_names=class_names,
        places=tuple(rows.place(index) for rows in parts for index in range(len(rows))),
        files={name: checksum for rows in parts for name, checksum in rows.files.items()},
    )
