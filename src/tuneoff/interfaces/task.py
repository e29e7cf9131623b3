"""The contract of a task: how an example becomes model input and how output becomes a score.

A task is one file whose attribute `plugin` is a subclass of `Task`. Import torch inside functions: options
are checked without it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuneoff.errors import CannotTrainTogether
from tuneoff.interfaces.examples import Batch, Example, Features
from tuneoff.interfaces.metrics import MeanMetric, MetricDefinition, Outputs, naming
from tuneoff.interfaces.model import Attached, TaskView
from tuneoff.interfaces.rows import Rows
from tuneoff.records.record import Finding, Metric, Prediction

if TYPE_CHECKING:
    import torch
    from torch import nn


Produces = Literal["class", "choice", "labels", "tags", "number", "text"]
"""What a task gives for an example: one class, one of its own options, any number of labels, a tag for each word, a
number, or text that is written."""


class TaskOptions(BaseModel):
    """Base of a task's options: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing: Literal["refuse", "skip"] = Field(
        "refuse",
        description="rows with an empty cell in a column that the task reads: refuse the data, or leave those rows out",
    )
    group: str | None = Field(
        None,
        description="column that says which rows belong together (a patient, an author, a document): rows of one group "
        "never fall into different splits, and intervals take groups as the unit; unset: every row stands for itself",
    )
    metrics: tuple[str, ...] = Field((), description="further metrics, by name: `tuneoff list metrics`")
    primary_metric: str | None = Field(
        None, description="the metric that arms are compared by, the task's own or a further one; unset: the task's own"
    )


@dataclass(frozen=True)
class ColumnRole:
    """What a column of the data is to a task.

    Attributes:
        name: of the role, as `text` or `label`.
        holds: how `init` recognises such a column by its content: `text`, several words that mostly differ from
            row to row; `class`, a few values that repeat; `number`, amounts. Empty: by its name alone, or where it is
            what the task predicts by `Task.recognise`.
        guesses: names by which the column is guessed, the likeliest first.
        optional: whether the task does without such a column, so that it is never guessed by its content.
        may_be_empty: whether its cells may be empty.
    """

    name: str
    holds: Literal["text", "class", "number", ""] = ""
    guesses: tuple[str, ...] = ()
    optional: bool = False
    may_be_empty: bool = False


class Task(ABC):
    """What is learned and how it is scored.

    Life of a task in a trial: `columns` and `examples` for each split, `fit` once, then `encode`, and
    `collate`, `forward`, `loss`, `outcome` for each batch, `score` for each split. A task that writes text is
    also asked to `generate` and to `answer`, between `outcome` and `score`.
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    roles: ClassVar[tuple[ColumnRole, ...]]
    """The columns that it reads: inputs first, last the one that `Example.target` comes from (rows to predict may lack
    it). Each is also the option that names the column, and `init --NAME`."""
    metrics: ClassVar[tuple[MetricDefinition, ...]]
    """Every metric that `score` gives: trials, statistics and reports take from here what they must know of it."""
    primary_metric: ClassVar[str]
    selection_metric: ClassVar[str | None] = None
    """The validation metric that selects a checkpoint where the protocol names none; None: the primary metric."""
    init_order: ClassVar[int] = 100
    """`init` tries tasks with lower numbers first where a file's columns suit several."""
    produces: ClassVar[Produces] = "class"
    sources_kept: ClassVar[int] = 0
    """Number of examples of a split whose source is stored with the prediction, for the report."""
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(self, options: dict[str, Any]) -> None:
        self.options: Any = self.Options.model_validate(options)
        self.added_metrics: tuple[MetricDefinition, ...] = ()
        """What the study adds to the task's own `metrics`."""

    @property
    def all_metrics(self) -> tuple[MetricDefinition, ...]:
        """Returns the task's own metrics, then those that the study adds."""
        return (*self.metrics, *self.added_metrics)

    @property
    def main_metric(self) -> str:
        """Returns the metric that arms are compared by: the study's choice, else the task's primary one."""
        return self.options.primary_metric or self.primary_metric

    def selects(self, wanted: str | None) -> str:
        """Returns the validation metric that selects a checkpoint: the protocol's choice, else the task's own."""
        return wanted or self.selection_metric or self.main_metric

    def metric(self, name: str) -> MetricDefinition:
        """Returns the definition of a metric. Raises KeyError for one that neither task nor study names."""
        return {metric.name: metric for metric in self.all_metrics}[name]

    @classmethod
    def starter_options(cls, target_tokens: int) -> dict[str, Any]:
        """Returns options that `init` writes into a study file, key -> value, where 95 % of the texts to write have at
        most `target_tokens` tokens; the options' own descriptions stand beside them."""
        return {}

    @property
    def named_columns(self) -> tuple[str, ...]:
        """Returns the columns that the options name, whether or not a table has them."""
        values = (getattr(self.options, role.name, None) for role in self.roles)
        names = (name for value in values for name in (value if isinstance(value, tuple) else (value,)))
        return tuple(name for name in names if isinstance(name, str))

    def columns_read(self, columns: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Returns role and column of all that `examples` reads; a role may have more columns than the one that
        `columns` gives."""
        return tuple(columns.items())

    @property
    def target_role(self) -> str:
        """Returns the role of the column that `Example.target` comes from."""
        return self.roles[-1].name

    @property
    def labels(self) -> tuple[str, ...]:
        """Returns the classes in order of their numbers, once fitted; empty for a task without classes."""
        return ()

    @property
    def fitted(self) -> bool:
        """Tells whether the model's shape is known (without any row, where the options say enough)."""
        return bool(self.labels)

    @property
    def fitted_options(self) -> Mapping[str, float | str]:
        """Returns options that stand for what was fitted, such as numbers, for the record: a task that is created with
        them needs no rows."""
        return {}

    @property
    def placeholder_target(self) -> str:
        """Returns a target that `examples` takes, for rows to predict, which have none."""
        return self.labels[0] if self.labels else "?"

    @property
    def adds_head(self) -> bool:
        """Tells whether the task adds a newly initialised head to any model."""
        return self.produces != "text"

    @property
    def scores_whole(self) -> bool:
        """Tells whether a head scores an example as a whole, at one of its positions."""
        return self.produces not in ("tags", "text")

    @abstractmethod
    def columns(self, rows: Rows) -> dict[str, str]:
        """Returns role -> column, as given or guessed.

        Raises:
            DataError: for a column that is not there (names the nearest) or that cannot be guessed.
        """

    def columns_by_name(self, rows: Rows) -> dict[str, str]:
        """Returns role -> column where the columns' names leave no doubt, as those of a known pair of texts."""
        return {}

    def recognise(self, rows: Rows) -> dict[str, Any]:
        """Returns the options that name the columns, for `init`, where cells of a kind that no other task reads leave
        no doubt, as lists of labels; else nothing. Columns that the options name already are kept.

        Raises:
            DataError: if a column that the options name is not there.
        """
        return {}

    @abstractmethod
    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        """Converts the rows to examples.

        Raises:
            DataError: for no rows or missing values; says how many and where the first is.
        """

    @abstractmethod
    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        """Fits what the task learns from the training rows and all splits must agree on, such as the classes.

        Raises:
            DataError: for a single class, or a label in a later split that training never saw.
        """

    def refit(self, train: Sequence[Example]) -> None:  # noqa: B027 - most tasks fit no numbers
        """Fits numbers, such as a mean, again on the rows that are trained on.

        Where test and validation are cut off the training rows, `fit` saw theirs, too. Classes stay those of `fit`.
        """

    def findings(self) -> tuple[Finding, ...]:
        """Returns what a reader must know of the rows, once fitted."""
        return ()

    @property
    def tested_metric(self) -> str:
        """Returns the metric that tests use, once fitted: the main one, unless it cannot score these rows."""
        return self.main_metric

    def stratum(self, example: Example) -> str:
        """Returns the group whose proportions subsets and splits keep."""
        return ""

    def count_classes(self, examples: Sequence[Example]) -> dict[str, int]:
        """Counts the examples of each class, once fitted, in order of the classes' numbers; empty for a task without
        classes."""
        counts = Counter(label for example in examples for label in self.classes_of(example))
        return {label: counts[label] for label in self.labels}

    def classes_of(self, example: Example) -> Iterable[str]:
        """Returns the classes that an example has, each once."""
        return (self.stratum(example),)

    @abstractmethod
    def view(self, model: nn.Module) -> TaskView:
        """Returns what a method may know of this task on this model."""

    @abstractmethod
    def model_class(self, config: Any) -> Any:
        """Returns the transformers auto class that builds this task's model from such a configuration.

        Raises:
            UnsupportedModel: if no model of this configuration can do the task.
        """

    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """Returns the configuration keys that the task sets, e.g. `num_labels`."""

    @property
    def initial_bias(self) -> Sequence[float]:
        """Returns where the biases of the head's outputs start, once fitted to the training rows; empty: at 0."""
        return ()

    @property
    def target_room(self) -> int | None:
        """Returns how many tokens may be generated for an example; None for a task that generates none."""
        return None

    def positions(self, max_length: int) -> int:
        """Returns how many positions of the model an example may take, without virtual tokens."""
        return max_length

    @abstractmethod
    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        """Tokenizes examples; at most `max_length` tokens of each input are kept.

        `demonstrations` are solved examples to show before each; each may take `positions(max_length)` more.
        """

    def check_features(  # noqa: B027 - most tasks have nothing to check
        self, attached: Attached, examples: Sequence[Example], features: Sequence[Features]
    ) -> None:
        """Checks that examples as tokens fit the model with what the method attached to it.

        Raises:
            DataError: naming a row that does not.
        """

    @abstractmethod
    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        """Pads a batch to its longest example. Returns tensors of shape (batch, length) and (batch,).

        Every mask's name ends in `attention_mask`; it is 1 on every token that is no padding.
        """

    def stack(self, parts: Sequence[Sequence[Features]], pad_token_id: int) -> Batch:
        """Collates several batches of equally many examples, for trials that train at once.

        Returns:
            What `collate` returns, with a leading dimension for the batches and all padded to the widest. `forward` and
            `loss` are computed of each batch by itself; padding must not count.

        Raises:
            CannotTrainTogether: if batches of this task cannot be stacked.
        """
        flat = self.collate([features for part in parts for features in part], pad_token_id)
        if any(len(tensor) != sum(map(len, parts)) for tensor in flat.values()):
            raise CannotTrainTogether("the task's batches do not hold a row for each example")
        return {name: tensor.view(len(parts), -1, *tensor.shape[1:]) for name, tensor in flat.items()}

    def loss_terms(self, features: Sequence[Features]) -> int:
        """Counts the terms that `loss` sums over these examples; an effective batch's loss is their mean."""
        return len(features)

    @abstractmethod
    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits of shape (loss terms, classes or vocabulary) in the order of examples.

        They must not depend on padding.
        """

    @abstractmethod
    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Sums the batch's losses (nats), in float32."""

    @abstractmethod
    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        """Returns one prediction per example, in order; a task that generates text leaves `output` empty."""

    def choose(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Returns options of the task that are chosen on the validation split's predictions, such as thresholds, for
        the record: a task that is created with them decides as these say. Empty where nothing is chosen."""
        return {}

    def decide(self, predictions: Sequence[Prediction], chosen: Mapping[str, Any]) -> list[Prediction]:
        """Returns the predictions with the outputs that what was chosen makes of their scores."""
        return list(predictions)

    def describe(self, prediction: Prediction, example: Example) -> dict[str, Any]:
        """Returns what `predict` prints of a prediction besides its output and probabilities, as plain data."""
        return {}

    def generate(
        self, attached: Attached, features: Sequence[Features], tokenizer: Any, limit: int | None = None
    ) -> list[list[int]]:
        """Generates a text for each example, as token ids without the end-of-text token.

        Must not depend on padding, and so not on which examples are in one batch. With `limit` it generates at most
        that many tokens, to measure how long generation takes.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no text")

    def references(self, examples: Sequence[Example], tokenizer: Any) -> list[str]:
        """Returns the texts that outputs are compared with: the targets, decoded from tokens as outputs are."""
        return [example.target for example in examples]

    def prompt_text(self, example: Example) -> str:
        """Returns an example's prompt as text, for a model that is reached by text alone."""
        return example.input_text

    @property
    def class_words(self) -> Mapping[str, str]:
        """Returns class -> its words in a text, once fitted; empty for a task without classes."""
        return {label: label for label in self.labels}

    def answer(self, prediction: Prediction, example: Example, written: str, tokens: int) -> Prediction:
        """Returns the prediction with the generated text, its number of tokens and its scores.

        The scores compare the text with the example's target, and stand in `values`.
        """
        raise NotImplementedError(f"{type(self).__name__} writes no text")

    def generation_config(self, model: nn.Module, tokenizer: Any) -> Any:
        """Returns transformers' configuration of `generate`; None for a task that generates no text."""
        return None

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        """Returns Python lines for an export's card that define `predict`, from an example's texts to its output.

        They run where `torch`, the trained `model` and the `tokenizer` are defined and tuneoff is not installed, and
        must give what the trial predicts. Empty where a task gives no code.

        Args:
            model: the trained model, for what depends on its kind.
            tokenizer: the model's.
            columns: role -> column of the training rows.
            max_length: as for `encode`.
        """
        return []

    def judge(self, predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[Prediction]:
        """Returns the predictions with each example's own value of the metrics that the study adds, where these are
        means over examples: what was judged once is kept, and a report needs no judge.

        Raises:
            TrialError: if such a metric raises, or gives not one number for each example.
        """
        inputs = [example.input_text for example in examples]
        outputs = Outputs.of(predictions, self.labels, inputs)
        judged = list(predictions)
        for metric in self._allowed(self.added_metrics, predictions):
            with naming(metric):
                values = metric.example_values(outputs) if isinstance(metric, MeanMetric) else None
            for i, value in enumerate(() if values is None else values.tolist()):
                judged[i] = judged[i].model_copy(update={"values": {**judged[i].values, metric.name: value}})
        return judged

    def score(self, predictions: Sequence[Prediction], split: str) -> list[Metric]:
        """Computes all metrics of a split that the predictions allow, `tested_metric` first if it is among them.

        Raises:
            TrialError: if one that the study adds cannot be computed.
        """
        outputs = Outputs.of(predictions, self.labels)
        allowed = self._allowed(self.all_metrics, predictions)
        ordered = sorted(allowed, key=lambda metric: metric.name != self.tested_metric)
        return [
            Metric.model_validate(
                {"name": one.name, "value": value, "unit": one.unit, "direction": one.direction, "split": split}
            )
            for one in ordered
            if (value := self._value(one, outputs)) is not None
        ]

    def _value(self, metric: MetricDefinition, outputs: Outputs) -> float | None:
        """Computes a metric; None where the outputs lack what it is computed from."""
        if metric not in self.added_metrics:
            return metric.compute(outputs)
        with naming(metric):
            value = metric.compute(outputs)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"it gives {value}, which is no finite number (None says that it cannot be computed)")
            if value is not None and not metric.low - 1e-9 <= value <= metric.high + 1e-9:
                raise ValueError(f"it gives {value}, and says itself that it is from {metric.low} to {metric.high}")
            return value

    @staticmethod
    def _allowed(metrics: Sequence[MetricDefinition], predictions: Sequence[Prediction]) -> list[MetricDefinition]:
        """Returns the metrics that may score the predictions: those of written text where text was written."""
        is_written = any(prediction.values or prediction.output for prediction in predictions)
        return [metric for metric in metrics if is_written or not metric.written]
