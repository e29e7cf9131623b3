"""The contract of a source: where rows and base models come from.

A source is one file whose attribute `plugin` is a subclass of `Source`. A reference goes to the first source,
in order of `priority`, that claims it; a reference may also name its source explicitly, as in
`hub:org/name`, `file:./rows.csv` or `package:reuters-r8`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import SourceNotFound
from tuneoff.interfaces.rows import Rows


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

    def adapter(self, reference: str) -> str:
        """Finds an adapter as PEFT writes them, fetching it if need be; returns its folder.

        Raises:
            SourceError: each says what would work.
        """
        raise SourceNotFound(f"{self.title}: {reference!r} is no adapter")

    def fingerprint(self, reference: str) -> str:
        """Returns a text that changes with the reference's content; empty where that needs a new name."""
        return ""

    def splits(self, reference: str) -> tuple[str, ...]:
        """Returns the names of the splits that a place on this machine holds; empty where it is one table, or where
        that is not known without reading it."""
        return ()

    def local_bytes(self, reference: str) -> int | None:
        """Returns the bytes of rows in a file on this machine; None where they must be fetched or built first."""
        return None

    def model_aliases(self) -> dict[str, str]:
        """Returns the names of base models in this source -> one line about each."""
        return {}

    def dataset_aliases(self) -> dict[str, str]:
        """Returns the names of data sets in this source -> one line about each."""
        return {}
