"""Who is the best where methods have different seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tuneoff.analysis.statistics import Sample, rank, verdict

HARD = {0: 0.0, 1: 0.01, 2: -0.01, 3: 0.02, 4: -0.02, 5: 0.0, 6: 0.2, 7: 0.2}
"""What a seed adds for all methods: the last two are easy ones."""


def scored(level: float, *seeds: int) -> dict[int, float]:
    return {seed: level + HARD[seed] for seed in seeds}


def test_equal_seeds_are_ranked_by_their_means() -> None:
    scores = {"a": scored(0.5, 0, 1), "b": scored(0.7, 0, 1), "c": scored(0.7, 0, 1), "d": scored(0.6, 0, 1)}
    found = rank(scores, "higher")
    assert found.labels == ("b", "c", "d", "a")
    assert found.means == {label: pytest.approx(np.mean(list(own.values()))) for label, own in scores.items()}
    assert rank(scores, "lower").labels == ("a", "d", "b", "c")


def test_an_easy_seed_that_others_lack_makes_nobody_the_best() -> None:
    scores = {"few": scored(0.5, *range(6)), "many": scored(0.48, *range(8)), "one": scored(0.4, 6)}
    assert np.mean(list(scores["many"].values())) > np.mean(list(scores["few"].values()))
    found = rank(scores, "higher")
    assert found.labels == ("few", "many", "one")
    assert found.means["few"] == pytest.approx(0.5)
    assert found.means["many"] == pytest.approx(0.48)
    # It shares no seed with the best, but with a method that does.
    assert found.means["one"] == pytest.approx(0.4)
    alone = rank({"few": scored(0.5, 0, 1), "other": scored(0.4, 0), "one": scored(0.4, 6)}, "higher")
    assert alone.labels == ("one", "few", "other")
    assert alone.means["one"] == pytest.approx(0.6)


def test_the_best_is_one_of_the_candidates() -> None:
    scores = {"baseline": scored(0.9, 0, 1), "a": scored(0.5, 0, 1, 2), "b": scored(0.6, 0, 1)}
    found = rank(scores, "higher", {"a", "b"})
    assert found.labels == ("baseline", "b", "a")
    assert found.means["baseline"] - found.means["b"] == pytest.approx(0.3)


def test_no_method_with_a_rival_ahead_is_the_best_unless_all_have_one() -> None:
    random = np.random.default_rng(0)
    circles = 0
    for _ in range(300):
        seeds = [sorted(random.choice(6, size=random.integers(2, 7), replace=False)) for _ in range(4)]
        effects = random.normal(size=6)
        scores = {
            "abcd"[at]: {int(seed): float(effects[seed] + random.normal()) for seed in own}
            for at, own in enumerate(seeds)
        }
        found = rank(scores, "higher")
        best = found.labels[0]
        behind = {label: any(is_behind(scores[label], other) for other in scores.values()) for label in scores}
        circles += all(behind.values())
        assert not behind[best] or all(behind.values())
    assert 0 < circles < 60


def is_behind(mine: dict[int, float], theirs: dict[int, float]) -> bool:
    shared = mine.keys() & theirs.keys()
    return bool(shared) and float(np.mean([mine[seed] - theirs[seed] for seed in shared])) < -1e-12


def test_a_circle_is_ranked_on_the_seeds_that_all_share() -> None:
    scores = {"a": {0: 0.5, 1: 0.9, 2: 0.1}, "b": {0: 0.4, 1: 0.2, 3: 0.9}, "c": {0: 0.3, 2: 0.9, 3: 0.1}}
    found = rank(scores, "higher")
    assert found.labels == ("a", "b", "c")
    assert found.means == {"a": 0.5, "b": 0.4, "c": 0.3}


def test_a_verdict_names_nobody_the_best_whom_another_is_significantly_ahead_of() -> None:
    random = np.random.default_rng(1)
    effects = np.array([0.0, 0.01, -0.01, 0.02, 0.0, 0.01, 0.09, 0.09])
    levels, seeds = {"few": 0.80, "many": 0.79, "other": 0.78}, {"few": 6, "many": 8, "other": 8}
    samples = [
        Sample.from_scores(
            label, range(seeds[label]), level + effects[: seeds[label]] + random.normal(0, 1e-3, seeds[label])
        )
        for label, level in levels.items()
    ]
    assert max(samples, key=lambda sample: sample.scores.mean()).label == "many"
    found = verdict(samples, "higher")
    assert (found.best, found.winner) == ("few", "few")
    for one, other in itertools.combinations(found.estimates, 2):
        assert found.pair(one.label, other.label).relation == "ahead"
