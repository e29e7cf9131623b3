"""The contract of a task: how an example becomes model input and how output becomes a score.

A task is one file whose attribute `plugin` is a subclass of `Task`. Import torch inside functions: options
are checked without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from tuneoff.methods.base import Attached, TaskView
from tuneoff.record import Metric, Prediction
from tuneoff.sources.base import Rows

if TYPE_CHECKING:
    import torch
    from torch import nn

Batch = dict[str, "torch.Tensor"]


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: no value, not a number, or nothing but space."""
    return value is None or value != value or not str(value).strip()


def has_lone_surrogate(value: Any) -> bool:
    """Whether a cell holds text that is not valid Unicode and so cannot be written or tokenized."""
    return isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)


class TaskOptions(BaseModel):
    """Base of a task's options: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Example:
    """One row as the task sees it. `index` is its position in its split; `place` names it in messages."""

    text: str
    target: str
    index: int
    place: str


@dataclass(frozen=True)
class Features:
    """One example as token ids. `length` counts its tokens before truncation."""

    input_ids: Sequence[int]
    label: int
    length: int


class Task(ABC):
    """What is learned and how it is scored.

    Life of a task in a trial: `columns` and `examples` for each split, `settle` once, then `encode`, and
    `collate`, `forward`, `loss`, `outcome` for each batch, `score` for each split.
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    primary_metric: ClassVar[str]
    directions: ClassVar[Mapping[str, str]]
    """metric name -> 'higher' or 'lower', for every metric that `score` gives."""
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(self, options: dict[str, Any]) -> None:
        self.options: Any = self.Options.model_validate(options)

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in order of their numbers, once settled; empty for a task without."""
        return ()

    @abstractmethod
    def columns(self, rows: Rows) -> dict[str, str]:
        """role -> column, as given or guessed.

        Raises:
            DataError: for a column that is not there (names the nearest) or that cannot be guessed.
        """

    @abstractmethod
    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        """The rows as examples.

        Raises:
            DataError: for no rows or missing values; says how many and where the first stands.
        """

    @abstractmethod
    def settle(self, splits: Mapping[str, Sequence[Example]]) -> None:
        """Learns what all splits must agree on (the classes).

        Raises:
            DataError: for a single class, or a label in a later split that training never saw.
        """

    def stratum(self, example: Example) -> str:
        """Subsets and splits keep the proportions of this."""
        return ""

    @abstractmethod
    def view(self, model: nn.Module) -> TaskView:
        """What a method may know of this task on this model."""

    @abstractmethod
    def model_class(self) -> Any:
        """The transformers auto class that builds this task's model."""

    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """Configuration keys the task sets, e.g. `num_labels`."""

    @abstractmethod
    def encode(self, examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[Features]:
        """Tokenizes; at most `max_length` tokens are kept of each example."""

    @abstractmethod
    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        """Pads a batch to its longest example. Tensors of shape (batch, length) and (batch,)."""

    @abstractmethod
    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Logits; must not depend on padding."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Sum of the batch's losses (nats), in float32."""

    @abstractmethod
    def outcome(self, logits: torch.Tensor, examples: Sequence[Example]) -> list[Prediction]:
        """One prediction per example, in order."""

    @abstractmethod
    def score(self, predictions: Sequence[Prediction], split: str) -> list[Metric]:
        """All metrics of a split, the primary one first."""
