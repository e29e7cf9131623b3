"""The verdict of a study."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tuneoff.analysis.statistics import Sample, Verdict, estimate, rank, tie_letters, verdict
from tuneoff.analysis.statistics.all_pairs import measure_all
from tuneoff.analysis.statistics.pairs import Direction, measure


def accuracies(
    scores: list[float], seeds: int = 6, examples: int = 400, between: float = 0.01, seed: int = 0
) -> list[Sample]:
    """Methods `a`, `b`, … with these accuracies; examples have a difficulty that all methods share."""
    random = np.random.default_rng(seed)
    difficulty = random.random((1, examples))
    samples = []
    for at, score in enumerate(scores):
        level = score + between * random.standard_normal((seeds, 1))
        mixed = np.where(random.random((seeds, examples)) < 0.3, random.random((seeds, examples)), difficulty)
        samples.append(Sample.from_examples("abcdefgh"[at], range(seeds), mixed < level))
    return samples


def test_a_plain_winner_and_a_tie_behind_it() -> None:
    found = verdict(accuracies([0.7, 0.9, 0.702]), "higher", fraction=True)
    assert (found.best, found.winner) == ("b", "b")
    assert found.pair("b", "a").relation == "ahead"
    assert found.pair("a", "b").relation == "behind"
    assert found.pair("a", "c").relation == "tied"
    assert found.tied_with("a") == ("c",)
    assert found.tied_with("b") == ()
    assert found.letters["a"] == found.letters["c"] != found.letters["b"]
    assert found.estimates[0].label == "b"


def test_the_best_is_no_winner_while_tied_with_anyone() -> None:
    found = verdict(accuracies([0.7, 0.9, 0.901]), "higher")
    assert found.best in found.groups[0]
    assert set(found.groups[0]) == {"b", "c"}
    assert found.pair("b", "a").relation == found.pair("c", "a").relation == "ahead"
    assert found.winner is None


@pytest.mark.parametrize("seeds", [1, 3, 6])
@pytest.mark.parametrize("scores", [[0.7], [0.7, 0.9, 0.702], [0.7, 0.9, 0.901, 0.72, 0.74]])
def test_letters_alone_are_those_of_the_verdict(scores: list[float], seeds: int) -> None:
    samples = accuracies(scores, seeds=seeds)
    assert tie_letters(samples, "higher") == verdict(samples, "higher").letters
    reverse = rank({sample.label: sample.by_seed for sample in samples}, "lower")
    assert tie_letters(samples, "higher", reverse) == verdict(samples, "higher", ranking=reverse).letters


def test_lower_is_better_turns_the_relation() -> None:
    samples = accuracies([0.7, 0.9])
    found = verdict(samples, "lower")
    assert found.best == "a"
    assert found.pair("a", "b").relation == "ahead"
    assert found.pair("a", "b").win_rate == 1.0


def test_a_pair_turned_around_says_the_same() -> None:
    found = verdict(accuracies([0.8, 0.82]), "higher")
    one, other = found.pair("a", "b"), found.pair("b", "a")
    assert one.turned() == other
    assert one.interval is not None
    assert other.interval is not None
    assert one.difference is not None
    assert one.interval.low == -other.interval.high
    assert one.interval.low <= one.difference <= one.interval.high
    with pytest.raises(KeyError):
        found.pair("a", "z")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_below_six_seeds_nothing_is_significant(seeds: int) -> None:
    found = verdict(accuracies([0.2, 0.95], seeds=seeds, between=0.0001), "higher")
    pair = found.pair("b", "a")
    assert pair.p_corrected is not None
    assert pair.p_corrected < 0.05
    assert pair.relation == "open"
    assert pair.seeds_needed == 6
    assert found.winner is None
    assert (found.groups, found.letters, found.tied_with("a")) == ((), {}, ())
    alike = verdict(accuracies([0.8, 0.8], seeds=seeds), "higher").pair("b", "a")
    assert alike.relation == "open", "what is open has one name, whatever the difference"


def test_one_seed_is_tested_by_mcnemar_and_over_examples_alone() -> None:
    samples = accuracies([0.5, 0.9], seeds=1)
    pair = verdict(samples, "higher").pair("b", "a")
    one, two = (sample.contributions for sample in samples)
    assert one is not None
    assert two is not None
    wins, losses = int((two > one).sum()), int((two < one).sum())
    assert pair.p == pytest.approx(stats.binomtest(losses, wins + losses).pvalue, rel=1e-6)
    assert (pair.test, pair.relation, pair.effect) == ("mcnemar", "open", None)
    assert pair.interval is not None
    assert pair.interval.over == "examples"
    assert pair.seeds_needed is None
    assert "one seed" in pair.reason


def test_nothing_to_compare_by_is_said_and_not_guessed() -> None:
    samples = [
        Sample.from_scores("a", [1], [0.5]),
        Sample.from_scores("b", [1], [0.6]),
        Sample.from_scores("c", [2], [0.7]),
    ]
    found = verdict(samples, "higher")
    assert found.pair("b", "a").relation == "open"
    assert found.pair("c", "a").relation == found.pair("c", "b").relation == "not_compared"
    assert found.pair("b", "a").reason == "one seed and no values per example"
    assert found.pair("c", "a").reason == "no seed that both completed"
    assert found.pair("b", "a").p is None
    assert found.estimate("a").interval is None
    assert found.estimate("a").std is None
    assert found.winner is None


def test_seconds_get_the_paired_t_test() -> None:
    ours, theirs = [60.0, 61, 59, 62, 60, 61], [66.0, 68, 64, 69, 65, 68]
    samples = [Sample.from_scores("a", range(6), ours), Sample.from_scores("b", range(6), theirs)]
    pair = verdict(samples, "lower").pair("a", "b")
    expected = stats.ttest_rel(ours, theirs)
    assert pair.p == pytest.approx(expected.pvalue)
    assert pair.interval is not None
    assert (pair.interval.low, pair.interval.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert (pair.test, pair.relation, pair.examples, pair.interval.over) == ("seeds", "ahead", None, "seeds")


def test_the_effect_is_hedges_g() -> None:
    samples = [Sample.from_scores("a", range(3), [2.0, 3, 4]), Sample.from_scores("b", range(3), [1.0, 2, 3])]
    pair = verdict(samples, "higher").pair("a", "b")
    assert pair.effect == pytest.approx(1 - 3 / 15)
    same = [Sample.from_scores("a", range(3), [2.0] * 3), Sample.from_scores("b", range(3), [1.0] * 3)]
    assert verdict(same, "higher").pair("a", "b").effect is None


def test_two_seeds_have_no_effect_size() -> None:
    """Their spread may be next to nothing, and the effect a hundred of it."""
    samples = [Sample.from_scores("a", range(2), [0.9001, 0.9]), Sample.from_scores("b", range(2), [0.87, 0.8702])]
    assert verdict(samples, "higher").pair("a", "b").effect is None


def test_how_many_seeds_would_settle_a_pair_is_a_range() -> None:
    gap = np.array([0.9, -0.2, 0.8, 0.1, 0.6, -0.1])
    samples = [Sample.from_scores("a", range(6), gap), Sample.from_scores("b", range(6), np.zeros(6))]
    pair = verdict(samples, "higher").pairs[0]
    assert pair.seeds_needed is not None
    assert pair.seeds_range is not None
    least, most = pair.seeds_range
    assert most is None, "the difference may be a fifth of what it seems"
    assert 7 <= least < pair.seeds_needed
    gap += 0.25
    clearer = verdict([Sample.from_scores("a", range(6), gap), samples[1]], "higher", level=0.999).pairs[0]
    assert clearer.seeds_range is not None
    assert clearer.seeds_needed is not None
    assert clearer.seeds_range[1] is not None
    assert clearer.seeds_range[0] < clearer.seeds_needed < clearer.seeds_range[1]


def test_where_no_number_of_seeds_is_named_the_greatest_likely_difference_has_one() -> None:
    equal = [Sample.from_scores("a", range(3), [1.0, 2, 3]), Sample.from_scores("b", range(3), [3.0, 2, 1])]
    pair = verdict(equal, "higher").pairs[0]
    assert (pair.seeds_needed, pair.reason) == (None, "the two means are equal")
    assert pair.seeds_range is not None
    assert pair.seeds_range[1] is None


def test_win_rate_counts_ties_half() -> None:
    samples = [Sample.from_scores("a", range(4), [1.0, 2, 3, 9]), Sample.from_scores("b", range(4), [0.0, 2, 4, 5])]
    assert verdict(samples, "higher").pair("a", "b").win_rate == 0.625


def test_pairs_use_the_seeds_that_both_have() -> None:
    one = Sample.from_scores("a", [1, 2, 3, 4], [1.0, 2, 3, 100])
    two = Sample.from_scores("b", [3, 2, 1], [2.0, 1.5, 0.1])
    pair = verdict([one, two], "higher").pair("a", "b")
    assert pair.seeds == 3
    assert pair.difference == pytest.approx((0.9 + 0.5 + 1.0) / 3)


def test_the_correction_counts_all_pairs() -> None:
    alone = verdict(accuracies([0.8, 0.84]), "higher").pair("b", "a")
    among = verdict(accuracies([0.8, 0.84, 0.8, 0.8]), "higher")
    assert alone.p == alone.p_corrected
    smallest = min(among.pairs, key=lambda pair: pair.p or 0.0)
    assert smallest.p is not None
    assert smallest.p_corrected == pytest.approx(6 * smallest.p)


def test_a_projection_comes_true_when_the_seeds_are_added() -> None:
    """Twice the scores of six seeds have the same mean and nearly the spread; the number needed shall follow."""
    gap = np.array([0.9, -0.2, 0.8, 0.1, 0.6, -0.1])
    base = np.zeros(6)
    pair = verdict([Sample.from_scores("a", range(6), gap), Sample.from_scores("b", range(6), base)], "higher").pairs[0]
    assert pair.relation == "tied"
    assert pair.seeds_needed is not None
    times = -(-pair.seeds_needed // 6)
    more = np.tile(gap, times)
    many = [
        Sample.from_scores("a", range(6 * times), more),
        Sample.from_scores("b", range(6 * times), np.zeros(len(more))),
    ]
    assert verdict(many, "higher").pairs[0].significant
    # With the power asked for: the difference exceeds 2.8 standard errors (0.84 + 1.96), and not by much.
    error = gap.std(ddof=1) / pair.seeds_needed**0.5
    assert 2.8 < gap.mean() / error < 3.3


def test_seeds_cannot_settle_what_the_test_set_is_too_small_for() -> None:
    """Every seed gives the same answers, so their difference is the examples' alone."""
    one = np.zeros((6, 100))
    one[:, :52] = 1
    two = np.roll(one, 4, axis=1)
    two[:, 55] = 0
    pair = verdict(
        [Sample.from_examples("a", range(6), one), Sample.from_examples("b", range(6), two)], "higher"
    ).pairs[0]
    assert pair.relation == "tied"
    assert pair.seeds_needed is None
    assert "test set is too small" in pair.reason


def test_no_interval_is_of_no_width_and_no_p_is_zero() -> None:
    """All right against all wrong, twice the same, and differences that are one number at every seed."""
    right, wrong = np.ones((6, 30)), np.zeros((6, 30))
    clear = verdict(
        [Sample.from_examples("a", range(6), right), Sample.from_examples("b", range(6), wrong)],
        "higher",
        fraction=True,
    ).pairs[0]
    assert clear.interval is not None
    # No more than this share of examples may be told otherwise, when thirty were not: 0.025 ** (1 / 30).
    assert (clear.interval.low, clear.interval.high) == pytest.approx((1 - 2 * (1 - 0.025 ** (1 / 30)), 1.0))
    assert clear.p == pytest.approx(2 * 0.5**30)
    assert clear.relation == "ahead"
    few = verdict(
        [Sample.from_examples("a", range(6), right[:, :4]), Sample.from_examples("b", range(6), wrong[:, :4])], "higher"
    ).pairs[0]
    assert (few.p, few.relation, few.interval) == (0.125, "tied", None)
    same = verdict(
        [Sample.from_examples("a", range(6), right), Sample.from_examples("b", range(6), right)],
        "higher",
        fraction=True,
    ).pairs[0]
    assert same.interval is not None
    assert (same.p, same.difference) == (1.0, 0.0)
    assert same.interval.low == pytest.approx(-same.interval.high) == pytest.approx(0.025 ** (1 / 30) - 1)
    scores = np.array([0.7, 0.72, 0.74, 0.71, 0.79, 0.77])
    shifted = verdict(
        [Sample.from_scores("a", range(6), scores + 0.1), Sample.from_scores("b", range(6), scores)], "higher"
    ).pairs[0]
    assert (shifted.p, shifted.interval, shifted.relation) == (None, None, "not_compared")
    assert "the same at every seed" in shifted.reason
    assert shifted.difference == pytest.approx(0.1)
    alone = estimate(Sample.from_scores("a", range(6), np.full(6, 0.5)), fraction=True)
    assert (alone.interval, alone.std) == (None, 0.0)


def test_two_seeds_of_methods_that_do_not_differ_are_rarely_beyond_the_noise() -> None:
    """Without the second estimate of the seeds' error, in more than a third of such studies."""
    beyond = 0
    for study in range(200):
        samples = accuracies([0.8] * 8, seeds=2, examples=200, between=0.0, seed=study)
        beyond += any((pair.p_corrected or 0.0) <= 0.05 for pair in verdict(samples, "higher").pairs)
    assert beyond <= 3


def test_equal_means_and_settled_pairs_ask_for_no_seeds() -> None:
    equal = [Sample.from_scores("a", range(2), [1.0, 2]), Sample.from_scores("b", range(2), [2.0, 1])]
    pair = verdict(equal, "higher").pairs[0]
    assert (pair.seeds_needed, pair.reason) == (None, "the two means are equal")
    settled = verdict(accuracies([0.5, 0.9]), "higher").pairs[0]
    assert (settled.relation, settled.seeds_needed, settled.reason) == ("ahead", None, "")


def test_a_fraction_keeps_its_interval_within_bounds() -> None:
    right = np.ones((6, 50))
    perfect = estimate(Sample.from_examples("a", range(6), right), fraction=True).interval
    assert perfect is not None
    assert perfect.high == 1.0
    # Wilson's interval of 50 right of 50.
    assert perfect.low == pytest.approx(stats.binomtest(50, 50).proportion_ci(method="wilson").low)
    right[:, 0] = 0
    nearly = estimate(Sample.from_examples("a", range(6), right), fraction=True).interval
    assert nearly is not None
    assert 0.85 < nearly.low < 0.98 < nearly.high < 1.0


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_no_end_of_an_interval_is_on_the_other_side_of_its_mean(score: float) -> None:
    for examples in range(2, 200):
        interval = estimate(Sample.from_examples("a", [0, 1], np.full((2, examples), score)), fraction=True).interval
        assert interval is not None
        assert interval.low <= score <= interval.high


def test_one_seed_of_a_fraction_is_wilsons_interval() -> None:
    """Student's quantile for many examples is the normal's."""
    right = np.zeros((1, 5000))
    right[0, :4000] = 1
    found = estimate(Sample.from_examples("a", [0], right), fraction=True).interval
    expected = stats.binomtest(4000, 5000).proportion_ci(method="wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-5)
    assert found.over == "examples"


def test_samples_of_one_label_are_refused() -> None:
    twice = accuracies([0.5])
    with pytest.raises(ValueError, match="different labels"):
        verdict(twice + twice, "higher")
    with pytest.raises(ValueError, match="one at least"):
        verdict([], "higher")


def test_one_method_alone_has_no_rival_and_no_winner() -> None:
    found = verdict(accuracies([0.5]), "higher")
    assert (found.winner, found.pairs, found.groups) == (None, (), (("a",),))


def held(found: Verdict, truth: float) -> NDArray[np.bool_]:
    intervals = [entry.interval for entry in found.estimates]
    return np.array([each is not None and each.low <= truth <= each.high for each in intervals])


def test_methods_that_do_not_differ_rarely_get_a_winner_and_intervals_cover() -> None:
    """A small calibration; benchmarks/calibration.py is the large one. Bounds leave room for 150 studies' chance."""
    false, covered, covered_zero = 0, [], []
    for study in range(150):
        found = verdict(accuracies([0.8] * 4, examples=200, between=0.02, seed=study + 1000), "higher", fraction=True)
        false += any(pair.significant for pair in found.pairs)
        covered.append(held(found, 0.8).mean())
        covered_zero.append(
            np.mean([p.interval is not None and p.interval.low <= 0 <= p.interval.high for p in found.pairs])
        )
    assert false <= 15
    assert 0.9 <= np.mean(covered) <= 0.99
    assert 0.92 <= np.mean(covered_zero) <= 0.985


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_pairs_of_many_arms_are_those_measured_one_by_one(seeds: int, direction: Direction) -> None:
    random = np.random.default_rng(5)
    values = (random.random((10, seeds, 60)) < np.linspace(0.5, 0.9, 10)[:, None, None]).astype(float)
    # Twins, and arms that are the same at every seed: their digits do not suffice together.
    values[3], values[5], values[6] = values[2], values[5, :1], values[6, :1]
    samples = [Sample.from_examples(f"arm {at}", range(seeds), each) for at, each in enumerate(values)]
    if direction == "lower":  # and with training rows drawn per seed
        samples = [replace(sample, pool_share=0.4) for sample in samples]
    together = measure_all(samples, direction)
    for (first, second), (pair, parts) in zip(itertools.combinations(samples, 2), together, strict=True):
        alone, alone_parts = measure(first, second, direction)
        assert replace(pair, difference=None, effect=None) == replace(alone, difference=None, effect=None)
        assert (pair.effect is None) == (alone.effect is None)
        expected = pytest.approx((alone.difference or 0.0, alone.effect or 0.0), rel=1e-9)
        assert (pair.difference or 0.0, pair.effect or 0.0) == expected
        assert (parts is None) == (alone_parts is None)
        if parts is not None and alone_parts is not None:
            assert parts.unit == alone_parts.unit
            numbers, expected_numbers = (
                {name: value for name, value in asdict(each).items() if name != "unit"} for each in (parts, alone_parts)
            )
            assert numbers == pytest.approx(expected_numbers, rel=1e-7, abs=1e-15)


def test_pairs_of_other_seeds_are_measured_one_by_one() -> None:
    samples = [
        Sample.from_scores(f"arm {at}", range(at % 2, 4), np.linspace(0, 1, 4 - at % 2) ** at) for at in range(9)
    ]
    assert [pair.seeds for pair, _ in measure_all(samples, "higher")[:3]] == [3, 4, 3]
