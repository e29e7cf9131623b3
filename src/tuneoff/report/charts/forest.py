"""The differences of all arms to the best, one line each: what a page draws as a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from tuneoff.report import columns
from tuneoff.report.arm_schema import Comparison
from tuneoff.report.schema import Report

ARMS_SHOWN = 30
# In pixels: a letter's width, the scale's, that of figures at its right, an arm's height, and room above and below.
_LETTER, _WIDTH, _TEXT_WIDTH, _ROW_HEIGHT, _TOP, _BOTTOM = 7.5, 420.0, 190.0, 24.0, 20.0, 34.0
_LABEL_LENGTH = 25


@dataclass(frozen=True)
class ForestLine:
    """An arm's difference to the best; all places in pixels, from the left but for `y`.

    Attributes:
        label: the arm's, cut to the room there is.
        figures: the difference with its interval in words, or `best`.
        relation: how it stands to the best.
        y: the line's place from the top.
        at: the difference; None outside the scale.
        low, high: the interval's ends, cut to the scale; None without an interval.
        below, above: whether something lies outside the scale on that side.
    """

    label: str
    figures: str
    relation: str
    y: float
    at: float | None
    low: float | None
    high: float | None
    below: bool
    above: bool


@dataclass(frozen=True)
class Forest:
    """All that the picture shows; its places are in pixels, and `left_out` counts arms without a line.

    `margin` is where an arm is worse than the best by the study's margin; None where the study names none.
    """

    lines: tuple[ForestLine, ...]
    ticks: tuple[tuple[float, str], ...]
    zero: float
    margin: float | None
    left: float
    right: float
    top: float
    bottom: float
    width: float
    height: float
    left_out: int


def build_forest(report: Report) -> Forest | None:
    """Returns the picture's data, the best first; None where no arm is compared with a best one.

    The scale reaches as far as arms that train need. Baselines, often far away, may lie outside and are marked.
    """
    compared = [(arm, arm.to_best) for arm in report.methods if isinstance(arm.to_best, Comparison)]
    weighed = [(arm, pair, pair.difference) for arm, pair in compared if pair.difference is not None]
    if not weighed or report.answer.best is None:
        return None
    direction = -1 if report.study.primary_direction == "lower" else 1
    weighed.sort(key=lambda item: -direction * item[2])
    shown = weighed[:ARMS_SHOWN]
    in_scale = [item for item in shown if item[0].trains] or shown
    study_margin = None if report.answer.margin is None else -direction * report.answer.margin
    ends = [0.0, study_margin or 0.0, *(end for _, pair, _ in in_scale for end in _ends(pair))]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.06 or 0.05
    low, high = low - room, high + room
    unit = report.study.primary_unit
    labels = [_cut(label) for label in (report.answer.best, *(arm.method for arm, _, _ in shown))]
    left = 20 + _LETTER * max(map(len, labels))

    def place(value: float) -> float:
        return round(left + _WIDTH * (min(max(value, low), high) - low) / (high - low), 1)

    first = _TOP + _ROW_HEIGHT * 0.75
    lines = [ForestLine(labels[0], "best", "best", first, place(0), None, None, False, False)]
    for index, (_, pair, difference) in enumerate(shown, 1):
        span = _ends(pair)
        has_interval = len(span) > 1
        lines.append(
            ForestLine(
                label=labels[index],
                figures=columns.difference(pair, unit),
                relation=pair.relation,
                y=first + _ROW_HEIGHT * index,
                at=place(difference) if low <= difference <= high else None,
                low=place(span[1]) if has_interval else None,
                high=place(span[2]) if has_interval else None,
                below=min(span) < low,
                above=max(span) > high,
            )
        )
    ticks = [float(value) for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high]
    bottom = first + _ROW_HEIGHT * len(lines)
    return Forest(
        lines=tuple(lines),
        ticks=tuple((place(value), f"{value:+.4g}" if value else "0") for value in ticks),
        zero=place(0),
        margin=None if study_margin is None else place(study_margin),
        left=left,
        right=left + _WIDTH,
        top=_TOP,
        bottom=bottom,
        width=left + _WIDTH + _TEXT_WIDTH,
        height=bottom + _BOTTOM,
        left_out=len(weighed) - len(shown),
    )


def _ends(pair: Comparison) -> Sequence[float]:
    """Returns the difference, and its interval's ends where there is one."""
    assert pair.difference is not None  # only weighed pairs are drawn
    if pair.interval_low is None or pair.interval_high is None:
        return (pair.difference,)
    return (pair.difference, pair.interval_low, pair.interval_high)


def _cut(label: str) -> str:
    return label if len(label) <= _LABEL_LENGTH else f"{label[: _LABEL_LENGTH - 1]}…"
