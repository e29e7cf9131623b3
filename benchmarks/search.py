"""How near to the best rate (and options) the equal search comes: the rules of today beside the former ones.

What is searched is cheap: the score over the learning rate of ten arms on AG News, as their search recorded it
(`studies/ag-news-minilm/searched/search.json`), with lines between the recorded rates; and made-up curves with a peak
anywhere in the range or near the first rate, a slow rise, a fast fall and a cliff, alone and with two options beside
the rate, of which one matters. Every trial sees its score on 200 validation examples.

The constants of `gp` and the number of spread points were chosen on these curves, among a few.

The figure is how far the true score of what was chosen lies below the best of the range, in points.

Where the published rule for the first rate (`search/rates.py`) speaks of a recorded method, its rates are held against
the method's default: the recorded score of each, and how far searches that begin there fall short. The recorded model
is none that the rule was fitted to.

    python benchmarks/search.py [--searches 40] [--out benchmarks/results/search.json]

One thread, about two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna

from tuneoff import registry
from tuneoff.config.search import Sampler
from tuneoff.search import sampling
from tuneoff.search.rates import EXPONENTS, rate_by_width
from tuneoff.search.space import Dimension, Outcome, Space, Values, best, first

ROWS = 200
"""Validation examples."""
CHANCE = 0.25
WIDTH = 384
"""Hidden size of the recorded model."""
RECORDED = Path(__file__).parent / "studies" / "ag-news-minilm" / "searched" / "search.json"
FORMER_SPREAD = 8

Suggest = Callable[[Space, Sequence[Outcome], int], Values]


@dataclass(frozen=True)
class Objective:
    """What is searched.

    Attributes:
        space: what may be chosen.
        score: a configuration's true score, between 0 and 1.
        best: the greatest there is.
    """

    space: Space
    score: Callable[[Values], float]
    best: float


def recorded() -> dict[str, Objective]:
    """Returns the recorded arms, in the ranges that were searched then."""
    objectives = {}
    for label, arm in json.loads(RECORDED.read_text(encoding="utf-8"))["rows"].items():
        data = arm["space"]["learning_rate"]
        rate = Dimension("learning_rate", data["first"], low=data["low"], high=data["high"], log=True)
        trials = sorted((rate.share(trial["values"]["learning_rate"]), trial["score"]) for trial in arm["tried"])
        shares, scores = zip(*trials, strict=True)

        def score(values: Values, rate: Dimension = rate, shares: Any = shares, scores: Any = scores) -> float:
            return float(np.interp(rate.share(values["learning_rate"]), shares, scores))

        objectives[label] = Objective((rate,), score, max(scores))
    return objectives


def first_rates(curves: dict[str, Objective], searches: int) -> list[dict[str, Any]]:
    """Returns how recorded arms score at the rates that may be tried first, and what searches from there find."""
    rows = []
    for label, objective in curves.items():
        factor = registry.methods()[label].learning_rate.over_full
        if factor is None:
            continue
        (dimension,) = objective.space
        rates = {"the method's default": float(dimension.first)}
        rates |= {f"the rule for {family}": rate_by_width(WIDTH, family, factor) for family in EXPONENTS}
        for name, rate in rates.items():
            begun = replace(objective, space=(replace(dimension, first=rate),))
            short = [shortfall(begun, 8, seed, present("gp")) for seed in range(searches)]
            score = 100 * objective.score({"learning_rate": rate})
            rows.append({"arm": label, "first": name, "rate": rate, "score": score, "best": 100 * objective.best})
            rows[-1] |= {"shortfall": float(np.mean(short)), "error": float(np.std(short) / math.sqrt(len(short)))}
    return rows


def made_up(count: int, near: bool, options: bool) -> list[Objective]:
    """Makes curves of one peak up.

    Args:
        count: how many.
        near: the peak lies around the first rate, within a factor of about three; else anywhere in the range.
        options: beside the rate a number is searched that moves the peak and the score, and a word that does not.
    """
    random = np.random.default_rng(7)
    rate = Dimension("learning_rate", 1e-3, low=5e-5, high=2e-2, log=True)
    size = Dimension("r", 8, choices=(2, 4, 8, 16, 32))
    word = Dimension("targets", "a", choices=("a", "b"))
    objectives = []
    for _ in range(count):
        peak = random.normal(0.5, 0.18) if near else random.uniform(0.05, 0.95)
        peak, top, cliff = min(max(peak, 0.05), 0.95), random.uniform(0.6, 0.95), random.uniform(0.15, 0.6)
        rise, fall = random.uniform(0.3, 2.0), random.uniform(1.0, 10.0)
        good = random.uniform(0, 1)

        def score(
            values: Values,
            settings: tuple[float, ...] = (peak, top, cliff, rise, fall, good),
        ) -> float:
            peak, top, cliff, rise, fall, good = settings
            share = rate.share(values["learning_rate"])
            if options:
                own = size.share(values["r"])
                top, peak = top - 0.08 * (own - good) ** 2, peak - 0.1 * (own - 0.5)
            distance = share - peak
            if distance > cliff:
                return CHANCE
            return max(top - (rise if distance < 0 else fall) * distance**2, CHANCE)

        space: Space = (rate, size, word) if options else (rate,)
        grids = [[d.at(share) for share in np.linspace(0, 1, 1000)] if not d.choices else d.choices for d in space]
        names = [d.name for d in space]
        greatest = max(score(dict(zip(names, values, strict=True))) for values in itertools.product(*grids))
        objectives.append(Objective(space, score, greatest))
    return objectives


def former(space: Space, history: Sequence[Outcome], seed: int) -> Values:
    """Suggests as it was done before: eight points spread evenly, then TPE as Optuna 5 sets it."""
    tried = [outcome.values for outcome in history]
    if not tried:
        return first(space)
    start = [dimension.share(dimension.first) for dimension in space]
    for attempt in range(8):
        if len(history) < FORMER_SPREAD:
            far = (
                point
                for point in sampling._points(len(space), seed)
                if max(abs(a - b) for a, b in zip(point, start, strict=True)) > 0.5 / FORMER_SPREAD
            )
            index = len(history) - 1 + attempt * FORMER_SPREAD
            values = sampling._values_at(space, next(itertools.islice(far, index, None)))
        else:
            values = _ask_as_before(space, history, sampling._seed(seed, len(history), attempt))
        if values not in tried:
            break
    return values


def _ask_as_before(space: Space, history: Sequence[Outcome], seed: int) -> Values:
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=len(space) > 1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions = {d.name: d.distribution() for d in space}
    for outcome in history:
        params = {d.name: d.position(outcome.values[d.name]) if d.choices else outcome.values[d.name] for d in space}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=outcome.score))
    asked = study.ask(distributions).params
    return {d.name: d.choices[asked[d.name]] if d.choices else d.fit(asked[d.name]) for d in space}


def present(sampler: Sampler) -> Suggest:
    """Returns the suggestions of a sampler as they are."""
    return lambda space, history, seed: sampling.suggest(space, history, seed, sampler)


RULES: dict[str, Suggest] = {
    "8 spread, then TPE (before)": former,
    "random": present("random"),
    "tpe": present("tpe"),
    "gp (default)": present("gp"),
}


def shortfall(objective: Objective, trials: int, seed: int, suggest: Suggest) -> float:
    """Searches once, and returns by how many points what it chose falls short of the best."""
    random, history = np.random.default_rng(seed), list[Outcome]()
    for _ in range(trials):
        values = suggest(objective.space, history, seed)
        history.append(Outcome(values, random.binomial(ROWS, objective.score(values)) / ROWS))
    chosen = best(history)
    assert chosen is not None
    return 100 * (objective.best - objective.score(history[chosen].values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=40, help="of each recorded arm, and of ten made-up ones")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "search.json")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = recorded()
    repeated = [objective for _ in range(arguments.searches) for objective in curves.values()]
    families = {
        f"recorded, {len(curves)} arms": repeated,
        "made up, peak near the first rate": made_up(len(repeated), near=True, options=False),
        "made up, peak anywhere": made_up(len(repeated), near=False, options=False),
        "made up, two options more": made_up(len(repeated) // 4, near=True, options=True),
    }
    results = []
    for (family, objectives), trials, (name, suggest) in itertools.product(families.items(), (8, 16), RULES.items()):
        short = [shortfall(objective, trials, seed, suggest) for seed, objective in enumerate(objectives)]
        result = {
            "objective": family,
            "trials": trials,
            "rule": name,
            "searches": len(short),
            "shortfall": float(np.mean(short)),
            "shortfall_error": float(np.std(short) / math.sqrt(len(short))),
            "more_than_2_points": float(np.mean(np.array(short) > 2)),
        }
        results.append(result)
        print(f"{family}, {trials} trials, {name}: {result['shortfall']:.2f}", flush=True)
    firsts = first_rates(curves, 4 * arguments.searches)
    body = {"optuna": optuna.__version__, "rows": ROWS, "results": results, "first_rates": firsts}
    arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(_table(results) + _first_table(firsts), encoding="utf-8")


def _table(results: Sequence[dict[str, Any]]) -> str:
    lines = [
        "# What the search finds\n",
        f"Made by `python benchmarks/search.py`, with Optuna {optuna.__version__}. How far the true score of what was "
        "chosen lies below the best of the range, in points, with its standard error over searches; in brackets the "
        f"share of searches that fell short by more than two points. Scores were seen on {ROWS} examples.\n",
        "| objective | trials | " + " | ".join(RULES) + " |",
        "|---|---|" + "---|" * len(RULES),
    ]
    for (family, trials), group in itertools.groupby(results, key=lambda each: (each["objective"], each["trials"])):
        cells = [
            f"{each['shortfall']:.2f} ± {each['shortfall_error']:.2f} ({each['more_than_2_points']:.0%})"
            for each in group
        ]
        lines.append(f"| {family} | {trials} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _first_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "\n## The first rate\n",
        f"Rates that a search may try first, of recorded arms on AG News with MiniLM (hidden size {WIDTH}), to which "
        "the published rule was not fitted: their recorded score, in points, beside the best of the range; and how far "
        "8 trials that begin there fall short.\n",
        "| arm | first rate | | score there | best | 8 trials fall short by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = f"{row['score']:.1f} | {row['best']:.1f} | {row['shortfall']:.2f} ± {row['error']:.2f}"
        lines.append(f"| {row['arm']} | {row['first']} | {row['rate']:.2g} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
