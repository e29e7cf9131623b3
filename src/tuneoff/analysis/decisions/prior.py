"""The recommendation before anything is trained: from a forecast of costs and stated priors of quality alone.

A prior is an interval for the share of full fine-tuning's gain over the baseline that a method is expected to reach,
read out of published comparisons. Arms whose intervals overlap that of the best one, and that are not expected to
give up much more of the gain, count as equally good before a run, so the cheapest of them is the answer. Measured
results have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.recommend import Shortfall
from tuneoff.records.forecast import StudyForecast
from tuneoff.records.prior import Prior

COSTS = ("time", "memory", "stored", "money")
"""The costs that a forecast knows, by their names in `AXES`."""
NO_PRIOR = "no prior is stated"
TOLERANCE = 0.2
"""Share of the gain that the middle of an arm's prior may lie below that of the best. Overlap alone would let a wide
interval, of which nothing is known but that it may turn out well, win by cheapness over one that is near the best."""


@dataclass(frozen=True)
class Prospect:
    """An arm before it is trained.

    Attributes:
        trains: whether it is more than a baseline.
        prior: what is expected of its quality; None where nothing is stated.
        figures: cost -> its forecast.
        missing: cost -> why there is none.
        shortfalls: limits that it is not expected to keep, worst first.
    """

    label: str
    trains: bool
    prior: Prior | None
    figures: Mapping[str, float]
    missing: Mapping[str, str]
    shortfalls: tuple[Shortfall, ...]

    @property
    def fits(self) -> bool:
        """Returns whether it keeps all limits by its forecast."""
        return not self.shortfalls


@dataclass(frozen=True)
class PriorAdvice:
    """The answer before a run.

    Attributes:
        limits: that were given.
        prefer: the cost by which the cheapest is found; empty where none is forecast of all of `as_good`.
        answer: label; None where no arm that trains and has a prior keeps the limits.
        best: label of the arm with the best prior of those that keep the limits.
        as_good: arms that keep the limits and are as good as `best` before a run, itself included, best first.
        nearest: where nothing fits: the arm whose worst shortfall is least; None where every arm lacks a figure.
        arms: every arm, best prior first, baselines last.
        currency: word for the money of the prices; empty without prices.
    """

    limits: tuple[Limit, ...]
    prefer: str
    answer: str | None
    best: str | None
    as_good: tuple[str, ...]
    nearest: Prospect | None
    arms: tuple[Prospect, ...]
    currency: str = ""

    def arm(self, label: str) -> Prospect:
        """Finds an arm by its label. Raises StopIteration at an unknown label."""
        return next(arm for arm in self.arms if arm.label == label)


def advise(
    forecast: StudyForecast,
    priors: Mapping[str, Prior | None],
    baselines: Sequence[str] = (),
    limits: Sequence[Limit] = (),
    prefer: str = "time",
) -> PriorAdvice:
    """Applies the limits to the forecast, and the priors to the arms that keep them.

    Args:
        forecast: of every arm.
        priors: label -> prior, of every arm.
        baselines: labels of arms that do not train; they are never the answer.
        limits: of costs in `COSTS`.
        prefer: the cost by which the cheapest is found; where an arm lacks it, the next of `COSTS` that all have.
    """
    arms = [_prospect(forecast, label, prior, label not in baselines, limits) for label, prior in priors.items()]
    arms.sort(key=lambda arm: (not arm.trains, -_middle(arm.prior)))
    weighed = [arm for arm in arms if arm.trains and arm.prior is not None]
    fitting = [arm for arm in weighed if arm.fits]
    near_misses = [arm for arm in weighed if arm.shortfalls and arm.shortfalls[0].excess is not None]
    nearest = min(near_misses, key=lambda arm: arm.shortfalls[0].relative) if near_misses and not fitting else None
    if not fitting:
        return PriorAdvice(tuple(limits), "", None, None, (), nearest, tuple(arms), forecast.currency)
    best = fitting[0]
    as_good = [arm for arm in fitting if _as_good(arm.prior, best.prior)]
    order = (prefer, *(axis for axis in COSTS if axis != prefer))
    cost = next((axis for axis in order if all(axis in arm.figures for arm in as_good)), "")
    answer = min(as_good, key=lambda arm: arm.figures[cost]) if cost else best
    labels = tuple(arm.label for arm in as_good)
    return PriorAdvice(tuple(limits), cost, answer.label, best.label, labels, None, tuple(arms), forecast.currency)


def _prospect(
    forecast: StudyForecast, label: str, prior: Prior | None, trains: bool, limits: Sequence[Limit]
) -> Prospect:
    arm = forecast.arms[label]
    figures: dict[str, float] = {}
    missing: dict[str, str] = {}
    for axis in COSTS:
        name = AXES[axis].figure
        value = getattr(arm, name)
        if value is None:
            missing[axis] = arm.missing.get(name, "not forecast")
        else:
            figures[axis] = float(value)
    shortfalls = [shortfall for limit in limits if (shortfall := _shortfall(limit, figures, missing)) is not None]
    shortfalls.sort(key=lambda shortfall: -shortfall.relative)
    return Prospect(label, trains, prior, figures, missing, tuple(shortfalls))


def _shortfall(limit: Limit, figures: Mapping[str, float], missing: Mapping[str, str]) -> Shortfall | None:
    assert limit.axis is not None  # metrics are refused before a run
    axis = limit.axis.name
    if axis not in figures:
        return Shortfall(limit, None, None, missing[axis])
    excess = limit.excess(figures[axis])
    return Shortfall(limit, figures[axis], excess, "") if excess > 0 else None


def _middle(prior: Prior | None) -> float:
    return float("-inf") if prior is None else (prior.low + prior.high) / 2


def _as_good(prior: Prior | None, best: Prior | None) -> bool:
    """Returns whether a prior overlaps the best one, with its middle at most `TOLERANCE` below."""
    if prior is None or best is None:
        return False
    # Rounded, because 0.9 - 0.7 is a little more than 0.2.
    return prior.high >= best.low and round(_middle(best) - _middle(prior), 9) <= TOLERANCE
