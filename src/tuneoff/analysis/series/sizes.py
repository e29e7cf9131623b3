"""A series over numbers of training rows: each arm's learning curve, its law, and which arms cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuneoff.analysis.series.members import MemberResults, SeriesResults
from tuneoff.analysis.statistics import LEVEL, Sample, Verdict
from tuneoff.analysis.statistics.learning_curve import Crossing, FittedCurve, learning_curves
from tuneoff.records.record import Metric

OTHER_EXAMPLES = "The sizes were tested on other examples, so only the seeds tell how sure the curves are."


@dataclass(frozen=True)
class ArmOverSizes:
    """An arm at every size.

    Attributes:
        label: the arm's.
        curve: its law.
        members: name of the member of each of the curve's sizes.
    """

    label: str
    curve: FittedCurve
    members: tuple[str, ...]


@dataclass(frozen=True)
class ShownCrossing:
    """A crossing; `shown` where each of the two arms is significantly ahead at some size, in that order."""

    crossing: Crossing
    shown: bool


@dataclass(frozen=True)
class Sizes:
    """The learning curves of a series.

    Attributes:
        metric: what is compared by.
        arms: those that train, in the study's order.
        crossings: the surest first.
        notes: what to know of them.
    """

    metric: Metric
    arms: tuple[ArmOverSizes, ...]
    crossings: tuple[ShownCrossing, ...]
    notes: tuple[str, ...]


def find_sizes(series: SeriesResults, metric: Metric | None = None) -> Sizes:
    """Fits the learning curves of the arms that train, by the primary metric where none is named."""
    members, notes = series.members, []
    metric = metric or members[-1].metric
    samples = {label: own for label in _trained(members) if (own := _samples(members, label, metric))}
    if not _same_examples(members, samples):
        notes.append(OTHER_EXAMPLES)
        samples = {label: {rows: _scores_alone(each) for rows, each in own.items()} for label, own in samples.items()}
    definition = members[-1].outcomes.predictions.definition(metric)
    best_value = definition.high if metric.direction == "higher" else definition.low
    curves = learning_curves(samples, metric.direction, best_value)
    names = {member.train_rows: member.name for member in members}
    return Sizes(
        metric=metric,
        arms=tuple(
            ArmOverSizes(curve.label, curve, tuple(names[rows] for rows in curve.rows)) for curve in curves.fitted
        ),
        crossings=tuple(ShownCrossing(each, _is_shown(each, members, metric)) for each in curves.crossings),
        notes=tuple(notes),
    )


def _trained(members: Sequence[MemberResults]) -> list[str]:
    return list(dict.fromkeys(arm.label for member in members for arm in member.results.arms if arm.trains))


def _samples(members: Sequence[MemberResults], label: str, metric: Metric) -> dict[int, Sample]:
    """Maps numbers of rows to what an arm scored there, where it can be compared."""
    samples = {}
    for member in members:
        arms = [arm for arm in member.results.arms if arm.label == label]
        figure = member.outcomes.figure(arms[0], metric) if arms else None
        if figure is not None and figure.sample is not None:
            samples[member.train_rows] = figure.sample
    return samples


def _same_examples(members: Sequence[MemberResults], samples: Mapping[str, Mapping[int, Sample]]) -> bool:
    """Returns whether no two members were tested on other examples, as far as records tell."""
    shapes = {(sample.examples, sample.groups) for own in samples.values() for sample in own.values()}
    prints = {
        data.splits["test"].fingerprint
        for member in members
        for record in member.results.completed
        if (data := record.data) is not None and "test" in data.splits
    }
    return len(prints) <= 1 and len(shapes) <= 1


def _scores_alone(sample: Sample) -> Sample:
    return replace(sample, contributions=None, examples=None, groups=None)


def _is_shown(crossing: Crossing, members: Sequence[MemberResults], metric: Metric) -> bool:
    """Returns whether the first is significantly ahead at some size and the second at a larger one.

    Each size's verdict is corrected over its pairs; here their error is shared out over the sizes too, so that any
    false claim of the series keeps the level.
    """
    alpha = (1 - LEVEL) / len(members)
    leads = [_lead(member.outcomes.verdict(metric), crossing, alpha) for member in members]
    firsts = [at for at, lead in enumerate(leads) if lead == "ahead"]
    return bool(firsts) and "behind" in leads[firsts[0] + 1 :]


def _lead(verdict: Verdict | None, crossing: Crossing, alpha: float) -> str:
    """Returns how the first stands to the second at one size: `ahead`, `behind`, or empty where that is not sure."""
    try:
        pair = verdict.pair(crossing.first, crossing.second) if verdict is not None else None
    except KeyError:
        pair = None
    if pair is None or pair.p_corrected is None or not pair.significant:
        return ""
    return pair.relation if pair.p_corrected <= alpha else ""
