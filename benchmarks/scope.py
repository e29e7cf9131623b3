"""Whether a verdict covers more where a study is asked to: clustered test rows, samples of training rows, searches.

`task.group` takes groups of test examples as the unit. No arm is better than another here, so every claim is false; a
95 % interval should hold the truth in 95 % of cases. Each kind of study is judged with groups and as if every example
stood for itself.

`protocol.splits: per_seed` draws training rows anew at every seed. The rows at hand are a sample, and have an effect on
each arm's score that another sample would not have: the mean of the effects of single rows. Studies of equal arms with
one sample for all seeds stand beside those with draws, judged with and without the error of what all seeds drew from.

`search.per_seed` searches every final seed by itself, and all these searches share the steps of one. Methods are equal
and equally tunable: each trial of a search tries one of some places, a place moves a score by the same for all arms,
and a search takes the best by a noisy validation score. All searches of a study see the same validation rows, so that a
part of the noise belongs to an arm's place and is the same at every seed. Short trials see what a place does after few
steps, which is another thing: correlated with what it does after all of them, and the same for all arms. Studies with
one search of an arm stand beside those with a search of as many whole trials for every seed, and those with short
trials, which cost what one search does.

What such a study claims about is judged row by row: each validation row has an effect of its own on what a place seems
to be worth. A study whose seeds all validate on the same rows is held against two truths: the expected score of a
method over all validation rows that there might be (equal methods, so every claim is false), and given these rows (from
many further seeds of the same study). Beside it: every seed's search on a half of its own of these rows, and a study
with `protocol.splits: per_seed`.

    python benchmarks/scope.py [--studies 300] [--part searches ...] [--out benchmarks/results/scope.json]

One thread, some minutes. The tables go to `scope.md` beside the JSON file. Studies are made by `simulated_studies.py`,
which shares no code with the analysis.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import Tally, judge, samples_of
from numpy.typing import NDArray
from scope_tables import TABLES, results, write_tables
from simulated_searches import (
    EFFECTS,
    FURTHER_SEEDS,
    OTHER_ROWS,
    PLACES,
    VALIDATION_ROWS,
    row_effects,
    rows_drawn,
    search_effects,
    short_effects,
)
from simulated_studies import QUADRATURE, Groups, Population, Scenario, Study, draw, expected_scores, population

from tuneoff.analysis.statistics import verdict
from tuneoff.config.search import SearchSpec

Array = NDArray[np.float64]
BASE = Scenario("", examples=600)

GROUPED = (
    # Number of groups, share of the variance that a group has in common, whether groups are of unequal size, and more.
    (60, 0.1, False, {}),
    (60, 0.4, False, {}),
    (60, 0.4, True, {}),
    (60, 0.8, True, {}),
    (20, 0.4, False, {}),
    (20, 0.4, True, {}),
    (10, 0.4, True, {}),
    (200, 0.4, True, {"examples": 2000}),
    (60, 0.4, True, {"arms": 2}),
    (60, 0.4, True, {"seeds": 12}),
    (60, 0.4, True, {"metric": "macro_f1", "score": 0.85}),
    (60, 0.4, True, {"metric": "values", "score": 0.3}),
    (60, 0.0, True, {}),
)


DRAWN = (
    # Training rows of a trial, rows at hand, standard deviation of the score by a fresh sample of rows, and more.
    (400, 400, 0.01, {}),
    (400, 400, 0.02, {}),
    (400, 400, 0.003, {}),
    (400, 4000, 0.02, {}),
    (400, 800, 0.02, {}),
    (400, 400, 0.02, {"seeds": 20}),
    (400, 400, 0.02, {"arms": 2}),
    (400, 400, 0.02, {"arms": 12}),
    (400, 400, 0.02, {"weights": "uneven"}),
    (400, 400, 0.02, {"metric": "macro_f1", "score": 0.85}),
    (400, 400, 0.0, {}),
)
SEARCHED = (
    # Trials of a search, standard deviation of the score between places, noise of validation scores, the share of its
    # variance that all seeds have in common, the correlation of places' effects in short and whole trials, and more.
    (8, 0.02, 0.01, 0.0, 0.7, {}),
    (8, 0.02, 0.01, 0.5, 0.7, {}),
    (8, 0.02, 0.02, 0.0, 0.7, {}),
    (8, 0.02, 0.02, 0.5, 0.7, {}),
    (8, 0.02, 0.02, 0.9, 0.7, {}),
    (8, 0.02, 0.02, 0.5, 0.3, {}),
    (8, 0.02, 0.02, 0.5, 1.0, {}),
    (8, 0.02, 0.02, 0.5, 0.7, {"seeds": 20}),
    (8, 0.02, 0.02, 0.9, 0.7, {"seeds": 20}),
    (8, 0.02, 0.02, 0.5, 0.7, {"arms": 2}),
    (8, 0.02, 0.02, 0.5, 0.7, {"arms": 12}),
    (4, 0.02, 0.02, 0.5, 0.7, {}),
)
VALIDATED = (
    # Seeds, share of the noise of validation scores that is of their rows, training rows of a trial, standard deviation
    # of the score by a fresh sample of these.
    (6, 0.5, 2000, 0.0),
    (6, 0.9, 2000, 0.0),
    (10, 0.5, 2000, 0.0),
    (10, 0.9, 2000, 0.0),
    (20, 0.5, 2000, 0.0),
    (20, 0.9, 2000, 0.0),
    (20, 0.9, 200, 0.0),
    (20, 0.9, 200, 0.01),
)
SHIFTS = np.linspace(-0.15, 0.15, 121)
"""Of a score, between which the true score is interpolated."""
PLACED = (0.02, 0.02)
"""By how much places differ, and the noise of validation scores (standard deviations)."""


def check_draws(rows: int, pool: int, spread: float, changes: dict[str, Any], studies: int) -> dict[str, Any]:
    """Judges studies of one sample of training rows, and of draws per seed, which are the same for all arms."""
    scenario = replace(BASE, **changes)
    random = np.random.default_rng([rows, pool, int(spread * 1000), scenario.arms, scenario.seeds])
    noise = random.standard_normal(QUADRATURE)
    fixed_from = population(scenario, spread * noise)
    drawn_from = population(scenario, spread * np.sqrt(1 + rows / pool) * noise)
    judged = {"fixed": Tally(), "naive": Tally(), "drawn": Tally()}
    for _ in range(studies):
        effects = spread * np.sqrt(rows) * row_effects(scenario.arms, pool, random)
        fixed = np.repeat(effects[:, :rows].mean(axis=1, keepdims=True), scenario.seeds, axis=1)
        _judge(draw(scenario, fixed_from, random, fixed), scenario, fixed_from, judged["fixed"])
        draws = random.integers(pool, size=(scenario.seeds, rows))
        study = draw(scenario, drawn_from, random, effects[:, draws].mean(axis=2))
        _judge(study, scenario, drawn_from, judged["naive"])
        _judge(study, scenario, drawn_from, judged["drawn"], pool_share=rows / pool)
    kind = {"rows": rows, "pool": pool, "spread": spread, "studies": studies}
    return asdict(scenario) | kind | {way: tally.shares() for way, tally in judged.items()}


def check_searches(
    trials: int, spread: float, noise: float, shared: float, alike: float, changes: dict[str, Any], studies: int
) -> dict[str, Any]:
    """Judges studies of one search an arm, and of a search for every seed, with whole trials and with short ones."""
    scenario = replace(BASE, **changes)
    kind = [trials, *(int(value * 1000) for value in (spread, noise, shared, alike)), scenario.arms, scenario.seeds]
    random = np.random.default_rng(kind)
    count, short = SearchSpec(trials=trials, per_seed=True).seed_trials, short_effects(alike, random)
    ways = {"study": (trials, 1, EFFECTS), "whole": (count, scenario.seeds, EFFECTS)}
    ways["seed"] = (count, scenario.seeds, short)
    judged: dict[str, Any] = {}
    for way, (tried, searches, seen) in ways.items():
        tally = Tally()
        chosen = search_effects(tried, spread, noise, shared, seen, (QUADRATURE, 1), random).ravel()
        drawn_from = population(scenario, chosen)
        for _ in range(studies):
            found = search_effects(tried, spread, noise, shared, seen, (scenario.arms, searches), random)
            shifts = np.broadcast_to(found, (scenario.arms, scenario.seeds))
            _judge(draw(scenario, drawn_from, random, shifts), scenario, drawn_from, tally)
        judged[way] = tally.shares() | {"shortfall": 100 * float(spread * EFFECTS.max() - chosen.mean())}
    told = {"trials": trials, "spread": spread, "noise": noise, "shared_noise": shared, "alike": alike}
    return asdict(scenario) | told | {"studies": studies} | judged


def check_validation(seeds: int, shared: float, rows: int, moved: float, studies: int) -> dict[str, Any]:
    """Judges studies of a search for every seed: all on the same validation rows, each on a half of its own of them,
    and each on draws of its own of all rows at hand (`protocol.splits: per_seed`)."""
    scenario = replace(BASE, seeds=seeds)
    random = np.random.default_rng([seeds, int(shared * 100), rows, int(moved * 1000)])
    trials = SearchSpec(trials=8, per_seed=True).seed_trials
    search = partial(search_effects, trials, *PLACED, shared, short_effects(0.7, random))
    told = asdict(scenario) | {"shared_noise": shared, "rows": rows, "moved": moved, "studies": studies}
    judged: dict[str, Any] = {}
    for way in ("same", "halves", "drawn"):
        pool_share = rows / OTHER_ROWS if way == "drawn" else 0.0
        at_hand = VALIDATION_ROWS + (OTHER_ROWS if way == "drawn" else 0)
        count = VALIDATION_ROWS // (2 if way == "halves" else 1)
        of_places = np.sqrt(VALIDATION_ROWS / count) * random.standard_normal((QUADRATURE, 1, PLACES))
        chosen = search((QUADRATURE, 1), random, of_places).ravel()
        by_rows = moved * np.sqrt(1 + pool_share) * random.standard_normal(QUADRATURE)
        drawn_from, tally = population(scenario, chosen + by_rows), Tally()
        curve = expected_scores(scenario, drawn_from, SHIFTS)
        for _ in range(studies):
            of_rows = np.sqrt(VALIDATION_ROWS) * random.standard_normal((scenario.arms, PLACES, at_hand))
            trained = moved * np.sqrt(rows) * row_effects(scenario.arms, OTHER_ROWS, random)
            # Of every seed of the study, and of further ones.
            searches = seeds if way == "drawn" else seeds + FURTHER_SEEDS
            validated = rows_drawn(count, at_hand, searches, random) / count
            shifts = search((scenario.arms, searches), random, (of_rows @ validated.T).transpose(0, 2, 1))
            if way == "drawn":
                draws = random.integers(OTHER_ROWS, size=(seeds, rows))
                shifts += trained[:, draws].mean(axis=2)
            else:
                shifts += trained[:, :rows].mean(axis=1, keepdims=True)
            study = draw(scenario, drawn_from, random, shifts[:, :seeds])
            _judge(study, scenario, drawn_from, tally, pool_share=pool_share)
            if way != "drawn":
                given = np.interp(shifts[:, seeds:], SHIFTS, curve).mean(axis=1)
                _judge_given(study, scenario, given, tally)
        judged[way] = tally.shares() | {"shortfall": 100 * float(PLACED[0] * EFFECTS.max() - chosen.mean())}
    return told | judged


def make_groups(scenario: Scenario, count: int, alike: float, uneven: bool, random: np.random.Generator) -> Groups:
    """Deals the examples to groups: of equal size, or of sizes whose logarithms have a standard deviation of 0.8."""
    weights = np.exp(0.8 * random.standard_normal(count)) if uneven else np.ones(count)
    places = np.concatenate(
        [np.arange(count), random.choice(count, scenario.examples - count, p=weights / weights.sum())]
    )
    if not uneven:
        places = np.arange(scenario.examples) % count
    return Groups(places, alike)


def check_groups(count: int, alike: float, uneven: bool, changes: dict[str, Any], studies: int) -> dict[str, Any]:
    """Judges studies of clustered test rows, by groups and by examples."""
    scenario = replace(BASE, **changes)
    random = np.random.default_rng([count, int(alike * 100), int(uneven), scenario.arms, scenario.seeds])
    drawn_from = population(scenario)
    judged = {"groups": Tally(), "examples": Tally()}
    for _ in range(studies):
        study = draw(scenario, drawn_from, random, groups=make_groups(scenario, count, alike, uneven, random))
        for unit, tally in judged.items():
            _judge(study if unit == "groups" else replace(study, group=None), scenario, drawn_from, tally)
    kind = {"groups": count, "alike": alike, "uneven": uneven, "studies": studies}
    return asdict(scenario) | kind | {f"by_{unit}": tally.shares() for unit, tally in judged.items()}


def _judge(study: Study, scenario: Scenario, drawn_from: Population, tally: Tally, *, pool_share: float = 0.0) -> None:
    pairs = list(itertools.combinations(range(scenario.arms), 2))
    truth = np.array([drawn_from.truth[one] - drawn_from.truth[other] for one, other in pairs])
    samples = [replace(sample, pool_share=pool_share) for sample in samples_of(study, scenario)]
    judged = verdict(samples, "higher", fraction=True)
    judge(judged, drawn_from, pairs, truth, tally)
    widths = [pair.interval.high - pair.interval.low for pair in judged.pairs if pair.interval is not None]
    tally.add("half_width", float(np.mean(widths)) / 2)


def _judge_given(study: Study, scenario: Scenario, truth: Array, tally: Tally) -> None:
    """Counts what a study says wrongly of what its arms truly score given the rows that all its seeds share: claims on
    the wrong side, and any true difference that the test denies (what is left without these differences is none)."""
    judged = verdict(samples_of(study, scenario), "higher", fraction=True)
    signs = [pair.difference * (truth[int(pair.first)] - truth[int(pair.second)]) for pair in judged.pairs]
    wrong = [pair.significant and sign <= 0 for pair, sign in zip(judged.pairs, signs, strict=True)]
    tally.add("given_wrong_side", any(wrong))
    equal = replace(study, values=study.values - truth[:, None, None].astype(np.float32))
    left = verdict(samples_of(equal, scenario), "higher")
    tally.add("given_denied", any(pair.significant for pair in left.pairs))
    held = [pair.interval is not None and pair.interval.low <= 0 <= pair.interval.high for pair in left.pairs]
    tally.add("given_covered", float(np.mean(held)))


PARTS: dict[str, tuple[Sequence[tuple[Any, ...]], Callable[..., dict[str, Any]]]] = {
    "groups": (GROUPED, check_groups),
    "draws": (DRAWN, check_draws),
    "searches": (SEARCHED, check_searches),
    "validation": (VALIDATED, check_validation),
}
"""Part -> kinds of studies, and what judges studies of one kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--part", action="append", choices=PARTS, help="this part alone; the others are kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scope.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.part else {}
    for name in arguments.part or PARTS:
        (kinds, check), table, started = PARTS[name], TABLES[name], time.perf_counter()
        result[name] = []
        for kind in kinds:
            row = check(*kind, studies=arguments.studies)
            result[name].append(row)
            print(*table.kind(row), *results(row, table), sep="  ", flush=True)
            result[f"{name}_seconds"] = round(time.perf_counter() - started, 1)
            # After each kind, for all of them take minutes.
            arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            arguments.out.with_suffix(".md").write_text(write_tables(result), encoding="utf-8")


if __name__ == "__main__":
    main()
