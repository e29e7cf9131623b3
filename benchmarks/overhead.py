"""What a tracker costs: training seconds of the same short trial without any and with each that is installed.

LoRA on MiniLM's architecture (random weights; the arithmetic is the same) and texts made here. Variants take turns, in
another order every round, so that a drift of the machine's speed meets them all; a round's ratio is that of a
tracker's training seconds to those without one, and the median of the rounds is kept. The spread of the rounds without
a tracker says how fine a difference this machine can show.

    python benchmarks/overhead.py [--rounds 5] [--steps 120] [--out benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from tuneoff import Study, registry
from tuneoff.record import Status, TrialRecord

BAR = 0.02
"""A tracker is to make training by less than this share longer."""
BATCH, LENGTH = 8, 64
NONE = "none"


def write_rows(path: Path, rows: int, seed: int) -> None:
    """Texts of two classes and of unlike lengths."""
    chance = random.Random(seed)
    words = ("goal", "match", "team", "score", "oil", "price", "export", "tariff")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows):
            text = " ".join(chance.choice(words) for _ in range(chance.randint(LENGTH // 4, LENGTH)))
            writer.writerow((f"{text} {number}", ("sport", "trade")[number % 2]))


def study_of(folder: Path, steps: int, tracker: str) -> dict[str, Any]:
    """The study of one variant, on rows that lie in the folder."""
    files = {role: str(folder / f"{role}.csv") for role in ("train", "validation", "test")}
    return {
        "name": "overhead",
        "model": {"source": "minilm", "random_weights": True},
        "task": {"data": files},
        "protocol": {"seeds": 1, "epochs": 1, "max_steps": steps, "batch_size": BATCH, "max_length": LENGTH},
        "execution": {"latency_examples": 2, "keep_weights": False},
        "trackers": [] if tracker == NONE else [tracker],
        "methods": ["lora"],
    }


def run(folder: Path, steps: int, tracker: str, number: int) -> TrialRecord:
    """The record of one trial."""
    study = Study(study_of(folder, steps, tracker), device="cpu").run(folder / f"{tracker}-{number}", probe=False)
    (record,) = study.records()
    if record.status is not Status.COMPLETED or any(found.name == "tracker_failed" for found in record.findings):
        raise SystemExit(f"{tracker}: {record.cause or [found.message for found in record.findings]}")
    return record


def seconds_of(record: TrialRecord) -> float:
    """What its training took."""
    assert record.timing.train_seconds is not None
    return record.timing.train_seconds


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean overhead, by t over the rounds' logarithms; boundless for one round."""
    if len(ratios) < 2:
        return -math.inf, math.inf
    logs = [math.log(ratio) for ratio in ratios]
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    return math.expm1(middle - half), math.expm1(middle + half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=120, help="optimizer steps of each trial")
    parser.add_argument("--trackers", default="", help="names, with commas between them; all that are installed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    arguments = parser.parse_args()
    known = registry.trackers()
    chosen = arguments.trackers.split(",") if arguments.trackers else [n for n in known if not known[n].lacks()]
    variants = [NONE, *chosen]
    found: dict[str, list[TrialRecord]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory(prefix="tuneoff-overhead-") as scratch:
        folder = Path(scratch)
        for number, role in enumerate(("train", "validation", "test")):
            write_rows(folder / f"{role}.csv", BATCH * arguments.steps if role == "train" else 16, seed=number)
        for number in range(arguments.rounds):
            for variant in variants[number % len(variants) :] + variants[: number % len(variants)]:
                found[variant].append(run(folder, arguments.steps, variant, number))
                print(f"round {number + 1}: {variant:12} {seconds_of(found[variant][-1]):7.2f} s", flush=True)
    without = [seconds_of(record) for record in found[NONE]]
    rows = []
    for name in chosen:
        ratios = [seconds_of(own) / base for own, base in zip(found[name], without, strict=True)]
        low, high = interval(ratios)
        # Null: the rounds lie too far apart to tell.
        within = True if high < BAR else False if low > BAR else None
        row = {"tracker": name, "overhead": statistics.median(ratios) - 1, "low": low, "high": high}
        rows.append({**row, "ratios": ratios, "within_bar": within})
        told = {True: "within the bar", False: "over the bar", None: "not settled"}[within]
        print(f"{name}: {row['overhead']:+.2%}, 95 % interval {low:+.1%} to {high:+.1%}: {told}", flush=True)
    spread = max(without) / min(without) - 1
    print(f"without a tracker: {statistics.median(without):.2f} s, rounds apart by up to {spread:.1%}")
    machine = found[NONE][0].environment
    result = {
        "bar": BAR,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "seconds": {variant: [seconds_of(record) for record in records] for variant, records in found.items()},
        "spread_without": spread,
        "contended": {v: sum(record.noise.contended for record in records) for v, records in found.items()},
        "rows": rows,
        "environment": machine.model_dump(mode="json") if machine is not None else None,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
