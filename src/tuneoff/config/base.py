"""What the parts of a study file have in common: immutable models, names, seeds and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_SEED = 2**32 - 1
"""Greatest seed that every generator of random numbers takes."""
MAX_SEEDS = 10_000
"""Most seeds of a study that are given by their number."""
MAX_LABEL = 100
"""Characters of the longest label and name, which stand in tables and file names."""
MAX_REFERENCE = 4_000
"""Characters of the longest alias, hub id or path."""


class Frozen(BaseModel):
    """Base of every model here: immutable, unknown keys refused, no silent coercion of non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def own_keys_to_options(value: Any, field_names: set[str]) -> Any:
    """Moves keys that belong to a plug-in (a method's, a task's) into `options`."""
    if not isinstance(value, Mapping):
        return value
    fields = {key: item for key, item in value.items() if key in field_names}
    options = {key: item for key, item in value.items() if key not in field_names}
    if options:
        fields["options"] = {**dict(fields.get("options") or {}), **options}
    return fields


def _label(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty label")
    if len(value) > MAX_LABEL or not value.isprintable():
        raise ValueError(f"a label is one line of at most {MAX_LABEL} printable characters")
    return value


Label = Annotated[str, AfterValidator(_label)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Reference = Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE)]
