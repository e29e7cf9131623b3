"""Intervals of two models that answer nearly alike, by the answers that differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from tuneoff.analysis.statistics.discordant import score_interval, widen
from tuneoff.analysis.statistics.pairs import Pair, bound, measure
from tuneoff.analysis.statistics.sample import Sample

Z = norm.ppf(0.975)
Values = NDArray[Any]


def score(difference: float, gained: float, lost: float, examples: int) -> float:
    """The score statistic, with the likeliest shares of such a difference found by search."""
    least, most = max(0.0, -difference), (1 - difference) / 2

    def loss(share_lost: float) -> float:
        shares = (share_lost + difference, share_lost, 1 - difference - 2 * share_lost)
        counts = (gained, lost, examples - gained - lost)
        return -sum(count * math.log(max(share, 1e-300)) for count, share in zip(counts, shares, strict=True) if count)

    share_lost = minimize_scalar(loss, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    variance = 2 * share_lost + difference - difference**2
    return abs(gained - lost - examples * difference) / math.sqrt(examples * variance)


@pytest.mark.parametrize(("gained", "lost", "examples"), [(3, 1, 40), (12, 2, 50), (0.5, 0, 400), (1 / 6, 2.5, 60)])
def test_its_ends_are_the_differences_that_the_score_test_just_does_not_reject(
    gained: float, lost: float, examples: int
) -> None:
    interval = score_interval(gained, lost, examples)
    for end in (interval.low, interval.high):
        assert score(end, gained, lost, examples) == pytest.approx(Z, abs=2e-3)
    assert interval.low < (gained - lost) / examples < interval.high


def test_without_a_changed_answer_it_is_what_the_number_of_examples_leaves_open() -> None:
    interval = score_interval(0, 0, 400)
    assert -interval.low == pytest.approx(interval.high) == pytest.approx(Z**2 / (400 + Z**2))


def test_every_answer_that_changes_makes_it_wider() -> None:
    for part in (1.0, 1 / 6):
        for gains in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
            intervals = [score_interval(part * k * gains[0], part * k * gains[1], 200) for k in range(60)]
            widths = [interval.high - interval.low for interval in intervals]
            assert all(np.diff(widths) > 0)


@pytest.mark.parametrize(("shares"), [(0.001, 0.0), (0.02, 0.0), (0.02, 0.02), (0.1, 0.03), (0.2, 0.2)])
def test_it_holds_the_truth_as_often_as_it_says_over_all_outcomes(shares: tuple[float, float]) -> None:
    examples, (gain, loss) = 60, shares
    held = 0.0
    for gained in range(examples + 1):
        first = binom.pmf(gained, examples, gain)
        for lost in range(examples + 1 - gained) if first > 1e-9 else ():
            chance = first * binom.pmf(lost, examples - gained, loss / (1 - gain))
            if chance > 1e-9:
                interval = score_interval(gained, lost, examples)
                held += chance * (interval.low <= gain - loss <= interval.high)
    assert held > 0.94


@pytest.mark.parametrize("alike", [True, False])
def test_of_several_seeds_it_holds_the_truth_whether_they_fail_alike_or_not(alike: bool) -> None:
    random, seeds, examples, gain, loss = np.random.default_rng(5), 6, 200, 0.015, 0.005
    held = []
    for _ in range(300):
        draws = random.random((1 if alike else seeds, examples)).repeat(seeds if alike else 1, axis=0)
        base = np.where(draws < gain, 0.0, 1.0)
        form = np.where((draws >= gain) & (draws < gain + loss), 0.0, 1.0)
        pair = compared(form, base)
        assert pair.interval is not None
        held.append(pair.interval.low <= gain - loss <= pair.interval.high)
    assert np.mean(held) > 0.93


def samples(form: Values, base: Values, groups: Values | None = None) -> tuple[Sample, Sample]:
    first, second = (
        Sample.from_examples(name, range(len(own)), own, groups) for name, own in (("a", form), ("b", base))
    )
    return first, second


def compared(form: Values, base: Values) -> Pair:
    first, second = samples(form, base)
    return widen(unwidened(first, second), first, second)


def unwidened(first: Sample, second: Sample) -> Pair:
    (pair,) = bound([measure(first, second, "higher")], 0.95, True, [0.05])
    return pair


def test_a_model_with_a_changed_answer_is_no_surer_than_one_without() -> None:
    base = np.tile(np.arange(400) % 10 > 0, (6, 1)).astype(float)
    widths = []
    for changes in range(8):
        form = base.copy()
        form[:, 1::10].flat[:changes] = 0.0
        interval = compared(form, base).interval
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(0.019, abs=0.001)
    assert all(np.diff(widths) >= 0)


def test_values_that_are_no_answers_and_groups_keep_their_interval() -> None:
    random = np.random.default_rng(0)
    values = random.random((3, 40))
    answers = np.tile(np.arange(40) % 4 > 0, (3, 1)).astype(float)
    other = answers.copy()
    other[0, 1] = 0.0
    for first, second in (
        samples(values + random.normal(0, 0.001, values.shape), values),
        samples(other, answers, np.arange(40) // 4),
    ):
        pair = unwidened(first, second)
        assert widen(pair, first, second) is pair
    assert compared(other, answers) != unwidened(*samples(other, answers))
