"""The charts of a series: learning curves over training rows, average ranks over data sets, and those of one study of
all bases."""

from __future__ import annotations

import numpy as np

from tuneoff.analysis.figures import metric_name
from tuneoff.report import columns, units
from tuneoff.report.charts.chart import BaselineLine, Chart, ChartAxis, PlotSeries, shortened
from tuneoff.report.charts.definitions import FILES, build_charts
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.series import wording
from tuneoff.report.series.schema import CrossingSummary, SeriesReport, SetsSummary, SizedArm, SizesSummary
from tuneoff.report.wording import join

CURVES, RANKS = "training_rows", "average_ranks"
ARMS_SHOWN = 12
SERIES_FILES = (*FILES, f"{CURVES}.png", f"{RANKS}.png")
"""Every file that a series' report may hold a chart in."""


def build_series_charts(report: SeriesReport) -> list[Chart]:
    """Builds the charts that there are points for."""
    if report.bases is not None:
        return build_charts(report.bases)
    drawn = [
        _curves(report, report.sizes) if report.sizes is not None else None,
        _ranks(report.sets) if report.sets is not None else None,
    ]
    return [chart for chart in drawn if chart is not None]


def _curves(report: SeriesReport, sizes: SizesSummary) -> Chart | None:
    """Builds the learning curves; None with one size. Of very many arms the best at the largest size are shown."""
    sign = 1.0 if report.direction == "higher" else -1.0
    arms = sorted((arm for arm in sizes.arms if len(arm.points) > 1), key=lambda arm: -sign * arm.points[-1].mean)
    shown = arms[:ARMS_SHOWN]
    if not shown:
        return None
    styles = assign_styles(arm.method for arm in sizes.arms)
    crossings = [each for each in sizes.crossings if each.shown or (each.share or 0.0) >= wording.SURE]
    by_label = {arm.method: arm for arm in shown}
    places = [(each.rows, _at(by_label[each.first], each)) for each in crossings if each.first in by_label]
    metric = metric_name(report.metric)
    lead = f"Test {metric} against training rows"
    ends = "; ".join(f"{arm.method} {columns.score(arm.points[-1].mean, unit=report.unit)}" for arm in shown)
    gains = [arm for arm in shown if arm.gains]
    undoubted = [arm for arm in gains if arm.held_out is None or arm.held_out.holds]
    return Chart(
        name=CURVES,
        kind="curve",
        title=_message(report, undoubted[0]) if undoubted else lead,
        x=ChartAxis("training rows", "log", units.short_count),
        y=ChartAxis(f"test {metric}" + (" (lower is better)" if report.direction == "lower" else "")),
        series=tuple(_series(arm, styles[arm.method]) for arm in shown),
        baseline=_baseline(report),
        caption=f"{lead}. Lines: means over seeds; bands: 95% intervals over seeds and test examples."
        + (" Dotted: each arm's law, up to twice the largest size." if gains else "")
        + (" Diamonds: where arms cross." if places else "")
        + (" Dashed: the baseline at the largest size, without training." if _baseline(report) else "")
        + (f" {len(arms) - len(shown)} more arms are left out." if len(arms) > len(shown) else ""),
        alt=f"{lead}, at the largest size: {ends}.",
        crossings=tuple(places),
    )


def _message(report: SeriesReport, arm: SizedArm) -> str:
    gain = arm.gains[-1]
    return f"{gain.more:,} more rows bring {wording.change_text(report, gain.gain)} to {shortened(arm.method)}"


def _series(arm: SizedArm, style: int) -> PlotSeries:
    points = arm.points
    return PlotSeries(
        label=arm.method,
        style=style,
        x=tuple(float(point.rows) for point in points),
        y=tuple(point.mean for point in points),
        low=tuple(point.mean if point.interval_low is None else point.interval_low for point in points),
        high=tuple(point.mean if point.interval_high is None else point.interval_high for point in points),
        law=tuple((float(point.rows), point.figure.value) for point in arm.line),
    )


def _at(arm: SizedArm, crossing: CrossingSummary) -> float:
    """Returns the arm's score where it crosses another, between two sizes by the logarithm of rows."""
    logs = np.log([point.rows for point in arm.points])
    return float(np.interp(np.log(crossing.rows), logs, [point.mean for point in arm.points]))


def _baseline(report: SeriesReport) -> BaselineLine | None:
    largest = report.reports[report.members[-1].name]
    label = largest.answer.baseline
    figure = largest.arm(label).metrics.get(report.metric) if label is not None else None
    if label is None or figure is None or figure.mean is None:
        return None
    return BaselineLine(label, figure.mean, report.unit)


def _ranks(sets: SetsSummary) -> Chart | None:
    """Builds the diagram of critical differences; None with one set."""
    difference = sets.critical_difference
    if difference is None:
        return None
    styles = assign_styles(arm.method for arm in sets.arms)
    shown = sets.arms[:40]
    places = {arm.method: place for place, arm in enumerate(shown)}
    series = tuple(
        PlotSeries(
            label=arm.method,
            style=styles[arm.method],
            x=(arm.average_rank,),
            y=(float(-place),),
            low=(arm.average_rank - difference / 2,),
            high=(arm.average_rank + difference / 2,),
        )
        for place, arm in enumerate(shown)
    )
    groups = [tuple(places[label] for label in group if label in places) for group in sets.groups]
    tied = [group for group in sets.groups if shown[0].method in group and len(group) > 1]
    count = len(shown[0].ranks)
    lead = f"Average ranks over {count} data sets"
    best, others = shortened(shown[0].method), len(sets.arms) - 1
    message = (
        f"{len(tied[0]) - 1} of the {others} other arms cannot be told apart from {best}"
        if tied
        else f"{best} has the best average rank, and no arm is level with it"
    )
    return Chart(
        name=RANKS,
        kind="ties",
        title=message,
        x=ChartAxis("average rank (1 is the best)"),
        y=ChartAxis(""),
        series=series,
        baseline=None,
        caption=f"{lead}. Each line is as long as the critical difference, {difference:.2f} (Nemenyi, 5%): where two "
        "do not overlap, their arms differ, if any arms differ at all. Each bar at the right joins arms of one group, "
        "marked by dots: no two of them can be told apart.",
        alt=f"{lead}: {join([f'{arm.method} {arm.average_rank:.2f}' for arm in shown])}.",
        groups=tuple(group for group in groups if len(group) > 1),
    )
