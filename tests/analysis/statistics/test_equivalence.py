"""Whether a method is shown to be as good as another, within a margin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tuneoff.analysis.statistics import Sample, equivalence, most_better, most_worse, verdict

GAPS = np.array([0.011, 0.008, 0.012, 0.009, 0.010, 0.010])
"""How far `b` is behind `a`: 0.010 on average."""


def two(base: float = 0.9, gaps: np.ndarray = GAPS) -> list[Sample]:
    scores = base + np.linspace(0, 0.01, len(gaps))
    return [
        Sample.from_scores("a", range(len(gaps)), scores),
        Sample.from_scores("b", range(len(gaps)), scores - gaps),
    ]


def test_the_bounds_are_one_sided_and_two_tests_are_the_interval_of_90_percent() -> None:
    pair = verdict(two(), "higher").pair("b", "a")
    low, high = stats.ttest_1samp(-GAPS, 0).confidence_interval(0.9)
    assert pair.bounds is not None
    assert (pair.bounds.low, pair.bounds.high) == pytest.approx((low, high))
    assert most_worse(pair, "higher") == pytest.approx(-low)
    assert most_better(pair, "higher") == 0.0, "it is surely worse"


@pytest.mark.parametrize(("margin", "shown"), [(0.012, "equivalent"), (0.0105, "not_shown"), (0.005, "not_shown")])
def test_an_arm_is_as_good_within_the_margin_that_its_bound_keeps(margin: float, shown: str) -> None:
    judged = verdict(two(), "higher")
    assert judged.pair("b", "a").relation == "behind", "significant, and yet small"
    assert equivalence(judged.pair("b", "a"), margin, "higher") == shown
    # The better one is no worse, whatever the margin, and better by more than a small one.
    assert equivalence(judged.pair("a", "b"), 0.001, "higher") == "as_good"


def test_where_less_is_better_the_sides_change() -> None:
    pair = verdict(two(), "lower").pair("b", "a")
    assert most_worse(pair, "lower") == 0.0
    assert most_better(pair, "lower") == pytest.approx(-stats.ttest_1samp(-GAPS, 0).confidence_interval(0.9).low)


def test_bounds_hold_for_all_rivals_of_an_arm_together() -> None:
    """Three arms have two rivals each: an error of 2.5 % for each bound, the end of the interval of 95 %."""
    samples = [*two(), Sample.from_scores("c", range(6), [0.95, 0.94, 0.96, 0.93, 0.97, 0.95])]
    for pair in verdict(samples, "higher").pairs:
        assert pair.bounds is not None
        assert pair.interval is not None
        assert (pair.bounds.low, pair.bounds.high) == pytest.approx((pair.interval.low, pair.interval.high))


def test_too_few_seeds_show_nothing() -> None:
    pair = verdict(two(gaps=GAPS[:5]), "higher").pair("b", "a")
    assert (pair.relation, most_worse(pair, "higher")) == ("open", None)
    assert equivalence(pair, 0.5, "higher") == "not_shown"


def test_a_worse_arm_is_rarely_said_to_be_as_good() -> None:
    """Five arms, four of which are worse than the first by exactly the margin: any claim is false."""
    random = np.random.default_rng(0)
    false = 0
    for _ in range(150):
        scores = random.normal(size=(5, 6))
        scores[1:] -= 3.0
        judged = verdict([Sample.from_scores(str(arm), range(6), scores[arm]) for arm in range(5)], "higher")
        false += any(equivalence(judged.pair(str(arm), "0"), 3.0, "higher") != "not_shown" for arm in range(1, 5))
    assert false <= 15
