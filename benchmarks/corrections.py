"""What else could correct the pairs of a study, and guard it from wild arms: false claims against what is found.

On the same made-up studies (`simulated_studies.py`, under other random seeds than those of `calibration.py`) the
verdict as it is, with moderated variances and Shaffer's correction, is set beside

- Tukey's range in place of Shaffer's counts: closed testing of all partitions of the arms into blocks of equal ones,
  each by the largest |z| within its blocks (Peritz; Begun & Gabriel, J Am Stat Assoc 76, 1981). z is the quantile of
  the pair's own p, so that unequal degrees of freedom stay right one by one, and blocks count as independent, which is
  cautious (Royen, Far East J Theor Stat 48, 2014);
- the spread under equality, for pairs that keep their own variance: the pair's spread over seeds is widened by as much
  as that of the higher arm would be at the lower arm's score, with score · (1 - score), as near a ceiling;
- two degrees of freedom fewer for these pairs;
- the same at 4 % instead of 5.

By closed testing a pair of a smaller p may come out with the larger corrected one.

    python benchmarks/corrections.py [--studies 1000] [--seed 2] [--kind NAME ...] [--arms N]

It prints one row for each kind and rule.
"""

from __future__ import annotations

import argparse
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from simulated_studies import EQUAL, Scenario, draw, population

from tuneoff.analysis.statistics import Sample, shaffer
from tuneoff.analysis.statistics.crossed import Components, components, p_values
from tuneoff.analysis.statistics.moderated import moderate

Array = NDArray[np.float64]
BASE = Scenario("as usual")
KINDS = (
    BASE,
    replace(BASE, arms=3),
    replace(BASE, name="one arm of wild seeds", weights="one", examples=2000),
    replace(BASE, name="two arms of wild seeds", weights="two", examples=2000, arms=9),
    replace(BASE, name="uneven seeds", weights="uneven", between=0.015, examples=2000, arms=3),
    replace(BASE, name="uneven seeds", weights="uneven", between=0.015, examples=2000),
    replace(BASE, name="first arm better", examples=1000, lead=0.02),
    replace(BASE, name="first arm better", examples=1000, lead=0.03),
    replace(BASE, name="first arm better, one arm wild", weights="one", examples=2000, lead=0.02),
)
WIDTHS = np.linspace(0.0, 14.0, 1401)
FEWER = 2.0
"""Degrees of freedom that are taken from pairs that keep their own variance."""
LEAST_LEFT = 1e-4
"""Least score · (1 - score)."""


def tukey(p: Array, arms: int) -> Array:
    """Corrects the p of all pairs, in the order of `itertools.combinations`, by closed testing with Tukey's range."""
    within, kinds, sizes = _partitions(arms)
    largest = np.where(within, -ndtri(np.maximum(p, 1e-16) / 2) * np.sqrt(2), 0.0).max(axis=1)
    together = np.empty(len(largest))
    for kind, blocks in enumerate(sizes):
        below = np.prod([_range_below(size) for size in blocks], axis=0)
        chosen = kinds == kind
        together[chosen] = 1 - np.interp(largest[chosen], WIDTHS, below)
    # Beyond the digits of the integral Bonferroni's bound tells more, and elsewhere it is never the smaller.
    bonferroni = np.where(within, p, 1.0).min(axis=1) * within.sum(axis=1)
    together = np.where(largest > 9, bonferroni, np.minimum(together, bonferroni))
    return np.where(within, together[:, None], 0.0).max(axis=0)


@cache
def _range_below(arms: int) -> Array:
    """Computes the probability that the range of so many standard normals is below each of `WIDTHS`."""
    places = np.linspace(-8.0, 8.0, 801)
    weights = np.exp(-(places**2) / 2) / np.sqrt(2 * np.pi) * (places[1] - places[0])
    return np.array([arms * weights @ (ndtr(places + width) - ndtr(places)) ** (arms - 1) for width in WIDTHS])


@cache
def _partitions(arms: int) -> tuple[NDArray[np.bool_], NDArray[np.intp], list[tuple[int, ...]]]:
    """Returns which pairs are within the blocks of each partition, its kind, and the sizes of blocks of each kind."""
    place = {pair: at for at, pair in enumerate(itertools.combinations(range(arms), 2))}
    within, sizes = [], []
    for partition in _split(tuple(range(arms))):
        pairs = [place[pair] for block in partition for pair in itertools.combinations(block, 2)]
        if pairs:
            within.append(np.isin(np.arange(len(place)), pairs))
            sizes.append(tuple(sorted(len(block) for block in partition if len(block) > 1)))
    kinds = sorted(set(sizes))
    return np.array(within), np.array([kinds.index(each) for each in sizes]), kinds


def _split(arms: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Yields every partition."""
    if not arms:
        yield []
        return
    first, *rest = arms
    for others in itertools.chain.from_iterable(itertools.combinations(rest, size) for size in range(len(rest) + 1)):
        for partition in _split(tuple(arm for arm in rest if arm not in others)):
            yield [(first, *others), *partition]


def _guarded(pairs: list[Components], means: Array, by_spread: bool) -> list[Components]:
    """Widens the error of the pairs that keep their own variance, wholly or in part."""
    most = max(pair.prior_freedom for pair in pairs)
    guarded = []
    for pair, (one, other) in zip(pairs, itertools.combinations(means, 2), strict=True):
        own = 1 - (pair.prior_freedom / most if most else 0.0)
        if by_spread:
            low, high = min(one, other), max(one, other)
            ratio = low * (1 - low) / max(high * (1 - high), LEAST_LEFT)
            pair = replace(pair, by_seed=(pair.by_seed or 0.0) * max(ratio, 1.0) ** (2 * own))
        else:
            pair = replace(pair, prior_freedom=pair.prior_freedom - FEWER * own)
        guarded.append(pair)
    return guarded


def _holm(p: Array, arms: int) -> Array:
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return corrected


def _shaffer(p: Array, arms: int) -> Array:
    return np.array(shaffer(p.tolist(), arms))


RULES: dict[str, tuple[str, Callable[[Array, int], Array], float]] = {
    "own variance, Holm": ("own", _holm, 0.05),
    "as it is": ("moderated", _shaffer, 0.05),
    "as it is, at 4 %": ("moderated", _shaffer, 0.04),
    "Tukey's range": ("moderated", tukey, 0.05),
    "Tukey's range, at 4 %": ("moderated", tukey, 0.04),
    "spread under equality": ("spread", _shaffer, 0.05),
    "spread under equality, Tukey's range": ("spread", tukey, 0.05),
    "fewer degrees of freedom": ("fewer", _shaffer, 0.05),
    "fewer degrees of freedom, Tukey's range": ("fewer", tukey, 0.05),
}


def check(scenario: Scenario, studies: int, seed: int) -> None:
    """Prints what each rule makes of many studies of one kind."""
    random = np.random.default_rng([zlib.crc32(repr(scenario).encode()), seed])
    drawn_from, arms = population(scenario), scenario.arms
    both = list(itertools.combinations(range(arms), 2))
    parts: dict[str, list[Components]] = {"own": [], "moderated": [], "spread": [], "fewer": []}
    for _ in range(studies):
        values = draw(scenario, drawn_from, random).values
        samples = [Sample.from_examples(str(arm), range(scenario.seeds), each) for arm, each in enumerate(values)]
        own = [components(samples[one].minus(samples[other])) for one, other in both]
        moderated = moderate(own, [(str(one), str(other)) for one, other in both])
        means = np.array([sample.scores.mean() for sample in samples])
        parts["own"] += own
        parts["moderated"] += moderated
        parts["spread"] += _guarded(moderated, means, by_spread=True)
        parts["fewer"] += _guarded(moderated, means, by_spread=False)
    shape = (studies, len(both))
    difference = np.array([pair.mean for pair in parts["own"]]).reshape(shape)
    truth = np.array([drawn_from.truth[one] - drawn_from.truth[other] for one, other in both])
    p = {name: np.array(p_values(pairs)).reshape(shape) for name, pairs in parts.items()}
    print(f"\n{scenario.name}, {arms} arms, lead {scenario.lead:g}, {studies} studies")
    for name, (variance, correct, level) in RULES.items():
        claimed = np.array([correct(row, arms) for row in p[variance]]) <= level
        wrong = claimed & ((np.abs(truth) < EQUAL) | (truth * difference <= 0))
        shares = {"false": wrong.any(axis=1).astype(float)}
        if scenario.lead:
            shares["found"] = (claimed & ~wrong)[:, np.abs(truth) > 1e-3].mean(axis=1)
        shown = (f"{key} {100 * x.mean():.1f} ± {100 * x.std() / np.sqrt(studies):.1f}" for key, x in shares.items())
        print(f"  {name:42}", *shown, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2, help="of the studies")
    parser.add_argument("--kind", action="append", default=[], help="name of one kind of study alone")
    parser.add_argument("--arms", type=int, default=0, help="number of arms of the kinds, all where 0")
    arguments = parser.parse_args()
    for scenario in KINDS:
        if (not arguments.kind or scenario.name in arguments.kind) and arguments.arms in (0, scenario.arms):
            check(scenario, arguments.studies, arguments.seed)


if __name__ == "__main__":
    main()
