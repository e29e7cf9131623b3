"""What metrics of probabilities share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs
from tuneoff.tasks._metrics import target_numbers

Array = NDArray[np.float64]


def log_probabilities(outputs: Outputs) -> tuple[Array, NDArray[np.bool_]] | None:
    """Returns the log-probabilities and whether a class is the target, both of shape (examples, classes); None where
    an example lacks a probability of every class."""
    numbers = target_numbers(outputs)
    if numbers is None or not outputs.labels:
        return None
    is_target = np.equal(np.array(numbers)[:, None], np.arange(len(outputs.labels)))
    return np.array(outputs.scores, dtype=np.float64), is_target
