"""The rule by which a recommendation is made, applied to the means or to draws of all true means.

Of the arms that train and keep every limit, take the one with the best quality. Arms within one standard error of it
(of the difference between the two) count as good; of these the cheapest wins. That is the one-standard-error rule of
Breiman, Friedman, Olshen & Stone, Classification and Regression Trees, 1984, section 3.4.3. An arm that does not train
(a baseline) is only the answer where it keeps the limits and no arm that trains and keeps them beats it. Where none
clearly does (`Outcomes.unproven`), it is said that training is not shown to help, and what the rule gives nevertheless.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.pareto import Draws, cost_draws, quality_draws
from tuneoff.analysis.deployability import ArmDeployability, summarise_deployability
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import SEEDS_REQUIRED, most_worse
from tuneoff.config.deployability import Form
from tuneoff.records.record import Metric

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
NONE = -1


class Scales:
    """The draws of all arms on every axis and metric that a question about them needs; each is drawn once."""

    def __init__(self, results: Results, outcomes: Outcomes, metric: Metric) -> None:
        self.results = results
        self.outcomes = outcomes
        self.metric = metric
        self.quality = quality_draws(results, outcomes, metric)
        self._costs: dict[str, Draws] = {}
        self._worse: dict[str, Draws] = {}
        self._metrics: dict[str, Draws] = {metric.name: self.quality}
        ranked = [arm for arm in outcomes.ranked(results.arms, metric) if arm.label in self.quality.means]
        self.trained = [arm.label for arm in ranked if arm.trains]
        self.baselines = [arm.label for arm in ranked if not arm.trains]
        self.sign = 1.0 if metric.direction == "higher" else -1.0

    def cost(self, axis: str) -> Draws:
        if axis not in self._costs:
            self._costs[axis] = cost_draws(self.results, AXES[axis])
        return self._costs[axis]

    def of(self, limit: Limit) -> Draws:
        """Returns the draws on the axis or metric that a limit is about."""
        if limit.axis is not None:
            return self.cost(limit.axis.name)
        if limit.form is not None:
            return self._working(limit.form)
        assert limit.metric is not None
        if limit.reference:
            return self._worse_than(limit.reference, limit.metric)
        if limit.metric.name not in self._metrics:
            self._metrics[limit.metric.name] = quality_draws(self.results, self.outcomes, limit.metric)
        return self._metrics[limit.metric.name]

    def _working(self, form: Form) -> Draws:
        """Returns 1 for each arm whose trained models work in a form at every seed at which that was tried."""
        summaries = {summary.method: summary.form(form) for summary in self._deployability}
        means, missing = {}, {}
        for arm in self.results.arms:
            summary = summaries.get(arm.label)
            if not arm.trains:
                missing[arm.label] = "it trains nothing, so there is no trained model to deploy"
            elif summary is None:
                missing[arm.label] = f"not measured; `{self._command(arm, form)}` does"
            elif summary.works:
                means[arm.label] = 1.0
            else:
                missing[arm.label] = summary.reason
        count = len(next(iter(self.quality.drawn.values())))
        return Draws(form, means, missing, {label: np.full(count, 1.0) for label in means}, ())

    def _command(self, arm: Arm, form: Form) -> str:
        """Returns the command that measures an arm; of joined studies in its own, whose name stands in its id and
        behind its label there."""
        trial_id = arm.trials[0].id
        folder = self.results.store.trial(trial_id).folder.parent.parent
        label = arm.label.removesuffix(f" [{trial_id.partition('/')[0]}]")
        return shlex.join(["tuneoff", "deployability", str(folder), "--arm", label, "--form", form])

    @cached_property
    def _deployability(self) -> tuple[ArmDeployability, ...]:
        return summarise_deployability(self.results, self.outcomes)

    def _worse_than(self, reference: str, metric: Metric) -> Draws:
        """Returns by how much each arm is worse than this one at most. It is a bound already, and not drawn."""
        if reference not in self._worse:
            verdict, count = self.outcomes.verdict(metric), len(next(iter(self.quality.drawn.values())))
            means, missing = {reference: 0.0}, {}
            for label in (arm.label for arm in self.results.arms if arm.label != reference):
                bound = None
                if verdict is not None and {label, reference} <= {entry.label for entry in verdict.estimates}:
                    bound = most_worse(verdict.pair(label, reference), metric.direction)
                if bound is None:
                    missing[label] = f"it is open, or not compared: {SEEDS_REQUIRED} seeds in common are needed"
                else:
                    means[label] = bound
            drawn = {label: np.full(count, bound) for label, bound in means.items()}
            self._worse[reference] = Draws(metric.name, means, missing, drawn, ())
        return self._worse[reference]

    def good(self, labels: Sequence[str], means: bool) -> Array:
        """Returns quality, where more is better: of the means, shape (arms, 1), or of the draws, shape (arms,
        draws)."""
        if means:
            return self.sign * np.array([[self.quality.means[label]] for label in labels]).reshape(len(labels), 1)
        return self.sign * np.array([self.quality.drawn[label] for label in labels])

    @cached_property
    def errors(self) -> Array:
        """Estimates the standard error of the difference of each two arms that train; shape (arms, arms).

        It is half of the middle 68 % of the draws, because with few seeds the tails are too heavy for a standard
        deviation. Where one of the two arms has one seed, it is over test examples alone; NaN where
        it cannot be estimated.
        """
        values = self.good(self.trained, means=False)
        errors = np.zeros((len(values), len(values)))
        varying = [arm for arm, label in enumerate(self.trained) if label not in self.quality.still]
        for position, arm in enumerate(varying):
            later = varying[position + 1 :]
            low, high = np.percentile(values[later] - values[arm], (15.865, 84.135), axis=1)
            errors[arm, later] = errors[later, arm] = (high - low) / 2
        for arm, other in itertools.combinations(range(len(values)), 2):
            if arm not in varying or other not in varying:
                first, second = (self.results.arm(self.trained[index]) for index in (arm, other))
                error = self.outcomes.standard_error(first, second, self.metric)
                errors[arm, other] = errors[other, arm] = np.nan if error is None else error
        return errors

    @property
    def margins(self) -> Array:
        """Returns by how much one arm may be worse than another and count as good: `errors`, 0 where there is none."""
        return np.nan_to_num(self.errors)


def choose(
    scales: Scales, limits: Sequence[Limit], prefer: str, means: bool, baselines: bool = True
) -> NDArray[np.intp]:
    """Applies the rule.

    Returns an index into the arms that train, followed by the baselines; `NONE` where no arm that trains keeps
    the limits.

    Args:
        prefer: the cost that decides among arms as good; empty: the better quality does.
        means: apply it to the means, else to each draw.
        baselines: let a baseline be the answer.
    """
    trained = scales.trained
    if not trained:
        return np.array([NONE])
    quality = scales.good(trained, means)
    fits = keep(scales, trained, limits, means)
    best = np.where(fits, quality, -np.inf).argmax(axis=0)
    best_quality = quality[best, np.arange(quality.shape[1])]
    as_good = fits & (quality >= best_quality - scales.margins[:, best])
    price = _price(scales, trained, prefer, means)
    price = np.where(as_good, np.broadcast_to(price, as_good.shape), np.inf)
    chosen = np.where(np.isfinite(price).any(axis=0), price.argmin(axis=0), best)
    if baselines and scales.baselines:
        baseline_fits = keep(scales, scales.baselines, limits, means)
        baseline_quality = np.where(baseline_fits, scales.good(scales.baselines, means), -np.inf)
        baseline_wins = baseline_quality.max(axis=0) >= best_quality
        chosen = np.where(baseline_wins, len(trained) + baseline_quality.argmax(axis=0), chosen)
    return np.where(fits.any(axis=0), chosen, NONE)


def keep(scales: Scales, labels: Sequence[str], limits: Iterable[Limit], means: bool) -> Flags:
    """Returns whether each arm keeps every limit; shape (arms, 1) or (arms, draws).

    An arm that lacks a limited figure does not keep it; a baseline that has none of a cost (no model, so no latency)
    does.
    """
    count = 1 if means else len(next(iter(scales.quality.drawn.values())))
    fits = np.ones((len(labels), count), dtype=np.bool_)
    for limit in limits:
        scale = scales.of(limit)
        for arm, label in enumerate(labels):
            if label not in scale.means:
                fits[arm] &= limit.axis is not None and label in scales.baselines
                continue
            figure = np.array([scale.means[label]]) if means else scale.drawn[label]
            fits[arm] &= (figure >= limit.bound) if limit.at_least else (figure <= limit.bound)
    return fits


def _price(scales: Scales, labels: Sequence[str], prefer: str, means: bool) -> Array:
    """Returns the preferred cost, infinite where it is not known; shape (arms, 1) or (arms, draws)."""
    if not prefer:
        return np.full((len(labels), 1), np.inf)
    scale = scales.cost(prefer)
    unknown = np.full(1 if means else len(next(iter(scales.quality.drawn.values()))), np.inf)

    def figure(label: str) -> Array:
        if label not in scale.means:
            return unknown
        return np.array([scale.means[label]]) if means else scale.drawn[label]

    return np.stack([figure(label) for label in labels])
