"""CoNLL files: a word and its tags a line, an empty line between sentences."""

from __future__ import annotations

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows

_DOCUMENT = "-DOCSTART-"
"""A line of CoNLL-2003 between documents; no word."""


def parse_conll(text: str, origin: str) -> Rows:
    """Returns a row for each sentence, with its words in `tokens` and the last column's tags in `tags`.

    Columns between stand as `column_2` and so on. A comment is a line that begins with `# ` before a sentence's words
    and has no tabs, unless it has as many columns as other lines and ends with a tag of theirs.

    Raises:
        DataError: for lines with another number of columns than the first, or no tags.
    """
    sentences: list[list[list[str]]] = [[]]
    lines: list[int] = []
    width = 0
    table = [line.rstrip("\r").split("\t") if "\t" in line else line.split() for line in text.split("\n")]
    known = {(len(cells), cells[-1]) for cells in table if cells and cells[0] not in ("#", _DOCUMENT)}
    for number, (line, cells) in enumerate(zip(text.split("\n"), table, strict=True), start=1):
        if not any(cell.strip() for cell in cells):
            if sentences[-1]:
                sentences.append([])
            continue
        may_be_comment = not sentences[-1] and line.startswith("# ") and "\t" not in line
        if cells[0] == _DOCUMENT or (may_be_comment and (len(cells), cells[-1]) not in known):
            continue
        width = width or len(cells)
        if len(cells) != width or width < 2:
            need = f"the first has {width}" if width > 1 else "a word and a tag are needed"
            raise DataError(
                f"{origin} line {number} has {len(cells)} columns, and {need}",
                hint="A CoNLL file has a word and its tags a line, and an empty line between sentences.",
            )
        if not sentences[-1]:
            lines.append(number)
        sentences[-1].append(cells)
    rows = [sentence for sentence in sentences if sentence]
    if not rows:
        raise DataError(f"{origin} has no rows")
    names = ["tokens", *(f"column_{i}" for i in range(2, width)), "tags"]
    columns = {name: [[cells[i] for cells in row] for row in rows] for i, name in enumerate(names)}
    return Rows(dict(columns), origin, lines=tuple(lines))
