"""The answer of a series in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.statistics.average_ranks import FEW_SETS
from tuneoff.records.record import Direction
from tuneoff.report import columns
from tuneoff.report.series.schema import (
    BoundedFigure,
    CrossingSummary,
    GainSummary,
    HeldOutSummary,
    SeriesReport,
    SetsSummary,
    SizedArm,
    SizesSummary,
)
from tuneoff.report.wording import after_caveats, headline, join

ARMS_TOLD, CROSSINGS_TOLD = 6, 4
LAW_DOUBT = (
    "What more rows bring is by a law, and its interval takes the error to fall as that law says. Where it levels off "
    "at once, or begins to fall late, the interval seldom holds the truth, and the test of the law, for which it takes "
    "four sizes, shows only some of that."
)
SURE = 0.95
"""Share of the draws from which on a crossing is told as likely, and not only as one of the means."""


class Scale(Protocol):
    """What a metric's figures are told by; a series' report is one."""

    @property
    def metric(self) -> str:
        """Returns its name."""

    @property
    def unit(self) -> str:
        """Returns its unit."""

    @property
    def direction(self) -> Direction:
        """Returns which way is better."""


def headline_of(report: SeriesReport) -> str:
    """Returns the answer in a sentence."""
    if report.bases is not None:
        return headline(report.bases)
    if report.sizes is not None:
        largest = report.members[-1]
        return f"At {largest.train_rows:,} training rows: {largest.headline}"
    return _best_rank(report.sets) if report.sets is not None else "Fewer than two arms are in all data sets."


def sentences(report: SeriesReport) -> list[str]:
    """Returns the other sentences of the answer, the most important first."""
    if report.bases is not None:
        return [*_by_base(report), after_caveats(report.bases).removeprefix(headline(report.bases)).strip()]
    if report.sizes is not None:
        return [*_gains(report, report.sizes), *_crossings(report.sizes), *_held_out(report, report.sizes)]
    return _ranks(report, report.sets) if report.sets is not None else []


def absent(left_out: Mapping[str, str]) -> list[str]:
    """Says which members take no part, and why."""
    return [f"{name} takes no part: {reason}." for name, reason in left_out.items()]


def notes(report: SeriesReport) -> list[str]:
    """Returns what to know before the answer is trusted."""
    texts = absent(report.left_out)
    if report.bases is not None:
        return list(dict.fromkeys((*report.bases.answer.caveats, *report.bases.notes)))
    texts += once({member.name: report.reports[member.name].answer.caveats for member in report.members})
    if report.sizes is not None:
        if any(arm.gains for arm in report.sizes.arms):
            texts.append(LAW_DOUBT)
        protocols = [own.protocol for own in report.reports.values()]
        if all(protocol.splits == "fixed" for protocol in protocols):
            texts.append(
                "The training rows are one draw, each size a part of the next: other rows would give other curves, "
                "which only `protocol.splits: per_seed` shows."
            )
    if report.sets is not None and 1 < len(report.members) < FEW_SETS:
        texts.append(
            f"With {len(report.members)} data sets the test over sets has little power: that arms cannot be told apart "
            "by their ranks does not say that they are equal."
        )
    return texts


def once(caveats: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns what is to be known of each member, each sentence once, with the members that it is of where these are
    not all."""
    members: dict[str, list[str]] = {}
    for name, texts in caveats.items():
        for text in texts:
            members.setdefault(text, []).append(name)
    return [text if len(names) == len(caveats) else f"{join(names)}: {text}" for text, names in members.items()]


def change_text(scale: Scale, gain: BoundedFigure) -> str:
    """Formats a gain as a change of the metric: `+0.8 [+0.2, +1.5] points`, `-0.03 [-0.05, -0.01] of loss`."""
    sign = 1.0 if scale.direction == "higher" else -1.0
    low, high = sorted((sign * gain.low, sign * gain.high))
    return figure_text(scale, BoundedFigure(value=sign * gain.value, low=low, high=high))


def figure_text(scale: Scale, figure: BoundedFigure) -> str:
    """Formats a difference of the metric with its interval: fractions in points, which are hundredths."""
    texts = [signed(scale, value) for value in (figure.value, figure.low, figure.high)]
    unit = "points" if scale.unit == "fraction" else f"of {metric_name(scale.metric)}"
    return f"{texts[0]} [{texts[1]}, {texts[2]}] {unit}"


def signed(scale: Scale, value: float) -> str:
    """Formats a difference of the metric without its unit: `+0.8`."""
    if scale.unit == "fraction":
        text = f"{100 * value:+.1f}"
        return "0.0" if float(text) == 0 else text
    return columns.signed(value, scale.unit)


def score_text(scale: Scale, value: float, low: float | None, high: float | None) -> str:
    """Formats a score with its interval, where there is one: `0.862 [0.841, 0.880]`."""
    text = columns.score(value, unit=scale.unit)
    if low is None or high is None:
        return text
    return f"{text} [{columns.score(low, unit=scale.unit)}, {columns.score(high, unit=scale.unit)}]"


def gain_text(
    scale: Scale, label: str, gains: Sequence[GainSummary], reason: str, held_out: HeldOutSummary | None
) -> str:
    """Says what more rows bring to an arm, and whether that is to be doubted, or why it is not known."""
    if not gains:
        return f"What more rows bring to {label} cannot be said: {reason}."
    gain = gains[0]
    shown = "" if gain.gain.low > 0 or gain.gain.high < 0 else ", so it is not shown that they help"
    text = f"{gain.more:,} more labelled rows bring {change_text(scale, gain.gain)} to {label}{shown}"
    if held_out is None or held_out.holds:
        return f"{text}."
    return f"{text}; doubt this, because its law did not foretell the {held_out.rows:,} rows from fewer."


def crossing_text(crossing: CrossingSummary) -> str:
    """Says where one arm overtakes another, and how sure that is."""
    interval = "" if crossing.low is None or crossing.high is None else f" [{crossing.low:,.0f}, {crossing.high:,.0f}]"
    sure = "shown" if crossing.shown else "not shown"
    share = "" if crossing.share is None else f", in {crossing.share:.0%} of draws"
    return f"{crossing.second} overtakes {crossing.first} at about {crossing.rows:,.0f} rows{interval} ({sure}{share})"


def held_out_text(report: SeriesReport, arm: SizedArm, held_out: HeldOutSummary) -> str:
    """Says how well the law without the largest size foretold it."""
    predicted = held_out.predicted
    return (
        f"{arm.method}: foretold {score_text(report, predicted.value, predicted.low, predicted.high)}, measured "
        f"{columns.score(held_out.measured, unit=report.unit)}, off by {figure_text(report, held_out.error)}, "
        f"{'within' if held_out.holds else 'beyond'} its error"
    )


def _gains(report: SeriesReport, sizes: SizesSummary) -> list[str]:
    arms = sizes.arms[:ARMS_TOLD]
    reasons = list(dict.fromkeys(arm.reason for arm in arms if not arm.gains))
    if len(reasons) == 1 and not any(arm.gains for arm in arms):
        return [f"What more rows bring cannot be said: {reasons[0]}."]
    more = f" The table has {len(sizes.arms) - ARMS_TOLD} more arms." if len(sizes.arms) > ARMS_TOLD else ""
    told = [gain_text(report, arm.method, arm.gains, arm.reason, arm.held_out) for arm in arms]
    return [" ".join(told) + more] if told else []


def _crossings(sizes: SizesSummary) -> list[str]:
    told = [each for each in sizes.crossings if each.shown or (each.share or 0.0) >= SURE]
    others = len(sizes.crossings) - len(told)
    texts = [f"{'; '.join(map(crossing_text, told[:CROSSINGS_TOLD]))}."] if told else []
    if others:
        are = "crossings of means are" if others > 1 else "crossing of means is"
        texts.append(f"{others} more {are} not clear of chance." if told else f"{others} {are} not clear of chance.")
    return texts


def _held_out(report: SeriesReport, sizes: SizesSummary) -> list[str]:
    tested = [(arm, arm.held_out) for arm in sizes.arms if arm.held_out is not None]
    if not tested:
        return []
    worst, held_out = max(tested, key=lambda pair: abs(pair[1].error.value))
    held = sum(own.holds for _, own in tested)
    return [
        f"Held out, the {held_out.rows:,} rows were foretold by the other sizes within the error for {held} of "
        f"{len(tested)} arms; the furthest off is {held_out_text(report, worst, held_out)}."
    ]


def _by_base(report: SeriesReport) -> list[str]:
    texts = [
        f"{member.best}{' with' if member.winner else ', not clearly the best, with'} {member.name}"
        for member in report.members
        if member.best is not None
    ]
    return [f"The best trained arm of each base, by its own verdict: {'; '.join(texts)}."] if len(texts) > 1 else []


def _best_rank(sets: SetsSummary) -> str:
    trained = [arm for arm in sets.arms if arm.trains]
    if not trained:
        return "No arm that trains is in all data sets."
    best = trained[0]
    where = f"of the arms that train over {len(best.ranks)} data sets"
    text = f"{best.method} has the best average rank {where}, {best.average_rank:.2f}"
    behind = [pair.second for pair in sets.different if pair.first == best.method]
    tied = [arm.method for arm in trained[1:] if arm.method not in behind]
    clauses = [f"it is significantly ahead of {_some(behind)}"] if behind else []
    clauses += [f"it cannot be told apart from {_some(tied)}"] if tied and sets.p is not None else []
    return f"{text}{'; ' if clauses else ''}{join(clauses)}."


def _ranks(report: SeriesReport, sets: SetsSummary) -> list[str]:
    texts = []
    if sets.p is not None and sets.critical_difference is not None:
        statistic = "infinite" if sets.statistic is None else f"{sets.statistic:.2f}"
        verdict = "the arms differ" if sets.p <= 0.05 else "it is not shown that any arms differ"
        texts.append(
            f"Over the sets {verdict} (Friedman's test by Iman and Davenport's F, {statistic}, p = {sets.p:.3g} over "
            f"permutations); average ranks {sets.critical_difference:.2f} apart are significant (Nemenyi)."
        )
    by_set = [
        f"{member.name}: {member.best}{' (significantly ahead)' if member.winner else ''}"
        for member in report.members
        if member.best is not None
    ]
    texts.append(f"The best trained arm of each set, by its own verdict: {'; '.join(by_set)}.")
    if sets.left_out:
        texts.append(f"Not ranked, because some set lacks them: {_some(sets.left_out)}.")
    return texts


def _some(labels: Sequence[str]) -> str:
    return join(labels) if len(labels) <= ARMS_TOLD else f"{len(labels)} other arms"
