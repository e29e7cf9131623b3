"""A table of rows as a source reads it, and what counts as an empty cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any


@dataclass(frozen=True)
class Rows:
    """A table as it was read.

    Attributes:
        columns: column name -> values, all of equal length; None where a value is missing.
        origin: what to call it in a message, e.g. `train.csv`.
        class_names: column -> names of its integer codes, or of those in its lists, where the source declares them.
        lines: line numbers of the rows in a text file, for messages; empty where there are none.
        commit: of the hub's data set, that the rows were read at; None where they come from elsewhere.
        numbers: numbers of the rows in their source, for messages; empty where none was left out.
        places: of each row, for messages, where the rows come from several files; else empty.
        files: file -> SHA-256, where the rows come from several files; else empty.
    """

    columns: dict[str, list[Any]]
    origin: str
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    commit: str | None = None
    numbers: tuple[int, ...] = ()
    places: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, index: int) -> str:
        """Returns a row's place for a message: `train.csv line 17` or `org/name row 17`."""
        if self.places:
            return self.places[index]
        if self.lines:
            return f"{self.origin} line {self.lines[index]}"
        return f"{self.origin} row {self.numbers[index] if self.numbers else index + 1}"

    def only(self, indices: Sequence[int]) -> Rows:
        """Returns these rows alone, each with its line or number in the source."""
        return replace(
            self,
            columns={name: [values[i] for i in indices] for name, values in self.columns.items()},
            lines=tuple(self.lines[i] for i in indices) if self.lines else (),
            places=tuple(self.places[i] for i in indices) if self.places else (),
            numbers=tuple(self.numbers[i] if self.numbers else i + 1 for i in indices),
        )


def is_missing(value: Any) -> bool:
    """Tells whether a cell is empty: no value, NaN, or only whitespace."""
    return value is None or (isinstance(value, Real) and value != value) or not str(value).strip()


def has_lone_surrogate(value: Any) -> bool:
    """Tells whether a cell holds text that is not valid Unicode and so cannot be written or tokenized."""
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)
