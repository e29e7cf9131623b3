"""Whether settings of the protocol that make training faster change its quality.

Runs a study once under each combination of the settings that vary, each in a folder of its own, and tests every arm
that trains between them, pair by pair, on the same seeds and test examples. The tests are those of a report: over seeds
and examples, with Shaffer's correction for all pairs of an arm. From six seeds on, a pair is significant or tied; the
interval of its difference tells what a tie leaves possible.

    python benchmarks/protocol_ties.py STUDY.yaml --vary protocol.batching=random,length \\
        --vary protocol.precision=fp32,bf16 [--set task.data.train=FILE ...] [--runs runs/ties] [--out RESULT.json]

A run that was interrupted goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tuneoff.analysis.predictions import Predictions
from tuneoff.analysis.results import Results, gather
from tuneoff.analysis.statistics import Sample, verdict
from tuneoff.analysis.statistics.verdict import Verdict
from tuneoff.store import StudyStore
from tuneoff.study.study import Study


def variants(varied: list[str]) -> dict[str, list[str]]:
    """Returns the combinations of the settings: name -> overrides."""
    keys = [setting.partition("=")[0] for setting in varied]
    choices = [setting.partition("=")[2].split(",") for setting in varied]
    return {" ".join(values): [f"{k}={v}" for k, v in zip(keys, values, strict=True)] for values in product(*choices)}


def sample(name: str, results: Results, label: str) -> Sample:
    """Returns an arm's primary metric over seeds and test examples, under the name of its variant."""
    metric, records = results.primary, results.arm(label).completed
    if metric is None or len(records) < len(results.study.protocol.seeds):
        raise SystemExit(f"{name}: not all trials of {label} completed; run the same command again")
    predictions = Predictions(results)
    scores = np.array([record.metric(metric.name) for record in records], dtype=np.float64)
    seeds = [record.spec.seed for record in records]
    made = predictions.sample(name, metric, seeds, [predictions.read(record) for record in records], scores)
    return made if made is not None else Sample.from_scores(name, seeds, scores)


def arm_figures(found: Verdict, results: dict[str, Results], label: str) -> dict[str, Any]:
    """Returns what was found of an arm, as plain data."""
    seconds = {
        name: float(np.median([record.timing.train_seconds for record in each.arm(label).completed]))
        for name, each in results.items()
    }
    padding = {
        name: float(np.mean([record.throughput.padding_share for record in each.arm(label).completed]))
        for name, each in results.items()
    }
    return {
        "means": {estimate.label: estimate.mean for estimate in found.estimates},
        "train_seconds_median": seconds,
        "padding_share": padding,
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": pair.difference,
                "interval": [pair.interval.low, pair.interval.high] if pair.interval else None,
                "p_corrected": pair.p_corrected,
                "relation": pair.relation,
            }
            for pair in found.pairs
        ],
    }


def show(label: str, figures: dict[str, Any]) -> None:
    """Prints an arm's figures."""
    print(label)
    for name, mean in figures["means"].items():
        seconds, padding = figures["train_seconds_median"][name], figures["padding_share"][name]
        print(f"  {name:20} {mean:.4f}   train {seconds:6.2f} s   padding {padding:.1%}")
    for pair in figures["pairs"]:
        low, high = pair["interval"] or (float("nan"), float("nan"))
        difference = f"{pair['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        print(f"  {pair['first']} - {pair['second']}: {difference} {pair['relation']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--vary", action="append", required=True, metavar="KEY=VALUE,VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--runs", type=Path, default=Path("runs") / "ties")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Results] = {}
    for name, overrides in variants(options.vary).items():
        print(f"running {name}", flush=True)
        study = Study(options.study, overrides=[*options.set, *overrides])
        study.run(options.runs / name.replace(" ", "-"), profile=False, progress=False)
        assert study.folder is not None
        results[name] = gather(StudyStore.open(study.folder))
    first = next(iter(results.values()))
    labels = [arm.label for arm in first.arms if any(trial.learning_rate is not None for trial in arm.trials)]
    arms = {}
    for label in labels:
        metric = first.primary
        assert metric is not None
        found = verdict(
            [sample(name, each, label) for name, each in results.items()],
            metric.direction,
            fraction=metric.unit == "fraction",
        )
        arms[label] = arm_figures(found, results, label)
        show(label, arms[label])
    if options.out:
        machine = [r.environment.model_dump(mode="json") for r in first.completed if r.environment][:1]
        document = {"study": first.study.model_dump(mode="json"), "arms": arms, "environment": machine}
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
