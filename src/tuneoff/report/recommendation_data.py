"""Builds a recommendation's data; docs/recommend.md describes it. `recommendation` says the same in words."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.pareto import Front
from tuneoff.analysis.decisions.recommend import Change, Recommendation, Shortfall, Standing
from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import Pair
from tuneoff.records.record import Metric
from tuneoff.report.arm_builder import pair_fields
from tuneoff.report.recommendation import Costs, lines, rule_text
from tuneoff.report.recommendation_schema import (
    AtLeast,
    AtMost,
    ChangeSummary,
    ComparedTo,
    FrontSummary,
    JudgedMetric,
    LeftOut,
    RecommendationReport,
    RecommendedArm,
    ShortfallSummary,
)


def build_recommendation(
    results: Results, recommendation: Recommendation, costs: Costs, fronts: Sequence[Front]
) -> RecommendationReport:
    """Collects everything the words say and more. `costs`: axis -> label -> mean."""
    metric = recommendation.metric
    return RecommendationReport(
        study=results.study.name,
        metric=JudgedMetric(name=metric.name, unit=metric.unit, direction=metric.direction),
        limits=tuple(limit_summary(limit) for limit in recommendation.limits),
        answer=recommendation.answer,
        answer_trains=None if recommendation.answer is None else not recommendation.is_baseline,
        prefer=recommendation.prefer or None,
        rule=rule_text(recommendation),
        best=recommendation.best,
        best_fitting=recommendation.best_fitting,
        as_good=tuple(recommendation.as_good),
        tied_with=tuple(recommendation.tied_with),
        ahead=tuple(recommendation.ahead),
        open=tuple(_compared_to(pair, metric) for pair in recommendation.open_pairs),
        gives_up=_compared_to(recommendation.to_best, metric) if recommendation.to_best else None,
        baseline=recommendation.baseline,
        not_above_baseline=tuple(recommendation.not_above_baseline),
        if_trained=recommendation.if_trained,
        to_baseline=_compared_to(recommendation.to_baseline, metric) if recommendation.to_baseline else None,
        nearest=recommendation.nearest.label if recommendation.nearest else None,
        changes=tuple(_change(change) for change in recommendation.changes),
        none_probability=recommendation.none_probability,
        probability_reason=recommendation.unsure,
        without_error=tuple(recommendation.still),
        seeds=recommendation.seeds,
        caveats=tuple(recommendation.caveats),
        arms=tuple(_arm(arm, costs) for arm in recommendation.arms),
        pareto=tuple(_front(front) for front in fronts),
        text=" ".join(lines(results, recommendation, costs)),
    )


def limit_summary(limit: Limit) -> AtMost | AtLeast:
    """Returns a limit as data."""
    if limit.at_least:
        return AtLeast(figure=limit.name, at_least=limit.bound, text=limit.text)
    return AtMost(figure=limit.name, at_most=limit.bound, text=limit.text)


def shortfall_summary(shortfall: Shortfall) -> ShortfallSummary:
    """Returns a limit that is not kept, as data."""
    return ShortfallSummary(
        figure=shortfall.limit.name, value=shortfall.figure, excess=shortfall.excess, reason=shortfall.reason
    )


def _front(front: Front) -> FrontSummary:
    return FrontSummary(
        axes=tuple(front.axes),
        front=tuple(front.labels),
        probabilities=front.probabilities,
        left_out=tuple(LeftOut(method=label, reason=reason) for label, reason in front.left_out.items()),
    )


def _compared_to(pair: Pair, metric: Metric) -> ComparedTo:
    fields = pair_fields(pair, metric.direction)
    return ComparedTo(against=pair.second, **{key: fields[key] for key in ComparedTo.model_fields if key in fields})


def _change(change: Change) -> ChangeSummary:
    return ChangeSummary(
        kind=change.kind,
        to=change.to,
        figure=change.limit.name if change.limit else None,
        bound=change.bound,
        prefer=change.prefer or None,
    )


def _arm(arm: Standing, costs: Costs) -> RecommendedArm:
    return RecommendedArm(
        method=arm.label,
        trains=arm.trains,
        quality=arm.quality,
        reason=arm.reason,
        fits=arm.fits,
        diverged=arm.diverged,
        failure_rate=arm.failure_rate,
        probability=arm.probability,
        probability_fits=arm.probability_fits,
        **{AXES[axis].figure: figures.get(arm.label) for axis, figures in costs.items()},
        shortfalls=tuple(shortfall_summary(shortfall) for shortfall in arm.shortfalls),
    )
