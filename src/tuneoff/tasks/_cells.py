"""Cells that are no text or number: what they are, why a role cannot take them, and what could be meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows
from tuneoff.tasks._literals import BrokenList, parse_literal

_MESSAGE_KEYS = {"role": "content", "from": "value"}
"""Keys of a chat's messages: speaker -> content."""
UNSUPPORTED = "docs/unsupported.md says what is not supported, and why."
_PREFERENCE_NAMES = {"chosen", "rejected"}
_PICTURE_KEYS = {"bytes", "path"}
BROKEN_HINT = "Save the rows as JSON lines, which hold whole lists."
CHAT_HINT = "The task chat reads them: set task.name to it (init does)."


def require_plain(rows: Rows, columns: Mapping[str, str], *, label: str | None = None, fractions: bool = False) -> None:
    """Refuses columns with cells that are neither text nor number.

    Args:
        columns: role -> column.
        label: the role whose cells are classes, if there is one.
        fractions: whether a class may be a number that is not whole.

    Raises:
        DataError: says where the first is, what it is, and what to do.
    """
    for role, column in columns.items():
        for index, cell in enumerate(rows.columns[column]):
            # Names that were declared are taken as they are.
            value = parse_literal(cell) if role == label and not fractions else cell
            if _is_plain(value, fractions or role != label):
                continue
            what, hint = _explain(rows, role, column, value, role == label)
            holds = "holds" if role == label else "holds no text but"
            raise DataError(f"{rows.place(index)}: column {column!r} {holds} {what}", hint=hint)


def _is_plain(value: Any, fractions: bool) -> bool:
    if value is None or isinstance(value, str):
        return True
    # Not a number is no value, which is refused as such.
    return isinstance(value, Real) and (fractions or value != value or value % 1 == 0)


def _explain(rows: Rows, role: str, column: str, value: Any, label: bool) -> tuple[str, str]:
    """Says what such a cell is, why it cannot be used, and how to fix it."""
    example = f"such as {str(value)[:60]}"
    if isinstance(value, BrokenList):
        return f"a list that cannot be read, {example}: {value.reason}", BROKEN_HINT
    if is_chat(value):
        return "chats (lists of messages)", CHAT_HINT
    if isinstance(value, Mapping) and value.keys() >= _PICTURE_KEYS:
        return "pictures or sound, which are not supported", UNSUPPORTED
    if isinstance(value, Mapping):
        parts = [f"{column}.{key}" for key, part in value.items() if part is not None and _is_plain(part, not label)]
        names = " or ".join(part for part in parts[:4] if part in rows.columns)
        hint = f"{names} could be meant: set task.{role} to it (with init, --{role})."
        return f"objects, {example}", hint if names else "Make a column of the part that is meant."
    if isinstance(value, Real):
        hint = "If they are classes, write them as text or name them all in task.labels; else make ranges of them."
        return f"numbers with a fraction, {example}: amounts, not classes", hint
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"bytes, {example}", f"Decode them and save them as text, if they are that; {UNSUPPORTED}"
    if isinstance(value, (Sequence, set, frozenset)) or hasattr(value, "__array__"):
        if label:
            hint = "Use the task multi_label, or give each row one class."
            return f"lists, {example}: several classes a row, where a row has one", hint
        return f"lists, {example}", f"Join each list into one text, or take one item; for lists to rank, {UNSUPPORTED}"
    kind = type(value).__name__
    return f"values of the type {kind}, {example}", f"Save column {column!r} as text."


def nearly_all(fits: Sequence[bool]) -> bool:
    """Tells whether a column is of a kind by what its cells are, though a few may be broken: one, or a tenth of them.

    Such a column is taken for what it is, and reading it then names the row that is broken.
    """
    broken = len(fits) - sum(fits)
    return 2 * broken < len(fits) and broken <= max(1, len(fits) // 10)


def is_chat(value: Any) -> bool:
    """Tells whether a cell holds a conversation: messages with a speaker and a content."""
    return isinstance(value, Sequence) and bool(value) and all(map(speaker_keys, value))


def speaker_keys(message: Any) -> tuple[str, str] | None:
    """Returns the keys of a message's speaker and of its words; None where it has none."""
    pairs = _MESSAGE_KEYS.items() if isinstance(message, Mapping) else ()
    return next(((role, content) for role, content in pairs if role in message and content in message), None)


def lower_names(rows: Rows) -> dict[str, str]:
    """Returns the columns by their names in lower case, without spaces around them."""
    return {name.lower().strip(): name for name in rows.columns}


def chat_column(rows: Rows) -> str | None:
    """Returns the first column of conversations, also of those that are written out as text."""
    cells = ((name, next((v for v in values if v is not None), None)) for name, values in rows.columns.items())
    return next((name for name, value in cells if is_chat(parse_literal(value))), None)


def refuse_chat(rows: Rows) -> None:
    """Refuses rows with a column of conversations, for a task that reads none.

    Raises:
        DataError: if there is such a column; names the task that reads it.
    """
    chat = chat_column(rows)
    if chat is not None:
        raise DataError(f"column {chat!r} of {rows.origin} holds chats (lists of messages)", hint=CHAT_HINT)


def refuse_preferences(rows: Rows) -> None:
    """Refuses rows with a chosen and a rejected answer where none is named: guessing one would leave the other out.

    Raises:
        DataError: if there are such columns; says how to train on one.
    """
    if lower_names(rows).keys() >= _PREFERENCE_NAMES:
        raise DataError(
            f"{rows.origin} has chosen and rejected answers: learning from preferences is not supported",
            hint=f"Name the column of the chosen ones to train on these alone; {UNSUPPORTED}",
        )


def refuse_pictures(rows: Rows) -> None:
    """Refuses rows with a column of pictures or sound, for a task that found no text.

    Raises:
        DataError: if there is such a column.
    """
    for name, values in rows.columns.items():
        value = next((v for v in values if v is not None), None)
        is_picture = isinstance(value, Mapping) and value.keys() >= _PICTURE_KEYS
        if is_picture or isinstance(value, (bytes, bytearray)):
            raise DataError(f"column {name!r} of {rows.origin} holds pictures, sound or other bytes", hint=UNSUPPORTED)
