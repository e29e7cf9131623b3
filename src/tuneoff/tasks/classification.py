"""Text classification: one text, or a pair of texts, one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import (
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    Finding,
    MeanMetric,
    PooledMetric,
    Prediction,
    Rows,
    TaskView,
)
from tuneoff.tasks._labels import distinct, head_labels, is_number, kept_text, note_labels, refuse_unseen, sort_key
from tuneoff.tasks._likelihood import PAIR_TEMPLATE, TEMPLATE, Likelihood
from tuneoff.tasks._metrics import (
    class_counts,
    macro_f1,
    matthews_correlation,
    named_class_counts,
    negative_log_likelihoods,
    right,
)
from tuneoff.tasks._prompts import Template
from tuneoff.tasks._rows import require_cells, require_columns
from tuneoff.tasks._text_head import TEXT, TEXT_PAIR, TextHead, TextOptions

if TYPE_CHECKING:
    import torch
    from torch import nn

LABEL_NAMES = ("label", "labels", "category", "class", "target", "topic", "sentiment", "y")


class ClassificationOptions(TextOptions):
    """Keys of `task` for classification."""

    label: str | None = Field(None, description="column that holds the class; guessed where obvious")
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="names of the classes in order of their numbers; found in the data if unset"
    )
    scoring: Literal["head", "likelihood"] = Field(
        "head",
        description="'head': a fresh classification head; 'likelihood': the class whose words a causal language model "
        "finds likeliest after the prompt",
    )
    template: str | None = Field(
        None,
        description="for likelihood: the prompt, with {text} once, and {text_pair} where a row has two texts; "
        f"{TEMPLATE!r} or {PAIR_TEMPLATE!r} if unset",
    )
    words: dict[str, str] | tuple[str, ...] | None = Field(
        None, description="for likelihood: each class's words, by name or in order; the class's name if unset"
    )

    _distinct = field_validator("labels")(distinct)

    @field_validator("template")
    @classmethod
    def _holds_the_text(cls, template: str | None) -> str | None:
        if template is not None and sorted(Template.parse(template).names) not in (["text"], ["text", "text_pair"]):
            raise ValueError("it must hold {text} once, for pairs {text_pair} once, and no other name in braces")
        return template

    @field_validator("words")
    @classmethod
    def _no_empty_words(cls, words: dict[str, str] | tuple[str, ...] | None) -> dict[str, str] | tuple[str, ...] | None:
        if not all(w.strip() for w in (words.values() if isinstance(words, dict) else words or ())):
            raise ValueError("a class's words are empty")
        return words

    @model_validator(mode="after")
    def _for_likelihood_alone(self) -> ClassificationOptions:
        for name in ("template", "words"):
            if self.scoring == "head" and getattr(self, name) is not None:
                raise ValueError(f"{name} is used by scoring: likelihood, not by a head")
        return self


class Classification(TextHead):
    """Text classification with a head on the first token (encoders) or the last real token (decoders), or by the
    likelihood of each class's words (decoders only; nothing is added to the model, so it needs no training)."""

    title = "Classification"
    summary = "One text or a pair of texts, one class: accuracy, macro-F1, Matthews correlation, cross-entropy."
    roles = (TEXT, TEXT_PAIR, ColumnRole("label", "class", LABEL_NAMES))
    metrics = (
        MeanMetric(name="accuracy", direction="higher", low=0, high=1, of_examples=right),
        PooledMetric(
            name="macro_f1",
            direction="higher",
            title="macro-F1",
            caution="macro-F1 comes out too low where a class has few test examples: by 1 to 1.5 points with five of "
            "them, by a third of a point with ten",
            low=0,
            high=1,
            terms=named_class_counts,
            of_sums=macro_f1,
            batched=True,
        ),
        PooledMetric(
            name="mcc",
            direction="higher",
            title="MCC",
            low=-1,
            high=1,
            terms=class_counts,
            of_sums=matthews_correlation,
            batched=True,
        ),
        MeanMetric(name="loss", direction="lower", unit="nats", low=0, of_examples=negative_log_likelihoods),
    )
    primary_metric = "accuracy"
    way_out = "Set task.scoring: likelihood, which needs no head, or use another model."
    init_order = 10
    Options = ClassificationOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._labels: dict[str, int] = {label: number for number, label in enumerate(self.options.labels or ())}
        self._spaced: dict[str, int] = {}
        self._findings: tuple[Finding, ...] = ()
        by_likelihood = self.options.scoring == "likelihood"
        self._likelihood = Likelihood(self.options.template, self.options.words) if by_likelihood else None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._labels)

    @property
    def adds_head(self) -> bool:
        return self._likelihood is None

    # --- rows -> examples

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, columns, split, label="label", fractions=self.options.labels is not None)
        self._check_template("text_pair" in columns)
        labels = rows.columns[columns["label"]]
        names = rows.class_names.get(columns["label"], ())
        self._spaced[split] = sum(isinstance(value, str) and value != value.strip() for value in labels)
        targets = [self._class_name(value, names, rows, i, columns["label"]) for i, value in enumerate(labels)]
        return self.with_targets(rows, columns, targets)

    def _check_template(self, pairs: bool) -> None:
        """Checks that a template of the user's holds both texts of a pair, and no second one where there is one."""
        template = self.options.template
        if template is None or pairs == ("text_pair" in Template.parse(template).names):
            return
        if pairs:
            raise DataError("task.template holds {text} alone, and a row has two texts", hint="Put in {text_pair}.")
        raise DataError(
            "task.template holds {text_pair}, and a row has one text",
            hint="Name the column of the second text with task.text_pair, or take it out of the template.",
        )

    def _class_name(self, value: Any, class_names: Sequence[str], rows: Rows, index: int, column: str) -> str:
        """Returns the class's name, from a name or from a class number."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip()
        labels = self.options.labels
        if labels and text in labels:
            return text
        names = labels or class_names
        if names and is_number(text):
            if 0 <= int(text) < len(names):
                return str(names[int(text)])
            raise DataError(
                f"{rows.place(index)}: label {text} is not among the {len(names)} classes"
                + (" (hidden test labels are often -1)" if text == "-1" else ""),
                hint="Name a labelled split that has no other role; without task.data.validation or task.data.test, "
                "rows are cut off train.",
            )
        if labels:
            raise DataError(
                f"{rows.place(index)}: label {text!r} in column {column!r} is not in task.labels"
                f"{did_you_mean(text, labels)}",
                hint=f"task.labels: {', '.join(labels)}.",
            )
        return text

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        train = Counter(example.target for example in splits["train"])
        if len(train) < 2:
            label = next(iter(train), "")
            raise DataError(
                f"all {train[label]} training rows have the same label, {label!r}; there is nothing to learn",
                hint="Check that task.label names the right column.",
            )
        if not self.options.labels:
            if len(train) > 1000 or len(train) > 0.5 * len(splits["train"]) > 10:
                raise DataError(
                    f"the label column has {len(train)} different values in {len(splits['train'])} rows; "
                    "that looks like text or ids, not classes",
                    hint="Set task.label to the column that holds the class.",
                )
            self._labels = {label: number for number, label in enumerate(sorted(train, key=sort_key))}
            self._check_order()
        if self._likelihood is not None:
            self._likelihood.named(self.labels)
        hint = "A class without training rows cannot be learned: correct the label or remove the rows."
        refuse_unseen(splits, train, self.classes_of, hint)
        counts = Counter(example.target for examples in splits.values() for example in examples)
        self._findings = note_labels(counts, sum(self._spaced.values()))

    def _check_order(self) -> None:
        """Refuses classes in alphabetical order where a metric reads their order."""
        reader = next((metric for metric in self.added_metrics if metric.ordered), None)
        if reader is not None and not all(map(is_number, self._labels)):
            raise DataError(
                f"task.metrics: {reader.name} reads the order of the classes, and nothing says which it is: "
                f"{listed(self._labels)}",
                hint="List all of them in task.labels, from the lowest to the highest.",
            )

    def findings(self) -> tuple[Finding, ...]:
        return self._findings

    def stratum(self, example: Example) -> str:
        return example.target

    # --- the task in words

    def prompt_text(self, example: Example) -> str:
        return (self._likelihood or Likelihood(None, None)).prompt_text(example)

    @property
    def class_words(self) -> Mapping[str, str]:
        named = self.labels if self._likelihood is None else self._likelihood.named(self.labels)
        return dict(zip(self.labels, (word.strip() for word in named), strict=True))

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        if self._likelihood is not None:
            return self._likelihood.view(model)
        return super().view(model)

    def model_class(self, config: Any) -> Any:
        if self._likelihood is not None:
            return self._likelihood.model_class(config)
        return super().model_class(config)

    def model_arguments(self) -> dict[str, Any]:
        if self._likelihood is not None:
            return {}
        return {**head_labels(self.labels), "problem_type": "single_label_classification"}

    # --- examples -> tensors -> predictions

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        if self._likelihood is not None:
            return self._likelihood.encode(examples, self.labels, tokenizer, max_length, demonstrations)
        return super().encode(examples, tokenizer, max_length)

    def label_number(self, example: Example) -> int:
        return self._labels[example.target]

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits of shape (batch, classes); with likelihood, the log-likelihoods of the classes' words."""
        if self._likelihood is not None:
            return self._likelihood.forward(attached, batch)
        return super().forward(attached, batch)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), batch["labels"], reduction="sum")

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        scores = logits.float().log_softmax(-1).cpu()
        best = scores.argmax(-1).tolist()
        return [
            Prediction(
                index=example.index,
                target=example.target,
                output=self.labels[chosen],
                scores=tuple(round(value, 6) for value in row),
                source=kept_text(example, self.labels[chosen]),
            )
            for example, chosen, row in zip(examples, best, scores.tolist(), strict=True)
        ]

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        if self._likelihood is not None:
            return self._likelihood.plain_code(self.labels, tokenizer, "text_pair" in columns, max_length)
        return super().plain_code(model, tokenizer, columns, max_length)

    def output_code(self) -> tuple[str, list[str], list[str]]:
        shares = [
            "    shares = logits.softmax(-1).tolist()",
            "    return {model.config.id2label[i]: share for i, share in enumerate(shares)}",
        ]
        return "scores", shares, ["    return max(found, key=found.get)"]


plugin = Classification
