"""Figures as people read them."""

from __future__ import annotations

import pytest

from tuneoff.report import columns, units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0032, "3.2 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (3720, "1 h 02 min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (512, "512 B"), (1024, "1.0 KiB"), (1.2 * 2**20, "1.2 MiB"), (3 << 30, "3.0 GiB")]
)
def test_size(value: float, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1234, "1,234"), (894_528, "894,528"), (999_999.6, "1.0 M"), (124_647_170, "124.6 M")]
)
def test_count(value: float, text: str) -> None:
    assert units.count(value) == text


def test_spreads_share_a_unit() -> None:
    assert units.seconds_spread(12.34, 0.41) == "12.3 ± 0.4 s"
    assert units.size_spread(512 * 2**20, 1.2 * 2**20) == "512.0 ± 1.2 MiB"
    assert units.size_spread(512 * 2**20, 10) == "512.0 MiB"
    assert units.score(0.8617, 0.0123) == "0.862 ± 0.012"
    assert units.score(0.8617) == "0.862"


def test_published_figures_are_shown_as_they_were_written() -> None:
    assert [units.exact(v) for v in (93.88, 0.2193, 124_647_170, 2345)] == ["93.88", "0.2193", "124,647,170", "2,345"]


@pytest.mark.parametrize(
    ("value", "digits", "up", "text"),
    [
        (0.0121, 3, True, "0.013"),
        (0.029, 3, True, "0.029"),
        (1e-7, 3, True, "0.001"),
        (0.0, 3, True, "0.000"),
        (-0.0004, 3, True, "0.000"),
        (0.8619, 3, False, "0.861"),
        (1234.2, 0, True, "1,235"),
    ],
)
def test_a_bound_is_never_rounded_to_where_it_does_not_hold(value: float, digits: int, up: bool, text: str) -> None:
    assert units.bound(value, digits, up) == text


def test_small_numbers_of_any_unit_keep_three_digits() -> None:
    assert units.number_spread(0.000312, 0.0000149) == "0.000312 ± 0.000015"
    assert units.number_spread(0.0312, None) == "0.0312"
    assert [units.number_spread(value, None) for value in (0.0, 1e-17, 0.1234, 12.345)] == [
        "0.000",
        "0.000",
        "0.123",
        "12.35",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+0.012"), (-0.0123, "-0.012"), (-0.0004, "+0.000"), (0.0, "+0.000"), (-1e-9, "+0.000")],
)
def test_what_is_shown_as_zero_is_not_below_it(value: float, text: str) -> None:
    assert units.change_spread(value, None) == text
    assert columns.signed(value, "fraction") == text
