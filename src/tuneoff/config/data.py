"""Where rows and models come from: the parts of a study file on data, task and model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from tuneoff.config.base import MAX_REFERENCE, Frozen, Reference, own_keys_to_options
from tuneoff.suffixes import is_data_file


class SourceSpec(Frozen):
    """Where rows come from. In a study file either a string (alias, hub id or path), a list of files, or these keys."""

    source: str = Field(
        min_length=1,
        max_length=MAX_REFERENCE,
        description="alias, hub id (org/name), path of a file, pattern of files (`rows/*.jsonl`), or a list of files",
    )
    more: tuple[Reference, ...] = Field(
        (), description="further files, whose rows follow: what a list names after its first"
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="column of this source -> the name that it is read by, where splits name their columns differently",
    )
    split: str | None = Field(None, description="split to read; the role's own name where unset")
    config: str | None = Field(None, description="configuration of a hub dataset, e.g. '3.0.0'")
    revision: str | None = Field(None, description="commit or tag of a hub dataset")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        value = {"source": value} if isinstance(value, (str, list, tuple)) else value
        files = value.get("source") if isinstance(value, Mapping) else None
        if not isinstance(files, (list, tuple)):
            return value
        if not files:
            raise ValueError("an empty list of files")
        return {**value, "source": files[0], "more": files[1:]}

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all that is named, in order."""
        return (self.source, *self.more)


class DataSpec(Frozen):
    """The rows of a study. A missing `test` or `validation` is cut from `train`, stratified."""

    train: SourceSpec = Field(description="training rows")
    validation: SourceSpec | None = Field(None, description="rows to choose a checkpoint on; null: cut from train")
    test: SourceSpec | None = Field(None, description="rows scored once, at the end; null: cut from train")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {"train": value}
        if not isinstance(value, str):
            return value
        # An alias or a hub id holds splits of its own; a file, or a pattern of files, does not.
        is_file = is_data_file(value) or "*" in value
        return {"train": value} if is_file else {"train": value, "test": value}

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all that is named for any split, in order."""
        parts = (part for part in (self.train, self.validation, self.test) if part is not None)
        return tuple(dict.fromkeys(reference for part in parts for reference in part.references))


class TaskSpec(Frozen):
    """How an example becomes model input and how output becomes a score.

    Keys beyond `name` and `data` belong to the task named and are checked by it (`text`, `label`, …).
    """

    name: str = Field("classification", description="the task's name")
    data: DataSpec = Field(description="where the rows come from")
    options: dict[str, Any] = Field(default_factory=dict, description="the task's options")

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return own_keys_to_options(value, {"name", "data", "options"})


class ModelSpec(Frozen):
    """The base model. In a study file either a string or these keys."""

    source: Reference = Field(description="alias, hub id (org/name) or folder")
    revision: str | None = Field(None, description="commit or tag of a hub model")
    random_weights: bool = Field(False, description="build the architecture alone; quality then means nothing")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value
