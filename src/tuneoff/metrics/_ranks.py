"""Ranks of ordered classes, for metrics of how far an answer lies from the right one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs

Array = NDArray[np.float64]


def ranks(outputs: Outputs) -> tuple[Array, Array] | None:
    """Returns the ranks of targets and outputs from 0, shape (examples,); None where one is no class.

    An empty output, an answer that names no class, is as wrong as can be: it counts as the class farthest from the
    right one.
    """
    rank = {label: float(number) for number, label in enumerate(outputs.labels)}
    if not rank.keys() >= {*outputs.targets, *outputs.outputs} - {""} or not rank.keys() >= {*outputs.targets}:
        return None
    last = len(rank) - 1
    target = np.array([rank[label] for label in outputs.targets])
    output = np.array([rank.get(label, -1.0) for label in outputs.outputs])
    return target, np.where(output < 0, np.where(target * 2 >= last, 0.0, last), output)
