"""The law that errors over training rows are fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.analysis.statistics.learning_law import PARAMETERS, Form, fit, forms_for

SIZES = np.array([250, 500, 1000, 2000, 4000, 8000], dtype=float)


def rectified(rows: np.ndarray, limit: float, scale: float, offset: float, exponent: float) -> np.ndarray:
    return np.asarray(limit + scale / (offset + rows**exponent))


@pytest.mark.parametrize(
    ("sizes", "forms"),
    [
        (1, ()),
        (2, ()),
        (3, ("power", "square root")),
        (4, ("power with limit", "power with offset")),
        (5, ("rectified",)),
        (9, ("rectified",)),
    ],
)
def test_a_law_has_fewer_parameters_than_there_are_sizes(sizes: int, forms: tuple[Form, ...]) -> None:
    assert forms_for(sizes) == forms
    assert all(PARAMETERS[form] < sizes for form in forms)


@pytest.mark.parametrize(
    ("form", "sizes", "truth"),
    [
        ("power", SIZES[:3], (0.0, 4.0, 0.0, 0.5)),
        ("power with limit", SIZES[:4], (0.05, 4.0, 0.0, 0.5)),
        ("power with offset", SIZES[:4], (0.0, 40.0, 80.0, 0.8)),
        ("square root", SIZES[:3], (0.05, 4.0, 0.0, 0.5)),
        ("rectified", SIZES, (0.05, 40.0, 80.0, 0.8)),
    ],
)
def test_a_law_is_found_again(form: Form, sizes: np.ndarray, truth: tuple[float, float, float, float]) -> None:
    errors = rectified(sizes, *truth)
    laws = fit(sizes, errors[None], np.ones(len(sizes)), form)
    ahead = [sizes[-1] * 1.25, sizes[-1] * 2]
    assert laws.at(sizes)[0] == pytest.approx(errors, abs=1e-3)
    assert laws.at(ahead)[0] == pytest.approx(rectified(np.array(ahead), *truth), abs=4e-3)


def test_each_set_of_errors_has_its_own_law() -> None:
    errors = np.stack([rectified(SIZES[:4], limit, 3.0, 0.0, 0.5) for limit in (0.0, 0.1, 0.3)])
    together = fit(SIZES[:4], errors, np.ones(4), "power with limit")
    apart = [fit(SIZES[:4], own[None], np.ones(4), "power with limit").at([9000])[0, 0] for own in errors]
    assert together.at([9000])[:, 0] == pytest.approx(apart)


def test_no_limit_and_no_error_is_below_zero() -> None:
    falling = np.array([[0.3, 0.2, 0.1, 0.001]])
    laws = fit(SIZES[:4], falling, np.ones(4), "power with limit")
    assert laws.limit[0] >= 0
    assert laws.at([1e6])[0, 0] >= 0


def test_rows_may_do_harm() -> None:
    cases: tuple[tuple[Form, int], ...] = (("power", 3), ("power with limit", 4))
    for form, count in cases:
        rising = np.linspace(0.1, 0.2, count)[None]
        laws = fit(SIZES[:count], rising, np.ones(count), form)
        assert laws.at([16_000])[0, 0] > laws.at([500])[0, 0]


def test_a_size_of_little_weight_counts_for_little() -> None:
    errors = rectified(SIZES[:4], 0.05, 3.0, 0.0, 0.5)
    errors[0] += 0.2
    laws = fit(SIZES[:4], errors[None], [1e-9, 1, 1, 1], "power with limit")
    assert laws.at(SIZES[1:4])[0] == pytest.approx(errors[1:4], abs=1e-3)


def test_as_many_parameters_as_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sizes are too few for a law of 3 parameters"):
        fit(SIZES[:3], np.ones((1, 3)), np.ones(3), "power with limit")
