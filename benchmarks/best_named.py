"""Who is named the best, over studies whose truth is known; `calibration.py` runs it.

Five equal methods have one bad seed in ten: in two of them it diverges, in the others it ends at the baseline; one of
the two should be named in 40 % of studies. And of methods that do not differ some lack seeds that were easy for all: no
other should be ahead of the named best on the seeds of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import rank
from tuneoff.config.spec import TrialSpec
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Metric, Status, TrialRecord


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
    return {"bad": bad, "seeds": seeds, "studies": studies} | {
        "named": float(np.mean(named)),
        "named_without": float(np.mean(without)),
    }


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
    return {"methods": methods, "seeds": seeds, "studies": studies} | {
        "rival_ahead": float(np.mean(ahead)),
        "rival_ahead_of_own_mean": float(np.mean(ahead_of_mean)),
    }


def _beaten(label: str, scores: dict[str, dict[int, float]]) -> bool:
    mine = scores[label]
    gaps = [[mine[seed] - other[seed] for seed in mine.keys() & other.keys()] for other in scores.values()]
    return any(np.mean(gap) < -1e-12 for gap in gaps if gap)
