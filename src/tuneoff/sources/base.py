"""The contract of a source: where rows and base models come from.

A source is one file whose attribute `plugin` is a subclass of `Source`. A reference goes to the first source,
in order of `priority`, that claims it; a reference may also name its source explicitly, as in
`hub:org/name`, `file:./rows.csv` or `package:reuters-r8`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tuneoff import registry
from tuneoff.config.spec import ModelSpec, SourceSpec
from tuneoff.errors import SourceNotFound, did_you_mean

MOST_PARTS = 32
"""Largest number of keys of a column's objects for which each key becomes a column."""


@dataclass(frozen=True)
class Rows:
    """A table as it was read.

    Attributes:
        columns: column name -> values, all of equal length; None where a value is missing.
        origin: what to call it in a message, e.g. `train.csv`.
        class_names: column -> names of its integer codes, where the source declares them.
        lines: line numbers of the rows in a text file, for messages; empty where there are none.
        commit: of the hub's data set, that the rows were read at; None where they come from elsewhere.
        numbers: numbers of the rows in their source, for messages; empty where none was left out.
    """

    columns: dict[str, list[Any]]
    origin: str
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    commit: str | None = None
    numbers: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, index: int) -> str:
        """Returns a row's place for a message: `train.csv line 17` or `org/name row 17`."""
        if self.lines:
            return f"{self.origin} line {self.lines[index]}"
        return f"{self.origin} row {self.numbers[index] if self.numbers else index + 1}"

    def only(self, indices: Sequence[int]) -> Rows:
        """Returns these rows alone, each with its line or number in the source."""
        return replace(
            self,
            columns={name: [values[i] for i in indices] for name, values in self.columns.items()},
            lines=tuple(self.lines[i] for i in indices) if self.lines else (),
            numbers=tuple(self.numbers[i] if self.numbers else i + 1 for i in indices),
        )


@dataclass(frozen=True)
class ModelFiles:
    """Where transformers finds a base model.

    Attributes:
        path: a folder on this machine.
        gguf_file: name of the GGUF file inside `path`, where the weights are one.
        checksum: SHA-256 of the weights where they were compared with it; else measured after loading.
        commit: the hub's commit that they were fetched at; None where they come from elsewhere.
        hub_id: the id by which anybody finds the same files at the hub; None where there is none.
        hub_commit: the commit there; None where it is not known.
        whole: whether its weights are known to be there; else `fetch_weights` fetches them.
    """

    path: str
    gguf_file: str | None = None
    checksum: str | None = None
    commit: str | None = None
    hub_id: str | None = None
    hub_commit: str | None = None
    whole: bool = False


class Source(ABC):
    """One kind of place that rows and models come from. Needs no torch."""

    title: ClassVar[str]
    summary: ClassVar[str]
    priority: ClassVar[int]
    """Lower is asked first."""

    @abstractmethod
    def claims(self, reference: str) -> bool:
        """Tells whether a reference without a prefix belongs to this source."""

    @abstractmethod
    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Reads one split (`spec.split` where given, else `split`: train, validation or test).

        Raises:
            SourceNotFound, SourceUnreachable, ChecksumMismatch, DataError: each says what would work.
        """

    @abstractmethod
    def model(self, spec: ModelSpec) -> ModelFiles:
        """Finds a base model, fetching it if need be; its weights may be left to `fetch_weights`.

        Raises:
            SourceNotFound, SourceUnreachable, ChecksumMismatch: each says what would work.
        """

    def fetch_weights(self, spec: ModelSpec, files: ModelFiles) -> None:  # noqa: B027 (most have nothing left to do)
        """Fetches the weights of the model that `model` found into its folder, unless they are there.

        It is called before they are loaded, once the configuration is known to be usable.

        Raises:
            SourceError: each says what would work.
        """

    def fingerprint(self, reference: str) -> str:
        """Returns a text that changes with the reference's content; empty where that needs a new name."""
        return ""

    def local_bytes(self, reference: str) -> int | None:
        """Returns the bytes of rows in a file on this machine; None where they must be fetched or built first."""
        return None

    def model_aliases(self) -> dict[str, str]:
        """Returns the names of base models in this source -> one line about each."""
        return {}

    def dataset_aliases(self) -> dict[str, str]:
        """Returns the names of data sets in this source -> one line about each."""
        return {}


def find(reference: str) -> tuple[Source, str]:
    """Finds the source of a reference; also returns the reference without its prefix.

    Raises:
        SourceNotFound: if no source claims it.
    """
    sources = registry.sources()
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


def read_rows(spec: SourceSpec, split: str) -> Rows:
    """Reads one split through the source that claims it; keys of objects become columns too, such as `label.name`."""
    source, reference = find(spec.source)
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


def find_model(spec: ModelSpec) -> ModelFiles:
    """Finds a base model through the source that claims it."""
    source, reference = find(spec.source)
    return source.model(spec.model_copy(update={"source": reference}))


def fetch_weights(spec: ModelSpec, files: ModelFiles) -> ModelFiles:
    """Fetches the weights of a model that `find_model` found, unless they are known to be there."""
    if not files.whole:
        source, reference = find(spec.source)
        source.fetch_weights(spec.model_copy(update={"source": reference}), files)
    return replace(files, whole=True)


def fingerprint(reference: str) -> str:
    """Returns the fingerprint of a reference's current content; see `Source.fingerprint`."""
    source, rest = find(reference)
    return source.fingerprint(rest)


def local_bytes(reference: str) -> int | None:
    """Returns the bytes of a reference that is a file on this machine; see `Source.local_bytes`."""
    source, rest = find(reference)
    return source.local_bytes(rest)
