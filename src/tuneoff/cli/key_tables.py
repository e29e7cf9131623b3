"""Tables of keys in the documentation, made of the models' field descriptions.

A table stands between `<!-- keys: MODULE.MODEL -->` and `<!-- end of keys -->`; with `without KEY, KEY` in the first
marker it leaves keys out. What is outside the markers is written by hand and stays.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

TABLE = re.compile(
    r"(?P<begin><!-- keys: (?P<model>[\w.]+)(?: without (?P<without>[\w, ]+))? -->\n).*?(?P<end><!-- end of keys -->)",
    re.DOTALL,
)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_BY_HAND = {"Protocol": "protocol.md"}
"""Models whose keys are described by hand, and where."""
_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null", Any: "any"}


def with_tables(folder: Path) -> dict[Path, str]:
    """Returns the text of every page of a folder that has tables, each table made anew."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.md"))}
    pages = {path: text for path, text in pages.items() if TABLE.search(text)}
    places: dict[str, str] = {}
    for path, text in pages.items():
        places |= {match["model"]: _place(path, text, match.start()) for match in TABLE.finditer(text)}
    return {path: TABLE.sub(partial(_table, page=path.name, places=places), text) for path, text in pages.items()}


def _place(path: Path, text: str, position: int) -> str:
    """Returns page and anchor of the last heading before a position: `record.md#timing`."""
    heading = [match[1] for match in _HEADING.finditer(text, 0, position)][-1]
    return f"{path.name}#{re.sub(r'[^a-z0-9_ -]', '', heading.lower()).replace(' ', '-')}"


def _table(match: re.Match[str], page: str, places: Mapping[str, str]) -> str:
    module, _, name = match["model"].rpartition(".")
    model: type[BaseModel] = getattr(importlib.import_module(module), name)
    left_out = set((match["without"] or "").replace(" ", "").split(","))
    lines = ["| key | type | meaning |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        if key in left_out or field.exclude:
            continue
        if not field.description:
            raise ValueError(f"{match['model']}.{key} has no description")
        kind, meaning = (
            text.replace("|", "\\|") for text in (_kind(field.annotation, page, places), field.description)
        )
        lines.append(f"| `{key}` | {kind} | {meaning} |")
    return f"{match['begin']}{chr(10).join(lines)}\n{match['end']}"


def _kind(annotation: Any, page: str, places: Mapping[str, str]) -> str:
    """Describes a type: `list of [Metric](#metric) or null`."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0], page, places)
    if origin in (Literal, Union, UnionType):
        return _either(_kinds(annotation, page, places))
    if origin is tuple:
        return f"list of {_kind(arguments[0], page, places)}"
    if origin is dict:
        return f"{_kind(arguments[0], page, places)} -> {_kind(arguments[1], page, places)}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "text"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _link(annotation, page, places)
    raise TypeError(f"no words for the type {annotation}")


def _kinds(annotation: Any, page: str, places: Mapping[str, str]) -> list[str]:
    """Lists the words of a type that may be one of several things, null last."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments]
    if origin not in (Union, UnionType):
        return [_kind(annotation, page, places)]
    members = [argument for argument in arguments if argument is not NoneType]
    kinds = list(dict.fromkeys(kind for member in members for kind in _kinds(member, page, places)))
    # A whole number is a number.
    kinds = [kind for kind in kinds if not (kind == "whole number" and "number" in kinds)]
    return [*kinds, "null"] if NoneType in arguments else kinds


def _either(words: list[str]) -> str:
    """Joins words: `a`, `a or b`, `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _link(model: type[BaseModel], page: str, places: Mapping[str, str]) -> str:
    """Returns the name of a model with a link to its table; `object` where it has none."""
    place = _BY_HAND.get(model.__name__) or places.get(f"{model.__module__}.{model.__name__}")
    return f"[{model.__name__}]({place.removeprefix(page)})" if place else "object"
