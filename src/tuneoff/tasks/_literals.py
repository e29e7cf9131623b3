"""Lists, objects and bytes that are written out in a text cell, as text tables hold them."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

MOST_LETTERS = 2000
"""Longest literal, in characters, that Python's own parser reads: nested far deeper, one could end the process."""
_STARTS = ("[", "{", "(", "b")
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_NUMBER = r"[-+]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_ITEM = re.compile(rf"\s*({_QUOTED}|{_NUMBER}|None|True|False|\.\.\.)(?=[\s,\]'\"])(\s*,?)", re.DOTALL)
"""An item of a list, and what stands after it: a comma, spaces or nothing."""
_WORDS = {"None": None, "True": True, "False": False}
_LIST_ENDS = re.compile(r"\[[\s\[]*['\"{].*['\"}][\s\]]*\]", re.DOTALL)
"""What only a list of texts or objects begins and ends with."""


@dataclass(frozen=True)
class BrokenList:
    """A text that was a list and cannot be read as one.

    Attributes:
        text: the cell.
        reason: what is wrong with it.
    """

    text: str
    reason: str

    def __str__(self) -> str:
        return self.text


def parse_literal(cell: Any) -> Any:
    """Parses a text that is a list, an object or bytes written out, as Python, JSON or NumPy write them.

    Returns:
        The value; the cell itself where it is no such text; `BrokenList` for a list with parts left out (`...`), with
        neither commas nor spaces between all of its parts, or too long and in disorder.
    """
    if not isinstance(cell, str) or cell[:2].lstrip()[:1] not in _STARTS:
        return cell
    text = cell.strip()
    is_list = text.startswith("[") and text.endswith("]")
    # Python's parser joins texts that no comma separates.
    if is_list and (items := _flat_items(text)):
        return _parse_items(cell, items)
    value: Any = cell
    with suppress(Exception):
        value = ast.literal_eval(text) if len(text) <= MOST_LETTERS else json.loads(text)
    if not isinstance(value, str | Real):
        return value
    if is_list and len(text) > MOST_LETTERS and _LIST_ENDS.fullmatch(text):
        return BrokenList(cell, "it is no list of texts or numbers, and no JSON")
    return cell


def _flat_items(text: str) -> list[tuple[str, str]] | None:
    """Splits a list of texts, numbers and `...` into its items, each with the comma or the space after it, if any;
    None where it holds anything else."""
    items, place, end = [], 1, len(text) - 1
    while (found := _ITEM.match(text, place)) is not None:
        items.append((found[1], "," if "," in found[2] else found[2][:1] and " "))
        place = found.end()
    return items if not text[place:end].strip() else None


def _parse_items(cell: str, items: list[tuple[str, str]]) -> Any:
    """Returns the values of a list's items. Numbers without commas, as NumPy writes them, stay texts."""
    marks = {mark for _, mark in items[:-1]}
    if any(item == "..." for item, _ in items):
        return BrokenList(cell, "parts of it were left out (...) when it was written") if len(items) > 1 else cell
    if marks not in ({","}, {" "}, set()):
        return BrokenList(cell, "its items have neither commas nor spaces between them all")
    has_commas = marks != {" "}
    try:
        return [_parse_item(item, has_commas) for item, _ in items]
    except (ValueError, SyntaxError):
        return BrokenList(cell, "a text in it cannot be read")


def _parse_item(item: str, has_commas: bool) -> Any:
    if item[0] in "'\"":
        return ast.literal_eval(item) if "\\" in item or "\n" in item else item[1:-1]
    if item in _WORDS:
        return _WORDS[item]
    return ast.literal_eval(item) if has_commas else item
