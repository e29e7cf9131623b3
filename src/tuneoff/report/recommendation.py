"""Writes a recommendation in words; docs/recommend.md describes it. `recommendation_data` holds the same as plain
data."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.pareto import Front
from tuneoff.analysis.decisions.recommend import Change, Recommendation, Shortfall
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import SEEDS_REQUIRED, Pair
from tuneoff.config.deployability import TITLES
from tuneoff.report import columns
from tuneoff.report.cost_wording import COST_NAMES, cheapest_text, figure_text, limit_name, limit_text, winner_text
from tuneoff.report.scope import unvaried_text
from tuneoff.report.wording import (
    NO_SCORE,
    all_the_same,
    capitalised,
    join,
    to_settle_text,
    unproven,
    what_to_do,
)

SHOWN = 4
"""Most excluded arms, and probabilities, that the words name; the data hold all."""
TOLD_COSTS = ("time", "memory", "stored", "money", "forgetting")
"""Costs that the answer tells."""
Costs = dict[str, dict[str, float]]


def lines(results: Results, recommendation: Recommendation, costs: Costs) -> list[str]:
    """Returns the answer in words, one fact per line, the answer itself first."""
    parts = [
        *_answer(recommendation, costs),
        *_why(recommendation),
        *_describe_loss(recommendation, costs),
        *_ahead(recommendation),
        *_tied(recommendation),
    ]
    parts += [
        *_excluded_arms(recommendation),
        *_changes(recommendation),
        *_certainty(recommendation),
        *_failures(recommendation),
        *_baseline(recommendation),
        *_seeds(results, recommendation),
        *_scope(results, recommendation),
    ]
    return parts


def rule_text(recommendation: Recommendation) -> str:
    """Returns the rule by which the answer was found."""
    cheapest = winner_text(recommendation.prefer)
    among = f"Rule: of the arms that train{' and keep the limits' if recommendation.limits else ''}"
    rivals = sum(arm.trains and arm.fits for arm in recommendation.arms) - 1
    if recommendation.by_means and len(recommendation.by_means) == rivals:
        equals = f", among equal means {cheapest}" if recommendation.prefer else ""
        return (
            f"{among}, the best {_metric(recommendation)} wins by the means alone{equals}: "
            "nothing tells a standard error."
        )
    text = (
        f"{among}, those within one standard error of the best {_metric(recommendation)} count as equally good, "
        f"and of these {cheapest} wins."
    )
    if recommendation.by_examples:
        whose = f", for {join(recommendation.by_examples)}" if len(recommendation.by_examples) < rivals else ""
        text += f" One seed{whose}: the standard error is over test examples alone."
    if recommendation.by_means:
        text += f" By the means alone, for nothing tells a standard error: {join(recommendation.by_means)}."
    return text


def front_text(front: Front) -> str:
    """Returns one line on which arms are on a front, and how probably."""
    if not front.labels:
        return f"Pareto front of {join(front.axes)}: no arm has all of them."
    shares = front.probabilities or {}
    label_texts = [f"{label} ({_share(shares[label])})" if label in shares else label for label in front.labels]
    near_front = [label for label, share in shares.items() if share >= 0.1 and label not in front.labels]
    text = f"Pareto front of {join(front.axes)}: {', '.join(label_texts)}."
    if near_front:
        text += f" Perhaps too: {', '.join(f'{label} ({_share(shares[label])})' for label in near_front)}."
    if front.left_out:
        text += f" Left out: {'; '.join(f'{label} ({reason})' for label, reason in front.left_out.items())}."
    return text


def _answer(recommendation: Recommendation, costs: Costs) -> list[str]:
    limits_text = (
        f" with {join([limit_text(limit) for limit in recommendation.limits])}" if recommendation.limits else ""
    )
    if recommendation.answer is None:
        scored_arms = [arm for arm in recommendation.arms if arm.trains and arm.quality is not None]
        if not scored_arms:
            return [capitalised(NO_SCORE)]
        text = f"None fits: no method that trains keeps {join([limit_text(limit) for limit in recommendation.limits])}."
        return [text, *_nearest(recommendation)]
    arm = recommendation.arm(recommendation.answer)
    figures = [f"{_metric(recommendation)} {_score(recommendation, arm.quality)}"]
    figures += [
        f"{COST_NAMES[axis]} {figure_text(AXES[axis], costs[axis][arm.label], recommendation.currency)}"
        for axis in TOLD_COSTS
        if arm.label in costs[axis]
    ]
    if recommendation.baseline is None or recommendation.if_trained is None:
        return [f"Use {arm.label}{limits_text}: {', '.join(figures)}."]
    doubt = unproven(
        recommendation.baseline, recommendation.arm(recommendation.baseline).fits if recommendation.limits else None
    )
    use = all_the_same(recommendation.if_trained)
    if recommendation.is_baseline:
        text = f"Do without training{limits_text}: {arm.label} ({figures[0]}); nothing that trains beats it."
        return [text, f"{doubt} {use}{limits_text}.", what_to_do(_learned(recommendation))]
    return [f"{doubt} {use}{limits_text}: {', '.join(figures)}.", what_to_do(_learned(recommendation))]


def _learned(recommendation: Recommendation) -> bool:
    """Returns whether some arm that trains and keeps the limits scores better than the baseline."""
    baseline = recommendation.arm(recommendation.baseline).quality if recommendation.baseline else None
    sign = 1 if recommendation.metric.direction == "higher" else -1
    fitting = [arm.quality for arm in recommendation.arms if arm.trains and arm.fits and arm.quality is not None]
    return baseline is None or any(sign * quality > sign * baseline for quality in fitting)


def _nearest(recommendation: Recommendation) -> list[str]:
    if recommendation.nearest is None:
        first = next(arm for arm in recommendation.arms if arm.trains and arm.shortfalls)
        return [f"Which is nearest cannot be said. {first.label}: {_shortfall(recommendation, first.shortfalls[0])}."]
    shortfalls = join([_shortfall(recommendation, shortfall) for shortfall in recommendation.nearest.shortfalls])
    text = (
        f"The nearest is {recommendation.nearest.label} "
        f"({_metric(recommendation)} {_score(recommendation, recommendation.nearest.quality)}): {shortfalls}."
    )
    baselines = [arm.label for arm in recommendation.arms if not arm.trains and arm.fits]
    return [text, *([f"Without training, {join(baselines)} would keep the limits."] if baselines else [])]


def _why(recommendation: Recommendation) -> list[str]:
    if recommendation.answer is None or recommendation.is_baseline or recommendation.best_fitting is None:
        return []
    fitting = sum(arm.fits and arm.trains for arm in recommendation.arms)
    among = (
        f"Of the {fitting} arms that train and keep the limits"
        if recommendation.limits
        else f"Of {fitting} arms that train"
    )
    side = "highest" if recommendation.metric.direction == "higher" else "lowest"
    best = f"{among}, {recommendation.best_fitting} has the {side} {_metric(recommendation)}"
    if fitting == 1:
        best = (
            f"{recommendation.best_fitting} alone {'keeps the limits' if recommendation.limits else 'can be weighed'}"
        )
    others = [label for label in recommendation.as_good if label != recommendation.best_fitting]
    if not others:
        alone = "; no other is within one standard error of it" if fitting > 1 and not recommendation.by_means else ""
        return [f"{best}{alone}.", *([] if fitting == 1 else [rule_text(recommendation)])]
    cheapest = cheapest_text(recommendation.answer, recommendation.prefer)
    return [
        f"{best}; {join(others)} {_is_or_are(others)} within one standard error of it{cheapest}.",
        rule_text(recommendation),
    ]


def _describe_loss(recommendation: Recommendation, costs: Costs) -> list[str]:
    if (
        recommendation.answer is None
        or recommendation.best is None
        or recommendation.answer == recommendation.best
        or recommendation.is_baseline
    ):
        return []
    best, chosen = recommendation.arm(recommendation.best), recommendation.arm(recommendation.answer)
    if best.quality is None or chosen.quality is None:
        return []
    gap = abs(best.quality - chosen.quality)
    text = (
        f"It gives up {columns.score(gap, unit=recommendation.metric.unit)} {_metric(recommendation)} "
        f"against the best, {best.label}"
    )
    pair = recommendation.to_best
    if pair is not None and pair.interval is not None:
        ends = [columns.score(end, unit=recommendation.metric.unit) for end in (pair.interval.low, pair.interval.high)]
        text += f" (95 % interval of the difference {ends[0]} to {ends[1]}: {_relation(pair)})"
    savings = []
    for axis in TOLD_COSTS:
        theirs, ours = costs[axis].get(best.label), costs[axis].get(chosen.label)
        if theirs is not None and ours is not None and ours < theirs:
            texts = [figure_text(AXES[axis], value, recommendation.currency) for value in (ours, theirs)]
            savings.append(f"{texts[0]} instead of {texts[1]} {COST_NAMES[axis]}")
    return [text + (f"; it takes {join(savings)}." if savings else ".")]


def _ahead(recommendation: Recommendation) -> list[str]:
    if not recommendation.ahead or recommendation.is_baseline:
        return []
    verb = "is" if len(recommendation.ahead) == 1 else "are"
    return [f"By {_metric(recommendation)} {join(recommendation.ahead)} {verb} significantly ahead of it."]


def _tied(recommendation: Recommendation) -> list[str]:
    """Says which arms the answer is tied with, against which it is open, and how many seeds would tell them apart."""
    parts = []
    if recommendation.tied_with:
        parts.append(
            f"By {_metric(recommendation)} it cannot be told apart from "
            f"{_join_by_limits(recommendation, recommendation.tied_with)}."
        )
    open_labels = [pair.second for pair in recommendation.open_pairs if pair.relation == "open"]
    if open_labels:
        parts.append(f"By {_metric(recommendation)} it is open against {_join_by_limits(recommendation, open_labels)}.")
    by_range: dict[tuple[int, int | None], list[str]] = {}
    for pair in recommendation.open_pairs:
        if pair.seeds_range is not None:
            by_range.setdefault(pair.seeds_range, []).append(pair.second)
    return parts + to_settle_text(by_range)


def _join_by_limits(recommendation: Recommendation, labels: Sequence[str]) -> str:
    """Joins the labels, last those that the limits exclude, named as such."""
    fitting = {arm.label for arm in recommendation.arms if arm.fits}
    inside, outside = ([label for label in labels if (label in fitting) is fits] for fits in (True, False))
    parts = [join(inside)] if inside else []
    return "; nor from ".join([*parts, f"{join(outside)} outside the limits"] if outside else parts)


def _excluded_arms(recommendation: Recommendation) -> list[str]:
    """Lists arms that the limits exclude and that are as good as the answer or better, nearest to the limits first."""
    if recommendation.answer is None or not recommendation.limits:
        return []
    chosen = recommendation.arm(recommendation.answer).quality
    sign = 1 if recommendation.metric.direction == "higher" else -1
    excluded = [
        arm
        for arm in recommendation.arms
        if arm.trains and arm.quality is not None and chosen is not None
        if arm.shortfalls and sign * (arm.quality - chosen) >= 0
    ]
    excluded.sort(key=lambda arm: arm.shortfalls[0].relative)
    texts = [
        f"{r.label} ({_score(recommendation, r.quality)}; "
        f"{join([_shortfall(recommendation, s) for s in r.shortfalls])})"
        for r in excluded
    ]
    more = f"; {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return [f"Kept out by the limits, though as good or better: {'; '.join(texts[:SHOWN])}{more}."] if texts else []


def _changes(recommendation: Recommendation) -> list[str]:
    texts = [_change(recommendation, change) for change in recommendation.changes if change.kind != "prefer"]
    by_arm: dict[str | None, list[str]] = {}
    for change in recommendation.changes:
        if change.kind == "prefer":
            by_arm.setdefault(change.to, []).append(COST_NAMES[change.prefer])
    texts += [f"with {join(costs)} to decide among equals: {to}" for to, costs in by_arm.items()]
    return [f"The answer would change: {'; '.join(texts)}."] if texts else []


def _change(recommendation: Recommendation, change: Change) -> str:
    if change.kind == "quality_alone" or change.limit is None or change.bound is None:
        return f"by {_metric(recommendation)} alone: {change.to}"
    limit = change.limit
    name = limit_name(limit)
    # To relax it takes at least this much, to tighten more than this: rounded to the nearest it might not do.
    bound = _limited(recommendation, limit, change.bound, up=(change.kind == "relax") != limit.at_least)
    to = change.to or "none would fit"
    if limit.reference:
        return f"with a margin {'of' if change.kind == 'relax' else 'under'} {bound} to {limit.reference}: {to}"
    if change.kind == "relax":
        return f"with {name} {'down' if limit.at_least else 'up'} to {bound}: {to}"
    return f"with {name} {'above' if limit.at_least else 'below'} {bound}: {to}"


def _certainty(recommendation: Recommendation) -> list[str]:
    if recommendation.unsure:
        return [f"How sure this is cannot be said: {recommendation.unsure}."]
    shares = sorted(
        ((arm.probability or 0.0, arm.label) for arm in recommendation.arms if arm.label != recommendation.answer),
        reverse=True,
    )
    others = [f"{label} in {_share(share)}" for share, label in shares[:SHOWN] if share >= 0.005]
    if recommendation.none_probability and recommendation.none_probability >= 0.005:
        others.append(f"none fits in {_share(recommendation.none_probability)}")
    if recommendation.answer is None:
        text = f"No arm fits in {_share(recommendation.none_probability or 0.0)} of the draws of all true figures"
    else:
        arm = recommendation.arm(recommendation.answer)
        text = f"It is the answer in {_share(arm.probability or 0.0)} of the draws of all true figures"
        others = [other for other in others if not other.startswith(f"{arm.label} in ")]
    if others and recommendation.answer is None:
        others = [other for other in others if not other.startswith("none fits")]
    parts = [text + (f"; {', '.join(others)}." if others else ".")]
    if recommendation.still:
        parts.append(
            f"The draws take {join(recommendation.still)} at the mean: one seed does not tell how much seeds differ."
        )
    return parts


def _failures(recommendation: Recommendation) -> list[str]:
    """Says how often training diverges."""
    arms = [arm for arm in recommendation.arms if arm.diverged and arm.failure_rate is not None]
    texts = [f"{arm.label} at {arm.diverged} of {arm.seeds} seeds ({_share(arm.failure_rate or 0.0)})" for arm in arms]
    return [f"Training diverged: {join(texts)}. Such a seed counts as doing without training."] if texts else []


def _baseline(recommendation: Recommendation) -> list[str]:
    if recommendation.answer not in recommendation.not_above_baseline or recommendation.if_trained is not None:
        return []
    return [f"It is not clearly better than {recommendation.baseline}, which does not train."]


def _seeds(results: Results, recommendation: Recommendation) -> list[str]:
    parts = []
    if recommendation.answer is not None and not recommendation.enough_seeds:
        count = f"{recommendation.seeds} seed{' is' if recommendation.seeds == 1 else 's are'}"
        parts.append(f"{count} too few to call any difference significant ({SEEDS_REQUIRED} needed).")
    time_limits = [limit for limit in recommendation.limits if limit.axis and limit.axis.timing]
    prefers_time = (
        bool(recommendation.prefer) and AXES[recommendation.prefer].timing and len(recommendation.as_good) > 1
    )
    contended_arms = [arm.label for arm in results.arms if arm.contended]
    if contended_arms and (time_limits or prefers_time):
        parts.append(f"Times decide here, and those of {join(contended_arms)} were taken on a busy machine.")
    unweighed = [f"{arm.label} ({arm.reason})" for arm in recommendation.arms if arm.quality is None]
    if unweighed:
        parts.append(f"Not weighed: {'; '.join(unweighed)}.")
    return parts


def _scope(results: Results, recommendation: Recommendation) -> list[str]:
    """Says what the answer speaks of, and where its metric is not the one that the study is judged by."""
    if recommendation.answer is None:
        return []
    parts = [unvaried_text(results)]
    if results.primary is not None and results.primary.name != recommendation.metric.name:
        primary = metric_name(results.primary.name)
        parts.append(f"The study's primary metric is {primary}: by {_metric(recommendation)} this is exploratory.")
    return parts


def _relation(pair: Pair) -> str:
    words = {
        "ahead": "significant",
        "behind": "significant",
        "tied": "cannot be told apart",
        "open": "open, for want of seeds",
        "not_compared": "not compared",
    }
    return words[pair.relation]


def _shortfall(recommendation: Recommendation, shortfall: Shortfall) -> str:
    limit = shortfall.limit
    if limit.form is not None:
        return f"form “{TITLES[limit.form]}”: {shortfall.reason}"
    name = limit_name(limit)
    if shortfall.figure is None or shortfall.excess is None:
        return f"{name} not known: {shortfall.reason}"
    if limit.reference:
        return (
            f"perhaps {_limited(recommendation, limit, shortfall.figure, up=True)} worse than {limit.reference} (95 %)"
        )
    side = "under" if limit.at_least else "over"
    figure, excess = (
        _limited(recommendation, limit, shortfall.figure),
        _limited(recommendation, limit, shortfall.excess),
    )
    return f"{name} {figure}, {excess} ({100 * shortfall.relative:.1f} %) {side} {limit.text}"


def _metric(recommendation: Recommendation) -> str:
    return metric_name(recommendation.metric.name)


def _limited(recommendation: Recommendation, limit: Limit, value: float, up: bool | None = None) -> str:
    """Formats a figure in the limit's unit; of a metric rounded up or down where that is asked for."""
    if limit.axis is not None:
        return figure_text(limit.axis, value, recommendation.currency)
    unit = limit.metric.unit if limit.metric else recommendation.metric.unit
    return columns.score(value, unit=unit) if up is None else columns.bound(value, unit, up)


def _score(recommendation: Recommendation, value: float | None) -> str:
    return "–" if value is None else columns.score(value, unit=recommendation.metric.unit)


def _share(share: float) -> str:
    return "under 1 %" if 0 < share < 0.005 else "over 99 %" if 0.995 < share < 1 else f"{share:.0%}".replace("%", " %")


def _is_or_are(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"
