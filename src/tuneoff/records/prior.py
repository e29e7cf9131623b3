"""What published results lead one to expect of a method."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """What the literature leads one to expect of a method before a run: an interval, wide rather than narrow.

    Attributes:
        low, high: share of full fine-tuning's gain over the baseline, in models of up to a few billion parameters.
        source: what was published, with its year; the interval is our reading of it.

    Raises:
        ValueError: if `low` and `high` are no interval.
    """

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"{self.low} to {self.high} is no interval")
