"""What a seed counts as at which training diverged: as doing without training.

A trial that diverged (its loss, its gradients or its outputs stopped being finite) leaves no model: at that seed a user
would have no more than without training. Leaving out such seeds would favour methods that diverge over methods that end
with low scores. Trials that ended in any other way (out of memory, over the time limit, cancelled, failed by an error)
say something about machines, limits and faults, and not about how well a seed trains: they are left out of every mean,
and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuneoff.analysis.predictions import Predictions, TrialOutputs
from tuneoff.analysis.results import Arm, Results
from tuneoff.records.record import Metric

MOST_FREQUENT = "always the most frequent class"
ZERO = "a score of 0"
WORST = "the worst of all completed trials"


@dataclass(frozen=True)
class Scored:
    """A trial's score of one metric, and its test predictions; None where it kept none."""

    value: float
    outputs: TrialOutputs | None


@dataclass(frozen=True)
class StandIn:
    """What diverged seeds count as on one metric.

    Attributes:
        name: label of the baseline, or what it is in words.
        trials: by seed; a seed that is not among them counts as the first.
    """

    name: str
    trials: Mapping[int, Scored]

    def at(self, seed: int) -> Scored:
        return self.trials.get(seed) or next(iter(self.trials.values()))


def scored(arm: Arm, metric: Metric, predictions: Predictions) -> dict[int, Scored]:
    """Returns an arm's completed trials that have the metric, by seed."""
    scores = arm.scores(metric.name)
    return {
        record.spec.seed: Scored(scores[record.spec.seed], predictions.read(record))
        for record in arm.completed
        if record.spec.seed in scores
    }


def stand_in(results: Results, predictions: Predictions, metric: Metric, baseline: Arm | None) -> StandIn | None:
    """Returns what diverged seeds count as on a metric; None where no trial is completed.

    That is the baseline where there is one. Else it is chance: the most frequent class, or for texts and other
    fractions a score of 0. For a metric without such a bound it is the worst completed trial.
    """
    if baseline is not None:
        return StandIn(baseline.label, scored(baseline, metric, predictions))
    frequent = predictions.always_most_frequent()
    value = predictions.score(metric, frequent) if frequent else None
    if value is not None:
        return StandIn(MOST_FREQUENT, {0: Scored(value, frequent)})
    if metric.unit == "fraction":
        return StandIn(ZERO, {0: Scored(0.0, predictions.always_zero(metric.name))})
    all_scored = [trial for arm in results.arms for trial in scored(arm, metric, predictions).values()]
    sign = 1.0 if metric.direction == "higher" else -1.0
    return StandIn(WORST, {0: min(all_scored, key=lambda trial: sign * trial.value)}) if all_scored else None
