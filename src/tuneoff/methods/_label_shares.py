"""How often labels stand in the training rows, for baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def log_shares(counts: Mapping[str, int], rows: int) -> tuple[float, ...]:
    """Returns the log-probability of each label by its share of the rows, none of them 0 or 1 (Laplace)."""
    return tuple(round(math.log((count + 1) / (rows + 2)), 6) for count in counts.values())


def log_frequencies(counts: Mapping[str, int], names: Sequence[str]) -> tuple[float, ...]:
    """Returns the log-probability of each name where one of them is right, by its count, none of them 0 (Laplace)."""
    total = sum(counts[name] + 1 for name in names)
    return tuple(round(math.log((counts[name] + 1) / total), 6) for name in names)
