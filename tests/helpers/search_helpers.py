"""Search spaces and searches on made-up scores."""

from __future__ import annotations

import math
from typing import Any

from tuneoff.search.sampling import suggest
from tuneoff.search.space import Dimension, Outcome, Space

RATE = Dimension("learning_rate", 1e-3, low=1e-5, high=1e-1, log=True)
RANKS = Dimension("r", 8, choices=(4, 8, 16))
WORDS = Dimension("targets", "a", choices=("a", "b", None))


def score(values: dict[str, Any], peak: float = 1e-2) -> float:
    return -abs(math.log10(values["learning_rate"] / peak))


def searched(space: Space, count: int, seed: int = 0, peak: float = 1e-2, fail: int = -1, **kind: Any) -> list[Outcome]:
    history: list[Outcome] = []
    for index in range(count):
        values = suggest(space, history, seed, **kind)
        history.append(Outcome(values, None if index == fail else score(values, peak)))
    return history
