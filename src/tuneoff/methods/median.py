"""A baseline of regression: always the median of the training rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tuneoff.methods._constant import Constant


class Median(Constant):
    """Predicts the median of the training rows, the constant with the least absolute error there."""

    title = "Median"
    summary = "No training: always the median of the training values. What a trained method must beat."

    @staticmethod
    def fit(values: Sequence[float]) -> float:
        return statistics.median(values)


plugin = Median
