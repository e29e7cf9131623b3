"""Pieces of a Markdown page: tables, and text from elsewhere that must not break it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """A table; its first column stands at the left, `align` says where the others do."""
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join([':---', *[align] * (len(heads) - 1)])} |"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def option(value: Any) -> str:
    """An option: `16` for 16.0, `query, value` for a list."""
    if isinstance(value, list):
        return "[" + ", ".join(map(option, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def one_line(text: str) -> str:
    """One line, so that it cannot break a list or a table."""
    return " ".join(str(text).split())


def cell(text: str) -> str:
    """One line that does not end its cell of a table."""
    return one_line(text).replace("|", "\\|")


_MARKS = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """Text from outside on one line, shown as it stands: nothing in it marks up, links, or ends a cell."""
    return _MARKS.sub(r"\\\g<0>", one_line(_CONTROL.sub(" ", text)))
