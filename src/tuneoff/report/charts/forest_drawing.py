"""Draws the forest plot into a figure."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, Series
from tuneoff.report.charts.marks import LABEL_SIZE, WIDTH, draw_title, style_axes, text_size
from tuneoff.report.charts.style import COLOURS, MARKERS

_ROW, _TOP, _BOTTOM = 0.2, 0.5, 0.5
"""Inches: of a line, above and below the lines."""


def draw_forest(figure: Figure, chart: Chart) -> None:
    """Draws a line for each arm: its name, the difference, its interval, and both in figures. The figure is made as
    high as the arms need."""
    count = len(chart.series)
    height = _TOP + _BOTTOM + _ROW * count
    figure.set_size_inches(WIDTH, height)
    axes = figure.add_axes((0.27, _BOTTOM / height, 0.38, _ROW * count / height))
    names = max(text_size(axes, series.short)[0] for series in chart.series)
    left = (names + 18) / figure.bbox.width
    axes.set_position((left, _BOTTOM / height, 0.65 - left, _ROW * count / height))
    low, high = _range(chart)
    axes.set_xlim(low, high)
    axes.set_ylim(-count + 0.5, 0.5)
    axes.axvline(0, color="#444444", linewidth=1.0)
    axes.set_xlabel(chart_text(chart.x.label))
    axes.set_yticks([s.y[0] for s in chart.series], [chart_text(s.short) for s in chart.series])
    style_axes(axes)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if chart.margin is not None:
        axes.axvline(chart.margin, color="#009e73", linestyle=(0, (1, 1.5)), linewidth=1.4)
    at_right = axes.get_yaxis_transform()
    for series in chart.series:
        _draw_line(axes, series, low, high)
        axes.text(1.03, series.y[0], chart_text(series.ties), fontsize=LABEL_SIZE, va="center", transform=at_right)
    draw_title(axes, chart)


def _range(chart: Chart) -> tuple[float, float]:
    """Returns the ends of the scale: as far as arms that train, and the margin, need."""
    counted = [s for s in chart.series if not s.muted] or chart.series
    shown = [0.0, chart.margin or 0.0, *(end for s in counted for end in (s.low[0], s.high[0]))]
    low, high = min(shown), max(shown)
    margin = (high - low) * 0.06 or 0.05
    return low - margin, high + margin


def _draw_line(axes: Axes, series: Series, low: float, high: float) -> None:
    colour, place = COLOURS[series.style % len(COLOURS)], series.y[0]
    ends = [min(max(end, low), high) for end in (series.low[0], series.high[0])]
    axes.plot(ends, [place, place], color=colour, linewidth=1.6, alpha=0.6, solid_capstyle="butt")
    for end, is_cut, marker in ((low, series.low[0] < low, "<"), (high, series.high[0] > high, ">")):
        if is_cut:
            axes.plot(end, place, color=colour, marker=marker, markersize=5, clip_on=False)
    if low <= series.x[0] <= high:
        axes.plot(
            series.x[0],
            place,
            color=colour,
            marker=MARKERS[series.style % len(MARKERS)],
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )
