"""Text that tries to be more than text, and what an output that shows it must never do."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

from markdown_it import MarkdownIt

from tuneoff.encoding import visible


def assert_shown(text: str) -> None:
    """Nothing in a text moves a terminal's cursor, changes its colours or turns what follows."""
    assert visible(text) == text


def check_cells(text: str) -> None:
    """No cell of a CSV is a formula."""
    for line in csv.reader(io.StringIO(text, newline="")):
        assert not [cell for cell in line if cell[:1] in "=+-@\t\r" and cell and not _is_number(cell)]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def check_markdown(text: str) -> None:
    """No HTML, no link, no image but the page's own, no formula, and as many cells in every row as in its head."""
    text = text.removeprefix("---\n").partition("\n---\n")[2] if text.startswith("---\n") else text
    parsed = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(text)
    tokens = [token for outer in parsed for token in (outer, *(outer.children or ()))]
    assert not {token.type for token in tokens} & {"html_inline", "html_block", "link_open", "code_block"}
    images = [str(token.attrs["src"]) for token in tokens if token.type == "image"]
    assert all(source.endswith(".png") and "/" not in source for source in images)
    assert all("$" not in line.replace("\\$", "") for line in text.splitlines() if line.startswith("|"))
    lines = [line.replace("\\|", "") for line in text.splitlines()]
    for before, after in pairwise(lines):
        if before.startswith("|") and after.startswith("|"):
            assert before.count("|") == after.count("|")
