"""Ordered grades: one text, one whole number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tuneoff.errors import DataError, UnsupportedModel, did_you_mean
from tuneoff.interfaces import (
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    MeanMetric,
    Outputs,
    PooledMetric,
    Prediction,
    Rows,
    Task,
    TaskOptions,
    TaskView,
    is_missing,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


class OrdinalOptions(TaskOptions):
    """Keys of `task` for ordered grades."""

    text: str = Field("text", description="column that holds the text")
    grade: str = Field("grade", description="column that holds the grade, a whole number")


def _errors(outputs: Outputs) -> list[float]:
    return [abs(int(target) - int(output)) for target, output in zip(outputs.targets, outputs.outputs, strict=True)]


def _right(outputs: Outputs) -> list[float]:
    return [float(target == output) for target, output in zip(outputs.targets, outputs.outputs, strict=True)]


def _nats(outputs: Outputs) -> list[float]:
    number = {label: i for i, label in enumerate(outputs.labels)}
    return [-scores[number[target]] for target, scores in zip(outputs.targets, outputs.scores, strict=True)]


def _products(outputs: Outputs) -> list[list[int]]:
    """Returns what each example adds to the sums that a correlation is made of."""
    pairs = [(int(target), int(output)) for target, output in zip(outputs.targets, outputs.outputs, strict=True)]
    return [[1, x, y, x * x, y * y, x * y] for x, y in pairs]


def _correlation(sums: Any) -> float:
    n, x, y, xx, yy, xy = sums
    spread = (n * xx - x * x) * (n * yy - y * y)
    return float((n * xy - x * y) / spread**0.5) if spread > 0 else 0.0


class Ordinal(Task):
    """One text, one of several ordered grades; scored by mean absolute error in grades."""

    title = "Ordered grades"
    summary = "One text, one whole number: mean absolute error in grades, accuracy, correlation."
    roles = (ColumnRole("text", holds="text"), ColumnRole("grade", holds="class"))
    metrics = (
        MeanMetric(name="mean_absolute_error", direction="lower", unit="grades", low=0, of_examples=_errors),
        MeanMetric(name="accuracy", direction="higher", low=0, high=1, of_examples=_right),
        PooledMetric(
            name="correlation", direction="higher", unit="r", low=-1, high=1, terms=_products, of_sums=_correlation
        ),
        MeanMetric(name="loss", direction="lower", unit="nats", low=0, of_examples=_nats),
    )
    primary_metric = "mean_absolute_error"
    Options = OrdinalOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def columns(self, rows: Rows) -> dict[str, str]:
        return {role: _require_column(rows, getattr(self.options, role)) for role in ("text", "grade")}

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        texts, grades = (rows.columns[_require_column(rows, columns[role])] for role in ("text", "grade"))
        if not texts:
            raise DataError(f"{rows.origin} ({split}) has no rows")
        for index, (text, grade) in enumerate(zip(texts, grades, strict=True)):
            if is_missing(text) or not str(grade).strip().lstrip("-").isdigit():
                raise DataError(f"{rows.place(index)}: a text and a whole number are needed, not {text!r}, {grade!r}")
        return [
            Example(str(text), str(int(grade)), index, rows.place(index))
            for index, (text, grade) in enumerate(zip(texts, grades, strict=True))
        ]

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        known = {example.target for example in splits["train"]}
        if len(known) < 2:
            raise DataError("all training rows have the same grade; there is nothing to learn")
        for split, examples in splits.items():
            for example in examples:
                if example.target not in known:
                    raise DataError(f"{example.place}: grade {example.target} stands in {split} but never in train")
        self._labels = tuple(sorted(known, key=int))

    def stratum(self, example: Example) -> str:
        return example.target

    def view(self, model: nn.Module) -> TaskView:
        if getattr(model, "classifier", None) is None:
            raise UnsupportedModel(f"ordinal takes encoders with a `classifier`, and {type(model).__name__} has none")
        return TaskView(head=("classifier",), peft_task_type="SEQ_CLS")

    def model_class(self, config: Any) -> Any:
        from transformers import AutoModelForSequenceClassification

        return AutoModelForSequenceClassification

    def model_arguments(self) -> dict[str, Any]:
        return {"num_labels": len(self.labels), "problem_type": "single_label_classification"}

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, demonstrations: Sequence[Example] = ()
    ) -> list[Features]:
        number = {label: i for i, label in enumerate(self.labels)}
        features = []
        for example in examples:
            length = len(tokenizer(example.text)["input_ids"])
            ids = tokenizer(example.text, truncation=True, max_length=max_length)["input_ids"]
            features.append(Features(ids, number[example.target], length))
        return features

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        import torch

        longest = max(len(f.input_ids) for f in features)
        rows = [[*f.input_ids, *[pad_token_id] * (longest - len(f.input_ids))] for f in features]
        masks = [[1] * len(f.input_ids) + [0] * (longest - len(f.input_ids)) for f in features]
        return {
            "input_ids": torch.tensor(rows),
            "attention_mask": torch.tensor(masks),
            "labels": torch.tensor([f.label for f in features]),
        }

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        import torch

        model: Any = attached.model
        mask = batch["attention_mask"]
        inputs = {"input_ids": batch["input_ids"]}
        if attached.soft_prompt is not None:  # trained embeddings go before the text
            words = model.get_input_embeddings()(batch["input_ids"])
            prompt = attached.soft_prompt(len(mask)).to(words.dtype)
            inputs = {"inputs_embeds": torch.cat([prompt, words], dim=1)}
            mask = torch.cat([mask.new_ones(len(mask), prompt.shape[1]), mask], dim=1)
        logits: torch.Tensor = model(**inputs, attention_mask=mask).logits
        return logits

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), batch["labels"], reduction="sum")

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        scores = logits.float().log_softmax(-1).cpu()
        outputs = [self.labels[number] for number in scores.argmax(-1).tolist()]
        return [
            Prediction(
                index=example.index,
                target=example.target,
                output=output,
                scores=tuple(row.tolist()),
            )
            for example, output, row in zip(examples, outputs, scores, strict=True)
        ]


def _require_column(rows: Rows, column: str) -> str:
    if column not in rows.columns:
        raise DataError(f"{rows.origin} has no column {column!r}{did_you_mean(column, rows.columns)}")
    return column


plugin = Ordinal
