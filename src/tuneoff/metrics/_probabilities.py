"""What metrics of probabilities share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs

Array = NDArray[np.float64]


def log_probabilities(outputs: Outputs) -> tuple[Array, NDArray[np.bool_]] | None:
    """Returns the log-probabilities and whether a class is the target, both of shape (examples, classes); None where
    an example lacks a probability of every class."""
    number = {label: i for i, label in enumerate(outputs.labels)}
    if not number or not number.keys() >= set(outputs.targets):
        return None
    if {len(scores) for scores in outputs.scores} != {len(number)}:
        return None
    targets = np.array([number[target] for target in outputs.targets])
    return np.array(outputs.scores, dtype=np.float64), np.equal(targets[:, None], np.arange(len(number)))
