"""Whether the verdict on a study can be trusted: thousands of made-up studies whose truth is known.

Bars: a 95 % interval holds the truth in 95 ± 1.5 % of cases; any false claim (a pair called significant the wrong way,
or without a difference) in at most 5 % of studies; with six arms and six seeds a real difference is found at least
twice as often as by every pair's own variance with Holm's correction. Studies beyond the bars stand apart: seeds that
collapse to chance, which most studies of six seeds never see, and fewer seeds than a verdict requires.

`simulated_studies.py` makes the studies, and shares neither code nor assumptions with what is judged here, the verdict
of `tuneoff.analysis.statistics`. Beside it, on the same studies: every pair by its own variance of seeds with Holm's
correction, one variance for all pairs, the usual procedures, and an oracle that knows each pair's true variance.

    python benchmarks/calibration.py [--studies 1000] [--kind NAME ...] [--out benchmarks/results/calibration.json]

One thread, many minutes; named kinds alone are made anew among the results that there are. The tables go to
`calibration.md` beside the JSON file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from best_named import diverging, lacking
from calibration_tables import COVERED, POWER, is_earlier, kind, percent, write_tables
from numpy.typing import NDArray
from races import races
from scipy.special import ndtr, ndtri, stdtr
from simulated_studies import EQUAL, PRIORS, Population, Scenario, Study, draw, macro_f1, population

from tuneoff.analysis.statistics import LEVEL, Pair, Sample, Verdict, estimate, estimate_positive, shaffer, verdict
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.analysis.statistics.multiple import most_equal

Array = NDArray[np.float64]
ALPHA = 1 - LEVEL
COVERAGE = (0.935, 0.965)
RESAMPLES = 1000

BASE = Scenario("as usual")
NO_DIFFERENCE = (
    *(replace(BASE, arms=arms) for arms in (2, 3, 4, 6, 9, 12)),
    *(replace(BASE, seeds=seeds) for seeds in (10, 20)),
    *(replace(BASE, examples=examples) for examples in (50, 200, 2000)),
    replace(BASE, name="examples decide", between=0.003, examples=200),
    replace(BASE, name="seeds decide", between=0.02, examples=2000),
    replace(BASE, name="far from the ceiling", score=0.6),
    replace(BASE, name="near the ceiling", score=0.98, between=0.005),
    replace(BASE, name="near the ceiling", score=0.98, between=0.005, seeds=10, examples=2000),
    replace(BASE, name="heavy tails", shape="heavy", between=0.02, examples=2000),
    replace(BASE, name="long lower tail", shape="skewed", between=0.02, examples=2000),
    *(
        replace(BASE, name="uneven seeds", weights="uneven", between=0.015, examples=2000, arms=arms)
        for arms in (3, 6, 12)
    ),
    replace(BASE, name="uneven seeds, heavy tails", weights="uneven", shape="heavy", between=0.015, arms=9, seeds=10),
    replace(BASE, name="one arm of wild seeds", weights="one", examples=2000),
    replace(BASE, name="one arm of wild seeds", weights="one", examples=2000, arms=4),
    replace(BASE, name="two arms of wild seeds", weights="two", examples=2000, arms=9),
    replace(BASE, name="shared seeds weigh unevenly", loading=True, shared=0.5, examples=1000),
    replace(BASE, name="trials missing", missing=0.15, seeds=8),
    replace(BASE, name="trials missing, uneven seeds", missing=0.15, seeds=10, weights="uneven", arms=9),
    replace(BASE, name="with a baseline", baselines=1),
    *(
        replace(BASE, name="two baselines, seeds decide", baselines=2, between=0.02, examples=2000, arms=arms)
        for arms in (4, 6)
    ),
    replace(BASE, metric="macro_f1", score=0.85, examples=1000, arms=4),
    replace(BASE, metric="macro_f1", score=0.85, examples=200),
    replace(BASE, metric="values", score=0.3, examples=200),
    replace(BASE, metric="values", score=0.3, weights="uneven", seeds=10),
)
BEYOND = (
    replace(BASE, seeds=2),
    replace(BASE, name="no difference between seeds", seeds=2, between=1e-6, examples=1000),
    replace(BASE, seeds=3),
    replace(BASE, name="seeds collapse, 1 in 20", collapses=0.05),
    replace(BASE, name="seeds collapse, 1 in 50", collapses=0.02),
)
"""Beyond the bars, as if six seeds were not required."""
DIFFERENCE = (
    *(
        replace(BASE, name="first arm better", examples=1000, arms=arms, seeds=seeds, lead=lead)
        for arms, seeds, lead in (
            (2, 6, 0.02),
            (3, 6, 0.02),
            (6, 6, 0.015),
            (6, 6, 0.02),
            (6, 6, 0.03),
            (9, 6, 0.02),
            (12, 6, 0.02),
            (6, 10, 0.02),
            (6, 20, 0.01),
        )
    ),
    replace(BASE, name="first arm better, seeds decide", examples=2000, between=0.02, lead=0.03),
    replace(BASE, name="first arm better, uneven seeds", examples=2000, weights="uneven", lead=0.02),
    replace(BASE, name="first arm better, one arm wild", examples=2000, weights="one", lead=0.02),
    replace(BASE, name="first arm better, heavy tails", examples=2000, shape="heavy", between=0.02, lead=0.03),
    replace(BASE, name="first arm better, two baselines", examples=1000, baselines=2, lead=0.02),
    *(replace(BASE, name="each arm worse than the one before", examples=1000, step=step) for step in (0.01, 0.02)),
    replace(BASE, name="first arm better", metric="macro_f1", score=0.85, examples=1000, lead=0.03),
)
SIDE_BY_SIDE = (BASE, replace(BASE, examples=200), replace(BASE, name="seeds decide", between=0.02, examples=2000))


def samples_of(study: Study, scenario: Scenario) -> list[Sample]:
    """Returns what the analysis gets: one sample per arm, of the trials that have a result (two at least); by groups of
    examples where there are any."""
    samples = []
    for arm, values in enumerate(study.values):
        seeds = np.flatnonzero(study.completed[arm])
        seeds = seeds if len(seeds) > 1 else np.arange(2)
        if scenario.metric == "macro_f1":
            statistic = _left_out(macro_f1(study, arm, seeds))
            samples.append(
                Sample.from_statistic(
                    str(arm), seeds.tolist(), statistic, scenario.examples, group_of_example=study.group
                )
            )
        else:
            samples.append(Sample.from_examples(str(arm), seeds.tolist(), values[seeds], study.group))
    return samples


def _left_out(metric: Callable[[NDArray[np.intp]], Array]) -> Callable[[NDArray[np.intp]], tuple[Array, Array]]:
    """Returns what the jackknife asks for, of a metric that takes indices of examples."""

    def statistic(group_of_example: NDArray[np.intp]) -> tuple[Array, Array]:
        groups = range(int(group_of_example.max()) + 1)
        without = [metric(np.flatnonzero(group_of_example != group)) for group in groups]
        return metric(np.arange(len(group_of_example))), np.stack(without, axis=1)

    return statistic


class Tally:
    """Counts over the studies of one scenario: one number per study and name."""

    def __init__(self) -> None:
        self.counts: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.counts.setdefault(name, []).append(float(value))

    def shares(self) -> dict[str, float]:
        """Returns the mean of each, and its standard error over studies."""
        shares = {}
        for name, values in self.counts.items():
            shares[name] = float(np.mean(values))
            shares[f"{name}_error"] = float(np.std(values) / np.sqrt(len(values)))
        return shares


def check(scenario: Scenario, studies: int) -> dict[str, Any]:
    """Judges many studies of one kind."""
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    drawn_from, tally = population(scenario), Tally()
    pairs = list(itertools.combinations(range(scenario.arms), 2))
    truth = np.array([drawn_from.truth[one] - drawn_from.truth[other] for one, other in pairs])
    differences, variances, projected, started = [], [], list[tuple[int, Pair, int]](), time.perf_counter()
    for _ in range(studies):
        samples = _drawn(scenario, drawn_from, random)
        # Judged as if there were seeds enough, to see what is held back below six.
        judged = verdict(samples, "higher", fraction=True, seeds_required=2)
        judge(judged, drawn_from, pairs, truth, tally)
        parts = [components(samples[one].minus(samples[other])) for one, other in pairs]
        differences.append([each.mean for each in parts])
        variances.append([((each.by_seed or 0.0) * each.seeds, each.by_example or 0.0) for each in parts])
        found = [judged.pair(str(one), str(other)) for one, other in pairs]
        claimed = sum(pair.significant for pair in found)
        left = most_equal(scenario.arms, len(pairs), claimed) if claimed < len(pairs) else 0
        projected += [(at, pair, left) for at, pair in enumerate(found) if pair.relation == "tied"]
        own, pooled = [each.p_value() for each in parts], _pooled(parts, scenario.arms)
        for name, corrected in (("own", _holm(own)), ("pooled", shaffer(pooled, scenario.arms))):
            _count_claims(f"{name}_", np.array(corrected) <= ALPHA, np.array(differences[-1]), truth, tally)
    oracle = Tally()
    spread = np.std(differences, axis=0)
    for difference in np.array(differences):
        p = 2 * ndtr(-np.abs(difference) / spread)
        _count_claims("oracle_", np.array(shaffer(p.tolist(), scenario.arms)) <= ALPHA, difference, truth, oracle)
    if scenario.lead and scenario.metric == "accuracy":
        _judge_projections(projected, truth, np.mean(variances, axis=0), tally)
    seconds = round(time.perf_counter() - started, 2)
    return asdict(scenario) | {"studies": studies, "seconds": seconds} | tally.shares() | oracle.shares()


def _drawn(scenario: Scenario, drawn_from: Population, random: np.random.Generator) -> list[Sample]:
    """Draws a study of which every two arms share a seed; where trials are missing, one in thousands is not."""
    while True:
        samples = samples_of(draw(scenario, drawn_from, random), scenario)
        if all(set(one.seeds) & set(other.seeds) for one, other in itertools.combinations(samples, 2)):
            return samples


def _judge_projections(
    projected: Sequence[tuple[int, Pair, int]], truth: Array, variances: Array, tally: Tally
) -> None:
    """Compares the number of seeds that a tied pair is said to need with the number that it truly needs.

    Args:
        projected: place of the pair, the pair, and by how many its p would be multiplied next.
        truth: true differences, shape (pairs,).
        variances: true variances of one seed and of the mean over examples, shape (pairs, 2).
    """
    for at, pair, left in projected:
        if abs(truth[at]) < 1e-3:
            continue
        critical = ndtri(1 - ALPHA / left / 2) + ndtri(0.8)
        remainder = (truth[at] / critical) ** 2 - variances[at][1]
        needed = variances[at][0] / remainder if remainder > 0 else np.inf
        tally.add("number_named", pair.seeds_range is not None)
        if pair.seeds_range is not None:
            least, most = pair.seeds_range
            tally.add("range_held", least <= max(np.ceil(needed), pair.seeds + 1) <= (most or np.inf))
            tally.add("range_closed", most is not None)
            tally.add("number_right", needed * 2 / 3 <= (pair.seeds_needed or 0) <= needed * 3 / 2)


def check_costs(seeds: int, spread: float, studies: int) -> dict[str, Any]:
    """Judges intervals of a cost whose seconds are log-normal."""
    random, tally = np.random.default_rng(seeds), Tally()
    for _ in range(studies):
        seconds, truth = 60 * np.exp(spread * random.standard_normal(seeds)), 60 * np.exp(spread**2 / 2)
        for name, interval in {
            "by_factor": estimate_positive("", seconds).interval,
            "by_difference": estimate(Sample.from_scores("", range(seeds), seconds)).interval,
        }.items():
            assert interval is not None
            tally.add(name, interval.low <= truth <= interval.high)
            tally.add(f"{name}_below_zero", interval.low <= 0)
    return {"seeds": seeds, "spread": spread, "studies": studies} | tally.shares()


def judge(
    judged: Verdict, drawn_from: Population, pairs: Sequence[tuple[int, int]], truth: Array, tally: Tally
) -> None:
    """Counts which intervals of a verdict hold the truth, and which of its claims are false."""
    intervals = [(judged.estimate(str(arm)).interval, value) for arm, value in enumerate(drawn_from.truth)]
    held = [interval is not None and interval.low <= value <= interval.high for interval, value in intervals]
    tally.add("covered_mean", np.mean(held))
    found = [judged.pair(str(one), str(other)) for one, other in pairs]
    covered = [
        pair.interval is not None and pair.interval.low <= value <= pair.interval.high
        for pair, value in zip(found, truth, strict=True)
    ]
    tally.add("covered_difference", np.mean(covered))
    claimed = np.array([pair.significant for pair in found])
    _count_claims("", claimed, np.array([pair.difference for pair in found], dtype=float), truth, tally)


def _count_claims(prefix: str, claimed: NDArray[np.bool_], difference: Array, truth: Array, tally: Tally) -> None:
    """Counts whether any claim is false, and which real differences are claimed."""
    wrong = claimed & ((np.abs(truth) < EQUAL) | (truth * difference <= 0))
    tally.add(f"{prefix}false", wrong.any())
    real = np.abs(truth) > 1e-3
    if real.any():
        tally.add(f"{prefix}found", (claimed & ~wrong)[real].mean())
        tally.add(f"{prefix}winner", (claimed & ~wrong)[real].all())


def _holm(p_values: Sequence[float]) -> Array:
    """Corrects by Holm's method, which knows nothing of pairs."""
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.array(p_values)[order] * np.arange(len(order), 0, -1))
    return corrected


def _pooled(parts: Sequence[Components], arms: int) -> list[float]:
    """Tests by one variance of seeds for all pairs, which is the prior taken as certain."""
    variance = float(np.mean([each.by_seed or 0.0 for each in parts]))
    return [replace(each, by_seed=variance, prior_freedom=(arms - 2.0) * (each.seeds - 1)).p_value() for each in parts]


def macro_f1_bias(score: float, examples: int, studies: int) -> dict[str, Any]:
    """Measures how far macro-F1 of a test set lies from that of infinitely many examples, on average."""
    scenario = replace(BASE, metric="macro_f1", score=score, examples=examples, arms=2, seeds=4)
    random, drawn_from, tally = np.random.default_rng(examples), population(scenario), Tally()
    for _ in range(studies):
        study = draw(scenario, drawn_from, random)
        measured = [macro_f1(study, arm, np.arange(4))(np.arange(examples)).mean() for arm in range(2)]
        tally.add("bias", np.mean(measured) - drawn_from.truth.mean())
    rarest = float(PRIORS.min() * examples)
    return {"score": score, "examples": examples, "rarest": rarest, "studies": studies} | tally.shares()


def side_by_side(scenario: Scenario, studies: int) -> list[dict[str, Any]]:
    """The usual procedures on the same studies, each corrected for all pairs; arms do not differ."""
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    drawn_from, tallies = population(scenario), dict[str, Tally]()
    for _ in range(studies):
        samples = samples_of(draw(scenario, drawn_from, random), scenario)
        for name, tests in _usual(samples, random).items():
            tally = tallies.setdefault(name, Tally())
            tally.add("false", min(p for p, _ in tests) * len(tests) <= ALPHA)
            tally.add("covered_difference", np.mean([covered for _, covered in tests]))
    return [asdict(scenario) | {"procedure": name, "studies": studies} | t.shares() for name, t in tallies.items()]


def _usual(samples: list[Sample], random: np.random.Generator) -> dict[str, list[tuple[float, bool]]]:
    """Procedure -> (p, whether the 95 % interval includes the true difference of 0) of every pair."""
    resampled, tests = _bootstrap(samples, random), dict[str, list[tuple[float, bool]]]()
    judged = verdict(samples, "higher", seeds_required=2)
    for one, other in itertools.combinations(range(len(samples)), 2):
        parts = components(samples[one].minus(samples[other]))
        seeds, total = parts.seeds - 1, (parts.by_seed or 0.0) + (parts.by_example or 0.0)
        terms = (parts.by_seed or 0.0) ** 2 / seeds + (parts.by_example or 0.0) ** 2 / parts.example_freedom
        pair = resampled[:, one] - resampled[:, other]
        low, high = np.quantile(pair, [ALPHA / 2, 1 - ALPHA / 2])
        percentile = min(1.0, 2 * (1 + min((pair <= 0).sum(), (pair >= 0).sum())) / (RESAMPLES + 1))
        first = components(samples[one].at([0]).minus(samples[other].at([0])))
        ours = judged.pair(str(one), str(other))
        assert ours.p is not None
        for name, result in {
            "this": (ours.p, ours.interval is not None and ours.interval.low <= 0 <= ours.interval.high),
            "this, every pair by itself": (parts.p_value(), abs(parts.mean) <= parts.half_width(LEVEL)),
            "Satterthwaite": _student(parts.mean, total, total**2 / terms if total else 1.0),
            "hierarchical bootstrap, percentiles": (percentile, bool(low <= 0 <= high)),
            "t over seeds, examples fixed": _student(parts.mean, parts.by_seed or 0.0, seeds),
            "one seed, paired over examples": _student(first.mean, first.by_example or 0.0, first.example_freedom),
        }.items():
            tests.setdefault(name, []).append(result)
    return tests


def _student(mean: float, variance: float, freedom: float) -> tuple[float, bool]:
    if variance == 0.0:
        return (1.0, True) if mean == 0.0 else (0.0, False)
    p = 2 * float(stdtr(freedom, -abs(mean) / np.sqrt(variance)))
    return p, p >= ALPHA


def _bootstrap(samples: list[Sample], random: np.random.Generator) -> Array:
    """Means of resampled seeds and examples, shape (resamples, arms)."""
    values = np.stack([sample.contributions for sample in samples if sample.contributions is not None])
    arms, seeds, examples = values.shape
    by_example = random.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES) / examples
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    means = (by_example @ values.reshape(-1, examples).T).reshape(RESAMPLES, arms, seeds)
    return np.asarray(np.einsum("rks,rs->rk", means, by_seed))


def _run(title: str, scenarios: tuple[Scenario, ...], studies: int) -> Iterator[dict[str, Any]]:
    print(f"\n{title}")
    for scenario in scenarios:
        row = check(scenario, studies)
        shown = {name: percent(row, name) for name in (*COVERED, *POWER) if name in row}
        print(
            f"{scenario.name}, {scenario.arms} arms, {scenario.seeds} seeds, {scenario.examples}: {shown}", flush=True
        )
        yield row


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the extremes over scenarios, and the means over them."""
    extremes = {name: [choice(row[name] for row in rows) for choice in (min, max)] for name in COVERED}
    return extremes | {f"{name}_all": float(np.mean([row[name] for row in rows])) for name in COVERED}


def _verdicts(studies: int, names: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Judges studies of these kinds, all without a name; yields each row and the table that it belongs to."""

    def chosen(scenarios: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        return tuple(scenario for scenario in scenarios if not names or scenario.name in names)

    for table, title, scenarios, count in (
        ("no_difference", "No difference", NO_DIFFERENCE, studies),
        ("one_arm_better", "Arms that truly differ", DIFFERENCE, studies),
        ("beyond_the_bars", "Beyond the bars", BEYOND, studies // 2),
    ):
        yield from ((table, row) for row in _run(title, chosen(scenarios), count))
    for scenario in chosen(SIDE_BY_SIDE):
        yield from (("side_by_side", row) for row in side_by_side(scenario, studies // 5))


def _others(studies: int) -> dict[str, Any]:
    """Makes the tables that are not of verdicts."""
    return {
        "costs": [check_costs(seeds, spread, studies) for seeds in (2, 3, 6, 10) for spread in (0.05, 0.3, 0.6)],
        "macro_f1_bias": [macro_f1_bias(s, e, studies) for s in (0.6, 0.85) for e in (50, 100, 200, 500, 2000)],
        "named_best": {"diverging": diverging(studies), "lacking": lacking(studies)},
        "races": list(races(studies // 2)),
    }


def _place(table: str, row: dict[str, Any]) -> int:
    """Returns where a row stands in its table."""
    scenarios = {"no_difference": NO_DIFFERENCE, "one_arm_better": DIFFERENCE, "beyond_the_bars": BEYOND}
    kinds = [kind(asdict(scenario)) for scenario in scenarios.get(table, SIDE_BY_SIDE)]
    return kinds.index(kind({**row, "procedure": None}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--kind", action="append", default=[], help="name of one kind of study alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.kind else _others(arguments.studies)
    # Imported here, for it brings torch.
    from tuneoff.measure import environment

    result["environment"] = environment.describe("cpu", 1).model_dump(mode="json")
    for table, row in _verdicts(arguments.studies, arguments.kind):
        kept = [other for other in result.get(table, []) if kind(other) != kind(row)]
        result[table] = sorted([*kept, row], key=partial(_place, table))
        result["worst"] = _worst([each for each in result["no_difference"] if not is_earlier(each)])
        # After each kind, for all of them take many minutes.
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{result['worst']}")
    arguments.out.with_suffix(".md").write_text(write_tables(result), encoding="utf-8")


if __name__ == "__main__":
    main()
