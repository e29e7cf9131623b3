"""Which source a reference belongs to, and its rows or model through that source.

Each function is handed the sources by name, `registry.sources()`: sources know of no registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tuneoff.errors import SourceNotFound, did_you_mean
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec

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


def read_rows(sources: Sources, spec: SourceSpec, split: str) -> Rows:
    """Reads one split through the source that claims it; keys of objects become columns too, such as `label.name`."""
    source, reference = find(sources, spec.source)
    return _with_parts(source.rows(spec.model_copy(update={"source": reference}), split))


def _with_parts(rows: Rows) -> Rows:
    """Adds a column for each key of the columns that hold objects."""
    columns = dict(rows.columns)
    pending = list(columns)
    while pending:
        name = pending.pop(0)
        objects = [value for value in columns[name] if isinstance(value, Mapping)]
        keys = dict.fromkeys(key for value in objects for key in value)
        if len(keys) > MOST_PARTS:
            continue
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


def local_bytes(sources: Sources, reference: str) -> int | None:
    """Returns the bytes of a reference that is a file on this machine; see `Source.local_bytes`."""
    source, rest = find(sources, reference)
    return source.local_bytes(rest)
