"""Text and JSON on the standard streams, of which no terminal obeys a control character."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tuneoff.encoding import json_text, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment


WIDTH_OF_A_FILE = 110
"""Columns of a table written to a file or a pipe, where nothing says how wide it may be."""


def console(stderr: bool = False) -> Console:
    """Returns a console that prints plain text as it stands: no markup, no coloured numbers, and no control characters
    but those of rich's own styles."""
    from rich.console import Console

    class Plain(Console):
        def render(self, *args: Any, **kwargs: Any) -> Iterator[Segment]:
            for segment in super().render(*args, **kwargs):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_OF_A_FILE
    return Plain(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def print_json(value: Any) -> None:
    """Prints plain data on stdout as JSON; refuses numbers that are not finite, instead of writing NaN."""
    echo(json_text(value, indent=2))


def echo(text: str, *, err: bool = False, nl: bool = True, style: str | None = None) -> None:
    """Prints text with its control characters made visible, so that no terminal obeys them.

    Args:
        err: print on stderr.
        nl: end the line after the text.
        style: its colour, for a terminal.
    """
    click.secho(visible(text), err=err, nl=nl, fg=style)
