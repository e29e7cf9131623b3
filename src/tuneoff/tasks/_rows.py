"""Chooses columns and refuses rows that cannot be used, in the same way for every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import ColumnRole, Example, Rows, has_lone_surrogate, is_missing
from tuneoff.tasks._cells import lower_names, refuse_chat, refuse_pictures, refuse_preferences, require_plain


def choose_columns(rows: Rows, options: Any, roles: Sequence[ColumnRole]) -> dict[str, str]:
    """Returns a column for each of a task's roles; for an optional one only where the options name it.

    Args:
        options: the task's, with a field for each role that may name its column.
        roles: of the task.

    Raises:
        DataError: if one is not there (names the nearest), cannot be guessed, or has both roles.
    """
    columns = {
        role.name: choose_column(rows, role.name, getattr(options, role.name), role.guesses)
        for role in roles
        if not role.optional or getattr(options, role.name) is not None
    }
    if len(set(columns.values())) < len(columns):
        twice = next(column for column in columns.values() if list(columns.values()).count(column) > 1)
        keys = " and ".join(f"task.{role}" for role, column in columns.items() if column == twice)
        raise DataError(f"{keys} are the same column, {twice!r}")
    return columns


def choose_column(rows: Rows, role: str, column: str | None, names: Sequence[str]) -> str:
    """Returns the column of a role: the one given, else the first of these names that exists."""
    if column in rows.columns:
        return column
    if column is not None:
        raise DataError(
            f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}",
            hint=f"Its columns: {listed(rows.columns)}. Set task.{role}.",
        )
    lower = lower_names(rows)
    for name in names:
        if name in lower:
            return lower[name]
    for refuse in (refuse_chat, refuse_preferences, refuse_pictures):
        refuse(rows)
    raise DataError(
        f"cannot tell which column of {rows.origin} holds the {role}",
        hint=f"Set task.{role} to one of: {listed(rows.columns)}.",
    )


def require_columns(rows: Rows, columns: Mapping[str, str], split: str) -> None:
    """Refuses a split without rows, or without a column that the training rows have.

    Raises:
        DataError: says which.
    """
    for role, column in columns.items():
        if column not in rows.columns:
            raise DataError(
                f"{rows.origin} ({split}) has no column {column!r} for the {role}, unlike the training rows",
                hint=f"Its columns: {listed(rows.columns)}.",
            )
    if not len(rows):
        raise DataError(f"{rows.origin} ({split}) has no rows")


def require_cells(rows: Rows, columns: Mapping[str, str], split: str, **kinds: Any) -> None:
    """Refuses empty cells, invalid Unicode and cells that are neither text nor number.

    Args:
        kinds: those of `require_plain`.

    Raises:
        DataError: says how many rows are empty and where the first is, or what a cell is and what could be meant.
    """
    require_plain(rows, columns, **kinds)
    require_filled(rows, columns, split)
    for column in columns.values():
        broken = _first_index(rows.columns[column], has_lone_surrogate)
        if broken is not None:
            raise DataError(f"{rows.place(broken)}: column {column!r} holds text that is not valid Unicode")


def require_filled(rows: Rows, columns: Mapping[str, str], split: str, hint: str = "") -> None:
    """Refuses empty cells.

    Args:
        hint: what else may be meant by an empty cell, and how to write it.

    Raises:
        DataError: says how many rows are empty and where the first is.
    """
    for role, column in columns.items():
        empty = [i for i, value in enumerate(rows.columns[column]) if is_missing(value)]
        if empty:
            fill = f"Remove those rows or fill in column {column!r}; in a study task.missing: skip leaves them out."
            raise DataError(
                f"{len(empty)} of {len(rows)} rows of {rows.origin} ({split}) have no {role}; "
                f"the first is {rows.place(empty[0])}",
                hint=f"{fill} {hint}".strip(),
            )


def require_unicode(examples: list[Example]) -> list[Example]:
    """Returns the examples, for a task that makes them of cells that `require_cells` does not take, such as lists.

    Raises:
        DataError: for the first with text that is not valid Unicode.
    """
    broken = next(
        (e for e in examples if any(map(has_lone_surrogate, (e.text, e.text_pair, e.target, *e.choices)))), None
    )
    if broken is not None:
        raise DataError(f"{broken.place} holds text that is not valid Unicode")
    return examples


def _first_index(values: Sequence[Any], wanted: Any) -> int | None:
    return next((i for i, value in enumerate(values) if wanted(value)), None)
