"""What it saves, and costs, to have large blocks of memory mapped by themselves (`trial/heap.py`).

Training steps on made-up rows and random weights, each variant in a process of its own, the two in turn. The peak is
that of the resident set.

    python benchmarks/heap.py [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.measure import environment
from tuneoff.measure.memory import MemoryMeter
from tuneoff.methods.base import Method
from tuneoff.spec import ModelSpec
from tuneoff.tasks.base import Features, Task
from tuneoff.trial import model as trial_model
from tuneoff.trial.heap import give_back_large_blocks
from tuneoff.trial.precision import apply_policy

VARIANTS = ("kept", "given back")
CASES = {
    "minilm full 16x64": ("minilm", "full", 16, 64, 0, 30),
    "minilm lora 32x256": ("minilm", "lora", 32, 256, 0, 8),
    "gpt2 lora 4x(256+64)": ("gpt2", "lora", 4, 256, 64, 8),
    "smollm2-135m full 4x(128+32)": ("smollm2-135m", "full", 4, 128, 32, 8),
}
"""name -> architecture, method, examples, tokens put in, tokens to write (none: classes), steps."""
WARM_UP = 2


def made_up(task: Task, examples: int, source: int, target: int) -> list[Features]:
    """Rows of full length."""
    tokens = torch.randint(1000, 20000, (examples, source + target), generator=torch.Generator().manual_seed(0))
    return [Features(row[:source], i % 2, source, target_ids=row[source:]) for i, row in enumerate(tokens.tolist())]


def measure(variant: str, case: str) -> dict[str, float]:
    """Peak bytes and median seconds of a training step in this process."""
    if variant == "given back":
        assert give_back_large_blocks()
    name, kind, examples, source, target, steps = CASES[case]
    options: dict[str, Any] = {} if target else {"labels": ["no", "yes"]}
    task = registry.tasks()["generation" if target else "classification"](options)
    loaded = trial_model.load(
        ModelSpec(source=name, random_weights=True),
        task,
        seed=0,
        dropout=0.0,
        attention="eager" if source < 256 else "sdpa",
    )
    method = registry.methods()[kind].create({})
    assert isinstance(method, Method)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    attached.module.train()
    autocast = apply_policy("auto", torch.device("cpu")).autocast
    features = made_up(task, examples, source, target)
    optimizer = torch.optim.AdamW(method.parameter_groups(attached, 0.01), lr=1e-5)
    meter = MemoryMeter("cpu")
    seconds = []
    with meter.phase("train"):
        for _ in range(WARM_UP + steps):
            started = time.perf_counter()
            batch = task.collate(features, 0)
            with autocast():
                logits = task.forward(attached, batch)
            loss = task.loss(logits, batch) / task.units(features)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - started)
    peak = meter.memory("train").peak_memory_bytes
    assert peak is not None
    return {"peak_bytes": peak, "step_seconds": statistics.median(seconds[WARM_UP:]), "loss": float(loss.detach())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "heap.json")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    rows = []
    for case in CASES:
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for number in range(arguments.rounds):
            for variant in VARIANTS[:: 1 if number % 2 == 0 else -1]:
                command = [sys.executable, __file__, "--one", variant, case]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[variant].append(json.loads(done.stdout.splitlines()[-1]))
        kept, given = (statistics.median(one["peak_bytes"] for one in found[variant]) for variant in VARIANTS)
        slower = [b["step_seconds"] / a["step_seconds"] for a, b in zip(*(found[v] for v in VARIANTS), strict=True)]
        rows.append(
            {
                "case": case,
                "kept_peak_bytes": kept,
                "given_back_peak_bytes": given,
                "saved_share": 1 - given / kept,
                "step_time_ratios": slower,
                "same_loss": len({one["loss"] for runs in found.values() for one in runs}) == 1,
            }
        )
        ratios = ", ".join(f"{ratio:.3f}" for ratio in slower)
        print(f"{case}: {kept / 2**20:,.0f} -> {given / 2**20:,.0f} MiB, {1 - given / kept:.1%} less", flush=True)
        print(f"  step time given back / kept: {ratios}; same loss: {rows[-1]['same_loss']}", flush=True)
    machine = environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"rounds": arguments.rounds, "rows": rows, "environment": machine}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
