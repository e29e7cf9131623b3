"""Whether what is said of a series can be trusted: made-up series whose truth is known.

Of learning curves: how often the interval of what more rows bring holds the truth, how often the law without the
largest size is right about it within its interval, and how often the interval of a crossing holds its place. Bar: 92 %
where the truth is of the laws' family. Beyond the bar stand curves of no such law, and sizes whose draw of rows shifts
the scores of all seeds, which the intervals do not let vary.

Of average ranks: how often any two methods are called different where none are (at most 5 %), and how often the best
and the worst are told apart where they differ.

The made-up series answer question by question, as `simulated_studies.py`: the analysis adds errors, these multiply near
the ceiling. Nothing here is code or an assumption of the analysis. The same examples are asked at every size; a seed of
an arm has an ability of its own at every size, in part the same; the rows of a size shift the ability of all seeds.

    python benchmarks/series_coverage.py [--studies 400] [--out benchmarks/results/series_coverage.json]

One thread, some minutes. The tables go to `series_coverage.md` beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from simulated_studies import DIFFICULTY, QUIRK, SPREAD

from tuneoff.analysis.statistics import Sample
from tuneoff.analysis.statistics.average_ranks import average_ranks
from tuneoff.analysis.statistics.learning_curve import MORE, learning_curves

Array = NDArray[np.float64]
ALIKE = 0.5
"""Share of the variance of a seed's ability that is the same at every size."""
SHRINKS = 0.25
"""Seeds differ less with more rows: by the size to the power of minus this."""
QUADRATURE = 20_000
TRUTHS: dict[str, Callable[[Array], Array]] = {
    "power": lambda rows: 3.0 * rows**-0.45,
    "power with limit": lambda rows: 0.06 + 4.0 * rows**-0.5,
    "steep, high limit": lambda rows: 0.12 + 90.0 * rows**-1.0,
    "rectified": lambda rows: 0.06 + 60.0 / (120.0 + rows**0.8),
    "flat": lambda rows: 0.30 + 0.0 * rows,
    "exponential": lambda rows: 0.08 + 0.30 * np.exp(-rows / 700),
    "late rise": lambda rows: 0.10 + 0.35 / (1 + (rows / 1200) ** 2),
}
"""Name -> the true error at a number of rows."""
FAMILY = ("power", "power with limit", "steep, high limit", "rectified", "flat")
SIZES = (250, 500, 1000, 2000)
BAR = 0.92


@dataclass(frozen=True)
class Scenario:
    """One kind of series.

    Attributes:
        truth: the curve, a name in `TRUTHS`.
        sizes: numbers of training rows.
        between: standard deviation of the score between seeds, at the largest size.
        drawn: standard deviation of the score that the rows of a size cause, the same for all seeds, at the largest.
    """

    truth: str
    sizes: tuple[int, ...] = SIZES
    seeds: int = 6
    examples: int = 1000
    between: float = 0.006
    drawn: float = 0.0

    @property
    def law(self) -> bool:
        """Returns whether the truth is of the family of laws that so many sizes are fitted to, and nothing varies but
        seeds and examples."""
        few = {3: ("power", "power with limit"), 4: ("power", "power with limit", "steep, high limit", "flat")}
        return self.truth in few.get(len(self.sizes), FAMILY) and not self.drawn


SCENARIOS = (
    *(Scenario(truth) for truth in TRUTHS),
    *(Scenario(truth, (250, 500, 1000, 2000, 4000)) for truth in ("power with limit", "rectified", "late rise")),
    *(Scenario(truth, (125, 250, 500, 1000, 2000, 4000)) for truth in ("power with limit", "rectified")),
    *(Scenario(truth, SIZES[1:]) for truth in ("power", "power with limit")),
    Scenario("power with limit", seeds=3),
    Scenario("power with limit", seeds=12, examples=4000),
    Scenario("power with limit", examples=200),
    Scenario("power with limit", between=0.02),
    Scenario("power with limit", drawn=0.004),
    Scenario("power with limit", drawn=0.008, between=0.003),
    Scenario("power with limit", (125, 250, 500, 1000, 2000, 4000), drawn=0.008, between=0.003),
)


def level_curve() -> tuple[Array, Array, Array]:
    """Computes accuracy and its slope over a grid of levels, by draws of examples."""
    difficulty = np.random.default_rng(5).standard_normal(QUADRATURE) * SPREAD
    grid = np.linspace(-12.0, 20.0, 1601)
    right = [1 / (1 + np.exp(difficulty - level)) for level in grid]
    return grid, np.array([p.mean() for p in right]), np.array([(p * (1 - p)).mean() for p in right])


@dataclass(frozen=True, eq=False)
class Truth:
    """What a scenario's series are drawn from.

    Attributes:
        levels, seeds, rows: of each size, shape (sizes,): the level, and the standard deviations of what seeds and the
            draw of rows add to it.
        scores: true scores at the sizes and beyond, by rows.
    """

    levels: Array
    seeds: Array
    rows: Array
    scores: dict[int, float]


def truth_of(scenario: Scenario, curve: tuple[Array, Array, Array]) -> Truth:
    """Finds levels whose mean accuracy over seeds and rows is the true score at every size."""
    sizes = np.array(scenario.sizes, dtype=float)
    largest = scenario.sizes[-1]
    wider = (largest / sizes) ** SHRINKS
    targets = 1 - TRUTHS[scenario.truth](sizes)
    slopes = np.interp(targets, curve[1], curve[2])
    seeds, rows = scenario.between * wider / slopes, scenario.drawn * wider / slopes
    noise = np.random.default_rng(6).standard_normal(4000)
    levels = np.array(
        [
            _level(target, np.hypot(own, drawn) * noise, curve)
            for target, own, drawn in zip(targets, seeds, rows, strict=True)
        ]
    )
    asked = [*scenario.sizes, *(largest + round(share * largest) for share in MORE)]
    true = 1 - TRUTHS[scenario.truth](np.array(asked, dtype=float))
    return Truth(levels, seeds, rows, dict(zip(asked, true.tolist(), strict=True)))


def _level(target: float, noise: Array, curve: tuple[Array, Array, Array]) -> float:
    low, high = -10.0, 18.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.interp(middle + noise, curve[0], curve[1]).mean() < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def draw(scenario: Scenario, truth: Truth, random: np.random.Generator, difficulty: Array) -> dict[int, Sample]:
    """Draws the scores of one arm at every size, on these examples."""
    seeds, examples = scenario.seeds, scenario.examples
    quirk = QUIRK * random.standard_normal(examples)
    same = random.standard_normal((seeds, 1))
    drawn = random.standard_normal(len(scenario.sizes))
    samples = {}
    for at, rows in enumerate(scenario.sizes):
        own = np.sqrt(ALIKE) * same + np.sqrt(1 - ALIKE) * random.standard_normal((seeds, 1))
        ability = truth.levels[at] + truth.seeds[at] * own + truth.rows[at] * drawn[at]
        right = random.random((seeds, examples)) < 1 / (1 + np.exp(difficulty + quirk - ability))
        samples[rows] = Sample.from_examples("arm", range(seeds), right.astype(float))
    return samples


def curve_coverage(scenario: Scenario, studies: int, curve: tuple[Array, Array, Array]) -> dict[str, Any]:
    """Draws series of one arm; returns how often its intervals hold the truth, and how wide they are."""
    truth = truth_of(scenario, curve)
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    hits: dict[str, list[bool]] = {f"+{share:.0%}": [] for share in MORE}
    widths: dict[str, list[float]] = {name: [] for name in hits}
    held, errors = [], []
    largest = truth.scores[scenario.sizes[-1]]
    for _ in range(studies):
        difficulty = DIFFICULTY * random.standard_normal(scenario.examples)
        fitted = learning_curves({"arm": draw(scenario, truth, random, difficulty)}, "higher", 1.0).fitted[0]
        for name, gain in zip(hits, fitted.gains, strict=True):
            true = truth.scores[scenario.sizes[-1] + gain.more] - largest
            hits[name].append(gain.gain.low <= true <= gain.gain.high)
            widths[name].append(gain.gain.high - gain.gain.low)
        if fitted.held_out is not None:
            held.append(fitted.held_out.holds)
            errors.append(abs(fitted.held_out.error.value))
    return {
        **asdict(scenario),
        "law": scenario.law,
        "gains": {name: float(np.mean(own)) for name, own in hits.items()},
        "widths": {name: float(np.median(own)) for name, own in widths.items()},
        "true": {
            name: truth.scores[scenario.sizes[-1] + round(share * scenario.sizes[-1])] - largest
            for name, share in zip(hits, MORE, strict=True)
        },
        "held_out": float(np.mean(held)) if held else None,
        "held_out_error": float(np.median(errors)) if errors else None,
    }


CROSSING = (("power with limit", "flatter"), ("rectified", "flatter"))


def crossing_coverage(studies: int, curve: tuple[Array, Array, Array]) -> list[dict[str, Any]]:
    """Draws series of two arms that cross; returns how often the interval of the place holds it."""
    TRUTHS["flatter"] = lambda rows: 0.12 + 0.35 * rows**-0.2
    rows_of_results = []
    for names in CROSSING:
        for seeds in (3, 6):
            scenarios = [Scenario(name, seeds=seeds, examples=2000) for name in names]
            truths = [truth_of(each, curve) for each in scenarios]
            lead = np.array([truths[0].scores[rows] - truths[1].scores[rows] for rows in SIZES])
            before = int(np.flatnonzero(lead[:-1] * lead[1:] < 0)[-1])
            share = lead[before] / (lead[before] - lead[before + 1])
            place = float(np.exp(np.interp(share, [0, 1], np.log(SIZES[before : before + 2]))))
            random = np.random.default_rng(zlib.crc32(repr((names, seeds)).encode()))
            hit, found, certain = [], 0, 0
            for _ in range(studies):
                difficulty = DIFFICULTY * random.standard_normal(2000)
                arms = {
                    name: draw(each, truth, random, difficulty)
                    for name, each, truth in zip(names, scenarios, truths, strict=True)
                }
                crossings = learning_curves(arms, "higher", 1.0).crossings
                found += bool(crossings)
                if crossings and crossings[0].low is not None and crossings[0].high is not None:
                    hit.append(crossings[0].low <= place <= crossings[0].high)
                    certain += (crossings[0].share or 0.0) >= 0.95
            rows_of_results.append(
                {
                    "arms": list(names),
                    "seeds": seeds,
                    "place": place,
                    "found": found / studies,
                    "sure": certain / studies,
                    "covered": float(np.mean(hit)) if hit else None,
                }
            )
    return rows_of_results


def rank_errors(studies: int) -> list[dict[str, Any]]:
    """Draws data sets on which no method is better, and sets on which each is a step better than the next."""
    rows_of_results = []
    for sets in (3, 5, 8, 12):
        for methods in (3, 5, 9):
            random = np.random.default_rng(100 * sets + methods)
            claims, told = 0, 0
            for step in (0.0, 1.0):
                for _ in range(studies):
                    scores = {
                        str(at): {
                            f"m{place}": float(random.standard_normal() - step * place) for place in range(methods)
                        }
                        for at in range(sets)
                    }
                    ranking = average_ranks(scores, "higher")
                    claims += bool(ranking.different) and not step
                    told += ("m0", f"m{methods - 1}") in ranking.different and bool(step)
            rows_of_results.append(
                {"sets": sets, "methods": methods, "false": claims / studies, "ends_told_apart": told / studies}
            )
    return rows_of_results


def tables(result: dict[str, Any]) -> str:
    """Writes the results as Markdown."""
    lines = [
        "# Series: how often what is said holds",
        "",
        f"`python benchmarks/series_coverage.py`, {result['studies']} made-up series a line. Gains: how often the 95 % "
        "interval of what a quarter more rows, and twice the rows, bring holds the truth; in brackets the true gain "
        "and the median width, in points. Held out: how often the interval of the law's error at the largest size "
        "holds 0; in brackets the median error, in points. ✗: of the laws' family and under 92 %.",
        "",
        "| truth | sizes | seeds | examples | seeds differ | rows differ | +25 % | +100 % | held out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_curve_line(each) for each in result["curves"]]
    lines += [
        "",
        "\\* not of the family of laws of so many sizes, or rows differ, which the intervals leave out.",
        "",
        "## Crossings",
        "",
        "| arms | seeds | true place | found | share of draws 95 % or more | interval holds the place |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {' and '.join(each['arms'])} | {each['seeds']} | {each['place']:.0f} | {each['found']:.1%} "
        f"| {each['sure']:.1%} | {_percent(each['covered'], False)} |"
        for each in result["crossings"]
    ]
    lines += [
        "",
        "## Average ranks",
        "",
        "Any claim where no method is better, and how often the best is told from the worst where each is a standard "
        "deviation better than the next.",
        "",
        "| data sets | methods | any false claim | ends told apart |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {each['sets']} | {each['methods']} | {each['false']:.1%} | {each['ends_told_apart']:.1%} |"
        for each in result["ranks"]
    ]
    return "\n".join(lines) + "\n"


def _curve_line(each: dict[str, Any]) -> str:
    gains = [
        f"{_percent(share, each['law'])} ({100 * each['true'][name]:.1f}, {100 * each['widths'][name]:.1f})"
        for name, share in each["gains"].items()
    ]
    held_out, sizes = "–", each["sizes"]
    if each["held_out"] is not None:
        held_out = f"{_percent(each['held_out'], False)} ({100 * each['held_out_error']:.1f})"
    cells = [
        each["truth"] + ("" if each["law"] else " *"),
        f"{len(sizes)}, {sizes[0]} to {sizes[-1]}",
        *(f"{each[name]:g}" for name in ("seeds", "examples", "between", "drawn")),
        *gains,
        held_out,
    ]
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None, judged: bool) -> str:
    if share is None:
        return "–"
    return f"{share:.1%}{'' if not judged or share >= BAR else ' ✗'}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "series_coverage.json")
    asked = parser.parse_args(arguments)
    curve = level_curve()
    result = {
        "studies": asked.studies,
        "curves": [curve_coverage(scenario, asked.studies, curve) for scenario in SCENARIOS],
        "crossings": crossing_coverage(asked.studies, curve),
        "ranks": rank_errors(asked.studies),
    }
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(tables(result))


if __name__ == "__main__":
    main()
