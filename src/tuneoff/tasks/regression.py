"""Regression: one text, or a pair of texts, one number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tuneoff.errors import DataError
from tuneoff.interfaces import Batch, ColumnRole, Example, MeanMetric, Outputs, PooledMetric, Prediction, Rows
from tuneoff.tasks._rows import require_cells, require_columns
from tuneoff.tasks._text_head import TEXT, TEXT_PAIR, TextHead, TextOptions

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

VALUE_NAMES = ("score", "value", "rating", "stars", "similarity", "relatedness", "label", "labels", "target", "y")


class RegressionOptions(TextOptions):
    """Keys of `task` for regression."""

    value: str | None = Field(None, description="column that holds the number; guessed where obvious")
    center: float | None = Field(
        None, description="subtracted from the numbers before training; the mean of the training rows if unset"
    )
    scale: float | None = Field(
        None, gt=0, description="divides them then; the standard deviation of the training rows if unset"
    )


def _numbers(texts: Sequence[str]) -> Array:
    return np.array([float(text) for text in texts], dtype=np.float64)


def squared_errors(outputs: Outputs) -> Array:
    """Returns each example's squared error and 1, shape (examples, 2)."""
    errors = _numbers(outputs.outputs) - _numbers(outputs.targets)
    return np.stack([errors**2, np.ones(len(errors))], axis=1)


def absolute_errors(outputs: Outputs) -> Array:
    """Returns each example's absolute error, shape (examples,)."""
    return np.abs(_numbers(outputs.outputs) - _numbers(outputs.targets))


def root_mean(sums: Array) -> Any:
    """Computes the root mean squared error from the sums of `squared_errors`, shape (sums,) or (many, sums)."""
    return np.sqrt(np.maximum(sums[..., 0], 0.0) / sums[..., 1])


def moments(outputs: Outputs) -> Array:
    """Returns what a correlation of outputs and targets is made of, shape (examples, 6).

    Both are centred and scaled first, so that the sums lose no digits; a correlation does not change by that.
    """
    return _moments(_numbers(outputs.outputs), _numbers(outputs.targets))


def rank_moments(outputs: Outputs) -> Array:
    """Returns the same of their ranks; equal numbers share the mean of theirs."""
    return _moments(_ranks(_numbers(outputs.outputs)), _ranks(_numbers(outputs.targets)))


def _ranks(column: Array) -> Array:
    _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _moments(first: Array, second: Array) -> Array:
    x, y = (_standardised(column) for column in (first, second))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _standardised(column: Array) -> Array:
    deviations = column - column.mean()
    size = np.abs(deviations).max()
    return deviations / size if size > 1e-12 * np.abs(column).max() else np.zeros_like(deviations)


def correlation(sums: Array) -> Any:
    """Computes a Pearson correlation from the sums of `moments`, shape (sums,) or (many, sums); 0 where one side does
    not vary."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (xx - x * x / count) * (yy - y * y / count)
    varies = spread > 1e-24 * count**2
    covariance = xy - x * y / count
    return np.where(varies, np.clip(covariance / np.sqrt(np.where(varies, spread, 1.0)), -1, 1), 0.0)


class Regression(TextHead):
    """A number by a head with one output, trained by the squared error of standardised numbers."""

    title = "Regression"
    summary = "One text or a pair of texts, one number: RMSE, MAE, Pearson and Spearman correlation."
    roles = (TEXT, TEXT_PAIR, ColumnRole("value", "number", VALUE_NAMES))
    metrics = (
        PooledMetric(
            name="rmse",
            direction="lower",
            unit="as the values",
            title="RMSE",
            low=0,
            terms=squared_errors,
            of_sums=root_mean,
            batched=True,
        ),
        MeanMetric(
            name="mae", direction="lower", unit="as the values", title="MAE", low=0, of_examples=absolute_errors
        ),
        PooledMetric(
            name="pearson",
            direction="higher",
            title="Pearson",
            low=-1,
            high=1,
            terms=moments,
            of_sums=correlation,
            batched=True,
        ),
        PooledMetric(
            name="spearman",
            direction="higher",
            title="Spearman",
            low=-1,
            high=1,
            terms=rank_moments,
            of_sums=correlation,
            batched=True,
        ),
    )
    primary_metric = "rmse"
    init_order = 15
    produces = "number"
    Options = RegressionOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._center: float | None = self.options.center
        self._scale: float | None = self.options.scale

    @property
    def fitted(self) -> bool:
        return True  # one output, whatever the rows

    @property
    def fitted_options(self) -> dict[str, float]:
        return dict(zip(("center", "scale"), self._fitted(), strict=True))

    def _fitted(self) -> tuple[float, float]:
        assert self._center is not None, "fit comes first"
        assert self._scale is not None, "fit comes first"
        return self._center, self._scale

    @property
    def placeholder_target(self) -> str:
        return "0"

    # --- rows -> examples

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, columns, split)
        column = columns["value"]
        targets = [_number(value, rows, index, column) for index, value in enumerate(rows.columns[column])]
        return self.with_targets(rows, columns, targets)

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        numbers = [float(example.target) for example in splits["train"]]
        if len(set(numbers)) < 2:
            raise DataError(
                f"all {len(numbers)} training rows have the same value, {splits['train'][0].target}; there is nothing "
                "to learn",
                hint="Check that task.value names the right column.",
            )
        self.refit(splits["train"])

    def refit(self, train: Sequence[Example]) -> None:
        numbers = [float(example.target) for example in train]
        self._center = statistics.fmean(numbers) if self.options.center is None else self.options.center
        # Few of the rows may be all the same.
        self._scale = (statistics.pstdev(numbers) or 1.0) if self.options.scale is None else self.options.scale

    # --- the model

    way_out = "Use the task generation, whose targets may be numbers."

    def model_arguments(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    # --- examples -> tensors -> predictions

    def targets(self, example: Example) -> Sequence[float]:
        center, scale = self._fitted()
        return ((float(example.target) - center) / scale,)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (logits.float() - batch["labels"]).square().sum()

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        center, scale = self._fitted()
        numbers = (logits.double().flatten().cpu() * scale + center).tolist()
        # Six digits of what varies, however far from zero that is.
        digits = 6 - math.floor(math.log10(scale))
        return [
            Prediction(index=example.index, target=example.target, output=repr(round(number, digits)))
            for example, number in zip(examples, numbers, strict=True)
        ]

    def output_code(self) -> tuple[str, list[str], list[str]]:
        center, scale = self._fitted()
        return "predict", [f"    return logits.item() * {scale!r} + {center!r}"], []


def _number(value: Any, rows: Rows, index: int, column: str) -> str:
    """Returns a cell's number as text.

    Raises:
        DataError: if it is none, or not finite.
    """
    try:
        # Python takes 1_5 for 15; in a file it is a slip.
        number = float(value if isinstance(value, Real) else str(value).strip().replace("_", "?"))
    except (ValueError, OverflowError):  # OverflowError: a whole number that no float holds
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{rows.place(index)}: column {column!r} holds {str(value)[:40]!r}, which is not a finite number",
            hint="Correct the cell, or name the column of the numbers with task.value.",
        )
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


plugin = Regression
