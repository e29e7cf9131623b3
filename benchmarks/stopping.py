"""What stopping search trials by their curves saves, and how often it stops the best one, on recorded curves.

The curves are those of PEFT's MetaMathQA comparison (`studies/peft-metamath`): 63 whole trainings of 5,000 steps, each
validated twenty times on 50 examples, which is few, and tested on 1,319. Nobody published curves of one searched
method, so these configurations of many stand for those of one arm: they differ more than rates of one method do near
their peak, and less than those of a wide range.

A search is some of them in random order, stopped by the rule as it is built (`search/stopping.py`). The best is the
trial that would have been chosen had none been stopped. Varied is the share of earlier trials that must be worse for
one to go on, and how many validations are let pass.

    python benchmarks/stopping.py RESULTS [--searches 2000] [--out benchmarks/results/stopping.json]

One thread, about a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuneoff.records.record import CurvePoint
from tuneoff.search import stopping

VALIDATIONS = 20
Curve = Sequence[CurvePoint]


def curve(steps: Sequence[int], scores: Sequence[float]) -> Curve:
    """Makes the curve of a trial of these validations."""
    return [
        CurvePoint(step=step, epoch=0.0, learning_rate=1.0, train_loss=0.0, validation={"score": score})
        for step, score in zip(steps, scores, strict=True)
    ]


def recorded(folder: Path) -> list[tuple[Curve, float]]:
    """Returns the curves of PEFT's runs that came to their end, each with its score on the test set."""
    runs = []
    for path in sorted(folder.glob("*.json")):
        entries = json.loads(path.read_text(encoding="utf-8"))["train_info"]["metrics"]
        points = [(entry["step"], entry["valid accuracy"]) for entry in entries if "valid accuracy" in entry]
        if len(points) == VALIDATIONS:
            runs.append((curve(*zip(*points, strict=True)), entries[-1]["test accuracy"]))
    return runs


def search(runs: Sequence[tuple[Curve, float]], share: float, passed: int) -> tuple[bool, float, float, float]:
    """Searches once.

    Args:
        runs: whole trials, in the order in which they are tried, with their test scores.
        share: of the earlier trials that must be worse for a trial to go on.
        passed: validations at which none is.

    Returns:
        Whether the trial was stopped that would have been chosen, by how much the chosen one is worse on validation and
        on test, in points, and the share of steps that were saved.
    """
    seen: list[Curve] = []
    reached: list[float] = []
    for whole, _ in runs:
        rule = stopping.bounds(seen, "score", "higher", share)
        if rule is not None:
            rule = rule.model_copy(update={"bounds": (-1.0,) * passed + rule.bounds[passed:]})
        ends = [count for count in range(1, len(whole) + 1) if stopping.is_stopped(rule, whole[:count])]
        seen.append(whole[: ends[0]] if ends else whole)
        reached.append(-1.0 if ends else _best_score(whole))
    scores = [_best_score(whole) for whole, _ in runs]
    best, chosen = int(np.argmax(scores)), int(np.argmax(reached))
    saved = 1 - sum(done[-1].step for done in seen) / sum(whole[-1].step for whole, _ in runs)
    return reached[best] < 0, 100 * (scores[best] - scores[chosen]), 100 * (runs[best][1] - runs[chosen][1]), saved


def _best_score(whole: Curve) -> float:
    return max(point.validation["score"] for point in whole)


def check(
    runs: Sequence[tuple[Curve, float]], trials: int, share: float, passed: int, searches: int
) -> dict[str, float]:
    """Searches often, with one rule."""
    random = np.random.default_rng(trials)
    found = [
        search([runs[place] for place in random.permutation(len(runs))[:trials]], share, passed)
        for _ in range(searches)
    ]
    stopped, loss, test_loss, saved = (np.array(each, dtype=float).mean() for each in zip(*found, strict=True))
    settings = {"trials": trials, "share": share, "passed": passed, "searches": searches}
    shares = {"best_stopped": stopped, "loss": loss, "test_loss": test_loss, "saved": saved}
    return settings | {name: round(float(share), 4) for name, share in shares.items()}


def write_table(results: Sequence[dict[str, float]], runs: int) -> str:
    """Writes the table for people."""
    lines = [
        "# Stopping search trials by their curves\n",
        f"Made by `python benchmarks/stopping.py RESULTS`: searches of {runs} whole recorded trainings "
        "([peft-metamath](../studies/peft-metamath/README.md)) in random order, stopped from the fifth trial on "
        "([protocol.md](../../docs/protocol.md#stopping-by-curves)). The rule as it is built is the first line of each "
        "number of trials: a quartile, at every validation. The best is the trial that would have been "
        "chosen without it; losses say how much worse the chosen one is, in points on validation (50 examples) and on "
        "test (1,319), on average. Configurations of many methods stand for those of one arm, for nobody published "
        "curves of one searched method.\n",
        "| trials | goes on above | validations let pass | best stopped | loss | loss on test | steps saved |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results:
        shares = f"{row['best_stopped']:.1%} | {row['loss']:.2f} | {row['test_loss']:.2f} | {row['saved']:.0%}"
        lines.append(f"| {row['trials']} | {row['share']:.0%} | {row['passed']} | {shares} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="method_comparison/MetaMathQA/results of a clone of peft")
    parser.add_argument("--searches", type=int, default=2000, help="of each kind")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stopping.json")
    arguments = parser.parse_args()
    runs = recorded(arguments.results)
    if not runs:
        raise SystemExit(f"{arguments.results} holds no finished runs of PEFT's comparison")
    kinds = itertools.product((8, 16), ((stopping.SHARE, 0), (stopping.SHARE, 4), (1 / 3, 0), (0.5, 0)))
    results = [check(runs, trials, *rule, arguments.searches) for trials, rule in kinds]
    body = {"runs": len(runs), "results": results}
    arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    arguments.out.with_suffix(".md").write_text(write_table(results, len(runs)), encoding="utf-8")


if __name__ == "__main__":
    main()
