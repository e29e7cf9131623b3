"""Plug-ins: the files of a folder plus entry points, imported on first use.

A plug-in is one file whose stem is its name and whose attribute `plugin` is its class or object. A third
party's comes through an entry point of the group `tuneoff.<folder>`, which names that object. Nothing is
imported until it is asked for, so listing names costs nothing.

A *family* is one file (or entry point) whose object is called `family` instead: many plug-ins under one name, each
reached as `<name>:<variant>`. Iterating over a registry lists no family; `families` does.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from pydantic import ValidationError

from tuneoff.errors import Problem, StudyError, did_you_mean

if TYPE_CHECKING:
    from tuneoff.config.data import TaskSpec
    from tuneoff.interfaces import ExecutorPlugin, Method, MetricDefinition, Source, Task, Tracker

P = TypeVar("P")
Kind = Literal["plugin", "family"]
WhyNone = Callable[[str, Any], str]
"""Explains why an object is no plug-in of that name; empty where it is one."""


class Family(Protocol):
    """Many plug-ins under one name."""

    title: str
    summary: str

    def variants(self) -> list[str]:
        """Returns the plug-ins' names in lower case; empty where they cannot be listed without importing much."""
        ...

    def get(self, variant: str) -> Any:
        """Returns the plug-in of that name, in whatever mix of lower and upper case it is spelled."""
        ...


class Registry(Mapping[str, P], Generic[P]):
    """Names to plug-ins of one folder. Iterating gives sorted names; indexing imports.

    Args:
        folder: its name in `tuneoff`, and in the group of entry points.
        noun: what one of them is called.
        why_none: explains of a name and a third party's object why it is no such plug-in; empty where it is one.

    Raises:
        StudyError: on indexing with an unknown name, which says which name is near, or with that of a third party's
            that is no such plug-in.
    """

    def __init__(self, folder: str, noun: str, why_none: WhyNone = lambda name, plugin: "") -> None:
        self.folder = folder
        self.noun = noun
        self._why_none = why_none
        self._loaded: dict[str, P] = {}
        self._families: dict[str, Family] = {}
        self._read_points: tuple[list[str], tuple[EntryPoint, ...]] | None = None

    @cached_property
    def _files(self) -> dict[str, set[str]]:
        """Maps the name of each file of the folder to those of `plugin` and `family` that it defines."""
        kinds: dict[str, set[str]] = {}
        for entry in files(f"tuneoff.{self.folder}").iterdir():
            stem = entry.name.removesuffix(".py")
            if not entry.name.endswith(".py") or stem.startswith("_"):
                continue
            # The file is read, not imported, so that listing is fast.
            kinds[stem] = set(re.findall(r"^(plugin|family)\b", entry.read_text(encoding="utf-8"), re.MULTILINE))
        return kinds

    @property
    def _points(self) -> tuple[EntryPoint, ...]:
        """Returns the entry points of the group, read again where Python looks for packages elsewhere than before."""
        if self._read_points is None or self._read_points[0] != sys.path:
            self._read_points = list(sys.path), tuple(entry_points(group=f"tuneoff.{self.folder}"))
        return self._read_points[1]

    def _modules(self, kind: Kind = "plugin") -> list[str]:
        return [name for name, kinds in self._files.items() if kind in kinds]

    def _entry_points(self, kind: Kind = "plugin") -> dict[str, EntryPoint]:
        return {p.name: p for p in self._points if (p.attr.rpartition(".")[2] == "family") == (kind == "family")}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._modules(), *self._entry_points()}))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name in self._loaded:
            return True
        family, colon, variant = name.partition(":")
        return self._has_variant(family, variant) if colon else name in set(iter(self))

    def __getitem__(self, name: str) -> P:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    @contextmanager
    def registered(self, name: str, plugin: Any) -> Iterator[None]:
        """Registers a plug-in under a name until the block ends, also in place of another: for tests and notebooks."""
        before = dict(self._loaded)
        self._loaded[name] = plugin
        try:
            yield
        finally:
            self._loaded = before

    def families(self) -> dict[str, Family]:
        """Returns name -> family; imports their files."""
        for name in sorted({*self._modules("family"), *self._entry_points("family")}):
            if name not in self._families:
                self._families[name] = self._import(name, "family")
        return dict(self._families)

    def why_unknown(self, name: str) -> str:
        """Explains in one sentence a name that is not in the registry, with the nearest that is and all there are."""
        family, _, variant = name.partition(":")
        if family in self.families():
            variants = self.families()[family].variants()
            problem = f"unknown {self.noun} {name!r}" if variant else f"{name!r} is a family of {self.noun}s"
            suggestion = did_you_mean(name, [f"{family}:{item}" for item in variants]) if variant else ""
            # What variants there are is not always known; then the family's own line tells it.
            one_of = f", with one of: {', '.join(variants)}" if variants else f": {self.families()[family].summary}"
            return f"{problem}{suggestion}; name one as {family}:<variant>{one_of}"
        names = [*self, *(f"{item}:<variant>" for item in self.families())]
        return f"unknown {self.noun} {name!r}{did_you_mean(name, self)}; known: {', '.join(names)}"

    def _has_variant(self, family: str, variant: str) -> bool:
        """Tells whether there is such a variant, or may be: a family may not know all without importing much."""
        if family not in self.families() or not variant:
            return False
        variants = self.families()[family].variants()
        return not variants or variant.lower() in variants

    def _load(self, name: str) -> P:
        family, colon, variant = name.partition(":")
        if colon and self._has_variant(family, variant):
            variant_plugin: P = self.families()[family].get(variant)
            return variant_plugin
        if colon or name not in {*self._modules(), *self._entry_points()}:
            message, _, alternatives = self.why_unknown(name).partition("; ")
            hint = f"{alternatives[:1].upper()}{alternatives[1:]}. See `tuneoff list {self.folder}`."
            raise StudyError(message, hint=hint)
        plugin: P = self._import(name, "plugin")
        return plugin

    def _import(self, name: str, kind: Kind) -> Any:
        if name in self._modules(kind):
            return getattr(importlib.import_module(f"tuneoff.{self.folder}.{name}"), kind)
        point = self._entry_points(kind)[name]
        owner = f" of package {point.dist.name}" if point.dist is not None else ""
        try:
            plugin = point.load()
        except Exception as error:
            raise StudyError(
                f"the plug-in for {self.noun} {name!r}{owner} cannot be imported: {type(error).__name__}: {error}",
                hint="Update or uninstall that package.",
            ) from error
        reason = self._why_none(name, plugin) if kind == "plugin" else ""
        if reason:
            raise StudyError(
                f"the plug-in for {self.noun} {name!r}{owner} cannot be used: {reason}",
                hint="Correct the package (docs/plugins.md), or uninstall it.",
            )
        return plugin


def _why_no_class(contract: str) -> WhyNone:
    """Returns what explains why an object is no class of the contract of that name in `tuneoff.interfaces`."""

    def why(_: str, plugin: Any) -> str:
        from tuneoff import interfaces

        fits = isinstance(plugin, type) and issubclass(plugin, getattr(interfaces, contract))
        return "" if fits else f"it is {plugin!r}, and not a class derived from {contract}"

    return why


def _why_no_metric(name: str, plugin: Any) -> str:
    """Explains why an object is no metric that a study could add by that name; empty where it is one."""
    from tuneoff.interfaces import MetricDefinition

    if not isinstance(plugin, MetricDefinition):
        return f"it is {plugin!r}, and not a MeanMetric or PooledMetric"
    if plugin.name != name:
        return f"its name is {plugin.name!r}, and the entry point's is {name!r}: they must be equal"
    if plugin.direction not in ("higher", "lower"):
        return f"its direction is {plugin.direction!r}, and must be 'higher' or 'lower'"
    return ""


@cache
def methods() -> Registry[type[Method[Any]]]:
    """Returns all fine-tuning methods, by name."""
    return Registry("methods", "method", _why_no_class("AnyMethod"))


@cache
def tasks() -> Registry[type[Task]]:
    """Returns all tasks, by name."""
    return Registry("tasks", "task", _why_no_class("Task"))


@cache
def metrics() -> Registry[MetricDefinition]:
    """Returns the metrics that a study may add to those of its task, by name."""
    return Registry("metrics", "metric", _why_no_metric)


def create_task(spec: TaskSpec) -> Task:
    """Returns the task that a study asks for, with the metrics that it adds.

    Raises:
        StudyError: for an unknown task or metric, options that are none of the task's, or a metric whose package is not
            installed.
    """
    try:
        task = tasks()[spec.name](spec.options)
    except ValidationError as error:
        problems = [Problem(".".join(["task", *map(str, item["loc"])]), item["msg"]) for item in error.errors()]
        raise StudyError(problems) from error
    added = [metrics()[name] for name in task.options.metrics]
    for metric in added:
        if metric.lacks():
            raise StudyError(f"metric {metric.name!r} needs {metric.needs}", hint=f"pip install {metric.extra!r}")
    task.added_metrics = tuple(added)
    return task


@cache
def sources() -> Registry[type[Source]]:
    """Returns all kinds of source, by name."""
    return Registry("sources", "source", _why_no_class("Source"))


@cache
def trackers() -> Registry[type[Tracker]]:
    """Returns all trackers, by name, whether what they need is installed or not."""
    return Registry("trackers", "tracker", _why_no_class("Tracker"))


@cache
def executors() -> Registry[ExecutorPlugin]:
    """Returns all executors, by name, whether what they need is installed or not."""
    return Registry("executors", "executor")
