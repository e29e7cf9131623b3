"""The options of a plug-in, read from its options model."""

from __future__ import annotations

import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


def options(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Lists the fields of an options model: name, type, default, required, description."""
    return [
        {
            "name": name,
            "type": _type(field),
            "required": field.is_required(),
            "default": None if field.is_required() else _plain(field.get_default(call_default_factory=True)),
            "description": field.description or "",
        }
        for name, field in model.model_fields.items()
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (tuple, set, frozenset)) else value


def _type(field: FieldInfo) -> str:
    """Describes a field's type and limits: `integer ≥ 1`, `'pfeiffer' or 'houlsby'`, `list of text, or null`."""
    words = _type_words(field.annotation)
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return " ".join([words, " and ".join(limits)]).strip()


def _type_words(annotation: Any) -> str:
    names = {int: "integer", float: "number", str: "text", bool: "true or false", NoneType: "null"}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type_words(part) for part in parts)
    if origin in (tuple, list, set, frozenset) and parts:
        return f"list of {_type_words(parts[0])}"
    if annotation in names:
        return names[annotation]
    return re.sub(r"\b[a-z_]+\.", "", getattr(annotation, "__name__", None) or str(annotation))
