"""How a study shows itself in a terminal (rich) and in a notebook (HTML)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuneoff.store import StudyStore

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuneoff.analysis.results import Asked


def table_and_answer(store: StudyStore, asked: Asked | None, width: int) -> Iterator[RenderableType]:
    """Yields the table of a study's results, of `width` characters, and the answer."""
    from rich.text import Text

    from tuneoff import report
    from tuneoff.report import terminal

    results = report.build(store, asked)
    yield terminal.table(results, width)
    yield Text(results.answer.text)


def html(shown: RenderableType) -> str:
    """Returns as HTML what a terminal would show."""
    from rich.console import Console

    from tuneoff.report.terminal import WIDTH_ELSEWHERE

    console = Console(record=True, file=io.StringIO(), width=WIDTH_ELSEWHERE, force_jupyter=False)
    console.print(shown)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
