"""Why `attention: auto` and `precision: auto` are what they are on a CPU.

Times a training step and a forward pass of MiniLM-L6's architecture (random weights; the arithmetic is the same)
under each attention implementation, precision policy, length and dropout, its masks drawn as the fast engine draws
them. Variants take turns, so that a drift of the machine's speed meets them all; the median over rounds is kept, and
ratios to `sdpa` + `fp32` are printed.

    python benchmarks/step_time.py [--rounds 7] [--out benchmarks/results/step_time.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any, get_args

import torch

from tuneoff.config.data import ModelSpec
from tuneoff.interfaces import Attached
from tuneoff.measure import environment
from tuneoff.tasks.classification import Classification
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.precision import PolicyName, apply_policy
from tuneoff.trial.training.dropout import DropoutMasks

BATCH = 8
CPU = torch.device("cpu")
MASKS = DropoutMasks(seed=0)


def once(task: Classification, model: Any, policy: PolicyName, batch: dict[str, torch.Tensor], train: bool) -> float:
    """Seconds of one training step (forward and backward) or one forward pass."""
    context = apply_policy(policy, CPU).autocast
    started = time.perf_counter()
    with MASKS.drawing(0, 0):
        with context(), torch.set_grad_enabled(train):
            logits = task.forward(Attached(model, model), batch)
        if train:
            task.loss(logits, batch).backward()  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - started
    for parameter in model.parameters():
        parameter.grad = None
    return seconds


def measure(length: int, dropout: float, rounds: int) -> list[dict[str, Any]]:
    """One row per attention and precision, for full fine-tuning at one length and dropout."""
    task = Classification({"labels": [str(i) for i in range(8)]})
    spec = ModelSpec(source="minilm", random_weights=True)
    models = {
        name: trial_model.load(spec, task, seed=0, dropout=dropout, attention=name).model for name in ("eager", "sdpa")
    }
    ids = torch.randint(1000, 20000, (BATCH, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[: BATCH // 2, length * 2 // 3 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.zeros(BATCH, dtype=torch.long)}
    variants = list(itertools.product(models, get_args(PolicyName), (True, False)))
    seconds: dict[tuple[str, str, bool], list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for name, policy, train in variants:
            models[name].train(train)
            elapsed = once(task, models[name], policy, batch, train)
            if number:
                seconds[name, policy, train].append(elapsed)
    rows = []
    for name, policy in itertools.product(models, get_args(PolicyName)):
        row: dict[str, Any] = {"length": length, "dropout": dropout, "attention": name, "precision": policy}
        for label, train in (("step", True), ("forward", False)):
            median = statistics.median(seconds[name, policy, train])
            pairs = zip(seconds["sdpa", "fp32", train], seconds[name, policy, train], strict=True)
            row[f"{label}_seconds"] = median
            row[f"{label}_speedup"] = statistics.median(base / own for base, own in pairs)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "step_time.json")
    arguments = parser.parse_args()
    rows = []
    for length, dropout in itertools.product((64, 128, 256, 384), (0.0, 0.1)):
        for row in measure(length, dropout, arguments.rounds):
            rows.append(row)
            print(
                f"{length:4} tokens, dropout {dropout}: {row['attention']:5} {row['precision']:11} "
                f"step {row['step_seconds'] * 1e3:7.1f} ms ({row['step_speedup']:.2f}x)  "
                f"forward {row['forward_seconds'] * 1e3:7.1f} ms ({row['forward_speedup']:.2f}x)",
                flush=True,
            )
    machine = environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"batch": BATCH, "rounds": arguments.rounds, "rows": rows, "environment": machine}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
