"""Made-up studies whose truth is known, for `calibration.py`. Nothing here is code or an assumption of the analysis.

The analysis adds normal errors of seeds and of examples. These studies answer question by question instead: an example
has a difficulty that all arms share, and a quirk for each arm; a seed of an arm has an ability; an answer is right with
a probability that is logistic in ability less difficulty (an item response model). So errors multiply near the ceiling,
no variance is constant, and nothing is normal. Abilities may have heavy tails or a long lower tail, weigh more in some
arms than in others, be shared by arms in part, collapse to chance, diverge, or be missing.

The true value of every arm is an integral over all examples and seeds that might have been drawn. Arms are set to have
exactly the true accuracy that a scenario asks for, whatever their spread between seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Metric = Literal["accuracy", "values", "macro_f1"]
PRIORS = np.array([0.5, 0.25, 0.15, 0.1])
"""Of the classes, for macro-F1."""
CHANCE = 0.25
"""Accuracy of a collapsed seed."""
DIFFICULTY, QUIRK = 2.5, 1.0
"""Standard deviations, in logits."""
SPREAD = float(np.hypot(DIFFICULTY, QUIRK))
PRECISION = 4.0
"""Of an example's value between 0 and 1, which is a draw of a Beta distribution."""
QUADRATURE = 40_000
EQUAL = 1e-6
"""True values nearer than this are one: levels are found by bisection, and leave some 1e-11 between equal arms."""


@dataclass(frozen=True)
class Scenario:
    """One kind of study.

    Attributes:
        name: what is special about it.
        metric: accuracy, values (a mean of values between 0 and 1, as ROUGE's), or macro_f1.
        score: the true accuracy (mean value) of every arm.
        lead: by how much the first arm is truly better.
        step: by how much each further arm is truly worse than the one before it.
        between: standard deviation of the score between seeds.
        shape: of abilities: `normal`, `heavy` (Student's t of three degrees of freedom), or `skewed` (a long lower
            tail: minus an exponential).
        weights: how much seeds matter: `even`, `uneven` (geometrically from half to twice), `one` (four times in the
            last arm), or `two` (likewise in the last two).
        shared: share of the variance between seeds that all arms have in common.
        loading: whether that common part matters sixteen times as much to some arms as to others.
        collapses: probability that a seed answers at chance.
        missing: probability that a trial has no result.
        diverges: probability that a trial diverges, and so counts as the most frequent class, which is right on the
            same share `CHANCE` of the examples at every trial.
        baselines: how many of the last arms are the same at every seed.
    """

    name: str
    metric: Metric = "accuracy"
    arms: int = 6
    seeds: int = 6
    examples: int = 500
    score: float = 0.9
    lead: float = 0.0
    step: float = 0.0
    between: float = 0.01
    shape: Literal["normal", "heavy", "skewed"] = "normal"
    weights: Literal["even", "uneven", "one", "two"] = "even"
    shared: float = 0.3
    loading: bool = False
    collapses: float = 0.0
    missing: float = 0.0
    diverges: float = 0.0
    baselines: int = 0


@dataclass(frozen=True, eq=False)
class Population:
    """What a scenario's studies are drawn from: levels, spreads, logits per accuracy and true values of the arms, each
    of shape (arms,)."""

    levels: Array
    own: Array
    common: Array
    slopes: Array
    truth: Array


@dataclass(frozen=True, eq=False)
class Study:
    """A made-up study.

    Attributes:
        values: of each example, shape (arms, seeds, examples): right or wrong, or a value between 0 and 1.
        predicted: the class that was said, likewise; None where the metric is not macro-F1.
        target: the class of each example, shape (examples,).
        completed: which trials have a result, shape (arms, seeds).
        group: number of each example's group, shape (examples,); None where every example stands for itself.
    """

    values: NDArray[np.float32]
    predicted: NDArray[np.intp] | None
    target: NDArray[np.intp]
    completed: NDArray[np.bool_]
    group: NDArray[np.intp] | None = None


@dataclass(frozen=True, eq=False)
class Groups:
    """Test examples that belong together.

    Attributes:
        of_example: number of each example's group, shape (examples,).
        alike: share of the variance of difficulties and quirks that a group's examples have in common; half of the
            quirks' is another at every seed.
    """

    of_example: NDArray[np.intp]
    alike: float


def population(scenario: Scenario, shifts: Array | None = None) -> Population:
    """Finds the arms' levels that give the true scores asked for, and the true values of the metric.

    Args:
        scenario: what is asked for.
        shifts: draws of what is added to an arm's score before it is tested (by its training rows, by its search), in
            units of the score, shape (QUADRATURE,); none where None.
    """
    arms = scenario.arms
    targets = scenario.score - scenario.step * np.arange(arms)
    targets[0] += scenario.lead
    curve = _accuracy_curve()
    slopes = np.array([float(np.interp(target, curve[1], curve[2])) for target in targets])
    weight = {
        "even": np.ones(arms),
        "uneven": np.geomspace(0.5, 2.0, arms),
        "one": np.where(np.arange(arms) >= arms - 1, 4.0, 1.0),
        "two": np.where(np.arange(arms) >= arms - 2, 4.0, 1.0),
    }[scenario.weights]
    loading = np.geomspace(0.25, 4.0, arms) if scenario.loading else weight
    own = np.sqrt(1 - scenario.shared) * scenario.between / slopes * weight
    common = np.sqrt(scenario.shared) * scenario.between / slopes * loading
    fixed = slice(arms - scenario.baselines, arms)
    own[fixed] = common[fixed] = 0.0
    draws = _ability_draws(scenario)
    levels, truth = np.empty(arms), np.empty(arms)
    for arm in range(arms):
        ability = own[arm] * draws[0] + common[arm] * draws[1]
        if shifts is not None:
            ability = ability + shifts / slopes[arm]
        levels[arm] = _level(targets[arm], ability, curve)
        accuracy = np.interp(levels[arm] + ability, curve[0], curve[1])
        intact, collapsed = (float(_metric(scenario, each).mean()) for each in (accuracy, np.array([CHANCE])))
        lost = 1 - (1 - scenario.collapses) * (1 - scenario.diverges)
        truth[arm] = (1 - lost) * intact + lost * collapsed
    levels[fixed] = [SPREAD * NormalDist().inv_cdf(target) for target in targets[fixed]]
    truth[fixed] = targets[fixed]
    return Population(levels, own, common, slopes, truth)


def expected_scores(scenario: Scenario, drawn_from: Population, shifts: Array) -> Array:
    """Computes the true score of the first arm at each of these shifts (as for `population`), over all seeds and
    examples that might have been drawn; of studies without collapses. Shape as of `shifts`."""
    draws, curve = _ability_draws(scenario), _accuracy_curve()
    ability = drawn_from.levels[0] + drawn_from.own[0] * draws[0] + drawn_from.common[0] * draws[1]
    shifted = (np.interp(ability + shift / drawn_from.slopes[0], curve[0], curve[1]) for shift in shifts)
    return np.array([_metric(scenario, accuracy).mean() for accuracy in shifted])


def draw(
    scenario: Scenario,
    drawn_from: Population,
    random: np.random.Generator,
    shifts: Array | None = None,
    groups: Groups | None = None,
) -> Study:
    """Draws a study.

    Args:
        scenario, drawn_from, random: of what, from what, by what.
        shifts: what is added to the score of each trial, as for `population`, shape (arms, seeds).
        groups: which test examples belong together.
    """
    k, s, e = scenario.arms, scenario.seeds, scenario.examples
    ability = drawn_from.own[:, None] * _abilities(scenario, random, (k, s))
    ability += drawn_from.common[:, None] * _abilities(scenario, random, (1, s))
    if shifts is not None:
        ability += shifts / drawn_from.slopes[:, None]
    logits = (drawn_from.levels[:, None] + ability).astype(np.float32)[:, :, None]
    quirks = QUIRK * random.standard_normal((k, 1, e), dtype=np.float32)
    difficulties = DIFFICULTY * random.standard_normal((1, 1, e), dtype=np.float32)
    if groups is not None:
        quirks, difficulties = _alike(groups, k, s, quirks, difficulties, random)
    logits = logits - quirks - difficulties
    probability = 1 / (1 + np.exp(-logits))
    # Sure of every answer, so that they are the same at every seed.
    fixed = slice(k - scenario.baselines, k)
    probability[fixed] = logits[fixed] > 0
    if scenario.collapses:
        collapsed = random.random((k, s)) < scenario.collapses
        collapsed[fixed] = False
        probability[collapsed] = CHANCE
    if scenario.diverges:
        probability[random.random((k, s)) < scenario.diverges] = random.random(e) < CHANCE
    completed = random.random((k, s)) >= scenario.missing
    group = None if groups is None else groups.of_example
    target = np.searchsorted(np.cumsum(PRIORS)[:-1], random.random(e), side="right")
    if scenario.metric == "values":
        values = random.beta(PRECISION * probability, PRECISION * (1 - probability)).astype(np.float32)
        return Study(values, None, target, completed, group)
    right = random.random((k, s, e), dtype=np.float32) < probability
    if scenario.metric == "accuracy":
        return Study(right.astype(np.float32), None, target, completed, group)
    wrong = (target + random.integers(1, len(PRIORS), size=(k, s, e))) % len(PRIORS)
    return Study(right.astype(np.float32), np.where(right, target, wrong), target, completed, group)


def macro_f1(study: Study, arm: int, seeds: NDArray[np.intp]) -> Callable[[NDArray[np.intp]], Array]:
    """Returns a function from indices of examples to the macro-F1 of each of these seeds of an arm."""
    assert study.predicted is not None
    classes = len(PRIORS)
    cells = study.target * classes + study.predicted[arm][seeds] + np.arange(len(seeds))[:, None] * classes**2

    def score(indices: NDArray[np.intp]) -> Array:
        counts = np.bincount(cells[:, indices].ravel(), minlength=len(seeds) * classes**2)
        counts = counts.reshape(len(seeds), classes, classes)
        hits, sums = np.diagonal(counts, axis1=1, axis2=2), counts.sum(1) + counts.sum(2)
        return np.asarray((2 * hits / np.maximum(sums, 1)).mean(axis=1))

    return score


def _alike(
    groups: Groups,
    arms: int,
    seeds: int,
    quirks: NDArray[np.float32],
    difficulties: NDArray[np.float32],
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns quirks and difficulties that examples of a group have in part in common; their variances stay."""
    count, of_example = int(groups.of_example.max()) + 1, groups.of_example

    def shared(arms: int, seeds: int, spread: float) -> NDArray[np.float32]:
        return np.float32(spread) * random.standard_normal((arms, seeds, count), dtype=np.float32)[:, :, of_example]

    own, half = np.float32(np.sqrt(1 - groups.alike)), float(np.sqrt(groups.alike / 2))
    quirks = own * quirks + shared(arms, 1, QUIRK * half) + shared(arms, seeds, QUIRK * half)
    return quirks, own * difficulties + shared(1, 1, DIFFICULTY * float(np.sqrt(groups.alike)))


def _abilities(scenario: Scenario, random: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Draws abilities of mean 0 and variance 1."""
    if scenario.shape == "heavy":
        return np.asarray(random.standard_t(3, size) / np.sqrt(3))
    if scenario.shape == "skewed":
        return np.asarray(1 - random.exponential(size=size))
    return np.asarray(random.standard_normal(size))


def _ability_draws(scenario: Scenario) -> list[Array]:
    """Draws what true values are integrals over: an arm's own part of many seeds' abilities, and the common one."""
    random = np.random.default_rng(11)
    return [_abilities(scenario, random, (QUADRATURE,)) for _ in range(2)]


@lru_cache(maxsize=1)
def _accuracy_curve() -> tuple[Array, Array, Array]:
    """Computes accuracy and its slope over a grid of levels, by an integral over all examples."""
    places = (np.arange(4000) + 0.5) / 4000
    difficulty = SPREAD * np.array([NormalDist().inv_cdf(place) for place in places])
    grid = np.linspace(-15.0, 25.0, 4001)
    accuracy, slope = np.empty(len(grid)), np.empty(len(grid))
    for index, level in enumerate(grid):
        right = 1 / (1 + np.exp(difficulty - level))
        accuracy[index], slope[index] = right.mean(), (right * (1 - right)).mean()
    return grid, accuracy, slope


def _level(target: float, ability: Array, curve: tuple[Array, Array, Array]) -> float:
    """Finds by bisection the level at which the mean accuracy over abilities is the target."""
    low, high = -10.0, 20.0
    for _ in range(35):
        middle = (low + high) / 2
        if np.interp(middle + ability, curve[0], curve[1]).mean() < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _metric(scenario: Scenario, accuracy: Array) -> Array:
    """Returns the metric of infinitely many examples at each accuracy; wrong answers are spread over the classes."""
    if scenario.metric != "macro_f1":
        return accuracy
    right = accuracy[:, None]
    said = PRIORS * right + (1 - PRIORS) * (1 - right) / (len(PRIORS) - 1)
    return np.asarray((2 * PRIORS * right / (PRIORS + said)).mean(axis=1))
