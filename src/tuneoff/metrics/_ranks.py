"""Ranks of ordered classes, for metrics of how far an answer lies from the right one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs

Array = NDArray[np.float64]


def ranks(outputs: Outputs) -> tuple[Array, Array] | None:
    """Returns the ranks of targets and outputs from 0, shape (examples,); None where one is no class."""
    rank = {label: float(number) for number, label in enumerate(outputs.labels)}
    if not rank.keys() >= {*outputs.targets, *outputs.outputs} or not rank:
        return None
    target, output = (np.array([rank[label] for label in own]) for own in (outputs.targets, outputs.outputs))
    return target, output
