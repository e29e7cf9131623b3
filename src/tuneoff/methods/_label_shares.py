"""How often each label stands in the training rows, for baselines of multi-label classification."""

from __future__ import annotations

import math
from collections.abc import Mapping


def log_shares(counts: Mapping[str, int], rows: int) -> tuple[float, ...]:
    """Returns the log-probability of each label by its share of the rows, none of them 0 or 1 (Laplace)."""
    return tuple(round(math.log((count + 1) / (rows + 2)), 6) for count in counts.values())
