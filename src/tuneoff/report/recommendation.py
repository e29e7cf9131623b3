"""A recommendation in words; docs/recommend.md describes it. `recommendation_data` tells the same as plain data."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.axes import AXES, Axis
from tuneoff.analysis.decisions.limits import Limit
from tuneoff.analysis.decisions.pareto import Front
from tuneoff.analysis.decisions.recommend import Change, Recommendation, Shortfall
from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.results import Results
from tuneoff.analysis.statistics import SEEDS_REQUIRED, Pair
from tuneoff.report import columns, units
from tuneoff.report.wording import NO_SCORE, all_the_same, capitalised, join, unproven, what_to_do

SHOWN = 4
"""Most rows that came close, and probabilities, that the words name; the data hold all."""
SUPERLATIVES = {
    "time": "trains fastest",
    "memory": "needs the least memory",
    "stored": "stores the least",
    "parameters": "trains the fewest parameters",
    "latency": "answers fastest",
    "energy": "uses the least energy",
}
COST_NAMES = {
    "time": "train time",
    "memory": "peak memory",
    "stored": "stored size",
    "parameters": "trained parameters",
    "latency": "latency",
    "energy": "energy",
}
"""Every cost in words; `SUPERLATIVES`: what the row with the least of it does."""
Costs = dict[str, dict[str, float]]


def lines(results: Results, found: Recommendation, costs: Costs) -> list[str]:
    """The answer in words, one thing per line, the answer itself first."""
    parts = [*_answer(found, costs), *_why(found), *_gives_up(found, costs), *_ahead(found), *_tied(found)]
    parts += [
        *_close(found),
        *_changes(found),
        *_certainty(found),
        *_failures(found),
        *_floor(found),
        *_seeds(results, found),
    ]
    return parts


def winner_text(prefer: str | None) -> str:
    """Which of several equally good rows a rule names: the one with the least of a cost, where one is preferred."""
    return f"the one that {SUPERLATIVES[prefer]}" if prefer else "the best"


def cheapest_text(answer: str | None, prefer: str | None) -> str:
    """The end of a sentence on equally good rows; empty where no cost is preferred."""
    return f"; of these {answer} {SUPERLATIVES[prefer]}" if prefer else ""


def rule_text(found: Recommendation) -> str:
    """The rule by which the answer was found."""
    cheapest = winner_text(found.prefer)
    among = f"Rule: of the rows that train{' and keep the limits' if found.limits else ''}"
    rivals = sum(row.trains and row.fits for row in found.rows) - 1
    if found.by_means and len(found.by_means) == rivals:
        equals = f", among equal means {cheapest}" if found.prefer else ""
        return f"{among}, the best {_metric(found)} wins by the means alone{equals}: nothing tells a standard error."
    text = (
        f"{among}, those within one standard error of the best {_metric(found)} count as equally good, and of these "
        f"{cheapest} wins."
    )
    if found.by_examples:
        whose = f", for {join(found.by_examples)}" if len(found.by_examples) < rivals else ""
        text += f" One seed{whose}: the standard error is over test examples alone."
    if found.by_means:
        text += f" By the means alone, for nothing tells a standard error: {join(found.by_means)}."
    return text


def front_text(front: Front) -> str:
    """One line on who is on a front, and how surely."""
    if not front.labels:
        return f"Pareto front of {join(front.axes)}: no row has all of them."
    shares = front.probabilities or {}
    named = [f"{label} ({_share(shares[label])})" if label in shares else label for label in front.labels]
    near = [label for label, share in shares.items() if share >= 0.1 and label not in front.labels]
    text = f"Pareto front of {join(front.axes)}: {', '.join(named)}."
    if near:
        text += f" Perhaps too: {', '.join(f'{label} ({_share(shares[label])})' for label in near)}."
    if front.left_out:
        text += f" Left out: {'; '.join(f'{label} ({reason})' for label, reason in front.left_out.items())}."
    return text


def limit_text(limit: Limit) -> str:
    """`peak memory at most 4GB`."""
    name = _limit_name(limit)
    return f"{name} {'at least' if limit.at_least else 'at most'} {limit.text}"


def _answer(found: Recommendation, costs: Costs) -> list[str]:
    under = f" with {join([limit_text(limit) for limit in found.limits])}" if found.limits else ""
    if found.answer is None:
        trained = [row for row in found.rows if row.trains and row.quality is not None]
        if not trained:
            return [capitalised(NO_SCORE)]
        text = f"None fits: no method that trains keeps {join([limit_text(limit) for limit in found.limits])}."
        return [text, *_nearest(found)]
    row = found.row(found.answer)
    figures = [f"{_metric(found)} {_score(found, row.quality)}"]
    figures += [_cost(axis, costs, row.label) for axis in ("time", "memory", "stored") if row.label in costs[axis]]
    if found.floor is None or found.if_trained is None:
        return [f"Use {row.label}{under}: {', '.join(figures)}."]
    doubt = unproven(found.floor, found.row(found.floor).fits if found.limits else None)
    use = all_the_same(found.if_trained)
    if found.is_floor:
        text = f"Do without training{under}: {row.label} ({figures[0]}); nothing that trains beats it."
        return [text, f"{doubt} {use}{under}.", what_to_do(_learned(found))]
    return [f"{doubt} {use}{under}: {', '.join(figures)}.", what_to_do(_learned(found))]


def _learned(found: Recommendation) -> bool:
    """Whether some row that trains and keeps the limits scores better than the floor."""
    floor = found.row(found.floor).quality if found.floor else None
    sign = 1 if found.metric.direction == "higher" else -1
    fitting = [row.quality for row in found.rows if row.trains and row.fits and row.quality is not None]
    return floor is None or any(sign * quality > sign * floor for quality in fitting)


def _nearest(found: Recommendation) -> list[str]:
    if found.nearest is None:
        first = next(row for row in found.rows if row.trains and row.shortfalls)
        return [f"Which is nearest cannot be said. {first.label}: {_shortfall(found, first.shortfalls[0])}."]
    misses = join([_shortfall(found, shortfall) for shortfall in found.nearest.shortfalls])
    text = f"The nearest is {found.nearest.label} ({_metric(found)} {_score(found, found.nearest.quality)}): {misses}."
    floors = [row.label for row in found.rows if not row.trains and row.fits]
    return [text, *([f"Without training, {join(floors)} would keep the limits."] if floors else [])]


def _why(found: Recommendation) -> list[str]:
    if found.answer is None or found.is_floor or found.best_fitting is None:
        return []
    fitting = sum(row.fits and row.trains for row in found.rows)
    among = f"Of the {fitting} rows that train and keep the limits" if found.limits else f"Of {fitting} rows that train"
    side = "highest" if found.metric.direction == "higher" else "lowest"
    best = f"{among}, {found.best_fitting} has the {side} {_metric(found)}"
    if fitting == 1:
        best = f"{found.best_fitting} alone {'keeps the limits' if found.limits else 'can be weighed'}"
    others = [label for label in found.as_good if label != found.best_fitting]
    if not others:
        alone = "; no other is within one standard error of it" if fitting > 1 and not found.by_means else ""
        return [f"{best}{alone}.", *([] if fitting == 1 else [rule_text(found)])]
    cheap = cheapest_text(found.answer, found.prefer)
    return [f"{best}; {join(others)} {_are(others)} within one standard error of it{cheap}.", rule_text(found)]


def _gives_up(found: Recommendation, costs: Costs) -> list[str]:
    if found.answer is None or found.best is None or found.answer == found.best or found.is_floor:
        return []
    best, mine = found.row(found.best), found.row(found.answer)
    if best.quality is None or mine.quality is None:
        return []
    gap = abs(best.quality - mine.quality)
    text = f"It gives up {columns.score(gap, unit=found.metric.unit)} {_metric(found)} against the best, {best.label}"
    pair = found.to_best
    if pair is not None and pair.interval is not None:
        ends = [columns.score(end, unit=found.metric.unit) for end in (pair.interval.low, pair.interval.high)]
        text += f" (95 % interval of the difference {ends[0]} to {ends[1]}: {_relation(pair)})"
    saved = []
    for axis in ("time", "memory", "stored"):
        theirs, ours = costs[axis].get(best.label), costs[axis].get(mine.label)
        if theirs is not None and ours is not None and ours < theirs:
            saved.append(
                f"{figure_text(AXES[axis], ours)} instead of {figure_text(AXES[axis], theirs)} {COST_NAMES[axis]}"
            )
    return [text + (f"; it takes {join(saved)}." if saved else ".")]


def _ahead(found: Recommendation) -> list[str]:
    if not found.ahead or found.is_floor:
        return []
    verb = "is" if len(found.ahead) == 1 else "are"
    return [f"By {_metric(found)} {join(found.ahead)} {verb} significantly ahead of it."]


def _tied(found: Recommendation) -> list[str]:
    """From whom the answer cannot be told, against whom it is open, and how many seeds would tell."""
    parts = []
    if found.tied_with:
        parts.append(f"By {_metric(found)} it cannot be told apart from {_inside(found, found.tied_with)}.")
    waiting = [pair.second for pair in found.open_pairs if pair.relation == "open"]
    if waiting:
        parts.append(f"By {_metric(found)} it is open against {_inside(found, waiting)}.")
    settled: dict[int, list[str]] = {}
    for pair in found.open_pairs:
        if pair.seeds_needed is not None:
            settled.setdefault(pair.seeds_needed, []).append(pair.second)
    told = [f"about {count} seeds from {join(labels)}" for count, labels in sorted(settled.items())]
    if told:
        parts.append(f"If differences and spreads are what they seem, telling it apart takes {'; '.join(told)}.")
    return parts


def _inside(found: Recommendation, labels: Sequence[str]) -> str:
    """The labels, those that the limits keep out last and named as such."""
    fitting = {row.label for row in found.rows if row.fits}
    inside, outside = ([label for label in labels if (label in fitting) is fits] for fits in (True, False))
    told = [join(inside)] if inside else []
    return "; nor from ".join([*told, f"{join(outside)} outside the limits"] if outside else told)


def _close(found: Recommendation) -> list[str]:
    """Rows that the limits keep out and that are better than the answer, nearest to the limits first."""
    if found.answer is None or not found.limits:
        return []
    chosen = found.row(found.answer).quality
    sign = 1 if found.metric.direction == "higher" else -1
    out = [
        row
        for row in found.rows
        if row.trains and row.quality is not None and chosen is not None
        if row.shortfalls and sign * (row.quality - chosen) >= 0
    ]
    out.sort(key=lambda row: row.shortfalls[0].relative)
    told = [
        f"{r.label} ({_score(found, r.quality)}; {join([_shortfall(found, s) for s in r.shortfalls])})" for r in out
    ]
    more = f"; {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return [f"Kept out by the limits, though as good or better: {'; '.join(told[:SHOWN])}{more}."] if told else []


def _changes(found: Recommendation) -> list[str]:
    texts = [_change(found, change) for change in found.changes if change.kind != "prefer"]
    by_row: dict[str | None, list[str]] = {}
    for change in found.changes:
        if change.kind == "prefer":
            by_row.setdefault(change.to, []).append(COST_NAMES[change.prefer])
    texts += [f"with {join(costs)} to decide among equals: {to}" for to, costs in by_row.items()]
    return [f"The answer would change: {'; '.join(texts)}."] if texts else []


def _change(found: Recommendation, change: Change) -> str:
    if change.kind == "quality_alone" or change.limit is None or change.bound is None:
        return f"by {_metric(found)} alone: {change.to}"
    limit = change.limit
    name = _limit_name(limit)
    bound = _limited(found, limit, change.bound)
    to = change.to or "none would fit"
    if change.kind == "relax":
        return f"with {name} {'down' if limit.at_least else 'up'} to {bound}: {to}"
    return f"with {name} {'above' if limit.at_least else 'below'} {bound}: {to}"


def _certainty(found: Recommendation) -> list[str]:
    if found.unsure:
        return [f"How sure this is cannot be said: {found.unsure}."]
    shares = sorted(
        ((row.probability or 0.0, row.label) for row in found.rows if row.label != found.answer), reverse=True
    )
    others = [f"{label} in {_share(share)}" for share, label in shares[:SHOWN] if share >= 0.005]
    if found.none_probability and found.none_probability >= 0.005:
        others.append(f"none fits in {_share(found.none_probability)}")
    if found.answer is None:
        text = f"No row fits in {_share(found.none_probability or 0.0)} of the draws of all true figures"
    else:
        row = found.row(found.answer)
        text = f"It is the answer in {_share(row.probability or 0.0)} of the draws of all true figures"
        others = [other for other in others if not other.startswith(f"{row.label} in ")]
    if others and found.answer is None:
        others = [other for other in others if not other.startswith("none fits")]
    parts = [text + (f"; {', '.join(others)}." if others else ".")]
    if found.still:
        parts.append(f"The draws take {join(found.still)} at the mean: one seed does not tell how much seeds differ.")
    return parts


def _failures(found: Recommendation) -> list[str]:
    """How often training diverges."""
    rows = [row for row in found.rows if row.diverged and row.failure_rate is not None]
    told = [f"{row.label} at {row.diverged} of {row.seeds} seeds ({_share(row.failure_rate or 0.0)})" for row in rows]
    return [f"Training diverged: {join(told)}. Such a seed counts as doing without training."] if told else []


def _floor(found: Recommendation) -> list[str]:
    if found.answer not in found.not_above_floor or found.if_trained is not None:
        return []
    return [f"It is not clearly better than {found.floor}, which does not train."]


def _seeds(results: Results, found: Recommendation) -> list[str]:
    parts = []
    if found.answer is not None and not found.enough_seeds:
        count = f"{found.seeds} seed{' is' if found.seeds == 1 else 's are'}"
        parts.append(f"{count} too few to call any difference significant ({SEEDS_REQUIRED} needed).")
    timed = [limit for limit in found.limits if limit.axis and limit.axis.timing]
    timed_prefer = bool(found.prefer) and AXES[found.prefer].timing and len(found.as_good) > 1
    busy = [row.label for row in results.rows if row.contended]
    if busy and (timed or timed_prefer):
        parts.append(f"Times decide here, and those of {join(busy)} were taken on a busy machine.")
    unweighed = [f"{row.label} ({row.reason})" for row in found.rows if row.quality is None]
    if unweighed:
        parts.append(f"Not weighed: {'; '.join(unweighed)}.")
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


def _shortfall(found: Recommendation, shortfall: Shortfall) -> str:
    limit = shortfall.limit
    name = _limit_name(limit)
    if shortfall.figure is None or shortfall.excess is None:
        return f"{name} not known: {shortfall.reason}"
    side = "under" if limit.at_least else "over"
    figure, excess = _limited(found, limit, shortfall.figure), _limited(found, limit, shortfall.excess)
    return f"{name} {figure}, {excess} ({100 * shortfall.relative:.1f} %) {side} {limit.text}"


def _metric(found: Recommendation) -> str:
    return metric_name(found.metric.name)


def _limit_name(limit: Limit) -> str:
    return COST_NAMES[limit.axis.name] if limit.axis else metric_name(limit.name)


def _limited(found: Recommendation, limit: Limit, value: float) -> str:
    if limit.axis is not None:
        return figure_text(limit.axis, value)
    return columns.score(value, unit=limit.metric.unit if limit.metric else found.metric.unit)


def figure_text(axis: Axis, value: float) -> str:
    """A cost in its unit, for people."""
    if axis.unit == "count":
        return units.count(value)
    return {"seconds": units.seconds, "bytes": units.size}.get(axis.unit, _joules)(value)


def _joules(value: float) -> str:
    return f"{units.number(value)} J"


def _cost(axis: str, costs: Costs, label: str) -> str:
    return f"{COST_NAMES[axis]} {figure_text(AXES[axis], costs[axis][label])}"


def _score(found: Recommendation, value: float | None) -> str:
    return "–" if value is None else columns.score(value, unit=found.metric.unit)


def _share(share: float) -> str:
    return "under 1 %" if 0 < share < 0.005 else "over 99 %" if 0.995 < share < 1 else f"{share:.0%}".replace("%", " %")


def _are(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"
