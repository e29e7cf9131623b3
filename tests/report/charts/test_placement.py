"""Labels cover neither points nor one another."""

from __future__ import annotations

import itertools
import random

import pytest

from tuneoff.report.charts.placement import MARKER, Box, place, spread_out

ROOM = Box(0, 0, 1000, 600)


@pytest.mark.parametrize("seed", range(5))
def test_a_crowd_of_labels_does_not_overlap(seed: int) -> None:
    noise = random.Random(seed)
    points = [(noise.gauss(600, 60), noise.gauss(450, 25)) for _ in range(10)]
    boxes = place(points, [(90.0, 16.0)] * 10, [], ROOM)
    assert all(one.overlap(two) == 0 for one, two in itertools.combinations(boxes, 2))
    markers = [Box(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    assert all(box.overlap(marker) == 0 for box in boxes for marker in markers)
    assert all(box.overlap(ROOM) == pytest.approx(box.area) for box in boxes)


def test_a_lone_label_stands_to_the_right() -> None:
    box = place([(100, 100)], [(50, 16)], [], ROOM)[0]
    assert box.x0 > 100 + MARKER
    assert box.y0 < 100 < box.y1


def test_spread_out_keeps_order_gap_and_place() -> None:
    placed = spread_out([10.0, 12.0, 11.0, 500.0], 20, 0, 600)
    ordered = [placed[0], placed[2], placed[1], placed[3]]
    assert all(after - before >= 20 - 1e-9 for before, after in itertools.pairwise(ordered))
    assert placed[3] == 500
    assert min(placed) >= 0


def test_spread_out_moves_a_group_around_its_middle() -> None:
    assert spread_out([100.0, 100.0], 20, 0, 600) == [90.0, 110.0]


def test_spread_out_stays_below_the_top() -> None:
    assert spread_out([595.0, 596.0], 20, 0, 600) == [580.0, 600.0]
