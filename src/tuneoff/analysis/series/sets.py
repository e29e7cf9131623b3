"""A series over data sets: the arms' average ranks, and whether they differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tuneoff.analysis.series.members import SeriesResults
from tuneoff.analysis.statistics.average_ranks import FEW_SETS, AverageRanks, average_ranks, shared_scores
from tuneoff.records.record import Direction, Metric


@dataclass(frozen=True)
class Sets:
    """The arms of a series, ranked over its data sets.

    Attributes:
        ranking: of the arms that every set has; None where fewer than two are.
        left_out: labels of arms that some set lacks, or cannot weigh.
        few: whether the sets are so few that the test has little power.
    """

    ranking: AverageRanks | None
    left_out: tuple[str, ...]
    few: bool


def rank_over_sets(
    series: SeriesResults, labels: Collection[str] | None = None, metrics: Mapping[str, Metric] | None = None
) -> Sets:
    """Ranks the arms over the data sets.

    Args:
        series: over data sets; a set's metric may be another than the next one's, ranks have no unit.
        labels: arms to rank; all where unset.
        metrics: member -> what its arms are ranked by; each set's primary metric where unset.
    """
    scores: dict[str, dict[str, float]] = {}
    for member in series.members:
        metric = metrics[member.name] if metrics is not None else member.metric
        # Ranks know one direction: where less is better, the negative is ranked.
        sign = _sign(metric.direction)
        arms = member.outcomes.ranked(member.results.arms, metric)
        means = {arm.label: member.outcomes.mean(arm, metric) for arm in arms}
        scores[member.name] = {
            label: sign * mean
            for label, mean in means.items()
            if mean is not None and (labels is None or label in labels)
        }
    shared, left_out = shared_scores(scores)
    few = len(scores) < FEW_SETS
    if len(next(iter(shared.values()))) < 2:
        return Sets(None, tuple(left_out), few)
    return Sets(average_ranks(shared, "higher"), tuple(left_out), few)


def _sign(direction: Direction) -> float:
    return 1.0 if direction == "higher" else -1.0
