"""Pieces of a Markdown page: tables and options. Text from elsewhere goes through `tuneoff.encoding`."""

from __future__ import annotations

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
