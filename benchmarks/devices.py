"""What a second device brings on a CPU: the recipe gpt2-ag-news on two ranks, beside one with the same cores.

The LoRA row of the recipe, with random weights, without dropout and in full float32, so that losses can be compared.
Three variants take turns: one device with one thread, one with two, and two devices with one thread each. The speed-up
is over one device with one thread, its efficiency that of two devices; `beside_threads` compares two ranks with two
threads, which is the same number of cores.

    python benchmarks/devices.py [--rounds 3] [--steps 8] [--data FOLDER] [--out benchmarks/results/devices.json]

FOLDER holds `ag_news_train.csv` and `ag_news_test.csv` with the columns `text` and `label`; without it the rows are
Reuters-R8, from the package index.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff import Study
from tuneoff.measure.machine import core_count
from tuneoff.records.record import Status, TrialRecord

BATCH = 16


@dataclass(frozen=True)
class Variant:
    """One way to use the cores."""

    devices: int
    threads: int

    @property
    def name(self) -> str:
        return f"{self.devices} device{'s' * (self.devices > 1)} x {self.threads} thread{'s' * (self.threads > 1)}"


ONE, THREADS, TWO = Variant(1, 1), Variant(1, 2), Variant(2, 1)
VARIANTS = (ONE, THREADS, TWO)


def overrides(variant: Variant, steps: int, data: Path | None) -> dict[str, Any]:
    """What is changed of the recipe: few steps and rows, nothing that is drawn, and its data."""
    protocol = {
        "seeds": 1,
        "train_rows": 2 * BATCH * steps,
        "validation_rows": 32,
        "test_rows": 32,
        "max_steps": steps,
        "batch_size": BATCH,
        "evaluations_per_epoch": 1,
        "dropout": 0,
        "precision": "fp32",
    }
    changes: dict[str, Any] = {f"protocol.{key}": value for key, value in protocol.items()}
    changes |= {"execution.latency_examples": 2, "execution.keep_weights": False, "devices": variant.devices}
    changes["task.labels"] = None
    if data is not None:
        files = {role: str((data / f"ag_news_{role}.csv").resolve()) for role in ("train", "test")}
        return changes | {f"task.data.{role}": file for role, file in files.items()}
    return changes | {"task.data": "reuters-r8", "task.text": "Text", "task.label": "Category"}


def run(variant: Variant, steps: int, data: Path | None, folder: Path) -> TrialRecord:
    """The record of one trial."""
    # What processes that start later inherit.
    os.environ["OMP_NUM_THREADS"] = str(variant.threads)
    study = Study(
        "gpt2-ag-news",
        overrides=overrides(variant, steps, data),
        methods=["lora"],
        random_weights=True,
        device="cpu",
    )
    (record,) = study.run(folder, profile=False).records()
    if record.status is not Status.COMPLETED or record.environment is None:
        raise SystemExit(f"{variant.name}: {record.cause}")
    if record.environment.threads != variant.threads:
        raise SystemExit(f"{variant.name}: it ran with {record.environment.threads} threads")
    return record


def figures(variant: Variant, records: list[TrialRecord]) -> dict[str, Any]:
    """A variant's training seconds, its losses and its peak."""
    first = records[0]
    return {
        "variant": variant.name,
        "devices": variant.devices,
        "threads": variant.threads,
        "train_seconds": statistics.median(_seconds(record) for record in records),
        "rounds": [_seconds(record) for record in records],
        "train_loss": first.curve[-1].train_loss,
        "gradient_norms": list(first.gradient_norm.per_step),
        "test_loss": first.metric("loss"),
        "peak_memory_bytes": first.memory.peak_memory_bytes,
        "contended": sum(record.noise.contended for record in records),
    }


def compare(found: dict[Variant, list[TrialRecord]]) -> dict[str, float]:
    """Speed-up and efficiency of two ranks, by the rounds' own ratios, and how far losses are apart."""

    def ratio(base: Variant, other: Variant) -> float:
        pairs = zip(found[base], found[other], strict=True)
        return statistics.median(_seconds(one) / _seconds(two) for one, two in pairs)

    one, two = found[ONE][0], found[TWO][0]
    norms = zip(one.gradient_norm.per_step, two.gradient_norm.per_step, strict=True)
    return {
        "speed_up": ratio(ONE, TWO),
        "efficiency": ratio(ONE, TWO) / TWO.devices,
        "speed_up_of_threads": ratio(ONE, THREADS),
        "beside_threads": ratio(THREADS, TWO),
        "train_loss_difference": abs(two.curve[-1].train_loss / one.curve[-1].train_loss - 1),
        "gradient_norm_difference": max(abs(b / a - 1) for a, b in norms),
    }


def _seconds(record: TrialRecord) -> float:
    assert record.timing.train_seconds is not None
    return record.timing.train_seconds


def keep(found: dict[Variant, list[TrialRecord]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Writes what the rounds so far have shown; returns it."""
    machine = found[ONE][0].environment
    result = {
        "rounds": len(found[ONE]),
        "steps": arguments.steps,
        "data": "reuters-r8" if arguments.data is None else "AG News",
        "summary": compare(found),
        "rows": [figures(variant, found[variant]) for variant in VARIANTS],
        "environment": machine.model_dump(mode="json") if machine is not None else None,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="1 or more; the result is kept after each")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps of each trial")
    parser.add_argument("--data", type=Path, default=None, help="folder with ag_news_train.csv and ag_news_test.csv")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "devices.json")
    arguments = parser.parse_args()
    if core_count() < TWO.devices:
        raise SystemExit("this machine has but one core")
    found: dict[Variant, list[TrialRecord]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory(prefix="tuneoff-devices-") as scratch:
        for number in range(arguments.rounds):
            for variant in VARIANTS[number % 3 :] + VARIANTS[: number % 3]:
                folder = Path(scratch) / f"{variant.devices}-{variant.threads}-{number}"
                found[variant].append(run(variant, arguments.steps, arguments.data, folder))
                print(f"round {number + 1}: {variant.name:21} {_seconds(found[variant][-1]):7.2f} s", flush=True)
            result = keep(found, arguments)
    for row in result["rows"]:
        print(f"{row['variant']:21} {row['train_seconds']:7.2f} s, training loss {row['train_loss']:.6f}")
    told = result["summary"]
    print(
        f"two devices: {told['speed_up']:.2f}x one (efficiency {told['efficiency']:.0%}), "
        f"{told['beside_threads']:.2f}x two threads; losses apart by {told['train_loss_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
