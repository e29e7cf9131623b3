"""What each arm scored and how it compares: one estimate per arm and test metric, and the verdict on all of them.

Seeds at which training diverged count too (`diverged`). Where predictions do not give a metric example by
example (`predictions`), the statistics have the scores of seeds alone.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tuneoff.analysis.diverged import Scored, StandIn, scored, stand_in
from tuneoff.analysis.predictions import Array, Predictions
from tuneoff.analysis.racing import follow, joined_looks
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import (
    Estimate,
    Looks,
    Race,
    Ranking,
    Sample,
    Verdict,
    estimate,
    estimate_positive,
    rank,
    tie_letters,
    verdict,
)
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.moderated import moderate
from tuneoff.analysis.statistics.pairs import SEEDS_FOR_SPREAD
from tuneoff.analysis.statistics.power import typical
from tuneoff.analysis.statistics.proportions import ExampleTies, example_ties, wilson
from tuneoff.interfaces import MetricDefinition
from tuneoff.records.record import Metric, TrialRecord

LARGEST = 1e100
"""Values above it (the perplexity of a model that failed) have squares that overflow."""
TOO_LARGE = "too large a value to tell its error"
DIFFERENT_EXAMPLES = "tested on other examples than most trials"
ALL_DIVERGED = "training diverged at every seed"
UNWEIGHED = (TOO_LARGE, DIFFERENT_EXAMPLES, ALL_DIVERGED)
"""Notes of figures whose mean must not be compared with others."""


def over_seeds(values: Iterable[float]) -> Estimate | None:
    """Estimates the mean, spread and interval of a cost or side figure, one value per trial; None where there is
    none."""
    numbers = [float(value) for value in values]
    return estimate_positive("", numbers) if numbers else None


def within_range(raw: Estimate, metric: MetricDefinition) -> Estimate:
    """Cuts a symmetric interval at values that the metric cannot take; its coverage stays the same."""
    if raw.interval is None:
        return raw
    low, high = max(raw.interval.low, metric.low), min(raw.interval.high, metric.high)
    return replace(raw, interval=replace(raw.interval, low=low, high=high))


@dataclass(frozen=True)
class MetricEstimate:
    """An arm's estimate of a metric.

    Attributes:
        estimate: mean, spread, interval; of completed seeds and of those that diverged.
        scores: seed -> what it counts as.
        sample: the values that it was estimated from; None where it is not compared.
        note: why there are only values per seed, or why it is not compared; else empty.
        diverged: seeds at which training diverged, and which count as doing without training.
        counted_as: what they count as: the baseline's label, or words.
        without: the estimate of the completed seeds alone; None where none diverged, or none completed.
        weighed: whether its mean may be compared with others: it has a sample, or the same score at every seed.
    """

    estimate: Estimate
    scores: Mapping[int, float]
    sample: Sample | None
    note: str = ""
    diverged: tuple[int, ...] = ()
    counted_as: str = ""
    without: Estimate | None = None

    @property
    def weighed(self) -> bool:
        return self.note not in UNWEIGHED


class Outcomes:
    """Estimates and comparisons of a study's test metrics; reads each trial's predictions once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.predictions = Predictions(results)
        self._stand_ins: dict[str, StandIn | None] = {}
        self._figures: dict[tuple[str, str], MetricEstimate | None] = {}
        self._verdicts: dict[str, Verdict | None] = {}
        self._letters: dict[str, dict[str, str]] = {}
        self._rankings: dict[str, Ranking | None] = {}
        fingerprints = Counter(
            fingerprint for record in results.completed if (fingerprint := _test_fingerprint(record))
        )
        # The test set of the study is the one that most trials saw.
        self._usual = fingerprints.most_common(1)[0][0] if fingerprints else None
        self._pool_share = max(map(_pool_share, results.completed), default=0.0)

    def figure(self, arm: Arm, metric: Metric) -> MetricEstimate | None:
        """Estimates a test metric of an arm over seeds and, where predictions allow it, examples; None without a
        value."""
        key = (arm.label, metric.name)
        if key not in self._figures:
            self._figures[key] = self._figure(arm, metric)
        return self._figures[key]

    def verdict(self, metric: Metric) -> Verdict | None:
        """Compares all arms that can be compared on a test metric, baselines included; None where there is none."""
        if metric.name not in self._verdicts:
            self._verdicts[metric.name] = self._judge(metric, self._looks)
        return self._verdicts[metric.name]

    @cached_property
    def race(self) -> Race | None:
        """Returns the study's race over its seeds; None where it has none."""
        primary = self.results.primary
        return follow(self.results, lambda looks: self._judge(primary, looks) if primary else None)

    @cached_property
    def _looks(self) -> Looks | None:
        race = self.race
        if race is None:
            return joined_looks(self.results)
        return Looks(self.results.study.protocol.seeds, race.counts, race.done)

    def _judge(self, metric: Metric, looks: Looks | None) -> Verdict | None:
        samples, ranking = self._samples(metric), self._rank(metric, looks)
        if not samples:
            return None
        fraction = self.fraction(metric)
        return verdict(samples, metric.direction, fraction=fraction, ranking=ranking, looks=looks)

    def letters(self, metric: Metric) -> dict[str, str]:
        """Returns the letters of ties on a test metric, those of its verdict; empty where nothing is compared."""
        if metric.name not in self._letters:
            known, samples = self._verdicts.get(metric.name), self._samples(metric)
            found = known.letters if known is not None else {}
            if known is None and samples:
                found = tie_letters(samples, metric.direction, self.ranking(metric), self._looks)
            self._letters[metric.name] = found
        return self._letters[metric.name]

    def _samples(self, metric: Metric) -> list[Sample]:
        figures = [figure for arm in self.results.arms if (figure := self.figure(arm, metric))]
        return [figure.sample for figure in figures if figure.sample is not None]

    def ranking(self, metric: Metric) -> Ranking | None:
        """Ranks the weighed arms on the seeds that they share, in a race at its looks; None where there is none.

        The best is an arm that trains, where any does.
        """
        if metric.name not in self._rankings:
            self._rankings[metric.name] = self._rank(metric, self._looks)
        return self._rankings[metric.name]

    def _rank(self, metric: Metric, looks: Looks | None) -> Ranking | None:
        weighed = [arm for arm in self.results.arms if (figure := self.figure(arm, metric)) and figure.weighed]
        scores = {arm.label: figure.scores for arm in weighed if (figure := self.figure(arm, metric))}
        if looks is not None:
            scores = {label: looks.of_scores(label, by_seed) for label, by_seed in scores.items()}
        trained = [arm.label for arm in weighed if arm.trains]
        return rank(scores, metric.direction, trained) if scores else None

    def mean(self, arm: Arm, metric: Metric) -> float | None:
        """Returns an arm's mean of a test metric, comparable with the other arms' (`rank`).

        None without one or where it is not weighed (`MetricEstimate.weighed`).
        """
        ranking = self.ranking(metric)
        return ranking.means.get(arm.label) if ranking is not None else None

    def ranked(self, arms: Iterable[Arm], metric: Metric) -> list[Arm]:
        """Sorts the arms that have a score.

        First the weighed ones by rank, the best first and equal ones in the order given, then the others by their
        means. All code that names a best arm or a baseline takes it from here.
        """
        sign = -1.0 if metric.direction == "higher" else 1.0
        ranking = self.ranking(metric)
        position = {label: index for index, label in enumerate(ranking.labels if ranking else ())}
        scored = [(figure, arm) for arm in arms if (figure := self.figure(arm, metric))]
        scored.sort(key=lambda pair: (position.get(pair[1].label, len(position)), sign * pair[0].estimate.mean))
        return [arm for _, arm in scored]

    def best(self, arms: Iterable[Arm], metric: Metric) -> Arm | None:
        """Returns the first of the ranked arms; None where none is weighed."""
        return next((arm for arm in self.ranked(arms, metric) if self.mean(arm, metric) is not None), None)

    def standard_error(self, arm: Arm, other: Arm, metric: Metric) -> float | None:
        """Estimates the standard error of the difference of two arms, on the seeds and examples that both have.

        With one seed it is over examples alone. None where it cannot be estimated.
        """
        first, second = (figure.sample if (figure := self.figure(r, metric)) else None for r in (arm, other))
        if first is None or second is None or not set(first.seeds) & set(second.seeds):
            return None
        parts = components(first.minus(second))
        return math.sqrt(parts.variance) if parts.known else None

    def typical_error(self, metric: Metric) -> Components | None:
        """Returns the median error of the difference of two arms that train; None where no two share enough seeds to
        tell."""
        figures = [self.figure(arm, metric) for arm in self.results.arms if arm.trains]
        samples = [figure.sample for figure in figures if figure is not None and figure.sample is not None]
        pairs = [
            pair
            for pair in itertools.combinations(samples, 2)
            if len(set(pair[0].seeds) & set(pair[1].seeds)) >= SEEDS_FOR_SPREAD
        ]
        arms = [(first.label, second.label) for first, second in pairs]
        fixed = [sample.label for sample in samples if sample.fixed]
        return typical(moderate([components(first.minus(second)) for first, second in pairs], arms, fixed))

    def above(self, arm: Arm, baseline: Arm, metric: Metric) -> bool | None:
        """Returns whether an arm is clearly better than a baseline.

        None where they cannot be weighed, and in place of a yes under `SEEDS_FOR_SPREAD` seeds, which do not tell it.

        It compares their means on shared seeds and, where there is one, the pair's own interval without a correction
        for many pairs, because this is a sanity check and not one claim among many.
        """
        arm_mean, baseline_mean = self.mean(arm, metric), self.mean(baseline, metric)
        if arm_mean is None or baseline_mean is None:
            return None
        difference, interval = arm_mean - baseline_mean, None
        study_verdict = self.verdict(metric)
        try:
            pair = study_verdict.pair(arm.label, baseline.label) if study_verdict is not None else None
        except KeyError:
            pair = None
        if pair is not None and pair.difference is not None:
            difference, interval = pair.difference, pair.interval
        sign = 1.0 if metric.direction == "higher" else -1.0
        if sign * difference <= 0:
            return False
        if interval is not None and min(sign * interval.low, sign * interval.high) <= 0:
            return False
        return None if pair is not None and pair.seeds < SEEDS_FOR_SPREAD else True

    def not_above(self, arms: Iterable[Arm], baseline: Arm | None, metric: Metric) -> tuple[str, ...]:
        """Returns the labels of the arms that are not clearly better than the baseline; none without a baseline."""
        return tuple(arm.label for arm in arms if baseline and self.above(arm, baseline, metric) is False)

    def unproven(self, arms: Iterable[Arm], baseline: Arm | None, metric: Metric) -> bool:
        """Returns whether training is not shown to help: none of these arms that can be weighed is clearly better than
        the baseline, nor open against it for want of seeds."""
        if baseline is None:
            return False
        weighed = [arm for arm in arms if self.mean(arm, metric) is not None]
        return bool(weighed) and all(self.above(arm, baseline, metric) is False for arm in weighed)

    def _figure(self, arm: Arm, metric: Metric) -> MetricEstimate | None:
        trials = scored(arm, metric, self.predictions)
        other_examples = {_test_fingerprint(record) for record in arm.completed if record.spec.seed in trials} - {
            None,
            self._usual,
        }
        # A baseline is the substitute itself: there is none for a baseline whose outputs are not finite.
        substitute = self._stand_in(metric) if arm.diverged and arm.trains else None
        if substitute is None:
            return self.estimated(arm.label, metric, trials, bool(other_examples)) if trials else None
        completed = self.estimated(arm.label, metric, trials, bool(other_examples)) if trials else None
        trials |= {seed: substitute.at(seed) for seed in arm.diverged}
        figure = self.estimated(arm.label, metric, dict(sorted(trials.items())), bool(other_examples))
        note, without_diverged = (figure.note, completed.estimate) if completed else (ALL_DIVERGED, None)
        return replace(figure, note=note, diverged=arm.diverged, counted_as=substitute.name, without=without_diverged)

    def _stand_in(self, metric: Metric) -> StandIn | None:
        if metric.name not in self._stand_ins:
            figures = [(arm, self.figure(arm, metric)) for arm in self.results.arms if not arm.trains]
            baselines = [
                (arm, figure.estimate.mean) for arm, figure in figures if figure is not None and figure.weighed
            ]
            sign = 1.0 if metric.direction == "higher" else -1.0
            baseline = max(baselines, key=lambda pair: sign * pair[1])[0] if baselines else None
            self._stand_ins[metric.name] = stand_in(self.results, self.predictions, metric, baseline)
        return self._stand_ins[metric.name]

    def estimated(
        self, label: str, metric: Metric, trials: Mapping[int, Scored], other_examples: bool
    ) -> MetricEstimate:
        """Estimates a metric of an arm, or of a form of its models, from these trials.

        `other_examples`: some trials were tested on other examples than most of the study's trials.
        """
        seeds = list(trials)
        values = np.array([trial.value for trial in trials.values()])
        scores = dict(zip(seeds, values.tolist(), strict=True))
        if float(np.abs(values).max()) > LARGEST:
            without_interval = Estimate(label, float(values.mean()), None, None, len(values), None, TOO_LARGE)
            return MetricEstimate(without_interval, scores, None, TOO_LARGE)
        outputs = [trial.outputs for trial in trials.values()]
        sample = self.predictions.sample(label, metric, seeds, outputs, values)
        note = "" if sample else f"predictions do not give {metric.name} example by example; compared by seeds alone"
        sample = replace(sample or Sample.from_scores(label, seeds, values), pool_share=self._pool_share)
        declared = self.predictions.definition(metric)
        estimated = within_range(estimate(sample, fraction=self.fraction(metric)), declared)
        if len(values) == 1 and estimated.interval is None and (examples := self._examples_told(metric)):
            interval = wilson(estimated.mean, examples)
            estimated = replace(estimated, interval=interval, examples=examples, reason="")
        if sample.contributions is None and len(sample) > 1 and _equal(values):
            # A deterministic baseline. That its seeds agree says nothing about other test examples.
            reason = "the same score at every seed and no values per example: nothing tells its error"
            without_interval = Estimate(label, estimated.mean, estimated.std, None, estimated.seeds, None, reason)
            return MetricEstimate(without_interval, scores, None, DIFFERENT_EXAMPLES if other_examples else reason)
        if other_examples:
            return MetricEstimate(estimated, scores, None, DIFFERENT_EXAMPLES)
        return MetricEstimate(estimated, scores, sample, note)

    def example_ties(self, metric: Metric) -> ExampleTies | None:
        """Returns what the test examples alone tell apart; None but for arms of one seed each whose scores are shares
        of the same number of examples, without predictions."""
        examples, shares = self._examples_told(metric), dict[str, float]()
        for arm in self.results.arms:
            if (figure := self.figure(arm, metric)) is None:
                continue
            if len(figure.scores) > 1 or figure.diverged or not figure.weighed:
                return None
            shares[arm.label] = figure.estimate.mean
        return example_ties(shares, examples, metric.direction) if examples and len(shares) > 1 else None

    def _examples_told(self, metric: Metric) -> int | None:
        """Returns the number of test examples that every record tells of this metric; None where some do not, or tell
        another."""
        told = {
            each.examples
            for record in self.results.completed
            for each in record.metrics
            if (each.name, each.split) == (metric.name, "test")
        }
        return told.pop() if len(told) == 1 and metric.unit == "fraction" else None

    def fraction(self, metric: Metric) -> bool:
        """Returns whether the metric lies in [0, 1] by definition, or is a mean of examples' own values that do."""
        return metric.unit == "fraction" and self.predictions.fraction(metric)


def _pool_share(record: TrialRecord) -> float:
    """Returns the size of a trial's draw of training rows as a share of what it was drawn from; 0 where all seeds have
    the same rows."""
    data = record.data
    return data.splits["train"].rows / data.train_pool if data is not None and data.train_pool else 0.0


def _equal(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * float(np.abs(values).max()))


def _test_fingerprint(record: TrialRecord) -> str | None:
    split = record.data.splits.get("test") if record.data else None
    return split.fingerprint if split else None
