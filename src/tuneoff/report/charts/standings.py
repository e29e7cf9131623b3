"""The charts with a line for each arm besides the forest plot: groups of ties, and the forecast against what was
measured."""

from __future__ import annotations

from tuneoff.analysis.figures import metric_name
from tuneoff.report import columns
from tuneoff.report.charts import messages
from tuneoff.report.charts.chart import Chart, ChartAxis, PlotSeries, shortened
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.schema import Report
from tuneoff.report.wording import join

TIES, FORECAST = "ties", "forecast_measured"
NAMES = (TIES, FORECAST)
ROWS_SHOWN = 40
"""Most arms of a chart with a line for each."""
PREDICTED = {"peak_memory_bytes": "peak memory", "train_seconds": "train time", "total_seconds": "whole trial"}


def build_ties(report: Report) -> Chart | None:
    """Builds the picture of groups within which no two arms can be told apart, best first; None where all are in one
    group, nothing is compared, or arms are too many."""
    verdict = report.verdict
    if verdict is None or not columns.grouped(report):
        return None
    sign = -1.0 if verdict.direction == "higher" else 1.0
    scored = [
        (figure.ranked_mean, position, arm.method, figure)
        for position, arm in enumerate(report.methods)
        if (figure := arm.metrics.get(verdict.metric)) is not None and figure.ranked_mean is not None
    ]
    scored.sort(key=lambda item: (sign * item[0], item[1]))
    if len(scored) > ROWS_SHOWN:
        return None
    styles = assign_styles(arm.method for arm in report.methods)
    places = {label: row for row, (_, _, label, _) in enumerate(scored)}
    groups = tuple(tuple(sorted(places[label] for label in group if label in places)) for group in verdict.groups)
    series = tuple(
        PlotSeries(
            label=label,
            style=styles[label],
            x=(mean,),
            y=(float(-row),),
            low=(mean if figure.interval_low is None else figure.interval_low,),
            high=(mean if figure.interval_high is None else figure.interval_high,),
            ties=report.arm(label).ties,
        )
        for row, (mean, _, label, figure) in enumerate(scored)
    )
    name, level = metric_name(verdict.metric), f"{report.answer.interval_level:.0%}"
    lead = f"Groups of arms that cannot be told apart by test {name}"
    level_with_best = {row for group in groups if 0 in group for row in group} - {0}
    count = f"{len(level_with_best)} of the {len(scored) - 1} other arms"
    message = f"{count} cannot be told apart from {shortened(scored[0][2])}" if level_with_best else ""
    told = "; ".join(join([scored[row][2] for row in group]) for group in groups)
    return Chart(
        name=TIES,
        kind="ties",
        title=messages.title(message, lead, report),
        x=ChartAxis(f"test {name}" + (" (lower is better)" if verdict.direction == "lower" else "")),
        y=ChartAxis(""),
        series=series,
        baseline=None,
        caption=f"{lead}, the best arm on top, with {level} intervals. Each bar at the right joins arms of one group, "
        "marked by dots: no two of them can be told apart, or they share too few seeds to tell.",
        alt=f"{lead}: {told}.",
        groups=groups,
    )


def build_forecast(report: Report) -> Chart | None:
    """Builds the picture of by how many times each arm's figures were predicted too high; None where nothing can be
    compared, or arms are too many."""
    if report.forecast is None:
        return None
    ratios = {
        arm.method: {
            name: 1 + error
            for name in report.forecast.accuracy
            if (error := getattr(arm, name).relative_error) is not None and error > -1
        }
        for arm in report.forecast.arms
    }
    shown = [label for label, known in ratios.items() if known]
    if not 0 < len(shown) <= ROWS_SHOWN:
        return None
    series = tuple(
        PlotSeries(
            label=words,
            style=style,
            x=tuple(ratios[label][name] for label in shown if name in ratios[label]),
            y=tuple(float(-row) for row, label in enumerate(shown) if name in ratios[label]),
            low=(),
            high=(),
        )
        for style, (name, words) in enumerate(PREDICTED.items())
        if any(name in ratios[label] for label in shown)
    )
    lead = "What was predicted before the first trial, divided by what was measured"
    worst, label, name = max(
        (max(ratio, 1 / ratio), label, name) for label in shown for name, ratio in ratios[label].items()
    )
    message = f"The forecast was off by a factor of {worst:.2f} at most: {PREDICTED[name]} of {shortened(label)}"
    told = "; ".join(
        f"{label} {', '.join(f'{PREDICTED[name]} {ratio:.2f}' for name, ratio in ratios[label].items())}"
        for label in shown
    )
    return Chart(
        name=FORECAST,
        kind="forecast",
        title=message,
        x=ChartAxis("predicted ÷ measured", "log"),
        y=ChartAxis(""),
        series=series,
        baseline=None,
        caption=f"{lead}. At the dashed line the forecast was right.",
        alt=f"{lead}: {told}.",
        names=tuple(shown),
    )
