"""What the drawings of all charts share: sizes, colours, titles, and places that hold at any resolution."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tuneoff.encoding import chart_text
from tuneoff.report.charts.chart import Chart, PlotSeries
from tuneoff.report.charts.style import COLOURS, DASHES, MARKERS

DPI = 150
WIDTH = 5.5
"""Inches. A text of 9 points is of 5 points and more where a chart is one column of a paper wide, 8 cm."""
MUTED = "#b5b5b5"
"""Colour of what has no label: arms of many, and the line of the front."""
GRID = "#e4e4e4"
BASELINE = "#444444"
LABEL_SIZE, TITLE_SIZE = 9.0, 10.0
"""Points; no text is smaller than the first."""
LEGEND = 0.22
"""Inches that a legend takes at the foot of a figure."""
_TITLE_LINES = 3


def fraction(axes: Axes, pixels: tuple[float, float]) -> tuple[float, float]:
    """Returns a place on the figure that holds at any resolution; an SVG has another one than a PNG."""
    x, y = axes.get_figure(root=True).transFigure.inverted().transform(pixels)  # type: ignore[union-attr]
    return float(x), float(y)


def draw_title(axes: Axes, chart: Chart) -> None:
    """Writes the title over the axes, on more lines where one is too narrow; the axes make room for it."""
    text = chart_text(chart.title)
    title = axes.set_title(text, loc="left", fontsize=TITLE_SIZE, fontweight="bold")
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are made by one
    room = figure.bbox.x1 - axes.get_window_extent().x0 - 10
    width = title.get_window_extent().width
    if width > room:
        length = int(len(text) * room / width) - 2
        title.set_text(textwrap.fill(text, length, max_lines=_TITLE_LINES, placeholder=" …"))
    top = 1 - (title.get_window_extent().height + 16) / figure.bbox.height
    place = axes.get_position()
    if place.y1 > top:
        axes.set_position((place.x0, place.y0, place.width, top - place.y0))


def style_axes(axes: Axes) -> None:
    """Draws a light grid without a frame, and numbers of the least size."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=LABEL_SIZE)
    axes.xaxis.label.set_fontsize(LABEL_SIZE)
    axes.yaxis.label.set_fontsize(LABEL_SIZE)


def colour(series: PlotSeries) -> str:
    """Returns an arm's colour, the same in every chart."""
    return COLOURS[series.style % len(COLOURS)]


def text_colour(series: PlotSeries) -> str:
    """Returns the arm's colour for text, darker, because the paler colours are hard to read on white."""
    red, green, blue = (int(colour(series)[at : at + 2], 16) for at in (1, 3, 5))
    return f"#{red * 7 // 10:02x}{green * 7 // 10:02x}{blue * 7 // 10:02x}"


def marker_style(series: PlotSeries) -> dict[str, Any]:
    """Returns an arm's colour and marker, the same in every chart."""
    return {"color": colour(series), "marker": MARKERS[series.style % len(MARKERS)]}


def line_style(series: PlotSeries) -> Any:
    """Returns the style of an arm's line, the same in every chart."""
    return DASHES[series.style % len(DASHES)]


def text_size(axes: Axes, text: str) -> tuple[float, float]:
    """Returns width and height of a label in pixels."""
    sample = axes.text(0, 0, chart_text(text), fontsize=LABEL_SIZE)
    extent = sample.get_window_extent()
    sample.remove()
    return extent.width, extent.height


def draw_muted(axes: Axes, chart: Chart) -> None:
    """Draws what is grey and without labels: the front's line, and of many arms those that are not named."""
    if len(chart.front) > 1:
        xs, ys = zip(*chart.front, strict=True)
        axes.plot(xs, ys, color=MUTED, linewidth=1.0, zorder=1)
    muted = [series for series in chart.series if series.muted]
    if chart.kind == "curve":
        lines = [list(zip(series.x, series.y, strict=True)) for series in muted]
        axes.add_collection(LineCollection(lines, colors=MUTED, linewidths=0.6, zorder=1), autolim=False)
    elif muted:
        points = [(x, y) for s in muted for x, y in zip(s.x, s.y, strict=True)]
        axes.plot(*zip(*points, strict=True), color=MUTED, marker="o", markersize=4, linestyle="none", zorder=1)


def draw_legend(axes: Axes, series: tuple[PlotSeries, ...]) -> None:
    """Writes the arms' names in their colours at the foot of the figure, side by side."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are made by one
    x = axes.get_position().x0
    for each in series:
        axes.plot(
            x + 0.012,
            0.09 / figure.get_figheight(),
            **marker_style(each),
            markersize=5.5,
            clip_on=False,
            transform=figure.transFigure,
        )
        text, foot = chart_text(each.short), 0.04 / figure.get_figheight()
        figure.text(x + 0.03, foot, text, fontsize=LABEL_SIZE, color=text_colour(each))
        x += 0.07 + text_size(axes, each.short)[0] / figure.bbox.width
