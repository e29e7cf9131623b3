"""Draws charts with a line for each arm: the forest plot, groups of ties, and forecast against measured."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, PlotSeries, shortened
from tuneoff.report.charts.marks import (
    BASELINE,
    LABEL_SIZE,
    LEGEND,
    WIDTH,
    colour,
    draw_legend,
    draw_title,
    marker_style,
    style_axes,
    text_size,
)

_ROW, _TOP, _BOTTOM = 0.2, 0.5, 0.5
"""Inches: of a line, above and below the lines."""


def draw_forest(figure: Figure, chart: Chart) -> None:
    """Draws a line for each arm: its name, the difference, its interval, and both in figures."""
    axes = _rows(figure, chart, [series.short for series in chart.series], right=0.65)
    low, high = _range(chart)
    axes.set_xlim(low, high)
    axes.axvline(0, color=BASELINE, linewidth=1.0)
    if chart.margin is not None:
        axes.axvline(chart.margin, color="#009e73", linestyle=(0, (1, 1.5)), linewidth=1.4)
    at_right = axes.get_yaxis_transform()
    for series in chart.series:
        _draw_line(axes, series, low, high)
        axes.text(1.03, series.y[0], chart_text(series.ties), fontsize=LABEL_SIZE, va="center", transform=at_right)
    draw_title(axes, chart)


def draw_ties(figure: Figure, chart: Chart) -> None:
    """Draws each arm's mean with its interval, and at the right a bar for each group."""
    right = 0.96 - min(0.03 * len(chart.groups), 0.4)
    axes = _rows(figure, chart, [series.short for series in chart.series], right=right)
    for series in chart.series:
        place = series.y[0]
        axes.plot([series.low[0], series.high[0]], [place, place], color=colour(series), linewidth=1.6, alpha=0.6)
        axes.plot(series.x[0], place, **marker_style(series), markersize=7, markeredgecolor="white")
    across = blended_transform_factory(figure.transFigure, axes.transData)
    step = (0.98 - right) / max(len(chart.groups), 1)
    for at, group in enumerate(chart.groups):
        x = right + step * (at + 0.5)
        rows = [-float(row) for row in group]
        axes.plot(
            [x, x],
            [max(rows) + 0.3, min(rows) - 0.3],
            color=BASELINE,
            linewidth=2.5,
            alpha=0.35,
            transform=across,
            clip_on=False,
        )
        axes.plot(
            [x] * len(rows),
            rows,
            color="#111111",
            marker="o",
            markersize=3.5,
            linestyle="none",
            transform=across,
            clip_on=False,
        )
    draw_title(axes, chart)


def draw_forecast(figure: Figure, chart: Chart) -> None:
    """Draws how many times too high each figure of each arm was predicted."""
    axes = _rows(figure, chart, [shortened(name) for name in chart.names], right=0.96, legend=True)
    axes.set_xscale("log")
    axes.axvline(1, color=BASELINE, linestyle=(0, (5, 3)), linewidth=1.2)
    for series in chart.series:
        axes.plot(series.x, series.y, **marker_style(series), markersize=6, linestyle="none")
    ratios = [x for series in chart.series for x in series.x]
    low, high = min(*ratios, 1 / 1.1), max(*ratios, 1.1)
    axes.set_xlim(low / (high / low) ** 0.08, high * (high / low) ** 0.08)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high / low > 3 else (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 8.0, 9.0))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    draw_legend(axes, chart.series)
    draw_title(axes, chart)


def _rows(figure: Figure, chart: Chart, names: list[str], right: float, legend: bool = False) -> Axes:
    """Returns axes with a row for each name, whose labels stand at the left; the figure is made as high as they need.

    Args:
        figure: where to.
        chart: whose axis stands below.
        names: of the rows, from the top.
        right: where the axes end, as a share of the figure.
        legend: leave room for one below.
    """
    below = _BOTTOM + (LEGEND if legend else 0.0)
    height = _TOP + below + _ROW * len(names)
    figure.set_size_inches(WIDTH, height)
    axes = figure.add_axes((0.27, below / height, 0.38, _ROW * len(names) / height))
    left = (max(text_size(axes, name)[0] for name in names) + 18) / figure.bbox.width
    axes.set_position((left, below / height, right - left, _ROW * len(names) / height))
    axes.set_ylim(-len(names) + 0.5, 0.5)
    axes.set_yticks([-float(row) for row in range(len(names))], [chart_text(name) for name in names])
    axes.set_xlabel(chart_text(chart.x.label))
    style_axes(axes)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return axes


def _range(chart: Chart) -> tuple[float, float]:
    """Returns the ends of the scale: as far as arms that train, and the margin, need."""
    counted = [s for s in chart.series if not s.muted] or chart.series
    shown = [0.0, chart.margin or 0.0, *(end for s in counted for end in (s.low[0], s.high[0]))]
    low, high = min(shown), max(shown)
    margin = (high - low) * 0.06 or 0.05
    return low - margin, high + margin


def _draw_line(axes: Axes, series: PlotSeries, low: float, high: float) -> None:
    shade, place = colour(series), series.y[0]
    ends = [min(max(end, low), high) for end in (series.low[0], series.high[0])]
    axes.plot(ends, [place, place], color=shade, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
    for end, is_cut, marker in ((low, series.low[0] < low, "<"), (high, series.high[0] > high, ">")):
        if is_cut:
            axes.plot(end, place, color=shade, marker=marker, markersize=5, clip_on=False)
    if low <= series.x[0] <= high:
        axes.plot(
            series.x[0],
            place,
            **marker_style(series),
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )
