"""Charts of the models between the base model and the trained ones: what they learned, and what they kept."""

from __future__ import annotations

from collections.abc import Callable

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.retention import HeldSummary, MeanFigure, RetentionReport, RewindStep
from tuneoff.report import columns
from tuneoff.report.charts import messages
from tuneoff.report.charts.chart import Chart, ChartAxis, PlotSeries
from tuneoff.report.charts.style import assign_styles
from tuneoff.report.schema import Report

QUALITY, HELD = "rewind_quality", "rewind_retention"
NAMES = (QUALITY, HELD)


def build(report: Report) -> list[Chart]:
    """Builds the two charts; none where no models between are scored."""
    retention = report.retention
    if retention is None or retention.rewind_metric is None:
        return []
    quality = f"validation {metric_name(retention.rewind_metric)}"
    first = retention.held[0]
    return [
        _chart(report, retention, QUALITY, quality, "", lambda step: step.quality),
        _chart(report, retention, HELD, _held_text(first), _arrow(first), lambda step: step.held[first.name]),
    ]


def _held_text(held: HeldSummary) -> str:
    return f"{held.name}: {metric_name(held.metric)}"


def _arrow(held: HeldSummary) -> str:
    return " (lower is better)" if held.direction == "lower" else ""


def _chart(
    report: Report,
    retention: RetentionReport,
    name: str,
    what: str,
    suffix: str,
    of: Callable[[RewindStep], MeanFigure],
) -> Chart:
    styles = assign_styles(arm.method for arm in report.methods)
    series = tuple(
        PlotSeries(
            label=curve.method,
            style=styles[curve.method],
            x=tuple(step.fraction for step in curve.steps),
            y=tuple(of(step).mean for step in curve.steps),
            low=tuple(_low(of(step)) for step in curve.steps),
            high=tuple(_high(of(step)) for step in curve.steps),
        )
        for curve in retention.rewind
        if curve.steps
    )
    lead = f"{what[0].upper()}{what[1:]} by fraction of the trained change"
    ends = "; ".join(f"{s.label} from {columns.score(s.y[0])} to {columns.score(s.y[-1])}" for s in series)
    return Chart(
        name=name,
        kind="curve",
        title=messages.title("", lead, report),
        x=ChartAxis("fraction of the trained change (0: base model)"),
        y=ChartAxis(what + suffix),
        series=series,
        baseline=None,
        caption=f"{lead}: each weight is moved from the base model towards the merged one. Lines: means over seeds; "
        f"bands: {report.answer.interval_level:.0%} intervals over seeds.",
        alt=f"{lead}: {ends}.".replace("[", "(").replace("]", ")"),
    )


def _low(figure: MeanFigure) -> float:
    return figure.mean if figure.interval_low is None else figure.interval_low


def _high(figure: MeanFigure) -> float:
    return figure.mean if figure.interval_high is None else figure.interval_high
