"""Draws what a search tried, with the range of each arm below."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, PlotSeries
from tuneoff.report.charts.marks import (
    DPI,
    GRID,
    LABEL_SIZE,
    WIDTH,
    colour,
    draw_muted,
    draw_title,
    line_style,
    marker_style,
    style_axes,
    text_colour,
    text_size,
)

LEFT = 0.13
SCORE_HEIGHT = 3.1
"""Inches, of the scores with the title."""


def draw_search(figure: Figure, chart: Chart) -> None:
    """Draws the scores over what was tried and, below on the same scale, each arm's range with its name at the
    right."""
    range_height, label_height = 0.17 * len(chart.labelled) + 0.08, 0.45
    height = SCORE_HEIGHT + 0.12 + range_height + label_height
    figure.set_size_inches(WIDTH, height)
    score_axes = figure.add_axes((LEFT, 0.5, 0.5, 0.4))
    names = max((text_size(score_axes, series.text)[0] for series in chart.labelled), default=0.0) / DPI
    width = (WIDTH - 0.1 - names) / WIDTH - LEFT - 0.02
    low = (label_height + range_height + 0.12) / height
    score_axes.set_position((LEFT, low, width, 0.98 - low))
    range_axes = figure.add_axes((LEFT, label_height / height, width, range_height / height), sharex=score_axes)
    draw_title(score_axes, chart)
    for axes in (score_axes, range_axes):
        style_axes(axes)
        axes.set_xscale(chart.x.scale)
    score_axes.set_ylabel(chart_text(chart.y.label))
    if chart.y.scale == "log":
        score_axes.set_yscale("log", subs=(1.5, 2, 3, 5, 7))
        score_axes.grid(True, which="minor", axis="y", color=GRID, linewidth=0.7)
        for axis in (score_axes.yaxis.set_major_formatter, score_axes.yaxis.set_minor_formatter):
            axis(FuncFormatter(lambda value, _: f"{value:g}"))
    score_axes.tick_params(axis="x", labelbottom=False)
    range_axes.set_xlabel(chart_text(chart.x.label))
    range_axes.set_ylim(-len(chart.labelled) + 0.4, 0.6)
    range_axes.set_yticks([])
    range_axes.spines["left"].set_visible(False)
    ends = [end for series in chart.series for end in series.span or ()]
    margin = (max(ends) / min(ends)) ** 0.03 * 1.1
    score_axes.set_xlim(min(ends) / margin, max(ends) * margin)
    draw_muted(score_axes, chart)
    for index, series in enumerate(chart.labelled):
        _draw_trials(score_axes, series)
        _draw_range(range_axes, series, -index)


def _draw_trials(axes: Axes, series: PlotSeries) -> None:
    axes.plot(
        series.x,
        series.y,
        **marker_style(series),
        markersize=5.5,
        linewidth=1.4,
        linestyle=line_style(series) if series.joined else "none",
        alpha=0.9,
    )
    axes.plot(
        [x for x, _ in series.early],
        [y for _, y in series.early],
        **marker_style(series),
        markersize=5.0,
        markerfacecolor="white",
        linestyle="none",
        alpha=0.7,
    )
    if series.chosen is not None:
        index = series.chosen
        _ring(axes, series, series.x[index], series.y[index], 8.5)


def _ring(axes: Axes, series: PlotSeries, x: float, y: float, size: float) -> None:
    axes.plot(
        [x],
        [y],
        **marker_style(series),
        markersize=size,
        markeredgecolor="black",
        markeredgewidth=1.3,
        zorder=5,
    )


def _draw_range(axes: Axes, series: PlotSeries, height: float) -> None:
    """Draws a bar from end to end, what was tried on it, and the arm's name beside it."""
    axes.plot(series.span or (), [height] * 2, color=colour(series), marker="|", markersize=9, linewidth=1.2)
    rates = [*series.x, *(x for x, _ in series.early)]
    axes.plot(rates, [height] * len(rates), **marker_style(series), markersize=3.5, lw=0)
    axes.plot(series.failed, [height] * len(series.failed), color="black", marker="x", markersize=5.5, lw=0, zorder=6)
    if series.chosen is not None:
        _ring(axes, series, series.x[series.chosen], height, 5.5)
    at_right = axes.get_yaxis_transform()
    axes.text(
        1.015,
        height,
        chart_text(series.text),
        color=text_colour(series),
        fontsize=LABEL_SIZE,
        va="center",
        transform=at_right,
    )
