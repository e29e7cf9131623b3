"""What a study asks of retention: texts and tasks of the base model's own that are scored before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import Field, field_validator, model_validator

from tuneoff.config.base import Frozen, Label
from tuneoff.config.data import SourceSpec, TaskSpec

REWIND = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Fractions of `rewind: true`."""


class HeldSpec(Frozen):
    """Something that the base model can do before training: to go on with a text, or a task.

    In a study file either a text's source (alias, hub id, path, list of files) or these keys.
    """

    text: SourceSpec | None = Field(
        None, description="rows of text whose loss is measured, e.g. `docstrings`; of several splits the test split"
    )
    column: str | None = Field(None, description="column that holds the text; guessed where obvious")
    task: TaskSpec | None = Field(
        None, description="in place of a text a task, with keys as the study's own `task`: its test rows are scored"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_source(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, (str, list, tuple)) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> HeldSpec:
        if (self.text is None) == (self.task is None):
            raise ValueError("give either a text or a task")
        if self.column is not None and self.text is None:
            raise ValueError("column is of a text; a task names its columns itself")
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all that is named, in order."""
        if self.task is not None:
            return self.task.data.references
        return self.text.references if self.text is not None else ()


class RetentionSpec(Frozen):
    """What is scored before training and after it, in the final trials of arms that train.

    In a study file either these keys, or a text's source, or a list of such.
    """

    held: dict[Label, HeldSpec] = Field(
        min_length=1,
        description="name -> text or task; a list takes the names of the sources. The first one is what `forgetting` "
        "is of in limits and fronts",
    )
    rows: int = Field(200, ge=2, le=10_000, description="rows of each that are scored, at most")
    max_length: int | None = Field(
        None, ge=2, description="tokens kept of a text or of a task's input; unset: the protocol's"
    )
    rewind: tuple[float, ...] = Field(
        (),
        description="fractions of the trained change, e.g. [0, 0.5, 1], or true for 0, 0.25, 0.5, 0.75 and 1: models "
        "between the base model and the merged one are scored too, of arms that merge; none by default",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_sources(cls, value: Any) -> Any:
        return {"held": value} if isinstance(value, (str, list, tuple)) else value

    @field_validator("held", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)):
            return value
        held: dict[str, Any] = {}
        for item in value:
            name = _name(item)
            if name in held:
                raise ValueError(f"{name!r} stands twice; give them names of their own: `NAME: SOURCE`")
            held[name] = item
        return held

    @field_validator("rewind", mode="before")
    @classmethod
    def _fractions(cls, value: Any) -> Any:
        if isinstance(value, bool) or value is None:
            return REWIND if value else ()
        return value

    @field_validator("rewind")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= fraction <= 1 for fraction in value):
            raise ValueError("fractions of the trained change are from 0 (the base model) to 1 (the trained one)")
        if list(value) != sorted(set(value)) or len(value) == 1:
            raise ValueError("give two fractions at least, in ascending order, each once")
        return value

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all sources that are named, in order, each once."""
        return tuple(dict.fromkeys(name for held in self.held.values() for name in held.references))


def _name(item: Any) -> str:
    """Returns the name of something in a list: of a file without its folder and its endings, of a task the task's."""
    source = item
    if isinstance(item, Mapping):
        source = item.get("text") or item.get("task")
    if isinstance(source, Mapping):
        source = source.get("source") or source.get("name")
    if isinstance(source, (list, tuple)) and source:
        source = source[0]
    text = str(source)
    return PurePath(text).name.partition(".")[0] or text
