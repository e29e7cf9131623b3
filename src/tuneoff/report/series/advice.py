"""Answers which arm of a series to use.

Over base models the arms of all bases are candidates of one recommendation. Over training rows it is that of the
largest size, with what more rows would bring. Over data sets it is the best average rank of the arms that keep the
limits on every set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.analysis.decisions.recommend import Recommendation
from tuneoff.analysis.series.bases import join_bases
from tuneoff.analysis.series.members import MemberResults, SeriesResults, gather_series
from tuneoff.analysis.series.sets import Sets, rank_over_sets
from tuneoff.analysis.series.sizes import find_sizes
from tuneoff.errors import StudyError
from tuneoff.records.record import Direction
from tuneoff.report.advice import Advice, Criteria, advise_results
from tuneoff.report.cost_wording import limit_text
from tuneoff.report.series.builder import gains_of, held_out_of
from tuneoff.report.series.schema import GainSummary, SeriesRecommendation, SetsStanding
from tuneoff.report.series.wording import LAW_DOUBT, absent, gain_text, once
from tuneoff.report.wording import join
from tuneoff.store.series import SeriesStore

if TYPE_CHECKING:
    from rich.console import RenderableType

NAMED = 6
"""Most arms that a sentence names."""


@dataclass(frozen=True)
class _Scale:
    metric: str
    unit: str
    direction: Direction


@dataclass(frozen=True)
class SeriesAdvice:
    """An answer that prints as words; like `Advice`, of a series."""

    report: SeriesRecommendation
    lines: tuple[str, ...]

    @property
    def answer(self) -> str | None:
        """Returns the arm to use; None where no arm keeps the limits."""
        return self.report.answer

    def as_data(self) -> dict[str, Any]:
        """Returns the answer as plain data, as `tuneoff recommend --json` prints it."""
        return self.report.as_data()

    def __str__(self) -> str:
        return "\n".join([*(f"Caution: {note}" for note in self.report.notes), *self.lines])

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        first, *rest = self.lines
        cautions = (Text(f"Caution: {note}", style="yellow") for note in self.report.notes)
        return Group(Text(first, style="bold"), *cautions, *map(Text, rest))


def advise_series(store: SeriesStore, criteria: Criteria) -> SeriesAdvice:
    """Recommends an arm of the series in a folder.

    Raises:
        StoreError: if no member has a completed trial.
        StudyError: if a limit, the metric or an axis cannot be read, or means nothing over data sets.
    """
    series = gather_series(store, prices=criteria.prices)
    notes = tuple(absent(series.left_out))
    if store.axis == "data":
        return _over_sets(series, criteria, notes)
    if store.axis == "model":
        joined = join_bases(series)
        return _of_study(series, advise_results(joined.results, criteria), joined.notes)
    largest = series.members[-1]
    advice = advise_results(largest.results, criteria)
    gains, more = _more_rows(series, advice)
    opening = f"At {largest.train_rows:,} training rows, the largest size:"
    notes += (LAW_DOUBT,) if gains else ()
    return _of_study(series, advice, notes, member=largest.name, opening=opening, gains=gains, more=more)


def _of_study(
    series: SeriesResults,
    advice: Advice,
    notes: Sequence[str],
    member: str | None = None,
    opening: str = "",
    gains: tuple[GainSummary, ...] = (),
    more: str = "",
) -> SeriesAdvice:
    """Returns the recommendation of one study as that of a series."""
    answer, *rest = advice.lines()
    lines = (f"{opening} {answer}".strip(), *((more,) if more else ()), *rest)
    report = SeriesRecommendation(
        series=series.store.name,
        axis=series.store.axis,
        member=member,
        answer=advice.answer,
        notes=(*advice.cautions, *notes),
        recommendation=advice.report,
        more_rows=gains,
        arms=(),
        text=" ".join(lines),
    )
    return SeriesAdvice(report, lines)


def _more_rows(series: SeriesResults, advice: Advice) -> tuple[tuple[GainSummary, ...], str]:
    """Returns what more rows would bring to the answer, as data and in words; nothing for a baseline."""
    sizes = find_sizes(series, advice.recommendation.metric)
    curve = next((arm.curve for arm in sizes.arms if arm.label == advice.answer), None)
    if curve is None:
        return (), ""
    gains, metric = gains_of(curve), sizes.metric
    scale = _Scale(metric.name, metric.unit, metric.direction)
    return gains, gain_text(scale, curve.label, gains, curve.reason, held_out_of(curve))


def _over_sets(series: SeriesResults, criteria: Criteria, notes: Sequence[str]) -> SeriesAdvice:
    """Recommends the arm with the best average rank of those that keep the limits on every set."""
    if criteria.pareto:
        raise StudyError(
            "--pareto is of one study, and this is a series of several data sets",
            hint=f"Ask for one of them, e.g. {series.members[0].results.store.root}.",
        )
    weighed = {member.name: advise_results(member.results, criteria).recommendation for member in series.members}
    reasons = _reasons(series.members, weighed)
    fitting = [label for label, own in reasons.items() if not own]
    trained = {arm.label for member in series.members for arm in member.results.arms if arm.trains}
    metrics = {name: recommendation.metric for name, recommendation in weighed.items()}
    ranked = rank_over_sets(series, fitting, metrics)
    ranks = dict(ranked.ranking.ranks) if ranked.ranking is not None else dict.fromkeys(fitting, 1.0)
    answer = _best(ranks, trained)
    standings = [
        SetsStanding(
            method=label, trains=label in trained, average_rank=ranks.get(label), fits=label in ranks, reasons=own
        )
        for label, own in reasons.items()
    ]
    standings.sort(key=lambda each: (each.average_rank is None, each.average_rank or 0.0))
    kept = " of the arms that keep the limits on every set" if next(iter(weighed.values())).limits else ""
    quality = f"test {criteria.metric}" if criteria.metric else "each set's primary metric"
    lines = _lines(answer, trained, ranked, standings, kept, quality, len(series.members))
    report = SeriesRecommendation(
        series=series.store.name,
        axis=series.store.axis,
        member=None,
        answer=answer,
        notes=(*notes, *once({name: recommendation.caveats for name, recommendation in weighed.items()})),
        recommendation=None,
        more_rows=(),
        arms=tuple(standings),
        text=" ".join(lines),
    )
    return SeriesAdvice(report, tuple(lines))


def _reasons(members: Sequence[MemberResults], weighed: Mapping[str, Recommendation]) -> dict[str, dict[str, str]]:
    """Maps each arm to why it does not keep the limits, by data set."""
    labels = list(dict.fromkeys(arm.label for member in members for arm in member.results.arms))
    reasons: dict[str, dict[str, str]] = {label: {} for label in labels}
    for name, recommendation in weighed.items():
        standings = {standing.label: standing for standing in recommendation.arms}
        for label in labels:
            standing = standings.get(label)
            if standing is None:
                reasons[label][name] = "not there"
            elif not standing.fits:
                beyond = [limit_text(shortfall.limit) for shortfall in standing.shortfalls]
                reasons[label][name] = standing.reason or f"not {join(beyond)}"
    return reasons


def _best(ranks: Mapping[str, float], trained: set[str]) -> str | None:
    """Returns the arm that trains with the best rank, or the baseline that no such arm is ranked before; None where no
    arm that trains keeps the limits."""
    best = min((label for label in ranks if label in trained), key=lambda label: ranks[label], default=None)
    baseline = min((label for label in ranks if label not in trained), key=lambda label: ranks[label], default=None)
    if best is not None and baseline is not None and ranks[baseline] <= ranks[best]:
        return baseline
    return best


def _lines(
    answer: str | None,
    trained: set[str],
    ranked: Sets,
    standings: Sequence[SetsStanding],
    kept: str,
    quality: str,
    count: int,
) -> list[str]:
    failing = [each for each in standings if each.reasons]
    excluded = [
        f"{each.method} ({'; '.join(f'{name}: {why}' for name, why in each.reasons.items())})"
        for each in failing[:NAMED]
    ]
    others = f", and {len(failing) - NAMED} more" if len(failing) > NAMED else ""
    left_out = [f"Left out: {', '.join(excluded)}{others}."] if excluded else []
    if answer is None:
        return ["No arm that trains keeps the limits on every data set.", *left_out]
    ranking = ranked.ranking
    if ranking is None:
        return [f"Use {answer}: it is the only arm{kept or ' in all data sets'}.", *left_out]
    lines = [f"Use {answer}: the best average rank over {count} data sets, {ranking.ranks[answer]:.2f}{kept}."]
    if answer not in trained:
        lines.append("No arm that trains is ranked before doing without training.")
    behind = [second for first, second in ranking.different if first == answer]
    tied = [label for label in ranking.ranks if label in trained and label not in (answer, *behind)]
    if behind:
        lines.append(f"It is significantly ahead of {join(behind)} by average rank.")
    if tied and ranking.p is not None:
        lines.append(f"It cannot be told apart from {join(tied)} by average rank.")
    if ranked.few:
        lines.append(f"{count} data sets are few: a difference that no test finds may be there.")
    lines.append(f"Rule: the best average rank over the data sets, by {quality}; costs are limits alone.")
    return [*lines, *left_out]
