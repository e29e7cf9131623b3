"""What a tracker costs while a trial trains: the processor seconds of its processes, as a share of training's seconds.

Trackers are processes of their own, so what they take from training is processor time (and memory traffic, which is
not seen here). A core that is taken for a second holds training up by a second at most, where every core trains: their
processor seconds, over those of training divided by the cores, are an upper bound on the share that a tracker adds.
What the run itself spends more on passing events on is added to it. Processor seconds are exact to 10 ms on Linux
(elsewhere those of ended processes may be missing) and leave out what others take of the machine. The clock is told
too: a round's ratio of training seconds with a tracker to those without one; the spread of the rounds without says how
fine a difference the clock can show.

LoRA on MiniLM's architecture (random weights; the arithmetic is the same) and texts made here. Variants take turns, in
another order every round.

    python benchmarks/overhead.py [--rounds 3] [--steps 80] [--out benchmarks/results/overhead.json]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tuneoff import Study, registry
from tuneoff.analysis.outcomes import over_seeds
from tuneoff.executors.base import Progress
from tuneoff.measure.machine import core_count
from tuneoff.records.record import Status, TrialRecord

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


@dataclass(frozen=True)
class Processor:
    """Processor seconds so far: of trackers, of the trial's processes, of the run, which passes on what happens."""

    trackers: float
    trial: float
    run: float


@dataclass(frozen=True)
class Cost:
    """What one trial took while it trained.

    Attributes:
        record: of the trial.
        seconds: of training, by the clock.
        tracker, run: processor seconds in the meantime, as a share of training's on every core.
    """

    record: TrialRecord
    seconds: float
    tracker: float
    run: float


class Clock:
    """Reads processor seconds as training begins and as it ends; a listener of the run."""

    def __init__(self) -> None:
        self.marks: list[Processor] = []

    def __call__(self, progress: Progress) -> None:
        if progress.event.get("kind") == "phase" and len(self.marks) == (progress.event.get("phase") != "train"):
            self.marks.append(processor_seconds())


def processor_seconds() -> Processor:
    """Those of all processes that descend from this one, and of those they waited for."""
    spent = {True: 0.0, False: 0.0}
    for child in psutil.Process().children():
        tracker = "tuneoff.trackers" in child.cmdline()
        for process in (child, *child.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                spent[tracker] += times.user + times.system + times.children_user + times.children_system
    return Processor(spent[True], spent[False], time.process_time())


def run(folder: Path, steps: int, tracker: str, number: int) -> Cost:
    """One trial."""
    clock = Clock()
    place = folder / f"{tracker}-{number}"
    study = Study(study_of(folder, steps, tracker), device="cpu").run(place, clock, profile=False)
    (record,) = study.records()
    if record.status is not Status.COMPLETED or any(found.name == "tracker_failed" for found in record.findings):
        raise SystemExit(f"{tracker}: {record.cause or [found.message for found in record.findings]}")
    before, after = clock.marks
    assert record.timing.train_seconds is not None
    training = (after.trial - before.trial) / core_count()
    taken, own = (after.trackers - before.trackers) / training, (after.run - before.run) / training
    return Cost(record, record.timing.train_seconds, taken, own)


def judged(name: str, costs: Sequence[Cost], without: Sequence[Cost]) -> dict[str, Any]:
    """A tracker's row: its share of processor time in every round, and what the clock says."""
    passing = statistics.median(cost.run for cost in without)
    shares = [cost.tracker for cost in costs]
    run_shares = [cost.run - passing for cost in costs]
    worst = max(share + max(0.0, more) for share, more in zip(shares, run_shares, strict=True))
    ratios = [cost.seconds / base.seconds for cost, base in zip(costs, without, strict=True)]
    # Of the mean overhead, over the rounds' logarithms; one round has none.
    found = over_seeds(map(math.log, ratios))
    assert found is not None
    low, high = map(math.expm1, (found.interval.low, found.interval.high)) if found.interval else (None, None)
    return {
        "tracker": name,
        "processor_shares": shares,
        "run_shares": run_shares,
        "worst": worst,
        "within_bar": worst < BAR,
        "clock": {"overhead": statistics.median(ratios) - 1, "low": low, "high": high, "ratios": ratios},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80, help="optimizer steps of each trial")
    parser.add_argument("--trackers", default="", help="names, with commas between them; all that are installed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    arguments = parser.parse_args()
    known = registry.trackers()
    chosen = arguments.trackers.split(",") if arguments.trackers else [n for n in known if not known[n].lacks()]
    variants = [NONE, *chosen]
    found: dict[str, list[Cost]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory(prefix="tuneoff-overhead-") as scratch:
        folder = Path(scratch)
        for number, role in enumerate(("train", "validation", "test")):
            write_rows(folder / f"{role}.csv", BATCH * arguments.steps if role == "train" else 16, seed=number)
        for number in range(arguments.rounds):
            for variant in variants[number % len(variants) :] + variants[: number % len(variants)]:
                cost = run(folder, arguments.steps, variant, number)
                found[variant].append(cost)
                taken = f"processor: tracker {cost.tracker:.2%}, run {cost.run:.2%}"
                print(f"round {number + 1}: {variant:12} {cost.seconds:7.2f} s; {taken}", flush=True)
    without = found[NONE]
    rows = [judged(name, found[name], without) for name in chosen]
    for row in rows:
        clock = row["clock"]
        told = "within" if row["within_bar"] else "over"
        print(f"{row['tracker']}: at most {row['worst']:.2%} of training, {told} the bar")
        span = f" ({clock['low']:+.1%} to {clock['high']:+.1%})" if clock["low"] is not None else ""
        print(f"  by the clock {clock['overhead']:+.1%}{span}")
    seconds = [cost.seconds for cost in without]
    spread = max(seconds) / min(seconds) - 1
    print(f"without a tracker: {statistics.median(seconds):.2f} s, rounds apart by up to {spread:.1%}")
    machine = without[0].record.environment
    result = {
        "bar": BAR,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "seconds": {variant: [cost.seconds for cost in costs] for variant, costs in found.items()},
        "spread_without": spread,
        "contended": {v: sum(cost.record.noise.contended for cost in costs) for v, costs in found.items()},
        "rows": rows,
        "environment": machine.model_dump(mode="json") if machine is not None else None,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
