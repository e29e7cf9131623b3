"""What learning curves over training rows say: gains, the test of the law, crossings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.learning_curve import (
    NO_BEST_VALUE,
    NO_ERROR,
    TOO_FEW_SIZES,
    Curves,
    learning_curves,
)

SIZES = (250, 500, 1000, 2000)
Curve = Callable[[int], float]


def falling(limit: float, scale: float, exponent: float) -> Curve:
    return lambda rows: 1 - limit - scale * rows**-exponent


def flat(score: float) -> Curve:
    return lambda rows: score


def samples(
    curve: Curve, name: str, sizes: tuple[int, ...] = SIZES, seeds: int = 6, examples: int = 400, spread: float = 0.004
) -> dict[int, Sample]:
    """Scores around a curve; examples are as hard at every size."""
    hardness = np.random.default_rng(0).random(examples)
    random = np.random.default_rng(sum(map(ord, name)))
    made = {}
    for rows in sizes:
        ability = curve(rows) + spread * random.standard_normal((seeds, 1))
        right = (hardness + 0.1 * random.standard_normal((seeds, examples)) < ability).astype(float)
        # The mean is where the curve is: what is tested is what is made of it.
        right += ability - right.mean(axis=1, keepdims=True)
        made[rows] = Sample.from_examples(name, range(seeds), right)
    return made


def curves(direction: str = "higher", best: float = 1.0, **arms: dict[int, Sample]) -> Curves:
    return learning_curves(arms, direction, best, draws=400)  # type: ignore[arg-type]


def test_more_rows_bring_what_the_curve_says() -> None:
    truth = falling(0.05, 3.0, 0.5)
    fitted = curves(lora=samples(truth, "lora")).fitted[0]
    assert (fitted.label, fitted.rows, fitted.reason) == ("lora", SIZES, "")
    assert [law.law.form for law in fitted.laws] == ["power with limit", "power with offset"]
    assert sum(law.share for law in fitted.laws) == pytest.approx(1)
    assert [gain.more for gain in fitted.gains] == [500, 2000]
    for gain in fitted.gains:
        assert gain.gain.low <= truth(2000 + gain.more) - truth(2000) <= gain.gain.high
        assert gain.gain.low <= gain.gain.value <= gain.gain.high
    assert fitted.line[0][0] == 250
    assert fitted.line[-1][0] == 4000


def test_fewer_seeds_and_examples_make_the_interval_wider() -> None:
    few, many = (
        curves(lora=samples(falling(0.05, 3.0, 0.5), "lora", seeds=seeds, examples=examples)).fitted[0]
        for seeds, examples in ((3, 100), (12, 2000))
    )
    widths = [gain.high - gain.low for each in (few, many) for gain in (each.gains[1].gain,)]
    assert widths[0] > 1.5 * widths[1]


def test_a_flat_curve_gains_nothing_that_is_sure() -> None:
    gain = curves(head=samples(flat(0.7), "head")).fitted[0].gains[0].gain
    assert gain.low <= 0 <= gain.high


def test_the_largest_size_is_foretold_by_the_others() -> None:
    held_out = curves(lora=samples(falling(0.0, 3.0, 0.5), "lora")).fitted[0].held_out
    assert held_out is not None
    assert (held_out.rows, held_out.forms) == (2000, ("power", "square root"))
    assert held_out.error.value == pytest.approx(held_out.predicted.value - held_out.measured)
    assert held_out.holds
    broken = samples(lambda rows: falling(0.0, 3.0, 0.5)(rows) - (0.2 if rows == 2000 else 0.0), "lora")
    missed = curves(lora=broken).fitted[0].held_out
    assert missed is not None
    assert not missed.holds
    assert missed.error.low > 0.1


def test_three_sizes_have_a_law_and_no_test_of_it() -> None:
    fitted = curves(lora=samples(falling(0.0, 3.0, 0.5), "lora", sizes=SIZES[:3])).fitted[0]
    assert [law.law.form for law in fitted.laws] == ["power", "square root"]
    assert fitted.held_out is None


def test_sizes_that_no_law_fits_widen_the_interval() -> None:
    truth = falling(0.05, 3.0, 0.5)
    bumpy = samples(lambda rows: truth(rows) + {500: 0.03, 1000: -0.03}.get(rows, 0.0), "lora")
    smooth_fit, bumpy_fit = (curves(lora=each).fitted[0] for each in (samples(truth, "lora"), bumpy))
    assert all(law.misfit > 0.01 for law in bumpy_fit.laws)
    assert all(law.misfit < 0.01 for law in smooth_fit.laws)
    widths = [each.gains[0].gain.high - each.gains[0].gain.low for each in (smooth_fit, bumpy_fit)]
    assert widths[1] > widths[0]


def test_a_loss_is_an_error_itself() -> None:
    losses = {rows: Sample.from_scores("lora", range(4), 0.2 + 20 / rows + 0.002 * np.arange(4)) for rows in SIZES}
    fitted = curves("lower", 0.0, lora=losses).fitted[0]
    assert fitted.gains[1].gain.value == pytest.approx(20 / 2000 - 20 / 4000, abs=1.5e-3)
    assert fitted.line[0][1].value > fitted.line[-1][1].value > 0


@pytest.mark.parametrize(
    ("own", "best", "reason"),
    [
        (samples(flat(0.5), "a"), math.inf, NO_BEST_VALUE),
        (samples(flat(0.5), "a", sizes=SIZES[:2]), 1.0, TOO_FEW_SIZES),
        ({rows: Sample.from_scores("a", [0], [0.5 + rows / 1e5]) for rows in SIZES}, 1.0, NO_ERROR),
    ],
)
def test_where_there_is_no_law_it_is_said_why(own: dict[int, Sample], best: float, reason: str) -> None:
    fitted = curves(best=best, a=own).fitted[0]
    assert (fitted.laws, fitted.gains, fitted.line, fitted.reason) == ((), (), (), reason)


def test_where_an_arm_overtakes_another_is_found() -> None:
    steep, slow = (lambda rows: 0.5 + 0.1 * math.log2(rows / 250)), (lambda rows: 0.65 + 0.0 * rows)
    found = curves(full=samples(steep, "full"), head=samples(slow, "head")).crossings
    assert [(each.first, each.second) for each in found] == [("head", "full")]
    crossing = found[0]
    assert crossing.share == 1.0
    assert crossing.rows == pytest.approx(250 * 2**1.5, rel=0.1)
    assert crossing.low is not None
    assert crossing.high is not None
    assert crossing.low < crossing.rows < crossing.high


def test_the_last_crossing_counts_and_arms_that_keep_their_order_have_none() -> None:
    better, worse = samples(flat(0.8), "a"), samples(flat(0.6), "b")
    assert curves(a=better, b=worse).crossings == ()
    twice = {250: 0.7, 500: 0.5, 1000: 0.7, 2000: 0.5}
    crossing = curves(a=samples(flat(0.6), "a"), b=samples(twice.__getitem__, "b")).crossings[0]
    assert (crossing.first, crossing.second) == ("b", "a")
    assert 1000 < crossing.rows < 2000


def test_without_any_error_a_crossing_has_a_place_and_no_interval() -> None:
    one = {rows: Sample.from_scores("a", [0], [rows / 4000]) for rows in SIZES}
    other = {rows: Sample.from_scores("b", [0], [0.2]) for rows in SIZES}
    crossing = curves(a=one, b=other).crossings[0]
    assert (crossing.first, crossing.share, crossing.low) == ("b", None, None)
    assert 500 < crossing.rows < 1000


def test_equal_samples_give_equal_curves() -> None:
    own = samples(falling(0.05, 3.0, 0.5), "lora")
    assert curves(lora=own).fitted[0].gains == curves(lora=own).fitted[0].gains
