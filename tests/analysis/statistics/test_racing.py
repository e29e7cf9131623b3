"""Who gets more seeds in a race, and when it is over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tuneoff.analysis.statistics import Looks, Race, Sample, Verdict, replay, verdict

COUNTS = (6, 8, 11)


def race(
    means: Mapping[str, float], run: Mapping[str, int] | None = None, margin: float | None = None, spread: float = 0.01
) -> Race:
    """Follows a race of methods of these true means; `run`: how many seeds of a method there are, all by default."""
    samples = [
        Sample.from_scores(label, range(11), mean + spread * np.random.default_rng(number).standard_normal(11))
        for number, (label, mean) in enumerate(means.items())
    ]

    def judge(done: Mapping[str, int]) -> Verdict:
        return verdict(samples, "higher", looks=Looks(tuple(range(11)), COUNTS, done))

    return replay(list(means), COUNTS, lambda label, count: (run or {}).get(label, 11) >= count, judge, margin)


def test_what_is_significantly_behind_any_leaves_and_the_rest_goes_on() -> None:
    result = race(
        {"best": 0.9, "near": 0.895, "far": 0.7, "farther": 0.6},
        {"best": 7, "near": 7, "far": 6, "farther": 6},
        margin=0.001,
    )
    assert result.running == ("best", "near")
    assert result.ending is None
    (look,) = result.looks
    assert (look.seeds, look.methods) == (6, ("best", "near", "far", "farther"))
    assert set(look.beaten) == {"far", "farther"}
    assert result.done == {"best": 1, "near": 1, "far": 1, "farther": 1}


def test_it_is_over_where_one_is_left() -> None:
    result = race({"best": 0.9, "far": 0.7, "farther": 0.6})
    assert (result.ending, result.running, len(result.looks)) == ("settled", (), 1)
    assert result.looks[0].best == "best"


def test_it_is_over_where_the_rest_is_equivalent_within_the_margin() -> None:
    assert race({"a": 0.9, "b": 0.9}, margin=0.3).ending == "equivalent"
    assert race({"a": 0.9, "b": 0.9}, margin=0.001).ending == "last look"


def test_it_is_over_where_no_number_of_seeds_would_settle_the_rest_unless_a_margin_might() -> None:
    assert race({"a": 0.9, "b": 0.9}).ending == "hopeless"


def test_more_seeds_than_are_projected_elsewhere_may_settle_a_long_race() -> None:
    # Of seeds alone, without test examples, every difference is found by seeds enough.
    random = np.random.default_rng(0)
    spread = [np.append(each, -each) for each in random.standard_normal((2, 30))]
    samples = [
        Sample.from_scores(label, range(60), mean + 0.01 * values)
        for label, mean, values in zip("ab", (0.9, 0.901), spread, strict=True)
    ]

    def ending(counts: tuple[int, ...]) -> str | None:
        def judge(done: Mapping[str, int]) -> Verdict:
            return verdict(samples, "higher", looks=Looks(tuple(range(counts[-1])), counts, done))

        return replay(["a", "b"], counts, lambda _, count: count <= 60, judge).ending

    assert ending((60, 80)) == "hopeless"
    assert ending((60, 1000)) is None


def test_a_pair_with_one_seed_in_common_goes_on() -> None:
    seeds = {"a": (0, 1, 2, 3), "b": (0, 4, 5)}
    random = np.random.default_rng(0)
    samples = [
        Sample.from_examples(label, of_arm, random.random((len(of_arm), 50)) < 0.8) for label, of_arm in seeds.items()
    ]

    def judge(done: Mapping[str, int]) -> Verdict:
        return verdict(samples, "higher", looks=Looks(tuple(range(11)), COUNTS, done))

    result = replay(["a", "b"], COUNTS, lambda _, count: count <= 6, judge)
    assert (result.ending, len(result.looks), result.running) == (None, 1, ("a", "b"))


def test_it_waits_for_every_method_in_it_and_for_no_other() -> None:
    waiting = race({"best": 0.9, "near": 0.895, "far": 0.7}, {"near": 5})
    assert (waiting.looks, waiting.running) == ((), ("best", "near", "far"))
    waiting = race({"best": 0.9, "near": 0.895, "far": 0.7}, {"near": 8, "far": 6}, margin=0.001)
    assert len(waiting.looks) == 2


def test_a_method_without_a_score_leaves() -> None:
    samples = [Sample.from_scores("a", range(6), np.linspace(0.8, 0.9, 6))]
    result = replay(["a", "lost"], COUNTS, lambda *_: True, lambda _: verdict(samples, "higher"))
    assert (result.ending, result.looks[0].without_score) == ("settled", ("lost",))


@pytest.mark.parametrize("seeds", [6, 7, 8, 11])
def test_a_race_that_is_continued_is_the_one_that_was_not_interrupted(seeds: int) -> None:
    means = {"best": 0.9, "near": 0.893, "far": 0.7}
    part, whole = race(means, dict.fromkeys(means, seeds)), race(means)
    assert part.looks == whole.looks[: len(part.looks)]
