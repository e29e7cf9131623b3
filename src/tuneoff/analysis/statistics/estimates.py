"""The estimate of one method's mean on one metric or cost: its spread over seeds and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.sample import Sample

LEVEL = 0.95
MOST_LOGARITHM = 100.0
"""Greatest logarithm of the factor of a cost's interval."""
UNKNOWN = {
    "one seed": "one seed and no values per example",
    "equal": "the same at every seed: nothing tells its error",
    "constant": "the same for every example at every seed: nothing tells how wide its interval is",
}
"""Why there is no interval."""

Over = Literal["seeds", "examples", "groups", "seeds and examples", "seeds and groups"]


@dataclass(frozen=True)
class Interval:
    """An interval; `over` names what varies in it: it says nothing about other sources of error."""

    low: float
    high: float
    over: Over

    def negated(self) -> Interval:
        """Returns the interval of the negated figure."""
        return Interval(-self.high, -self.low, self.over)


@dataclass(frozen=True)
class Estimate:
    """The estimate of one method's mean.

    Attributes:
        label: the method's label.
        mean: over its seeds.
        std: over its seeds (ddof=1); None with one seed.
        interval: of the mean over all seeds and, where values per example are known, all examples that might have
            been; None when its error cannot be estimated.
        seeds: number of seeds.
        examples: number of test examples; None when only scores are known.
        groups: number of groups of test examples that vary as one; None where every example stands for itself.
        reason: why there is no interval; empty when there is one.
    """

    label: str
    mean: float
    std: float | None
    interval: Interval | None
    seeds: int
    examples: int | None
    reason: str
    groups: int | None = None


def estimate(sample: Sample, *, fraction: bool = False, level: float = LEVEL) -> Estimate:
    """Estimates a method's mean, its spread over seeds, and its interval over seeds and examples.

    A fraction's interval is Wilson's with the effective number of examples mean·(1 - mean)/variance, which stays in
    [0, 1] and covers near its ends, where a symmetric one falls short: Franco et al., Comparative study of confidence
    intervals for proportions in complex sample surveys, J Surv Stat Methodol 7, 2019.
    """
    parts = components(sample)
    std = float(sample.scores.std(ddof=1)) if len(sample) > 1 else None
    interval, reason = None, why_unknown(parts)
    if fraction and parts.known:
        interval, reason = Interval(*_wilson(parts, sample.units, level), over(parts)), ""
    elif not reason:
        half = parts.half_width(level)
        interval = Interval(parts.mean - half, parts.mean + half, over(parts))
    return Estimate(sample.label, parts.mean, std, interval, len(sample), sample.examples, reason, sample.groups)


def estimate_positive(label: str, values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Estimates the mean of a positive figure over seeds (seconds, bytes), with an interval by a factor.

    The factor is Student's t-interval of the logarithms: it never reaches 0, and a second is as long of three as a
    minute is of three. Where a value is not positive, the interval is that of the values themselves.
    """
    sample = Sample.from_scores(label, range(len(values)), values)
    result = estimate(sample, level=level)
    if result.interval is None or min(values) <= 0:
        return result
    logarithms = estimate(Sample.from_scores(label, range(len(values)), np.log(values)), level=level)
    if logarithms.interval is None:
        return result
    # Of two seeds that differ greatly the factor may be beyond any number.
    factor = math.exp(min((logarithms.interval.high - logarithms.interval.low) / 2, MOST_LOGARITHM))
    interval = Interval(result.mean / factor, result.mean * factor, result.interval.over)
    return replace(result, interval=interval)


def why_unknown(parts: Components) -> str:
    """Explains why there is no interval; empty where there is one."""
    if not parts.known:
        return UNKNOWN["one seed" if parts.by_seed is None else "equal"]
    return UNKNOWN["constant"] if parts.constant else ""


def _wilson(parts: Components, units: int | None, level: float) -> tuple[float, float]:
    mean = parts.mean
    spread = mean * (1 - mean)
    if units is not None and (parts.constant or spread <= 0.0):
        # All seeds equal, or all examples right, or all wrong: no more is known than from the examples of one seed.
        ratio = normal_quantile(level) ** 2 / units
    else:
        # Quantile² over effective number of examples.
        ratio = parts.half_width(level) ** 2 / spread
    middle = (mean + ratio / 2) / (1 + ratio)
    half_width = math.sqrt(ratio * max(spread, 0.0) + ratio**2 / 4) / (1 + ratio)
    # The interval contains the mean; at 0 and 1 rounding could leave it outside.
    return max(min(middle - half_width, mean), 0.0), min(max(middle + half_width, mean), 1.0)


def normal_quantile(level: float) -> float:
    """Returns the number of standard deviations that a normal variable keeps within with probability `level`."""
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def over(parts: Components) -> Over:
    """Returns what varies in an interval of these parts."""
    if parts.by_example is None:
        return "seeds"
    if parts.unit == "groups":
        return "groups" if parts.by_seed is None else "seeds and groups"
    return "examples" if parts.by_seed is None else "seeds and examples"
