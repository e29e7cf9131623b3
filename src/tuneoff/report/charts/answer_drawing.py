"""Draws what arms answered: the F1 of classes, matrices of confusion, residuals, and counts of examples."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, Panel, shortened
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

_ROW, _TOP, _BOTTOM = 0.2, 0.5, 0.45
"""Inches: of a class, above and below the classes."""
_CELL = 0.29
"""Inches, of a cell of a matrix; three figures of the least size fit in."""
_NAME_LENGTH = 14
_BAR = "#0072B2"


def draw_classes(figure: Figure, chart: Chart) -> None:
    """Draws a line for each class with the F1 of each arm on it."""
    count = len(chart.names)
    below = _BOTTOM + LEGEND
    height = _TOP + below + _ROW * count
    figure.set_size_inches(WIDTH, height)
    axes = figure.add_axes((0.3, below / height, 0.65, _ROW * count / height))
    style_axes(axes)
    axes.grid(False, axis="y")
    axes.set_ylim(-count + 0.5, 0.5)
    axes.set_yticks([-row for row in range(count)], [chart_text(shortened(name, _NAME_LENGTH)) for name in chart.names])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(chart_text(chart.x.label))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for at, series in enumerate(chart.series):
        rows = [y + 0.18 * (0.5 - at) * (len(chart.series) > 1) * 2 for y in series.y]
        for x, row, low, high in zip(series.x, rows, series.low, series.high, strict=True):
            axes.plot([low, high], [row, row], color=colour(series), linewidth=1.4, alpha=0.45)
            axes.plot(x, row, **marker_style(series), markersize=5.5, markeredgecolor="white", markeredgewidth=0.6)
    draw_legend(axes, chart.series)
    draw_title(axes, chart)


def draw_matrix(figure: Figure, chart: Chart) -> None:
    """Draws a matrix for each arm, one under another: rows are right classes, columns answered ones."""
    count = len(chart.names)
    probe = figure.add_axes((0, 0, 1, 1))
    names = [shortened(name, _NAME_LENGTH) for name in chart.names]
    longest = max(text_size(probe, name)[0] for name in names) / figure.dpi
    probe.remove()
    side = min(_CELL * count, WIDTH - longest - 0.6)
    block = side + longest + 0.55
    height = _TOP + block * len(chart.panels)
    figure.set_size_inches(WIDTH, height)
    left = (longest + 0.4) / WIDTH
    for at, panel in enumerate(chart.panels):
        top = height - _TOP - block * at - 0.05
        axes = figure.add_axes((left, (top - side) / height, side / WIDTH, side / height))
        _draw_cells(axes, panel, names)
        axes.set_ylabel(chart_text(chart.y.label), fontsize=LABEL_SIZE)
        axes.set_xlabel(chart_text(chart.x.label), fontsize=LABEL_SIZE)
        figure.text(
            left + (side + 0.15) / WIDTH,
            (top - 0.15) / height,
            chart_text(shortened(panel.label)),
            fontsize=LABEL_SIZE,
            fontweight="bold",
        )
        if not at:
            draw_title(axes, chart)


def _draw_cells(axes: Axes, panel: Panel, names: list[str]) -> None:
    cells = np.array(panel.cells)
    totals = cells.sum(axis=1, keepdims=True)
    shares = np.divide(cells, totals, out=np.zeros_like(cells), where=totals > 0)
    count, shade_of = len(names), matplotlib.colormaps["Blues"]
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.add_patch(Rectangle((-0.5, -0.5), count, count, color=shade_of(0.0)))
    for row, column in np.argwhere(shares > 0):
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=shade_of(float(shares[row, column]))))
    texts = [chart_text(name) for name in names]
    axes.set_xticks(range(len(names)), texts, rotation=90, fontsize=LABEL_SIZE)
    axes.set_yticks(range(len(names)), texts, fontsize=LABEL_SIZE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(cells > 0):
        value = cells[row, column]
        text = "<1" if value < 1 else f"{value:.0f}" if value < 999.5 else f"{value / 1000:.0f}k"
        shade = "white" if shares[row, column] > 0.55 else "#222222"
        axes.text(column, row, text, fontsize=LABEL_SIZE, ha="center", va="center", color=shade)


def draw_counts(figure: Figure, chart: Chart) -> None:
    """Draws a bar for each count, with its number."""
    axes = figure.add_axes((0.13, 0.135, 0.84, 0.835))
    style_axes(axes)
    axes.grid(False, axis="x")
    series = chart.series[0]
    axes.bar(series.x, series.y, color=_BAR, width=0.75)
    every = -(-len(chart.names) // 16)
    axes.set_xticks(series.x[::every], chart.names[::every])
    axes.set_ylim(0, max(series.y) * 1.14 or 1)
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel(chart_text(chart.x.label))
    axes.set_ylabel(chart_text(chart.y.label))
    if len(series.x) <= 16:
        for x, y in zip(series.x, series.y, strict=True):
            axes.annotate(f"{y:,.0f}", (x, y), (0, 2), textcoords="offset points", ha="center", fontsize=LABEL_SIZE)
    draw_title(axes, chart)


def draw_residuals(figure: Figure, chart: Chart) -> None:
    """Draws a point for each example, with the line of right answers."""
    axes = figure.add_axes((0.15, 0.2, 0.82, 0.77))
    style_axes(axes)
    axes.axhline(0, color=BASELINE, linewidth=1.0)
    for series in chart.series:
        axes.plot(series.x, series.y, **marker_style(series), linestyle="none", markersize=3.5, alpha=0.5)
    axes.set_xlabel(chart_text(chart.x.label))
    axes.set_ylabel(chart_text(chart.y.label))
    draw_legend(axes, chart.series)
    draw_title(axes, chart)
