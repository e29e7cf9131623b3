"""Pieces of a Markdown page: tables and options. Text from elsewhere goes through `tuneoff.encoding`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """Returns a table; its first column is aligned left, `align` says how the others are."""
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join([':---', *[align] * (len(heads) - 1)])} |"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def option(value: Any) -> str:
    """Formats an option: `16` for 16.0, `query, value` for a list."""
    if isinstance(value, list):
        return "[" + ", ".join(map(option, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
