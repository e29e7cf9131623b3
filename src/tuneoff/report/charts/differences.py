"""The chart of every arm's difference to the best: a forest plot."""

from __future__ import annotations

from tuneoff.analysis.figures import metric_name
from tuneoff.report import columns
from tuneoff.report.arm_schema import Comparison
from tuneoff.report.charts import messages
from tuneoff.report.charts.chart import Chart, ChartAxis, PlotSeries
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.schema import Report

DIFFERENCES = "differences"
ARMS_SHOWN = 30


def build_differences(report: Report) -> Chart | None:
    """Builds the chart, the nearest arm on top; None where no arm is compared with a best one."""
    best, metric = report.answer.best, metric_name(report.study.primary_metric or "")
    compared = [(arm, arm.to_best) for arm in report.methods if isinstance(arm.to_best, Comparison)]
    weighed = [(arm, pair, pair.difference) for arm, pair in compared if pair.difference is not None]
    if not weighed or best is None:
        return None
    direction = -1 if report.study.primary_direction == "lower" else 1
    weighed.sort(key=lambda item: -direction * item[2])
    styles = assign_styles(arm.method for arm in report.methods)
    series = tuple(
        PlotSeries(
            label=arm.method,
            style=styles[arm.method],
            x=(difference,),
            y=(float(-place),),
            low=(difference if pair.interval_low is None else pair.interval_low,),
            high=(difference if pair.interval_high is None else pair.interval_high,),
            ties=columns.difference(pair, report.study.primary_unit),
            # A baseline is often far away: the scale need not reach it.
            muted=not arm.trains,
        )
        for place, (arm, pair, difference) in enumerate(weighed[:ARMS_SHOWN])
    )
    lead = f"Difference of test {metric} to {best}"
    left_out = len(weighed) - len(series)
    level = f"{report.answer.interval_level:.0%}"
    return Chart(
        name=DIFFERENCES,
        kind="forest",
        title=messages.title(messages.of_differences(report), lead, report),
        x=ChartAxis(f"test {metric}, difference to {best}" + (" (lower is better)" if direction < 0 else "")),
        y=ChartAxis(""),
        series=series,
        baseline=None,
        margin=None if report.answer.margin is None else -direction * report.answer.margin,
        caption=f"{lead}, with {level} intervals of each pair alone, cut at the frame."
        + _margin_text(report)
        + (f" The nearest arms are shown; {left_out} are left out." if left_out else ""),
        alt=f"{lead}: " + "; ".join(f"{s.label} {s.ties.replace('[', '(').replace(']', ')')}" for s in series) + ".",
    )


def _margin_text(report: Report) -> str:
    if report.answer.margin is None:
        return ""
    return (
        " Dotted: the study's margin, by which an arm may be worse and count as as good; the table says of which that "
        "is shown."
    )
