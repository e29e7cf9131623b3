"""Plug-ins: the files of a folder plus entry points, imported on first use.

A plug-in is one file whose stem is its name and whose attribute `plugin` is its class or object. A third
party's comes through an entry point of the group `tuneoff.<folder>`, which names that object. Nothing is
imported until it is asked for, so listing names costs nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tuneoff.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from tuneoff.methods.base import Method
    from tuneoff.sources.base import Source
    from tuneoff.tasks.base import Task

P = TypeVar("P")


class Registry(Mapping[str, P], Generic[P]):
    """Names to plug-ins of one folder. Iterating gives sorted names; indexing imports.

    Raises:
        StudyError: on indexing with an unknown name; says which name is near.
    """

    def __init__(self, folder: str, noun: str) -> None:
        self.folder = folder
        self.noun = noun
        self._loaded: dict[str, P] = {}

    def _modules(self) -> list[str]:
        names = (entry.name for entry in files(f"tuneoff.{self.folder}").iterdir())
        stems = (name[:-3] for name in names if name.endswith(".py"))
        return [stem for stem in stems if stem != "base" and not stem.startswith("_")]

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=f"tuneoff.{self.folder}")}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._modules(), *self._entry_points()}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in set(iter(self))

    def __getitem__(self, name: str) -> P:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> P:
        if name in self._modules():
            found: Any = importlib.import_module(f"tuneoff.{self.folder}.{name}").plugin
        elif (point := self._entry_points().get(name)) is not None:
            try:
                found = point.load()
            except Exception as error:
                owner = f" of package {point.dist.name}" if point.dist is not None else ""
                raise StudyError(
                    f"the plug-in for {self.noun} {name!r}{owner} cannot be imported: {type(error).__name__}: {error}",
                    hint="Update or uninstall that package.",
                ) from error
        else:
            raise StudyError(
                f"unknown {self.noun} {name!r}{did_you_mean(name, self)}",
                hint=f"Known: {', '.join(self)}. See `tuneoff list {self.folder}`.",
            )
        loaded: P = found
        return loaded


@cache
def methods() -> Registry[type[Method[Any]]]:
    """All fine-tuning methods, by name."""
    return Registry("methods", "method")


@cache
def tasks() -> Registry[type[Task]]:
    """All tasks, by name."""
    return Registry("tasks", "task")


@cache
def sources() -> Registry[type[Source]]:
    """All kinds of source, by name."""
    return Registry("sources", "source")
