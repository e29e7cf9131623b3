"""Tables that fit into a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

LABEL_LEAST = 8
"""Least width of an arm's label in columns."""


def fitted(tables: Sequence[Table], width: int) -> Table:
    """Returns the first table that is no wider than `width` columns; the last one, cut, where none is.

    The first column, of labels, shrinks to its least width before a table is given up; it gets all the room there is.
    """
    # Measured with room to spare: a console never measures anything as wider than itself.
    console = Console(width=1000)
    for table in tables:
        labels = table.columns[0]
        longest = max(cell_len(str(text)) for text in (labels.header, *labels.cells))
        least = min(longest, labels.min_width or LABEL_LEAST)
        labels.width = least
        room = width - Measurement.get(console, console.options, table).maximum
        labels.width = min(longest, least + max(room, 0))
        if room >= 0:
            break
    return table
