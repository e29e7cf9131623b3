"""Which source a reference belongs to, and its rows or model through that source.

Each function is handed the sources by name, `registry.sources()`: sources know of no registry.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tuneoff.errors import DataError, SourceNotFound, did_you_mean, listed
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources._joining import joined
from tuneoff.sources._packed import refuse_sparse

Sources = Mapping[str, type[Source]]

MOST_PARTS = 32
"""Largest number of keys of a column's objects for which each key becomes a column."""


def find(sources: Sources, reference: str) -> tuple[Source, str]:
    """Finds the source of a reference; also returns the reference without its prefix.

    Raises:
        SourceNotFound: if no source claims it.
    """
    prefix, colon, rest = reference.partition(":")
    if colon and prefix in sources and rest:
        return sources[prefix](), rest
    for source in sorted((sources[name]() for name in sources), key=lambda s: s.priority):
        if source.claims(reference):
            return source, reference
    names = [
        alias for name in sources for s in [sources[name]()] for alias in (*s.dataset_aliases(), *s.model_aliases())
    ]
    raise SourceNotFound(
        f"nothing is known by the name {reference!r}{did_you_mean(reference, names)}",
        hint="Give an alias (`tuneoff list datasets`, `tuneoff list models`), a hub id (org/name) or a path.",
    )


def read_rows(sources: Sources, spec: SourceSpec, split: str, wanted: Iterable[str] = ()) -> Rows:
    """Reads one split through the source that claims it; keys of objects become columns too, such as `label.name`.

    Args:
        sources: all there are, by name.
        spec: what to read.
        split: its role: train, validation or test.
        wanted: columns that are asked for: where one is no column but a path to an item of a list, such as
            `answers.text.0`, it becomes one.
    """
    parts = []
    for name in spec.references:
        source, reference = find(sources, name)
        rows = source.rows(spec.model_copy(update={"source": reference, "more": (), "rename": {}}), split)
        parts.append(_renamed(rows, spec.rename))
    rows = _with_parts(joined(parts, " and ".join(map(str, spec.references[:3])) + (", …" if len(parts) > 3 else "")))
    paths = {name: cells for name in wanted if name not in rows.columns and (cells := _cells_at(rows.columns, name))}
    return replace(rows, columns={**rows.columns, **paths}) if paths else rows


def _renamed(rows: Rows, names: Mapping[str, str]) -> Rows:
    """Gives columns the names by which they are to be read.

    Raises:
        DataError: if one is not there, or two would have one name.
    """
    if not names:
        return rows
    missing = next((name for name in names if name not in rows.columns), None)
    if missing is not None:
        raise DataError(
            f"{rows.origin} has no column {missing!r} to rename{did_you_mean(missing, rows.columns)}",
            hint=f"Its columns: {listed(rows.columns)}.",
        )
    columns = [names.get(name, name) for name in rows.columns]
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"two columns of {rows.origin} would be called {twice!r}", hint="Rename the other one too.")
    classes = {names.get(name, name): labels for name, labels in rows.class_names.items()}
    return replace(rows, columns=dict(zip(columns, rows.columns.values(), strict=True)), class_names=classes)


def _cells_at(columns: Mapping[str, list[Any]], path: str) -> list[Any] | None:
    """Returns each row's part at a path of keys and of items' numbers, from the end where negative; None where no row
    has it."""
    if path in columns:
        return columns[path]
    base, dot, key = path.rpartition(".")
    parents = _cells_at(columns, base) if dot else None
    if parents is None:
        return None
    cells = [_part(parent, key) for parent in parents]
    return cells if any(cell is not None for cell in cells) else None


def _part(parent: Any, key: str) -> Any:
    if isinstance(parent, Mapping):
        return parent.get(key)
    if isinstance(parent, (list, tuple)) and re.fullmatch(r"-?\d{1,9}", key):
        number = int(key)
        return parent[number] if -len(parent) <= number < len(parent) else None
    return None


def _with_parts(rows: Rows) -> Rows:
    """Adds a column for each key of the columns that hold objects.

    Raises:
        DataError: if those would be far more cells than the objects fill.
    """
    columns = dict(rows.columns)
    pending = list(columns)
    cells = filled = 0
    while pending:
        name = pending.pop(0)
        objects = [value for value in columns[name] if isinstance(value, Mapping)]
        keys = dict.fromkeys(key for value in objects for key in value)
        if len(keys) > MOST_PARTS:
            continue
        cells += len(keys) * len(rows)
        filled += sum(map(len, objects))
        refuse_sparse(cells, filled, rows.origin)
        for key in keys:
            part = f"{name}.{key}"
            if part not in columns:
                columns[part] = [value.get(key) if isinstance(value, Mapping) else None for value in columns[name]]
                pending.append(part)
    return replace(rows, columns=columns) if len(columns) > len(rows.columns) else rows


def find_model(sources: Sources, spec: ModelSpec) -> ModelFiles:
    """Finds a base model through the source that claims it."""
    source, reference = find(sources, spec.source)
    return source.model(spec.model_copy(update={"source": reference}))


def fetch_weights(sources: Sources, spec: ModelSpec, files: ModelFiles) -> ModelFiles:
    """Fetches the weights of a model that `find_model` found, unless they are known to be there."""
    if not files.whole:
        source, reference = find(sources, spec.source)
        source.fetch_weights(spec.model_copy(update={"source": reference}), files)
    return replace(files, whole=True)


def fingerprint(sources: Sources, reference: str) -> str:
    """Returns the fingerprint of a reference's current content; see `Source.fingerprint`."""
    source, rest = find(sources, reference)
    return source.fingerprint(rest)


def splits(sources: Sources, reference: str) -> tuple[str, ...]:
    """Returns the splits that a reference holds; see `Source.splits`."""
    source, rest = find(sources, reference)
    return source.splits(rest)


def local_bytes(sources: Sources, reference: str) -> int | None:
    """Returns the bytes of a reference that is a file on this machine; see `Source.local_bytes`."""
    source, rest = find(sources, reference)
    return source.local_bytes(rest)
