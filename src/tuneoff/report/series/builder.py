"""Builds the report of a series from its members' results; nothing else makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff.analysis.series import sizes as learning
from tuneoff.analysis.series.bases import join_bases
from tuneoff.analysis.series.members import MemberResults, SeriesResults
from tuneoff.analysis.series.sets import Sets, rank_over_sets
from tuneoff.analysis.statistics.learning_curve import Bounded, FittedCurve, FittedLaw
from tuneoff.report.builder import build_report
from tuneoff.report.schema import JoinedReport, Report
from tuneoff.report.series import wording
from tuneoff.report.series.schema import (
    ArmPair,
    BoundedFigure,
    CrossingSummary,
    GainSummary,
    HeldOutSummary,
    LawSummary,
    LinePoint,
    MemberSummary,
    RankedArm,
    SeriesReport,
    SetsSummary,
    SizedArm,
    SizePoint,
    SizesSummary,
)
from tuneoff.report.wording import headline, join


def build_series(series: SeriesResults) -> SeriesReport:
    """Collects everything that the pages of a series show."""
    reports = {member.name: build_report(member.results) for member in series.members}
    axis = series.store.axis
    metric = series.members[0 if axis == "data" else -1].metric
    name, unit, direction = metric.name, metric.unit, metric.direction
    notes: tuple[str, ...] = ()
    sizes = bases = sets = None
    if axis == "train_rows":
        found = learning.find_sizes(series)
        sizes, notes = _sizes(found, reports), found.notes
    elif axis == "model":
        bases = build_bases(series)
        name, unit = bases.study.primary_metric or name, bases.study.primary_unit or unit
        direction = bases.study.primary_direction or direction
    else:
        sets = _sets(rank_over_sets(series), series.members)
    report = SeriesReport(
        name=series.store.name,
        axis=axis,
        metric=name,
        unit=unit,
        direction=direction,
        members=tuple(_member(member, reports[member.name]) for member in series.members),
        left_out=dict(series.left_out),
        headline="",
        text=(),
        notes=notes,
        sizes=sizes,
        bases=bases,
        sets=sets,
        reports=reports,
    )
    words = {
        "headline": wording.headline_of(report),
        "text": tuple(wording.sentences(report)),
        "notes": (*notes, *wording.notes(report)),
    }
    return report.model_copy(update=words)


def build_bases(series: SeriesResults) -> JoinedReport:
    """Builds the report of one study of all arms of all bases."""
    joined = join_bases(series)
    report = JoinedReport.of(build_report(joined.results), joined.studies, joined.notes)
    study = report.study.model_copy(update={"model": join([member.name for member in series.members])})
    return report.model_copy(update={"study": study})


def _member(member: MemberResults, report: Report) -> MemberSummary:
    answer = report.answer
    return MemberSummary(
        name=member.name,
        value=member.value,
        report=f"../members/{member.name}/report/report.html",
        train_rows=member.train_rows,
        trials=report.trials,
        metric=member.metric.name,
        headline=headline(report),
        best=answer.best,
        winner=answer.winner,
        tied_with=answer.tied_with,
    )


def _sizes(found: learning.Sizes, reports: Mapping[str, Report]) -> SizesSummary:
    return SizesSummary(
        arms=tuple(_sized(arm, found.metric.name, reports) for arm in found.arms),
        crossings=tuple(
            CrossingSummary(
                first=each.crossing.first,
                second=each.crossing.second,
                rows=each.crossing.rows,
                low=each.crossing.low,
                high=each.crossing.high,
                share=each.crossing.share,
                shown=each.shown,
            )
            for each in found.crossings
        ),
    )


def _sized(arm: learning.ArmOverSizes, metric: str, reports: Mapping[str, Report]) -> SizedArm:
    curve, points = arm.curve, []
    for rows, name in zip(curve.rows, arm.members, strict=True):
        figure = reports[name].arm(arm.label).metrics[metric]
        assert figure.mean is not None  # it is weighed
        points.append(
            SizePoint(
                rows=rows,
                member=name,
                mean=figure.mean,
                interval_low=figure.interval_low,
                interval_high=figure.interval_high,
                seeds=figure.n,
            )
        )
    return SizedArm(
        method=arm.label,
        points=tuple(points),
        laws=tuple(_law(law) for law in curve.laws),
        reason=curve.reason,
        gains=gains_of(curve),
        held_out=held_out_of(curve),
        line=tuple(LinePoint(rows=rows, figure=_bounded(figure)) for rows, figure in curve.line),
    )


def gains_of(curve: FittedCurve) -> tuple[GainSummary, ...]:
    """Returns what more rows bring to an arm."""
    return tuple(GainSummary(more=gain.more, gain=_bounded(gain.gain)) for gain in curve.gains)


def _law(fitted: FittedLaw) -> LawSummary:
    law = fitted.law
    parameters = {name: float(getattr(law, name)[0]) for name in ("limit", "scale", "offset", "exponent")}
    return LawSummary(form=law.form, share=fitted.share, **parameters, unit=law.unit, misfit=fitted.misfit)


def held_out_of(curve: FittedCurve) -> HeldOutSummary | None:
    """Returns the test of an arm's law; None with too few sizes for one."""
    held_out = curve.held_out
    if held_out is None:
        return None
    return HeldOutSummary(
        rows=held_out.rows,
        forms=held_out.forms,
        predicted=_bounded(held_out.predicted),
        measured=held_out.measured,
        error=_bounded(held_out.error),
        holds=held_out.holds,
    )


def _bounded(figure: Bounded) -> BoundedFigure:
    return BoundedFigure(value=figure.value, low=figure.low, high=figure.high)


def _sets(found: Sets, members: Sequence[MemberResults]) -> SetsSummary | None:
    ranking = found.ranking
    if ranking is None:
        return None
    means = {
        member.name: {arm.label: member.outcomes.mean(arm, member.metric) or 0.0 for arm in member.ranked}
        for member in members
    }
    trained = {arm.label for member in members for arm in member.results.arms if arm.trains}
    return SetsSummary(
        arms=tuple(
            RankedArm(
                method=label,
                average_rank=rank,
                ranks={name: own[label] for name, own in ranking.by_set.items()},
                means={name: own[label] for name, own in means.items()},
                trains=label in trained,
            )
            for label, rank in ranking.ranks.items()
        ),
        statistic=ranking.statistic,
        p=ranking.p,
        critical_difference=ranking.critical_difference,
        agreement=ranking.agree,
        different=tuple(ArmPair(first=first, second=second) for first, second in ranking.different),
        groups=ranking.groups,
        left_out=found.left_out,
    )
