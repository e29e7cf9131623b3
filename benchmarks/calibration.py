"""Whether the verdict on a study can be trusted: thousands of simulated studies whose truth is known.

Methods that do not differ must yield a winner (any pair called significant) in at most 5 % of studies, and 95 %
intervals must cover the truth in 93 to 98 %: they are the wider of two. Beside it stand the usual procedures on the
same studies, and how often a real difference is found.

A simulated study: every example has a difficulty, shared by all methods and in part each method's own; every seed
shifts a model's quality, in part alike for all methods (same data order); the rest is chance. These are normal, and a
prediction is right when their sum exceeds a threshold, so that the true accuracy is known exactly.

Two more kinds of studies ask who is named the best. Five equal methods have one bad seed in ten: in two of them it
diverges, in the others it ends at the baseline; one of the two should be named in 40 % of studies. And of methods that
do not differ some lack seeds that were easy for all: no other should be ahead of the named best on the seeds of both.

    python benchmarks/calibration.py [--studies 1000] [--out benchmarks/results/calibration.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import LEVEL, Sample, holm, rank, verdict
from tuneoff.analysis.statistics.crossed import Components, components
from tuneoff.config.spec import TrialSpec
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Metric, Status, TrialRecord

Array = NDArray[np.float64]
ALPHA = 1 - LEVEL
PRIORS = np.array([0.5, 0.25, 0.15, 0.1])
"""Of the classes, for macro-F1."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Scenario:
    """One kind of study.

    Attributes:
        metric: accuracy; rouge (a mean of values between 0 and 1); macro_f1 (jackknife); seconds (no examples).
        score: the true value of every method (accuracy where the metric is macro-F1).
        deviation: standard deviation of the score between seeds (of seconds: relative).
        alike: share of an example's variance that all methods have in common.
        own: share that is each method's own, the same at every seed. The remainder is chance.
        shared: share of the seeds' variance that all methods have in common.
        uneven: whether seeds matter four times as much to some methods as to others.
        collapses: probability that a seed falls to a score of 0.25.
        lead: by how much the first method is truly better; 0 where none is.
    """

    metric: str = "accuracy"
    methods: int = 8
    seeds: int = 6
    examples: int = 500
    score: float = 0.9
    deviation: float = 0.01
    alike: float = 0.6
    own: float = 0.15
    shared: float = 0.3
    uneven: bool = False
    collapses: float = 0.0
    lead: float = 0.0


BASE = Scenario()
NULL = (
    *(
        replace(BASE, seeds=seeds, examples=examples, deviation=deviation)
        for seeds, examples, deviation in (
            *itertools.product((6,), (200, 1000), (0.005, 0.01, 0.02)),
            (8, 500, 0.01),
            (10, 200, 0.02),
            (10, 1000, 0.005),
        )
    ),
    replace(BASE, methods=2),
    replace(BASE, methods=4, score=0.97, examples=200, deviation=0.005),
    replace(BASE, score=0.6),
    replace(BASE, own=0.02, shared=0.0, deviation=0.005, examples=1000),
    replace(BASE, own=0.3, alike=0.5),
    replace(BASE, uneven=True, examples=1000),
    replace(BASE, metric="rouge", score=0.3, examples=200),
    replace(BASE, metric="rouge", score=0.3, examples=1000, deviation=0.005),
    replace(BASE, metric="rouge", score=0.3, seeds=10, uneven=True),
    replace(BASE, metric="macro_f1", methods=3, score=0.85),
    replace(BASE, metric="seconds", score=60.0, deviation=0.05),
)
STRESS = (
    replace(BASE, seeds=3),
    replace(BASE, seeds=2),
    replace(BASE, seeds=2, examples=1000, own=0.02, shared=0.0, deviation=0.005),
    replace(BASE, collapses=0.05),
)
"""Beyond what the bars promise: too few seeds (nothing is called significant), and seeds that may fail altogether. The
latter no interval can cover: most studies of six seeds then see no failure, and none can know what they did not see."""
POWERED = tuple(
    replace(BASE, methods=methods, examples=1000, seeds=seeds, lead=lead)
    for methods, seeds, lead in itertools.product((2, 6), (6, 10), (0.01, 0.02, 0.04))
)
SIDE_BY_SIDE = (
    replace(BASE, examples=200, deviation=0.005),
    replace(BASE, methods=4, examples=1000, deviation=0.03),
    replace(BASE, methods=2),
    replace(BASE, seeds=2, examples=1000, own=0.02, shared=0.0, deviation=0.005),
)


def simulate(scenario: Scenario, random: np.random.Generator) -> tuple[list[Sample], Array]:
    """A study's samples, one per method, and the methods' true values."""
    seeds = range(scenario.seeds)
    if scenario.metric == "seconds":
        spread = scenario.deviation
        seconds = scenario.score * np.exp(spread * random.standard_normal((scenario.methods, scenario.seeds)))
        truth = np.full(scenario.methods, scenario.score * np.exp(spread**2 / 2))
        return [Sample.from_scores(str(k), seeds, seconds[k]) for k in range(scenario.methods)], truth
    scores = np.full(scenario.methods, scenario.score)
    scores[0] += scenario.lead
    latent, slopes = _latent(scenario, scores, random)
    if scenario.metric == "rouge":
        values = ndtr(np.sqrt(2) * ndtri(scores)[:, None, None] + latent)
        return [Sample.from_examples(str(k), seeds, values[k]) for k in range(scenario.methods)], scores
    right = latent + ndtri(scores)[:, None, None] > 0
    if scenario.metric == "macro_f1":
        return _macro_f1(scenario, right, scores, slopes, random)
    if scenario.collapses:
        fallen = random.random(right.shape[:2]) < scenario.collapses
        right[fallen] = random.random((int(fallen.sum()), scenario.examples)) < 0.25
        scores = (1 - scenario.collapses) * scores + scenario.collapses * 0.25
    return [Sample.from_examples(str(k), seeds, right[k]) for k in range(scenario.methods)], scores


def _latent(scenario: Scenario, scores: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Standard normal, shape (methods, seeds, examples), and each method's standard deviation between seeds."""
    k, s, e = scenario.methods, scenario.seeds, scenario.examples
    density = np.exp(-(ndtri(scores) ** 2) / 2) / np.sqrt(2 * np.pi)
    stretch = np.sqrt(2) if scenario.metric == "rouge" else 1.0
    between = stretch * scenario.deviation / density
    if scenario.uneven:
        between = between * np.geomspace(0.5, 2.0, k)
    by_seed = np.sqrt(scenario.shared) * random.standard_normal((1, s))
    by_seed = by_seed + np.sqrt(1 - scenario.shared) * random.standard_normal((k, s))
    by_example = np.sqrt(scenario.alike) * random.standard_normal((1, e))
    by_example = by_example + np.sqrt(scenario.own) * random.standard_normal((k, e))
    rest = np.sqrt(1 - scenario.alike - scenario.own) * random.standard_normal((k, s, e))
    within = np.sqrt(1 - between**2)[:, None, None]
    return (between[:, None] * by_seed)[:, :, None] + within * (by_example[:, None, :] + rest), between


def _macro_f1(
    scenario: Scenario, right: NDArray[np.bool_], scores: Array, slopes: Array, random: np.random.Generator
) -> tuple[list[Sample], Array]:
    """Wrong predictions fall on the other classes alike, so the expected confusion matrix follows from accuracy."""
    classes, (methods, seeds, examples) = len(PRIORS), right.shape
    target = random.choice(classes, size=examples, p=PRIORS)
    wrong = (target + random.integers(1, classes, size=right.shape)) % classes
    cells = target * classes + np.where(right, target, wrong)
    offsets = np.arange(seeds)[:, None] * classes**2

    def score_of(method: int) -> Callable[[NDArray[np.intp]], Array]:
        shifted = cells[method] + offsets

        def score(indices: NDArray[np.intp]) -> Array:
            counts = np.bincount(shifted[:, indices].ravel(), minlength=seeds * classes**2)
            counts = counts.reshape(seeds, classes, classes)
            hits = np.diagonal(counts, axis1=1, axis2=2)
            found: Array = (2 * hits / (counts.sum(1) + counts.sum(2))).mean(axis=1)
            return found

        return score

    samples = [Sample.from_statistic(str(k), range(seeds), score_of(k), examples) for k in range(methods)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    # Accuracy at each node of the seed's effect, and from it the expected macro-F1.
    at = ndtr((ndtri(scores)[:, None] + slopes[:, None] * nodes) / np.sqrt(1 - slopes[:, None] ** 2))[:, :, None]
    predicted = PRIORS * at + (1 - PRIORS) * (1 - at) / (classes - 1)
    truth = (2 * PRIORS * at / (PRIORS + predicted)).mean(axis=2) @ (weights / weights.sum())
    return samples, truth


def check(scenario: Scenario, studies: int) -> dict[str, Any]:
    """How often the verdict is right over many studies of one kind; shares, each with its standard error."""
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    found: dict[str, list[float]] = {"false_winner": [], "covered_mean": [], "covered_difference": [], "lead_found": []}
    started = time.perf_counter()
    for _ in range(studies):
        samples, truth = simulate(scenario, random)
        # Judged as if there were seeds enough, to see what is held back below six.
        said = verdict(samples, "higher", fraction=scenario.metric != "seconds", seeds_required=2)
        intervals = [
            (said.estimate(sample.label).interval, value) for sample, value in zip(samples, truth, strict=True)
        ]
        held = [i is not None and i.low <= value <= i.high for i, value in intervals]
        found["covered_mean"].append(float(np.mean(held)))
        true = [truth[int(pair.first)] - truth[int(pair.second)] for pair in said.pairs]
        covered = [
            pair.interval is not None and pair.interval.low <= value <= pair.interval.high
            for pair, value in zip(said.pairs, true, strict=True)
        ]
        found["covered_difference"].append(float(np.mean(covered)))
        wrong = [
            pair.significant and value * (pair.difference or 0.0) <= 0
            for pair, value in zip(said.pairs, true, strict=True)
        ]
        found["false_winner"].append(any(wrong))
        if scenario.lead:
            found["lead_found"].append(said.winner == "0")
    arm: dict[str, Any] = asdict(scenario) | {"studies": studies, "seconds": round(time.perf_counter() - started, 2)}
    return arm | _shares(found)


def side_by_side(scenario: Scenario, studies: int) -> list[dict[str, Any]]:
    """The usual procedures on the same studies, each with Holm's correction; methods do not differ."""
    random = np.random.default_rng(zlib.crc32(repr(scenario).encode()))
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(studies):
        samples, _ = simulate(scenario, random)
        for name, tests in _usual(samples, random).items():
            kept = found.setdefault(name, {"false_winner": [], "covered_difference": []})
            p_values = [p for p, _ in tests]
            kept["false_winner"].append(min(holm(p_values)) <= ALPHA)
            kept["covered_difference"].append(float(np.mean([covered for _, covered in tests])))
    return [asdict(scenario) | {"procedure": name, "studies": studies} | _shares(kept) for name, kept in found.items()]


def _usual(samples: list[Sample], random: np.random.Generator) -> dict[str, list[tuple[float, bool]]]:
    """Procedure -> (p, whether the 95 % interval includes the true difference of 0) of every pair."""
    resampled = _bootstrap(samples, random)
    found: dict[str, list[tuple[float, bool]]] = {}
    for one, two in itertools.combinations(range(len(samples)), 2):
        parts = components(samples[one].minus(samples[two]))
        assert parts.by_seed is not None
        assert parts.by_example is not None
        seeds = parts.seeds - 1
        total = parts.by_seed + parts.by_example
        freedom = total**2 / (parts.by_seed**2 / seeds + parts.by_example**2 / parts.example_freedom) if total else 1.0
        pair = resampled[:, one] - resampled[:, two]
        low, high = np.quantile(pair, [ALPHA / 2, 1 - ALPHA / 2])
        percentile = min(1.0, 2 * (1 + min((pair <= 0).sum(), (pair >= 0).sum())) / (RESAMPLES + 1))
        first = components(samples[one].at([0]).minus(samples[two].at([0])))
        tests = {
            "this": (parts.p_value(), abs(parts.mean) <= parts.half_width(LEVEL)),
            "this, by the seeds' means alone": _seeds_alone(parts),
            "satterthwaite": _student(parts.mean, total, freedom),
            "hierarchical bootstrap, percentiles": (percentile, bool(low <= 0 <= high)),
            "t over seeds, examples fixed": _student(parts.mean, parts.by_seed, seeds),
            "one seed, paired over examples": _student(first.mean, first.by_example or 0.0, first.example_freedom),
        }
        for name, test in tests.items():
            found.setdefault(name, []).append(test)
    return found


def _seeds_alone(parts: Components) -> tuple[float, bool]:
    alone = replace(parts, by_rest=0.0)
    if alone.constant:
        return _student(alone.mean, 0.0, 1)
    return alone.p_value(), abs(alone.mean) <= alone.half_width(LEVEL)


def _student(mean: float, variance: float, freedom: float) -> tuple[float, bool]:
    if variance == 0.0:
        return (1.0, True) if mean == 0.0 else (0.0, False)
    distance = abs(mean) / np.sqrt(variance)
    return 2 * float(stdtr(freedom, -distance)), bool(distance <= stdtrit(freedom, 0.5 + LEVEL / 2))


def _bootstrap(samples: list[Sample], random: np.random.Generator) -> Array:
    """Means of resampled seeds and examples, shape (resamples, methods)."""
    values = np.stack([sample.contributions for sample in samples if sample.contributions is not None])
    methods, seeds, examples = values.shape
    by_example = random.multinomial(examples, np.full(examples, 1 / examples), size=RESAMPLES) / examples
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    means = (by_example @ values.reshape(-1, examples).T).reshape(RESAMPLES, methods, seeds)
    return np.asarray(np.einsum("rks,rs->rk", means, by_seed))


class _Kept:
    """Predictions of made-up trials, in the place of a study's folder."""

    def __init__(self) -> None:
        self.arms: dict[str, list[dict[str, Any]]] = {}

    def trial(self, trial_id: str) -> _Kept:
        self.asked = trial_id
        return self

    def prediction_rows(self, split: str) -> list[dict[str, Any]]:
        return self.arms[self.asked]


METHODS = ("full", "lora", "ia3", "bitfit", "adapter")
DIVERGING = METHODS[:2]


def diverging(studies: int, bad: float = 0.1, seeds: int = 6, examples: int = 60) -> dict[str, Any]:
    """Five equal methods, of which a seed is bad now and then: how often one that then diverges is named the best."""
    study = parse(
        {
            "name": "equal",
            "model": "minilm",
            "task": {"data": "reuters-r8"},
            "methods": {label: {} for label in ("majority", *METHODS)},
            "protocol": {"seeds": seeds},
        }
    )
    trials, random = plan(study), np.random.default_rng(7)
    named, without = [], []
    for _ in range(studies):
        kept = _Kept()
        records = [_made_up(trial, kept, random, bad, examples) for trial in trials]
        of = {label: [record for record in records if record.spec.label == label] for label in study.methods}
        arms = tuple(Arm(label, tuple(r.spec for r in own), tuple(own), ()) for label, own in of.items())
        results = Results(kept, study, arms, ())  # type: ignore[arg-type]
        assert results.primary is not None
        best = Outcomes(results).best((arm for arm in arms if arm.trains), results.primary)
        named.append(best is not None and best.label in DIVERGING)
        means = {
            arm.label: np.mean(list(arm.scores("accuracy").values())) for arm in arms if arm.trains and arm.completed
        }
        without.append(max(means, key=lambda label: means[label]) in DIVERGING)
    return {"bad": bad, "seeds": seeds, "studies": studies} | _shares({"named": named, "named_without": without})


def _made_up(trial: TrialSpec, kept: _Kept, random: np.random.Generator, bad: float, examples: int) -> TrialRecord:
    """A trial that is right nine times in ten; a bad one diverges, or says one class for all."""
    is_bad = trial.learning_rate is not None and random.random() < bad
    if is_bad and trial.label in DIVERGING:
        return TrialRecord(spec=trial, status=Status.DIVERGED)
    target = np.arange(examples) % 4
    right = random.random(examples) < 0.9 + 0.02 * random.standard_normal()
    output = (
        np.zeros(examples, int) if is_bad or trial.learning_rate is None else np.where(right, target, (target + 1) % 4)
    )
    kept.arms[trial.id] = [
        {"index": at, "target": str(target[at]), "output": str(output[at])}
        | {"scores": (), "values": {}, "loss": None, "target_tokens": None}
        for at in range(examples)
    ]
    accuracy = float((target == output).mean())
    metric = Metric(name="accuracy", value=accuracy, unit="fraction", direction="higher", split="test")
    return TrialRecord(spec=trial, status=Status.COMPLETED, metrics=(metric,), primary_metric="accuracy")


def lacking(studies: int, methods: int = 5, seeds: int = 8) -> dict[str, Any]:
    """Methods without a true difference, of which some lack one to four seeds; two seeds are easy for all. How often
    another is ahead of the named best on the seeds that both have, and of the one with the best mean of its own."""
    random = np.random.default_rng(8)
    ahead, ahead_of_mean = [], []
    for _ in range(studies):
        easy = np.where(np.arange(seeds) >= seeds - 2, 0.1, 0.0)
        values = 0.8 + easy + 0.01 * random.standard_normal((methods, seeds))
        scores = {
            str(k): {
                s: float(values[k, s]) for s in range(seeds - (random.integers(1, 5) if random.random() < 0.5 else 0))
            }
            for k in range(methods)
        }
        own = max(scores, key=lambda label: float(np.mean(list(scores[label].values()))))
        ahead.append(_beaten(rank(scores, "higher").labels[0], scores))
        ahead_of_mean.append(_beaten(own, scores))
    return {"methods": methods, "seeds": seeds, "studies": studies} | _shares(
        {"rival_ahead": ahead, "rival_ahead_of_own_mean": ahead_of_mean}
    )


def _beaten(label: str, scores: dict[str, dict[int, float]]) -> bool:
    mine = scores[label]
    gaps = [[mine[seed] - other[seed] for seed in mine.keys() & other.keys()] for other in scores.values()]
    return any(np.mean(gap) < -1e-12 for gap in gaps if gap)


def _shares(found: dict[str, list[float]]) -> dict[str, float | None]:
    """Mean of each, and its standard error over studies; None for what was not asked."""
    shares: dict[str, float | None] = {}
    for name, values in found.items():
        shares[name] = float(np.mean(values)) if values else None
        shares[f"{name}_error"] = float(np.std(values) / np.sqrt(len(values))) if values else None
    return shares


def _line(arm: dict[str, Any]) -> str:
    notes = [name for name in ("uneven", "collapses", "lead") if arm[name]]
    said = (
        f"{arm['metric']:8} {arm['methods']} methods {arm['seeds']:2} seeds {arm['examples']:4} examples "
        f"score {arm['score']:5} between seeds {arm['deviation']:.3f} {' '.join(f'{n} {arm[n]}' for n in notes):12}  "
    )
    for name, words in (("false_winner", "false"), ("covered_mean", "mean"), ("covered_difference", "difference")):
        if arm.get(name) is not None:
            said += f"{words} {arm[name] * 100:5.1f} ± {arm[f'{name}_error'] * 100:.1f} %  "
    if arm.get("lead_found") is not None:
        said += f"found {arm['lead_found'] * 100:.0f} %"
    return said + str(arm.get("procedure", ""))


def _run(title: str, scenarios: tuple[Scenario, ...], studies: int) -> list[dict[str, Any]]:
    print(f"\n{title}")
    arms = []
    for scenario in scenarios:
        arms.append(check(scenario, studies))
        print(_line(arms[-1]), flush=True)
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "calibration.json")
    arguments = parser.parse_args()
    started = time.perf_counter()
    null = _run("No difference (bars: false winners at most 5 %, intervals 93 to 98 %)", NULL, arguments.studies)
    stress = _run("Beyond the bars, as if six seeds were not required", STRESS, max(arguments.studies // 2, 1))
    power = _run("One method truly better", POWERED, max(arguments.studies // 4, 1))
    print("\nSide by side with the usual procedures, no difference")
    beside = []
    for scenario in SIDE_BY_SIDE:
        for arm in side_by_side(scenario, max(arguments.studies // 5, 1)):
            beside.append(arm)
            print(_line(arm), flush=True)
    named = {"diverging": diverging(arguments.studies), "lacking": lacking(arguments.studies)}
    print("\nWho is named the best")
    for name, arm in named.items():
        print(name, {key: value for key, value in arm.items() if not key.endswith("_error")}, flush=True)
    worst = {
        "false_winner": max(arm["false_winner"] for arm in null),
        "covered_mean": [min(arm["covered_mean"] for arm in null), max(arm["covered_mean"] for arm in null)],
        "covered_difference": [f(arm["covered_difference"] for arm in null) for f in (min, max)],
    }
    passed = worst["false_winner"] <= 0.05 and all(
        0.93 <= share <= 0.98 for name in ("covered_mean", "covered_difference") for share in worst[name]
    )
    seconds = time.perf_counter() - started
    print(f"\nworst: {worst}\n{'bars met' if passed else 'BARS MISSED'} in {seconds:.0f} s")
    # Imported here, for it brings torch, which would count into the time above.
    from tuneoff.measure import environment

    result = {
        "worst": worst,
        "bars_met": passed,
        "seconds": round(seconds, 1),
        "no_difference": null,
        "beyond_the_bars": stress,
        "one_method_better": power,
        "side_by_side": beside,
        "named_best": named,
        "environment": environment.describe("cpu", 1).model_dump(mode="json"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
