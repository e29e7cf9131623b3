"""Pieces of a Markdown page. Text from elsewhere goes through `tuneoff.encoding`."""

from __future__ import annotations

from collections.abc import Sequence


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """Returns a table; its first column is aligned left, `align` says how the others are."""
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join([':---', *[align] * (len(heads) - 1)])} |"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])
