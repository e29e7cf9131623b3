"""Places labels so that they cover neither points nor one another; plain geometry in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MARKER = 9.0
"""Half the side of the square that a marker takes."""


@dataclass(frozen=True)
class Box:
    """A rectangle; x0 ≤ x1, y0 ≤ y1."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """Returns the area that both cover."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height if width > 0 and height > 0 else 0.0

    @property
    def area(self) -> float:
        return (self.x1 - self.x0) * (self.y1 - self.y0)


class _Boxes:
    """Many boxes: a chart of a hundred arms asks some hundred thousand times what one of them covers."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self._ends = np.array([(box.x0, box.y0, box.x1, box.y1) for box in boxes]).reshape(-1, 4).T

    def overlap(self, box: Box) -> float:
        """Returns the area of the box that they cover, counted as often as it is covered."""
        x0, y0, x1, y1 = self._ends
        widths = np.minimum(x1, box.x1) - np.maximum(x0, box.x0)
        heights = np.minimum(y1, box.y1) - np.maximum(y0, box.y0)
        return float((np.maximum(widths, 0) * np.maximum(heights, 0)).sum())


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], occupied: Sequence[Box], room: Box
) -> list[Box]:
    """Returns a box for each point's label.

    The points with the most neighbours choose first, each the nearest place that covers least.

    Args:
        points: marker centres.
        sizes: width and height of each label.
        taken: what labels must not cover besides markers and one another.
        room: where labels must stay.
    """
    markers = [Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    obstacles = _Boxes([*markers, *occupied])
    neighbour_counts = [sum(math.dist(point, other) < 120 for other in points) for point in points]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(points)), key=lambda i: (-neighbour_counts[i], i)):
        best: tuple[float, Box] | None = None
        for distance_cost, box in _candidates(points[index], sizes[index]):
            covered = obstacles.overlap(box) + sum(box.overlap(other) for other in placed.values())
            outside = box.area - box.overlap(room)
            crossed = sum(_crosses(points[index], box, other) for other in placed.values())
            cost = (
                distance_cost
                + 40 * crossed
                + (1000 + covered if covered > 0 else 0)
                + (3000 + outside if outside > 1 else 0)
            )
            if best is None or cost < best[0] - 1e-9:
                best = cost, box
        if best is not None:
            placed[index] = best[1]
    return [placed[index] for index in range(len(points))]


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Returns boxes around a point, with their cost: near and to the right first."""
    width, height = size[0] + 4, size[1] + 2
    candidates = []
    for distance in (MARKER + 3, 24.0, 40.0, 60.0, 85.0, 115.0, 150.0):
        for turn in range(16):
            angle = turn * math.pi / 8
            dx, dy = math.cos(angle), math.sin(angle)
            # The label's edge, not its centre, stands `distance` away.
            x = point[0] + dx * distance + (width / 2) * max(-1.0, min(1.0, dx * 1.5))
            y = point[1] + dy * distance + (height / 2) * max(-1.0, min(1.0, dy * 1.5))
            side = 0.0 if turn == 0 else 2.0 if turn == 8 else 4.0 if turn % 4 == 0 else 3.0
            candidates.append((distance + side, Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
    return candidates


def _crosses(point: tuple[float, float], box: Box, other: Box) -> bool:
    """Returns whether the line from a point to its label runs through another label."""
    x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    steps = [(point[0] + (x - point[0]) * t / 12, point[1] + (y - point[1]) * t / 12) for t in range(13)]
    return any(other.x0 < px < other.x1 and other.y0 < py < other.y1 for px, py in steps)


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Returns positions near the wanted ones, at least `gap` apart and, where they fit, between `low` and `high`.

    Neighbours that are too close are moved as a group around their mean, which moves all the least.
    """
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    groups: list[list[float]] = []  # [sum of (wanted - offset), members]
    for index in order:
        groups.append([wanted[index], 1.0])
        while len(groups) > 1 and _start(groups[-2]) + gap * groups[-2][1] > _start(groups[-1]):
            total, members = groups.pop()
            previous = groups[-1]
            # Members after the first stand gap, 2·gap, … above it.
            previous[0] += total - gap * previous[1] * members
            previous[1] += members
    positions: list[float] = []
    for group in groups:
        start = _start(group)
        positions += [start + gap * k for k in range(int(group[1]))]
    for at in range(len(positions)):
        positions[at] = max(positions[at], low + gap * at)
    for offset in range(len(positions)):
        at = len(positions) - 1 - offset
        positions[at] = min(positions[at], high - gap * offset)
    placed = [0.0] * len(wanted)
    for position, index in zip(positions, order, strict=True):
        placed[index] = position
    return placed


def _start(group: list[float]) -> float:
    """Returns the position of the first member of a group."""
    return group[0] / group[1]
