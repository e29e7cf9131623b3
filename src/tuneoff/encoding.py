"""Text from outside (labels, rows, names of arms and files, words of other programs) as each kind of output shows it.

Every output passes such text through the function for its kind, so that it is shown and never interpreted: by a
terminal, a Markdown page, a spreadsheet or a chart. JSON, YAML and Python have escapes of their own and need none of
these.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

# C0 and C1 controls (a terminal obeys them) without tab and line end, marks that turn the direction of the text around
# them, separators that some programs take for line ends, and halves of surrogate pairs, which nothing can write.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKS = re.compile(
    r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=\bwww)\.|^[-+=](?=\s|$|[-+=])",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")

# What LaTeX obeys, and signs that it has commands for. Accents are commands before the letter that carries them.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{sign: f"\\{sign}" for sign in "$&%#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "°": r"\textdegree{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True)
)


def visible(text: str) -> str:
    """Makes text safe for a terminal: hidden characters become Python's escapes; tabs and line ends stay."""
    return _HIDDEN.sub(lambda match: ascii(match[0])[1:-1], str(text))


def one_line(text: str) -> str:
    """Puts visible text on one line, so that it cannot break a list, a table or a message."""
    return visible(" ".join(str(text).split()))


def markdown(text: str) -> str:
    """Escapes text for one line of a Markdown page: nothing in it marks up, links, or ends a cell."""
    return _NUMBERED.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", one_line(text)))


def code(text: str) -> str:
    """Formats text as code on a line of a Markdown page; not for tables, where a bar would end the cell."""
    shown = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def fenced(lines: Iterable[str], language: str) -> str:
    """Formats lines as a block of code of a Markdown page, which nothing in them ends."""
    shown = [visible(line) for line in lines]
    fence = "`" * max(3, 1 + max((len(run) for line in shown for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}{language}", *shown, fence])


def csv_cell(value: Any) -> Any:
    """Escapes a cell of a table that spreadsheets open: text that they would read as a formula gets an apostrophe
    before it.

    Values that are not text, and text that is a number, stay as they are.
    """
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if _FORMULA.match(value) and not _NUMBER.fullmatch(value) else visible(value)


def csv_table(rows: Iterable[Iterable[Any]], separator: str = ",") -> str:
    """Formats rows of cells, the heading first, as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def json_text(value: Any, indent: int | None = None) -> str:
    """Formats plain data as JSON that a terminal shows and does not obey; refuses numbers that are not finite."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    # Hidden characters stand in JSON's strings alone, which have an escape for each.
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def chart_text(text: str) -> str:
    """Puts text for a chart on one line; escapes dollars, which would begin a formula."""
    return one_line(text).replace("$", r"\$")


def latex(text: str) -> str:
    """Writes text for LaTeX in ASCII: nothing in it is a command. What has no spelling there stands as its number,
    `U+4E2D`."""
    return "".join(_latex_character(character) for character in unicodedata.normalize("NFC", one_line(text)))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    spelled = unicodedata.normalize("NFD", character)
    letter, marks = spelled[0], spelled[1:]
    if letter.isascii() and letter.isalpha() and marks in _ACCENTS:
        return f"{{\\{_ACCENTS[marks]}{{{letter}}}}}"
    return f"U+{ord(character):04X}"
