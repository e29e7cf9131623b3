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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import Tally, judge, samples_of
from calibration_tables import COVERED, grid, percent
from numpy.typing import NDArray
from simulated_studies import QUADRATURE, Groups, Population, Scenario, Study, draw, population

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
PLACES = 16
"""Configurations that there are to try."""
ALIKE = 0.3
"""Share of the variance of rows' effects that all arms have in common."""


def row_effects(arms: int, rows: int, random: np.random.Generator) -> Array:
    """Draws the effect of each row on each arm, of mean 0 and variance 1 and with heavy tails, shape (arms, rows)."""
    own, common = (random.standard_t(5, size) / np.sqrt(5 / 3) for size in ((arms, rows), (1, rows)))
    return np.asarray(np.sqrt(1 - ALIKE) * own + np.sqrt(ALIKE) * common)


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


EFFECTS = np.array([NormalDist().inv_cdf((place + 0.5) / PLACES) for place in range(PLACES)])
"""What places do to a score after all steps, in units of their standard deviation."""


def search_effects(
    trials: int,
    spread: float,
    noise: float,
    shared: float,
    seen: Array,
    size: tuple[int, int],
    random: np.random.Generator,
) -> Array:
    """Draws by how much the place that a search chooses moves a score.

    Args:
        trials: of each search, each at a place drawn at random; the best by validation is chosen.
        spread: standard deviation of the places' effects.
        noise: of a validation score.
        shared: share of its variance that belongs to the place and is the same for all searches of a row.
        seen: what each place does to the score of a search trial, like `EFFECTS`.
        size: shape of what is returned.
        random: draws.
    """
    places = random.integers(PLACES, size=(*size, trials))
    of_place = random.standard_normal((size[0], PLACES))[np.arange(size[0])[:, None, None], places]
    errors = np.sqrt(shared) * of_place + np.sqrt(1 - shared) * random.standard_normal(places.shape)
    best = (spread * seen[places] + noise * errors).argmax(axis=-1)
    return np.asarray(spread * EFFECTS[np.take_along_axis(places, best[..., None], axis=-1)[..., 0]])


def short_effects(alike: float, random: np.random.Generator) -> Array:
    """Draws what places do to the score of a short trial: with this correlation to what they do to a whole one."""
    other = random.standard_normal(PLACES)
    other -= other.mean() + EFFECTS * (other @ EFFECTS) / (EFFECTS @ EFFECTS)
    return np.asarray(alike * EFFECTS + np.sqrt(1 - alike**2) * other * EFFECTS.std() / other.std())


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
    judge(verdict(samples, "higher", fraction=True), drawn_from, pairs, truth, tally)


def write_tables(result: dict[str, Any]) -> str:
    """Writes the page of tables, of the parts that there are."""
    parts = [
        "# What a verdict covers",
        "Made by `python benchmarks/scope.py`; [statistics.md](../../docs/statistics.md#what-a-verdict-speaks-of) "
        "tells what it is about. Shares in per cent with their standard errors over studies. No arm is better than "
        "another, so every claim is false: meant to be made in at most 5 % of studies. Intervals are meant to hold the "
        "truth in 95 %.",
    ]
    for name, part in PARTS.items():
        if rows := result.get(name):
            parts += [f"## {part.title}", part.text, _table(rows, part.heads, part.kind, part.ways)]
    return "\n\n".join(parts) + "\n"


GROUPED_HEADS = ["metric", "arms", "seeds", "examples", "groups", "sizes", "in common"]
DRAWN_HEADS = ["metric", "arms", "seeds", "weights of seeds", "rows of a trial", "rows at hand", "moves a score by"]
SEARCHED_HEADS = ["metric", "arms", "seeds", "examples", "trials", "places differ by", "validation noise"]
SEARCHED_WAYS = {"study": "one search", "whole": "one per seed, whole trials", "seed": "one per seed, short trials"}
SEARCHED_HEADS += ["of it the same at every seed", "short trials like whole ones"]
SEARCHED_HEADS += [f"chosen below the best, {way}" for way in SEARCHED_WAYS.values()]
GROUPED_WAYS = {"by_examples": "by examples", "by_groups": "by groups"}
DRAWN_WAYS = {"fixed": "one sample", "naive": "draws, seeds alone", "drawn": "draws"}


def _table(
    rows: Sequence[dict[str, Any]], heads: list[str], kind: Callable[[dict[str, Any]], list[str]], ways: dict[str, str]
) -> str:
    heads = [*heads, *(f"{head}, {way}" for head in COVERED.values() for way in ways.values())]
    return grid(heads, [[*kind(row), *_shares(row, list(ways))] for row in rows])


def _searched_kind(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[key]:,}" for key in ("arms", "seeds", "examples", "trials")]
    return [
        row["metric"].replace("_", "-"),
        *counts,
        f"{row['spread']:g}",
        f"{row['noise']:g}",
        f"{row['shared_noise']:.0%}",
        f"{row['alike']:g}",
        *(f"{row[way]['shortfall']:.1f}" for way in SEARCHED_WAYS),
    ]


def _drawn_kind(row: dict[str, Any]) -> list[str]:
    counts = [f"{row[key]:,}" for key in ("rows", "pool")]
    kind = [row["metric"].replace("_", "-"), str(row["arms"]), str(row["seeds"]), row["weights"]]
    return [*kind, *counts, f"{row['spread']:g}"]


def _grouped_kind(row: dict[str, Any]) -> list[str]:
    sizes = "unequal" if row["uneven"] else "equal"
    counts = [f"{row[key]:,}" for key in ("arms", "seeds", "examples", "groups")]
    return [row["metric"].replace("_", "-"), *counts, sizes, f"{row['alike']:.0%}"]


def _shares(row: dict[str, Any], ways: Sequence[str]) -> Iterator[str]:
    for name in COVERED:
        yield from (percent(row[way], name) for way in ways)


@dataclass(frozen=True)
class Part:
    """One kind of studies: what is checked, and how its table is written."""

    kinds: Sequence[tuple[Any, ...]]
    check: Callable[..., dict[str, Any]]
    title: str
    text: str
    heads: list[str]
    kind: Callable[[dict[str, Any]], list[str]]
    ways: dict[str, str]


PARTS = {
    "groups": Part(
        GROUPED,
        check_groups,
        "Clustered test rows (`task.group`)",
        "Test examples of a group have in common what is given of the variance of their difficulty and of how arms and "
        "seeds fare with them. Unequal sizes: logarithms with a standard deviation of 0.8.",
        GROUPED_HEADS,
        _grouped_kind,
        GROUPED_WAYS,
    ),
    "draws": Part(
        DRAWN,
        check_draws,
        "Samples of training rows (`protocol.splits: per_seed`)",
        "A fresh sample of the training rows of a trial moves an arm's score by what is given (a standard deviation; "
        f"{ALIKE:.0%} of the variance moves all arms alike). One sample for all seeds; draws per seed, judged as if "
        "seeds were all that varies; and draws per seed as they are judged, with the error of the rows that all seeds "
        "drew from.",
        DRAWN_HEADS,
        _drawn_kind,
        DRAWN_WAYS,
    ),
    "searches": Part(
        SEARCHED,
        check_searches,
        "Searches (`search.per_seed: true`)",
        f"Each trial of a search tries one of {PLACES} places; they differ by the standard deviation given, the same "
        "for all arms, and a search takes the best by validation, whose noise is given too. A share of its variance "
        "belongs to the place of an arm and is the same at every seed, as where all searches see the same validation "
        "rows. One search of an arm; one of four whole trials for every seed; and one of four trials that are so short "
        "that those of six seeds take as many steps as one search. What places do to short and whole trials has the "
        "correlation given, the same for all arms. Below the best: how far the chosen places lie below the best one on "
        "average, in points.",
        SEARCHED_HEADS,
        _searched_kind,
        SEARCHED_WAYS,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--part", action="append", choices=PARTS, help="this part alone; the others are kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scope.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.part else {}
    for name in arguments.part or PARTS:
        part, started = PARTS[name], time.perf_counter()
        result[name] = []
        for kind in part.kinds:
            row = part.check(*kind, studies=arguments.studies)
            result[name].append(row)
            print(*part.kind(row), *_shares(row, list(part.ways)), sep="  ", flush=True)
        result[f"{name}_seconds"] = round(time.perf_counter() - started, 1)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(write_tables(result), encoding="utf-8")


if __name__ == "__main__":
    main()
