"""What a chart shows: plain data that a drawing renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tuneoff.report import columns

LABEL_LENGTH = 20


def shortened(label: str, most: int = LABEL_LENGTH) -> str:
    """Returns a label of at most so many characters, for which a chart has room."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


@dataclass(frozen=True)
class ChartAxis:
    """A label with its unit, a scale, and how a tick is written (None: as the number it is)."""

    label: str
    scale: Literal["linear", "log"] = "linear"
    tick: Callable[[float], str] | None = None


@dataclass(frozen=True)
class PlotSeries:
    """One arm of the study in a chart.

    Attributes:
        label: the text beside it.
        style: gives colour and marker, by the arm's label, equal in all charts (`assign_styles`).
        x, y: points; a scatter chart has one.
        low, high: of y at each point, for the band or the error bar; of a forest plot of x.
        x_error: half width of the horizontal error bar.
        ties: letters of the groups within which arms cannot be told apart; empty where all are in one. Of a forest
            plot the figures beside the line.
        chosen: which point was chosen; of a search.
        span: the ends of the range that was searched.
        early: points that are no part of the line: of search trials with fewer steps.
        failed: x of what was tried without any y.
        joined: whether a line joins the points, as it may where nothing but x tells them apart.
        dots: y of single seeds, shown where they are few; of a scatter chart.
        muted: whether it is one of many, drawn grey and without a label.
        law: places of the line of a law that was fitted to a curve's points, which may go on beyond them.
    """

    label: str
    style: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    x_error: float = 0.0
    ties: str = ""
    chosen: int | None = None
    span: tuple[float, float] | None = None
    early: tuple[tuple[float, float], ...] = ()
    failed: tuple[float, ...] = ()
    joined: bool = True
    dots: tuple[float, ...] = ()
    muted: bool = False
    law: tuple[tuple[float, float], ...] = ()

    @property
    def end(self) -> tuple[float, float]:
        """Returns where a curve ends: its law, where it has one."""
        return self.law[-1] if self.law else (self.x[-1], self.y[-1])

    @property
    def short(self) -> str:
        """Returns the label, its end cut where it is long."""
        return shortened(self.label)

    @property
    def text(self) -> str:
        """Returns the short label with its letters in brackets."""
        return f"{self.short} ({self.ties})" if self.ties else self.short


@dataclass(frozen=True)
class BaselineLine:
    """A horizontal line: an arm that needs no training."""

    label: str
    value: float
    unit: str | None = None

    @property
    def text(self) -> str:
        """Returns the value as tables show it."""
        return columns.score(self.value, unit=self.unit)


Kind = Literal["curve", "scatter", "search", "forest", "ties", "forecast", "classes", "matrix", "counts", "residuals"]


@dataclass(frozen=True)
class Panel:
    """A matrix of an arm, with a name for each of its rows, which are its columns too."""

    label: str
    style: int
    cells: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Chart:
    """All that one chart shows.

    Attributes:
        front: points of the Pareto front, cheapest first; of a scatter chart.
        untrained: other arms that need no training; of a scatter chart.
        margin: x of the study's margin; of a forest plot.
        names: of what stands along an axis that has no numbers: the classes, or the arms of a forecast.
        panels: of a matrix.
        groups: places of series that belong together; of a picture of ties.
        crossings: where two curves cross.
    """

    name: str
    kind: Kind
    title: str
    x: ChartAxis
    y: ChartAxis
    series: tuple[PlotSeries, ...]
    baseline: BaselineLine | None
    caption: str
    alt: str
    front: tuple[tuple[float, float], ...] = ()
    untrained: tuple[BaselineLine, ...] = ()
    margin: float | None = None
    names: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    crossings: tuple[tuple[float, float], ...] = ()

    @property
    def labelled(self) -> tuple[PlotSeries, ...]:
        """Returns the series that have a label."""
        return tuple(series for series in self.series if not series.muted)

    @property
    def file(self) -> str:
        return f"{self.name}.png"
