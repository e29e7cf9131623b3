"""What a chart says, in a title; empty where it says nothing in few words."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.curves import LearningCurve
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.search_summary import SearchSummary
from tuneoff.report import columns
from tuneoff.report.charts.chart import shortened
from tuneoff.report.columns import Column
from tuneoff.report.schema import Report

LABEL_LENGTH = 22
_WORTH_IT = 0.9
"""A cheaper arm is worth a title if it costs at most this share of the best's."""
_NEAR = 0.1
"""Greatest part of the best's gain over doing without training that a mean may lack and still be called near."""
_NOUNS = {"train_seconds": "train time", "peak_memory_bytes": "memory", "trainable_parameters": "trained parameters"}
_CLEAR = 0.02
"""Least relative gap of two ends of curves that a title tells of."""


def title(message: str, lead: str, report: Report) -> str:
    """Returns a chart's message, or what it shows where it has none or quality means nothing."""
    if report.study.random_weights:
        return f"{lead} — RANDOM WEIGHTS, quality means nothing"
    return message or lead


def of_cost(report: Report, column: Column, points: Sequence[tuple[str, float, float]]) -> str:
    """Says what quality costs: which arm is as good as the best, as far as that can be told, for less.

    Args:
        report: with the verdict.
        column: the cost.
        points: label, cost and score of each arm.
    """
    costs = {label: cost for label, cost, _ in points}
    scores = {label: score for label, _, score in points}
    best = report.answer.best
    if best not in costs or len(points) < 2:
        return ""
    noun = _NOUNS.get(column.key, column.title)
    level = {*report.answer.tied_with, *report.answer.open}
    # What cannot be told apart may be far behind by its mean, where seeds are few: near means count, and ties.
    near = _NEAR * abs(scores[best] - _lowest(report, list(scores.values())))
    cheaper = [
        label
        for label in costs
        if costs[label] <= _WORTH_IT * costs[best]
        and (label in report.answer.tied_with or abs(scores[best] - scores[label]) <= near)
    ]
    if not cheaper:
        if costs[best] == min(costs.values()):
            lead = "is the best" if report.answer.winner == best else "has the best mean"
            return f"{_short(best)} {lead} and takes the least {noun}"
        return ""
    # The best of those that are cheaper; what is level with the best comes before what is behind it.
    higher = report.study.primary_direction != "lower"
    chosen = max(cheaper, key=lambda label: (label in level, scores[label] if higher else -scores[label]))
    gap = columns.score(abs(scores[best] - scores[chosen]), unit=report.study.primary_unit)
    doubt = " (open)" if chosen in report.answer.open else ""
    relation = "is within {gap} of" if chosen in level else "loses {gap} to"
    share = costs[chosen] / costs[best]
    text = f"{share:.0%}" if share >= 0.01 else "under 1%"
    return f"{_short(chosen)} {relation.format(gap=gap)} {_short(best)}{doubt} at {text} of the {noun}"


def of_differences(report: Report) -> str:
    """Says of how many arms that train the best is ahead."""
    answer = report.answer
    rivals = sum(arm.trains for arm in report.methods) - 1
    if rivals < 1 or answer.best is None:
        return ""
    ahead = len(answer.behind) if answer.significant else "none"
    return f"{_short(answer.best)} is clearly ahead of {ahead} of the {rivals} other arms that train"


def _lowest(report: Report, scores: Sequence[float]) -> float:
    """Returns the baseline's score, or the worst of these where there is no baseline."""
    metric, baseline = report.study.primary_metric or "", report.answer.baseline
    mean = report.arm(baseline).metrics[metric].mean if baseline is not None else None
    if mean is not None:
        return mean
    return min(scores) if report.study.primary_direction != "lower" else max(scores)


def of_course(curves: Sequence[LearningCurve], what: str, lower: bool, unit: str | None) -> str:
    """Says which arm ends best while training, where one does clearly."""
    ends = sorted(((curve.mean[-1], curve.method) for curve in curves), reverse=not lower)
    if len(ends) < 2 or abs(ends[0][0] - ends[1][0]) < _CLEAR * abs(ends[0][0]):
        return ""
    name = what.split(" (")[0]
    return f"{_short(ends[0][1])} ends with the {'lowest' if lower else 'highest'} {name}, " + columns.score(
        ends[0][0], unit=unit
    )


def of_search(search: SearchSummary) -> str:
    """Says for which arm a rate taken blindly costs most, where there are two arms to tell apart."""
    drops = sorted(((arm.median_drop, arm.method) for arm in search.arms if arm.median_drop is not None), reverse=True)
    if len(drops) < 2 or drops[0][0] <= 0:
        return ""
    drop = columns.score(drops[0][0], unit=search.unit)
    metric = metric_name(search.metric)
    return f"{_short(drops[0][1])} is the most sensitive: its median trial loses {drop} of {metric}"


def _short(label: str) -> str:
    return shortened(label, LABEL_LENGTH)
