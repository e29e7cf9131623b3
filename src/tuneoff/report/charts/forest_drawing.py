"""Draws the forest plot into a figure."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, Series
from tuneoff.report.charts.style import COLOURS, MARKERS

_ROW, _TOP, _BOTTOM, _WIDTH = 0.27, 0.55, 0.55, 8.0
"""Inches: of a line, above and below the lines, and of the whole."""
_LABEL_LENGTH = 30


def draw_forest(figure: Figure, chart: Chart, size: float) -> Axes:
    """Draws a line for each arm: its name, the difference, its interval, and both in figures; returns the axes.

    Args:
        figure: where to; it is made as high as the arms need.
        chart: a forest plot.
        size: of the text, in points.
    """
    count = len(chart.series)
    height = _TOP + _BOTTOM + _ROW * count
    figure.set_size_inches(_WIDTH, height)
    axes = figure.add_axes((0.27, _BOTTOM / height, 0.42, _ROW * count / height))
    low, high = _range(chart)
    axes.set_xlim(low, high)
    axes.set_ylim(-count + 0.5, 0.5)
    axes.axvline(0, color="#444444", linewidth=1.0)
    axes.set_xlabel(chart_text(chart.x.label))
    names = [s.label if len(s.label) <= _LABEL_LENGTH else f"{s.label[: _LABEL_LENGTH - 1]}…" for s in chart.series]
    axes.set_yticks([s.y[0] for s in chart.series], [chart_text(name) for name in names])
    axes.tick_params(axis="y", length=0, labelsize=size)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(True, axis="x", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    for series in chart.series:
        _draw_line(axes, series, low, high)
        axes.text(
            1.03, series.y[0], chart_text(series.ties), fontsize=size, va="center", transform=axes.get_yaxis_transform()
        )
    return axes


def _range(chart: Chart) -> tuple[float, float]:
    """Returns the ends of the scale: as far as arms that train need."""
    counted = [s for s in chart.series if not s.muted] or chart.series
    low, high = min(0.0, *(s.low[0] for s in counted)), max(0.0, *(s.high[0] for s in counted))
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
