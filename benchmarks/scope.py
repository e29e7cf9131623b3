"""Whether a verdict covers more where a study is asked to: made-up studies with clustered test rows.

`task.group` takes groups of test examples as the unit. No arm is better than another here, so every claim is false; a
95 % interval should hold the truth in 95 % of cases. Each kind of study is judged with groups and as if every example
stood for itself.

    python benchmarks/scope.py [--studies 300] [--out benchmarks/results/scope.json]

One thread, some minutes. The tables go to `scope.md` beside the JSON file. Studies are made by `simulated_studies.py`,
which shares no code with the analysis.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from calibration import Tally, judge, samples_of
from calibration_tables import COVERED, grid, percent
from numpy.typing import NDArray
from simulated_studies import Groups, Population, Scenario, Study, draw, population

from tuneoff.analysis.statistics import verdict

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


def _judge(study: Study, scenario: Scenario, drawn_from: Population, tally: Tally) -> None:
    pairs = list(itertools.combinations(range(scenario.arms), 2))
    truth = np.array([drawn_from.truth[one] - drawn_from.truth[other] for one, other in pairs])
    judge(verdict(samples_of(study, scenario), "higher", fraction=True), drawn_from, pairs, truth, tally)


def write_tables(result: dict[str, Any]) -> str:
    """Writes the page of tables."""
    parts = [
        "# What a verdict covers",
        "Made by `python benchmarks/scope.py`; [statistics.md](../../docs/statistics.md#what-a-verdict-speaks-of) "
        "tells what it is about. Shares in per cent with their standard errors over studies. No arm is better than "
        "another, so every claim is false: meant to be made in at most 5 % of studies. Intervals are meant to hold the "
        "truth in 95 %.",
        "## Clustered test rows (`task.group`)",
        "Test examples of a group have in common what is given of the variance of their difficulty and of how arms and "
        "seeds fare with them. Unequal sizes: logarithms with a standard deviation of 0.8.",
        _grouped_table(result["groups"]),
    ]
    return "\n\n".join(parts) + "\n"


def _grouped_table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ["metric", "arms", "seeds", "examples", "groups", "sizes", "in common"]
    heads += [f"{head}, by {unit}" for head in COVERED.values() for unit in ("examples", "groups")]
    return grid(heads, [[*_grouped_kind(row), *_before_and_after(row, "by_examples", "by_groups")] for row in rows])


def _grouped_kind(row: dict[str, Any]) -> list[str]:
    sizes = "unequal" if row["uneven"] else "equal"
    counts = [f"{row[key]:,}" for key in ("arms", "seeds", "examples", "groups")]
    return [row["metric"].replace("_", "-"), *counts, sizes, f"{row['alike']:.0%}"]


def _before_and_after(row: dict[str, Any], before: str, after: str) -> Iterator[str]:
    for name in COVERED:
        yield from (percent(row[way], name) for way in (before, after))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scope.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    result: dict[str, Any] = {"groups": []}
    for kind in GROUPED:
        row = check_groups(*kind, studies=arguments.studies)
        result["groups"].append(row)
        print(*_grouped_kind(row), *_before_and_after(row, "by_examples", "by_groups"), sep="  ", flush=True)
    result["seconds"] = round(time.perf_counter() - started, 1)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(write_tables(result), encoding="utf-8")


if __name__ == "__main__":
    main()
