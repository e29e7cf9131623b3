"""A baseline of regression: always the mean of the training rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tuneoff.methods._constant import Constant


class Mean(Constant):
    """Predicts the mean of the training rows, the constant with the least squared error there."""

    title = "Mean"
    summary = "No training: always the mean of the training values. What a trained method must beat."

    @staticmethod
    def fit(values: Sequence[float]) -> float:
        return statistics.fmean(values)


plugin = Mean
