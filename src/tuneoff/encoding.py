"""Text from outside (labels, rows, names of arms and files, words of other programs) as each kind of output shows it.

Every output sends such text through the function of its kind, so that it is shown and never obeyed: by a terminal, a
Markdown page, a spreadsheet or a chart. JSON, YAML and Python have escapes of their own and need none of these.
"""

from __future__ import annotations

import re

# C0 and C1 controls (a terminal obeys them) without tab and line end, marks that turn the direction of the text around
# them, separators that some programs take for line ends, and halves of surrogate pairs, which nothing can write.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKS = re.compile(
    r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=\bwww)\.|^[-+=](?=\s|$|[-+=])|(?<=^\d)[.)]",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    """Text whose hidden characters are shown as Python's escapes; tabs and line ends stay."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "backslashreplace").decode(), str(text))


def one_line(text: str) -> str:
    """Visible text on one line, so that it cannot break a list, a table or a message."""
    return visible(" ".join(str(text).split()))


def markdown(text: str) -> str:
    """Text on one line of a Markdown page, shown as it stands: nothing in it marks up, links, or ends a cell."""
    return _MARKS.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> str:
    """Text as code on a line of a Markdown page; not for tables, where a bar would end the cell."""
    shown = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"
