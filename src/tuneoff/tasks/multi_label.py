"""Multi-label classification: one text, or a pair of texts, any number of labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import (
    Batch,
    ColumnRole,
    Example,
    Finding,
    MeanMetric,
    PooledMetric,
    Prediction,
    Rows,
    read_labels,
    write_labels,
)
from tuneoff.tasks._cells import lower_names
from tuneoff.tasks._label_sets import (
    are_flags,
    are_lists,
    are_vectors,
    best_threshold,
    binary_losses,
    find_separator,
    holds_labels,
    label_counts,
    label_matrix,
    mean_average_precision,
    parts_of,
    precision_terms,
    same_set,
    yes_or_no,
)
from tuneoff.tasks._labels import distinct, head_labels, is_number, note_labels, refuse_unseen, sort_key
from tuneoff.tasks._metrics import macro_f1, micro_f1
from tuneoff.tasks._rows import (
    choose_column,
    choose_columns,
    require_cells,
    require_columns,
    require_filled,
    require_unicode,
)
from tuneoff.tasks._text_head import TEXT, TEXT_PAIR, TextHead, TextOptions
from tuneoff.tasks.classification import LABEL_NAMES as CLASS_NAMES

if TYPE_CHECKING:
    import torch

LABEL_NAMES = ("labels", "label", "tags", "categories", "topics", "emotions", "genres", "classes", "targets")
HALF = 0.5


class MultiLabelOptions(TextOptions):
    """Keys of `task` for multi-label classification."""

    label: str | tuple[str, ...] | None = Field(
        None,
        description="column that holds a row's labels, as a list or as text with separators; or a list of columns, one "
        "a label, of 0 and 1; guessed where obvious",
    )
    labels: tuple[str, ...] | None = Field(
        None, min_length=1, description="names of the labels in order of their numbers; found in the data if unset"
    )
    separator: str | None = Field(
        None,
        min_length=1,
        description="what stands between the labels of a text cell; the first of `|`, `;` and `,` in the column if "
        "unset",
    )
    threshold: float | dict[str, float] | Literal["one", "per_label"] = Field(
        "one",
        description="probability from which on a row has a label. 'one': the one for all labels with the highest "
        "micro-F1 on validation; 'per_label': each label's own with its highest F1 there, for which rare labels need "
        "many rows; or a number, for all labels or by label",
    )

    initial_bias: Literal["frequency", "zero"] = Field(
        "frequency",
        description="where the biases of the head's outputs start: at the log-odds of each label in the training rows, "
        "or at 0, from where few rows teach an encoder to say no to rare labels whatever the text",
    )

    _distinct = field_validator("labels", "label")(distinct)

    @field_validator("threshold")
    @classmethod
    def _a_probability(cls, threshold: Any) -> Any:
        numbers = threshold.values() if isinstance(threshold, Mapping) else [threshold]
        if not all(isinstance(number, str) or 0 < number <= 1 for number in numbers):
            raise ValueError("a threshold is a probability above 0 and at most 1")
        return threshold


class MultiLabel(TextHead):
    """Any number of labels by a head with one output a label, each trained by the binary cross-entropy of its own."""

    title = "Multi-label classification"
    summary = "One text or a pair of texts, any number of labels: micro-F1, macro-F1, mean average precision."
    roles = (TEXT, TEXT_PAIR, ColumnRole("label", "", LABEL_NAMES))
    metrics = (
        PooledMetric(
            name="micro_f1",
            direction="higher",
            title="micro-F1",
            low=0,
            high=1,
            terms=label_counts,
            of_sums=micro_f1,
            batched=True,
        ),
        PooledMetric(
            name="macro_f1",
            direction="higher",
            title="macro-F1",
            caution="macro-F1 counts every label alike, however few test examples have it",
            low=0,
            high=1,
            terms=label_counts,
            of_sums=macro_f1,
            batched=True,
        ),
        PooledMetric(
            name="map",
            direction="higher",
            title="mAP",
            low=0,
            high=1,
            terms=precision_terms,
            of_sums=mean_average_precision,
            batched=True,
        ),
        MeanMetric(
            name="exact_match", direction="higher", title="all labels right", low=0, high=1, of_examples=same_set
        ),
        MeanMetric(name="loss", direction="lower", unit="nats", low=0, of_examples=binary_losses),
    )
    primary_metric = "micro_f1"
    init_order = 5
    produces = "labels"
    way_out = "Use another model, or a study of classification for each label."
    Options = MultiLabelOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._labels: dict[str, int] = {label: number for number, label in enumerate(self.options.labels or ())}
        self._separator: str | None = self.options.separator
        self._guessed = ""
        self._rows: Counter[str] = Counter()
        self._unlearned: list[str] = []
        self._log_odds: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._labels)

    @property
    def placeholder_target(self) -> str:
        return write_labels(())

    # --- rows -> examples

    @property
    def _flags(self) -> tuple[str, ...]:
        """Returns the columns of 0 and 1, one a label; empty where one column holds the labels."""
        return self.options.label if isinstance(self.options.label, tuple) else ()

    def columns(self, rows: Rows) -> dict[str, str]:
        """Returns role -> column; the first of several columns of labels stands for all."""
        named: dict[str, Any] = dict(self.columns_by_name(rows))
        if self._flags:
            for column in self._flags:
                choose_column(rows, "label", column, ())
            named["label"] = self._flags[0]
        return choose_columns(rows, self.options.model_copy(update=named), self.roles)

    def columns_read(self, columns: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        others = self._flags[1:] if columns["label"] in self._flags else ()
        return (*super().columns_read(columns), *(("label", column) for column in others))

    def recognise(self, rows: Rows) -> dict[str, Any]:
        if self.options.label is not None:
            named_columns = [choose_column(rows, "label", name, ()) for name in self._flags or (self.options.label,)]
            cells = rows.columns[named_columns[0]]
            return {"label": self.options.label} if self._flags or are_lists(cells) or holds_labels(cells) else {}
        lower = lower_names(rows)
        named = next((lower[name] for name in (*LABEL_NAMES, *CLASS_NAMES) if name in lower), None)
        if named is not None and holds_labels(rows.columns[named], named=True):
            return {"label": named}
        # An object of labels and 0 or 1 has a column for each.
        columns = (
            rows.columns if named is None else {n: c for n, c in rows.columns.items() if n.startswith(f"{named}.")}
        )
        sets = [name for name, values in columns.items() if holds_labels(values)]
        if len(sets) == 1:
            return {"label": sets[0]}
        flags = [name for name, values in columns.items() if are_flags(values)]
        repeats = [name for name, values in columns.items() if 1 < len(set(map(str, values))) <= len(values) // 4]
        return {"label": tuple(flags)} if len(flags) > 1 and not sets and set(repeats) <= set(flags) else {}

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, {role: column for role, column in columns.items() if role != "label"}, split)
        flags = self._flags if columns["label"] in self._flags else ()
        used = {f"label {column}": column for column in flags} or {"label": columns["label"]}
        require_columns(rows, used, split)
        none = "0 where the row has not that label" if flags else "[] where the row has none"
        require_filled(rows, used, split, f"In a column of labels write {none}.")
        if flags:
            cells = [[self._flag(rows, column, i) for column in flags] for i in range(len(rows))]
            names = [[column for column, is_set in zip(flags, row, strict=True) if is_set] for row in cells]
        else:
            cells = rows.columns[columns["label"]]
            if are_vectors(cells):
                raise DataError(
                    f"column {columns['label']!r} of {rows.origin} ({split}) holds vectors of 0 and 1 such as "
                    f"{str(cells[0])[:60]}, not the labels of a row",
                    hint="Write the names or numbers of the labels that a row has, or give each label a column of its "
                    "own and name these in task.label.",
                )
            if self._separator is None:
                self._separator = self._guessed = find_separator(cells)
            names = [self._names(rows, columns["label"], i) for i in range(len(rows))]
        return require_unicode(self.with_targets(rows, columns, [write_labels(row) for row in names]))

    @staticmethod
    def _flag(rows: Rows, column: str, index: int) -> bool:
        flag = yes_or_no(rows.columns[column][index])
        if flag is None:
            raise DataError(
                f"{rows.place(index)}: column {column!r} holds {str(rows.columns[column][index])[:40]!r}, where 0 or 1 "
                "says whether the row has the label",
                hint="Correct the cell, or leave the column out of task.label.",
            )
        return flag

    def _names(self, rows: Rows, column: str, index: int) -> list[str]:
        """Returns the names of a row's labels, from names or from numbers."""
        cell = rows.columns[column][index]
        parts = parts_of(cell, self._separator or "")
        if parts is None:
            raise DataError(
                f"{rows.place(index)}: column {column!r} holds no labels but such as {str(cell)[:60]}",
                hint="A row's labels are a whole list of names, or names with a separator between them.",
            )
        return [self._name(part, rows, index, column) for part in parts if str(part).strip()]

    def _name(self, part: Any, rows: Rows, index: int, column: str) -> str:
        whole = isinstance(part, Real) and part % 1 == 0 and not isinstance(part, bool)
        if isinstance(part, Real) and not whole:
            raise DataError(
                f"{rows.place(index)}: column {column!r} holds {part!r}, which is neither a name nor a whole number",
                hint="If it is a label, write it as text.",
            )
        text = str(int(part) if whole else part).strip()
        labels = self.options.labels
        if labels and text in labels:
            return text
        names = labels or rows.class_names.get(column, ())
        if names and is_number(text) and 0 <= int(text) < len(names):
            return str(names[int(text)])
        if labels:
            raise DataError(
                f"{rows.place(index)}: label {text!r} in column {column!r} is not in task.labels"
                f"{did_you_mean(text, labels)}",
                hint=f"task.labels: {', '.join(labels)}.",
            )
        return text

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        sets = {split: [read_labels(example.target) for example in examples] for split, examples in splits.items()}
        train = Counter(label for labels in sets["train"] for label in labels)
        if len(set(sets["train"])) < 2:
            raise DataError(
                f"all {len(sets['train'])} training rows have the same labels, {splits['train'][0].target}; there is "
                "nothing to learn",
                hint="Check that task.label names the right column.",
            )
        if not self.options.labels:
            if len(train) > 1000 or len(train) > 0.5 * len(sets["train"]) > 10:
                raise DataError(
                    f"the label column has {len(train)} different labels in {len(sets['train'])} rows; that looks like "
                    "text or ids, not labels",
                    hint="Set task.label to the column that holds the labels, or task.separator to what stands "
                    "between them.",
                )
            order = {label: place for place, label in enumerate(self._flags)}
            names = sorted(train, key=lambda label: (order.get(label, len(order)), sort_key(label)))
            self._labels = {label: number for number, label in enumerate(names)}
        hint = "A label without training rows cannot be learned: correct it, or take it out of the rows."
        refuse_unseen(splits, train, self.classes_of, hint)
        self._check_thresholds()
        self._rows = Counter(label for labels in sets.values() for row in labels for label in row)

    def _check_thresholds(self) -> None:
        thresholds = self.options.threshold
        odd = sorted(thresholds.keys() ^ self._labels.keys()) if isinstance(thresholds, Mapping) else []
        if odd and odd[0] in self._labels:
            raise DataError(f"task.threshold has none for the label {odd[0]!r}", hint="Give one for every label.")
        if odd:
            raise DataError(
                f"task.threshold names the label {odd[0]!r}, which there isn't{did_you_mean(odd[0], self._labels)}",
                hint=f"The labels: {listed(self._labels)}.",
            )

    def refit(self, train: Sequence[Example]) -> None:
        counts = self.count_classes(train)
        self._unlearned = [label for label, count in counts.items() if not count]
        # One more row with the label and one more without keep them finite.
        self._log_odds = tuple(math.log((count + 1) / (len(train) - count + 1)) for count in counts.values())

    def findings(self) -> tuple[Finding, ...]:
        found = list(note_labels(self._rows, 0))
        if self._guessed:
            message = f"labels were split at {self._guessed!r}; set task.separator if that is wrong"
            found.append(Finding(name="separator", message=message))
        if self._unlearned:
            message = f"labels that no training row has, so that none can learn them: {listed(self._unlearned)}"
            found.append(Finding(name="unlearned_labels", message=message))
        return tuple(found)

    def stratum(self, example: Example) -> str:
        """Returns the row's rarest label, so that rare ones come into every split."""
        return min(read_labels(example.target), key=lambda label: (self._rows[label], label), default="")

    def classes_of(self, example: Example) -> Iterable[str]:
        return read_labels(example.target)

    # --- the model

    def model_arguments(self) -> dict[str, Any]:
        return {**head_labels(self.labels), "problem_type": "multi_label_classification"}

    @property
    def initial_bias(self) -> Sequence[float]:
        """Returns the log-odds of each label, shape (labels,), once fitted to the training rows.

        Most labels are rare. From 0 on, every text's gradient first says no to all labels, and an encoder that is
        trained learns that: its features become the same for all texts, and of few rows they stay so.
        """
        return self._log_odds if self.options.initial_bias == "frequency" else ()

    # --- examples -> tensors -> predictions

    def targets(self, example: Example) -> Sequence[float]:
        labels = read_labels(example.target)
        return tuple(float(label in labels) for label in self._labels)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        # The mean over labels, as everywhere, so that gradients are of usual size however many there are.
        total = binary_cross_entropy_with_logits(logits.float(), batch["labels"], reduction="sum")
        return total / len(self._labels)

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        from torch.nn.functional import logsigmoid

        scores = logsigmoid(logits.double()).cpu().tolist()
        predictions = [
            Prediction(
                index=example.index,
                target=example.target,
                output=self.placeholder_target,
                # Six digits of whatever size: probabilities near 1 must not become equal.
                scores=tuple(float(f"{score:.6g}") for score in row),
            )
            for example, row in zip(examples, scores, strict=True)
        ]
        return self.decide(predictions, {})

    def choose(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        if not isinstance(self.options.threshold, str):
            return {}
        probabilities = np.exp([prediction.scores for prediction in predictions])
        present = label_matrix([prediction.target for prediction in predictions], self.labels)
        one = best_threshold(probabilities, present)
        chosen = dict.fromkeys(self.labels, one)
        if self.options.threshold == "per_label":
            # A label that no validation row has tells nothing of its own.
            for number in np.flatnonzero(present.any(axis=0)):
                chosen[self.labels[number]] = best_threshold(probabilities[:, number], present[:, number])
        return {"threshold": chosen}

    def decide(self, predictions: Sequence[Prediction], chosen: Mapping[str, Any]) -> list[Prediction]:
        thresholds = np.array([*self._thresholds(chosen).values()])
        decided = []
        for prediction in predictions:
            has = np.exp(prediction.scores) >= thresholds
            output = write_labels(label for label, is_set in zip(self._labels, has, strict=True) if is_set)
            decided.append(prediction.model_copy(update={"output": output}))
        return decided

    def _thresholds(self, chosen: Mapping[str, Any]) -> dict[str, float]:
        """Returns each label's threshold: as chosen, else as the options give it."""
        threshold = chosen.get("threshold", self.options.threshold)
        if isinstance(threshold, Mapping):
            return {label: threshold[label] for label in self._labels}
        return dict.fromkeys(self._labels, HALF if isinstance(threshold, str) else threshold)

    def output_code(self) -> tuple[str, list[str], list[str]]:
        shares = [
            "    shares = logits.sigmoid().tolist()",
            "    return {model.config.id2label[i]: share for i, share in enumerate(shares)}",
        ]
        predict = [
            f"    thresholds = {self._thresholds({})!r}",
            "    return [label for label in found if found[label] >= thresholds[label]]",
        ]
        return "scores", shares, predict


plugin = MultiLabel
