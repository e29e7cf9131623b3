"""The recommendation of a method under limits, its probability over draws of the true figures, and what would change
it.

`rule.py` says by which rule. Applied to the means it gives the answer; applied to draws of all true means (quality
jointly, costs each by itself), the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.checks.caveats import LOUD, caveats
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.rule import NONE, Scales, choose, keep
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import SEEDS_REQUIRED, Pair, Verdict
from tuneoff.records.record import Metric


@dataclass(frozen=True)
class Shortfall:
    """A limit that an arm does not keep.

    Attributes:
        figure: the arm's mean; None where it was not measured, and `reason` says why.
        excess: by how much it is beyond the bound.
    """

    limit: Limit
    figure: float | None
    excess: float | None
    reason: str

    @property
    def relative(self) -> float:
        """Returns the excess in units of the bound; infinite where the figure is not known."""
        if self.excess is None:
            return float("inf")
        return self.excess / max(abs(self.limit.bound), 1e-12)


@dataclass(frozen=True)
class Standing:
    """One arm with its shortfalls of the limits and its probability of being the answer.

    Attributes:
        quality: mean of the metric; None where there is none, and `reason` says why the arm is not weighed.
        shortfalls: limits that it does not keep, worst first.
        seeds: number of its seeds that ended with a result or diverged.
        diverged: how many of them diverged; they count as doing without training.
        probability: how often it would be the answer; None where that cannot be said.
        probability_fits: how often it keeps all limits; None likewise, and without limits.
    """

    label: str
    trains: bool
    quality: float | None
    reason: str
    shortfalls: tuple[Shortfall, ...]
    seeds: int
    diverged: int
    probability: float | None
    probability_fits: float | None

    @property
    def failure_rate(self) -> float | None:
        """Returns the share of its seeds at which training diverged; None without any seed."""
        return self.diverged / self.seeds if self.seeds else None

    @property
    def fits(self) -> bool:
        return self.quality is not None and not self.shortfalls


@dataclass(frozen=True)
class Change:
    """Something that would change the answer.

    Attributes:
        kind: `relax` or `tighten` a limit; `prefer` another cost among arms as good; `quality_alone`: without the rule
            that a cheaper arm of equal standing wins.
        to: the answer then; None where nothing would fit.
        limit: which limit.
        bound: its bound then (for `tighten`: anything below it, or above it where the limit is a minimum).
        prefer: which cost.
    """

    kind: Literal["relax", "tighten", "prefer", "quality_alone"]
    to: str | None
    limit: Limit | None = None
    bound: float | None = None
    prefer: str = ""


@dataclass(frozen=True)
class Recommendation:
    """The recommendation with everything that is reported about it.

    Attributes:
        metric: by which quality is judged.
        limits: that were given.
        prefer: the cost by which the cheapest of arms as good is found; empty where none is known of all of them.
        answer: label; None where no arm that trains keeps the limits.
        best: label of the arm that trains with the best mean, whether it keeps the limits or not; None without any.
        best_fitting: likewise among those that keep the limits.
        as_good: arms that keep the limits within one standard error of `best_fitting`, itself included.
        by_examples: arms that keep the limits and whose standard error to `best_fitting` is over test examples alone,
            because one of the two has one seed.
        by_means: likewise those whose standard error cannot be estimated.
        tied_with: arms that train and cannot be told apart from the answer.
        ahead: arms that train, other than `best`, and are significantly better than the answer.
        open_pairs: the answer against those, and against arms that train and share too few seeds to compare.
        to_best: the answer against `best`; None where they are the same or not comparable.
        to_baseline: the answer against the best baseline; None without one.
        baseline: label of the best arm that does not train, of those that keep the limits where any does.
        not_above_baseline: arms that train and are not clearly better than `baseline` (`Outcomes.above`).
        if_trained: where it is not shown that training helps (no arm that trains and keeps the limits is clearly
            better than `baseline`), what the rule gives among those arms; else None.
        arms: every arm, best mean first.
        nearest: where nothing fits: the arm whose worst shortfall is least; None where every arm lacks a figure.
        changes: what would change the answer.
        none_probability: how often nothing fits; None where that cannot be said.
        unsure: why there are no probabilities; empty where there are.
        still: arms that have their means in every draw, because their error cannot be estimated.
        seeds: fewest seeds of an arm that trains, diverged ones included.
        caveats: warnings that belong to the answer, most serious first.
        currency: word for the money of the study's prices; empty without prices.
    """

    metric: Metric
    limits: tuple[Limit, ...]
    prefer: str
    answer: str | None
    best: str | None
    best_fitting: str | None
    as_good: tuple[str, ...]
    by_examples: tuple[str, ...]
    by_means: tuple[str, ...]
    tied_with: tuple[str, ...]
    ahead: tuple[str, ...]
    open_pairs: tuple[Pair, ...]
    to_best: Pair | None
    to_baseline: Pair | None
    baseline: str | None
    not_above_baseline: tuple[str, ...]
    if_trained: str | None
    arms: tuple[Standing, ...]
    nearest: Standing | None
    changes: tuple[Change, ...]
    none_probability: float | None
    unsure: str
    still: tuple[str, ...]
    seeds: int
    caveats: tuple[str, ...]
    currency: str = ""

    @property
    def is_baseline(self) -> bool:
        """Returns whether the answer is to do without training."""
        return self.answer is not None and self.answer == self.baseline

    def arm(self, label: str) -> Standing:
        """Finds an arm by its label. Raises StopIteration at an unknown label."""
        return next(arm for arm in self.arms if arm.label == label)

    @property
    def enough_seeds(self) -> bool:
        """Returns whether there are enough seeds to call a difference significant."""
        return self.seeds >= SEEDS_REQUIRED


def recommend(
    results: Results, outcomes: Outcomes, metric: Metric, limits: Sequence[Limit] = (), prefer: str = "time"
) -> Recommendation:
    """Applies the rule, and finds which changes would give another answer.

    Args:
        metric: a test metric of the study.
        limits: what the answer must keep.
        prefer: the cost by which the cheapest of equally good arms is found (a name in `AXES`); where an arm among
            them lacks it, the next of them that all have.
    """
    scales = Scales(results, outcomes, metric)
    as_good = _as_good(scales, limits)
    prefer = _usable(scales, as_good, prefer)
    answer = _answer(scales, limits, prefer)
    unsure = _unsure(scales)
    shares = _shares(scales, limits, prefer) if not unsure else None
    arms = tuple(_standing(scales, arm, limits, shares) for arm in _ranked(results, scales))
    best = scales.trained[0] if scales.trained else None
    baseline = next((arm.label for arm in arms if not arm.trains and arm.fits), next(iter(scales.baselines), None))
    baseline_arm = results.arm(baseline) if baseline else None
    fitting = [arm.label for arm in arms if arm.trains and arm.fits]
    unproven = outcomes.unproven(map(results.arm, fitting), baseline_arm, metric)
    by_means, by_examples = _uncertain_arms(scales, fitting)
    pairs = _pairs(outcomes.verdict(metric), answer, [arm.label for arm in arms])
    trained_pairs = [pairs[label] for label in scales.trained if label in pairs]
    undecided = [pair for pair in trained_pairs if pair.relation in ("tied", "open")]
    return Recommendation(
        metric=metric,
        limits=tuple(limits),
        prefer=prefer,
        answer=answer,
        best=best,
        best_fitting=as_good[0] if as_good else None,
        as_good=as_good,
        by_examples=by_examples,
        by_means=by_means,
        tied_with=tuple(pair.second for pair in undecided if pair.relation == "tied"),
        ahead=tuple(pair.second for pair in trained_pairs if pair.second != best and pair.relation == "behind"),
        open_pairs=tuple(undecided),
        to_best=pairs.get(best),
        to_baseline=pairs.get(baseline),
        baseline=baseline,
        not_above_baseline=outcomes.not_above(map(results.arm, scales.trained), baseline_arm, metric),
        if_trained=_answer(scales, limits, prefer, baselines=False) if unproven else None,
        arms=arms,
        nearest=_nearest(arms) if answer is None else None,
        changes=tuple(_changes(scales, limits, prefer, answer, as_good)),
        none_probability=shares.get(None) if shares else None,
        unsure=unsure,
        still=tuple(label for label in scales.trained if label in scales.quality.still),
        seeds=min((arm.seeds for arm in arms if arm.label in scales.trained), default=0),
        caveats=_loud_caveats(results, outcomes),
        currency=results.study.prices.currency if results.study.prices else "",
    )


def _pairs(verdict: Verdict | None, answer: str | None, labels: Iterable[str]) -> dict[str | None, Pair]:
    """Returns how the answer stands to each arm that it was compared with: label -> pair, the answer first."""
    pairs: dict[str | None, Pair] = {}
    if verdict is not None and answer is not None:
        for label in labels:
            with suppress(KeyError):
                pairs[label] = verdict.pair(answer, label)
    return pairs


def _nearest(arms: Sequence[Standing]) -> Standing | None:
    """Returns the arm that trains and misses its limits by the least; None where no figure tells."""
    near_misses = [arm for arm in arms if arm.trains and arm.shortfalls and arm.shortfalls[0].excess is not None]
    return min(near_misses, key=lambda arm: arm.shortfalls[0].relative, default=None)


def _loud_caveats(results: Results, outcomes: Outcomes) -> tuple[str, ...]:
    """Returns the messages of the caveats that a recommendation repeats, in the order of `LOUD`."""
    loud = [finding for finding in caveats(results, outcomes) if finding.name in LOUD]
    return tuple(finding.message for finding in sorted(loud, key=lambda finding: LOUD.index(finding.name)))


def among_trained(scales: Scales) -> str | None:
    """Applies the rule without limits to the arms that train; None where there is none."""
    return _answer(scales, (), _usable(scales, _as_good(scales, ()), "time"), baselines=False)


def _label_at(scales: Scales, index: int) -> str | None:
    return None if index == NONE else [*scales.trained, *scales.baselines][index]


def _answer(scales: Scales, limits: Sequence[Limit], prefer: str, baselines: bool = True) -> str | None:
    return _label_at(scales, int(choose(scales, limits, prefer, means=True, baselines=baselines)[0]))


def _as_good(scales: Scales, limits: Sequence[Limit]) -> tuple[str, ...]:
    """Returns the arms that train, keep the limits and lie within one standard error of the best of them; best
    first."""
    fits = keep(scales, scales.trained, limits, means=True)[:, 0] if scales.trained else np.array([])
    fitting = [index for index, fit in enumerate(fits) if fit]
    if not fitting:
        return ()
    quality = scales.good(scales.trained, means=True)[:, 0]
    best = fitting[0]
    return tuple(
        scales.trained[index] for index in fitting if quality[index] >= quality[best] - scales.margins[index, best]
    )


def _uncertain_arms(scales: Scales, labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns which of these arms, best first, have no standard error to the first, and which have one over examples
    alone."""
    if not labels:
        return (), ()
    best, *others = labels
    errors = dict(zip(scales.trained, scales.errors[scales.trained.index(best)], strict=True))
    by_means = tuple(label for label in others if np.isnan(errors[label]))
    constant = [label for label in others if {label, best} & set(scales.quality.still)]
    return by_means, tuple(label for label in constant if label not in by_means)


def _usable(scales: Scales, labels: Sequence[str], prefer: str) -> str:
    """Returns the preferred cost, or the next that all arms have; empty where there is none."""
    for axis in (prefer, *(name for name in AXES if name != prefer)):
        if all(label in scales.cost(axis).means for label in labels):
            return axis
    return ""


def _unsure(scales: Scales) -> str:
    """Explains why there are no probabilities; empty where there are."""
    if not scales.trained:
        return "no arm that trains can be weighed"
    if all(label in scales.quality.still for label in scales.trained):
        return "one seed does not tell how much seeds differ"
    return ""


def _shares(scales: Scales, limits: Sequence[Limit], prefer: str) -> dict[str | None, float]:
    chosen = choose(scales, limits, prefer, means=False)
    names = [None, *scales.trained, *scales.baselines]
    counts = np.bincount(chosen - NONE, minlength=len(names))
    return {name: float(count) / len(chosen) for name, count in zip(names, counts, strict=True)}


def _ranked(results: Results, scales: Scales) -> list[Arm]:
    order = {label: index for index, label in enumerate([*scales.trained, *scales.baselines])}
    return sorted(results.arms, key=lambda arm: order.get(arm.label, len(order)))


def _standing(scales: Scales, arm: Arm, limits: Sequence[Limit], shares: dict[str | None, float] | None) -> Standing:
    label, trains = arm.label, arm.trains
    seeds, diverged = len(arm.completed) + len(arm.diverged), len(arm.diverged)
    if label not in scales.quality.means:
        return Standing(label, trains, None, scales.quality.missing[label], (), seeds, diverged, None, None)
    shortfalls = []
    for limit in limits:
        scale = scales.of(limit)
        if label in scale.means:
            excess = limit.excess(scale.means[label])
            if excess > 0:
                shortfalls.append(Shortfall(limit, scale.means[label], excess, ""))
        elif trains or limit.axis is None:
            shortfalls.append(Shortfall(limit, None, None, scale.missing[label]))
    shortfalls.sort(key=lambda shortfall: -shortfall.relative)
    probability_fits = float(keep(scales, [label], limits, means=False).mean()) if shares and limits else None
    probability = shares[label] if shares else None
    mean = scales.quality.means[label]
    return Standing(label, trains, mean, "", tuple(shortfalls), seeds, diverged, probability, probability_fits)


def _changes(
    scales: Scales, limits: Sequence[Limit], prefer: str, answer: str | None, as_good: Sequence[str]
) -> list[Change]:
    """Finds single changes (of a limit, of the preferred cost, or no cost at all) that give another answer."""
    changes = []
    for index, limit in enumerate(limits):
        if limit.form is not None:
            # A form works or does not.
            continue
        changes += _relaxed(scales, limits, index, prefer, answer)
        if answer is not None and answer in scales.of(limit).means:
            changes += _tightened(scales, limits, index, prefer, answer)
    if answer is None or answer in scales.baselines:
        return changes
    for axis in AXES:
        if axis != prefer and all(label in scales.cost(axis).means for label in as_good):
            new_answer = _answer(scales, limits, axis)
            if new_answer != answer:
                changes.append(Change("prefer", new_answer, prefer=axis))
    if as_good and as_good[0] != answer:
        changes.append(Change("quality_alone", as_good[0]))
    return changes


def _relaxed(scales: Scales, limits: Sequence[Limit], position: int, prefer: str, answer: str | None) -> list[Change]:
    """Finds the smallest relaxation of one limit that changes the answer."""
    limit = limits[position]
    excessive = {figure for figure in scales.of(limit).means.values() if limit.excess(figure) > 0}
    for bound in sorted(excessive, key=limit.excess):
        new_answer = _answer(scales, _with_bound(limits, position, bound), prefer)
        if new_answer != answer:
            return [Change("relax", new_answer, limit, bound)]
    return []


def _tightened(scales: Scales, limits: Sequence[Limit], position: int, prefer: str, answer: str) -> list[Change]:
    """Finds the answer if one limit were so tight that the present answer does not keep it."""
    limit = limits[position]
    figure = scales.of(limit).means[answer]
    if figure <= 0 and not limit.at_least:
        return []
    bound = float(np.nextafter(figure, np.inf if limit.at_least else -np.inf))
    new_answer = _answer(scales, _with_bound(limits, position, bound), prefer)
    return [Change("tighten", new_answer, limit, figure)] if new_answer != answer else []


def _with_bound(limits: Sequence[Limit], position: int, bound: float) -> list[Limit]:
    return [replace(limit, bound=bound) if index == position else limit for index, limit in enumerate(limits)]
