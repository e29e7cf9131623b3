"""What it saves to keep frozen weights in bfloat16 under bf16 autocast.

LoRA on models of known architecture (random weights), with frozen weights as they were loaded (`wide`) and as a trial
keeps them (`narrow`). Told of each:

- bytes of the weights, counted, for the whole model;
- processor seconds of a training step and of a forward pass without gradients: variants take turns and the least of all
  rounds is kept, because what disturbs a step only makes it longer.

Losses of the two are compared and must be equal to the last bit.

    python benchmarks/narrow_weights.py [--rounds 7] [--out benchmarks/results/narrow_weights.json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.measure import environment
from tuneoff.methods.base import Attached, Method
from tuneoff.plan import plan
from tuneoff.study_file import parse
from tuneoff.tasks.base import Batch, Features
from tuneoff.tasks.generation import Generation
from tuneoff.trial import model as trial_model
from tuneoff.trial.narrowing import narrow
from tuneoff.trial.precision import apply_policy

MODELS = ("gpt2", "smollm2-135m")
BATCH, SOURCE, TARGET = 4, 128, 16
CPU = torch.device("cpu")
VARIANTS = ("wide", "narrow")


def build(source: str, task: Generation, variant: str) -> Attached:
    """LoRA on a model of random weights, the same every time."""
    study: dict[str, Any] = {
        "model": {"source": source, "random_weights": True},
        "task": {"name": "generation", "data": "rows.csv", "source": "text", "target": "summary"},
        "protocol": {"seeds": 1, "dropout": 0.0},
        "methods": ["lora"],
    }
    (spec,) = plan(parse(study))
    loaded = trial_model.load(spec.model, task, seed=0, dropout=0.0, attention="eager")
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    torch.manual_seed(0)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    if variant == "narrow":
        narrow(attached)
    return attached


def once(task: Generation, attached: Attached, batch: Batch, train: bool) -> tuple[float, float]:
    """Processor seconds of one pass, and its loss."""
    attached.module.train(train)
    started = time.process_time()
    with torch.set_grad_enabled(train):
        with apply_policy("bf16", CPU).autocast():
            logits = task.forward(attached, batch)
        loss = task.loss(logits, batch)
    if train:
        loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.process_time() - started
    attached.module.zero_grad(set_to_none=True)
    return seconds, float(loss.detach())


def measure(source: str, rounds: int) -> dict[str, Any]:
    """The figures of one model."""
    task = Generation({})
    models = {variant: build(source, task, variant) for variant in VARIANTS}
    made = torch.randint(0, 40000, (BATCH, SOURCE + TARGET), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [Features(row[:SOURCE], 0, SOURCE, target_ids=row[SOURCE:]) for row in made]
    batch = task.collate(rows, 0)
    least: dict[tuple[str, bool], float] = {}
    for _ in range(rounds):
        losses = set()
        for variant, attached in models.items():
            for train in (True, False):
                seconds, loss = once(task, attached, batch, train)
                losses.add(loss)
                least[variant, train] = min(seconds, least.get((variant, train), seconds))
        if len(losses) > 1:
            raise SystemExit(f"{source}: losses differ: {sorted(losses)}")
    held = {
        variant: sum(p.numel() * p.element_size() for p in attached.module.parameters())
        for variant, attached in models.items()
    }
    return {
        "model": source,
        "weights_bytes": held,
        "saved_share": 1 - held["narrow"] / held["wide"],
        "step_cpu_seconds": {variant: least[variant, True] for variant in VARIANTS},
        "step_ratio": least["narrow", True] / least["wide", True],
        "forward_cpu_seconds": {variant: least[variant, False] for variant in VARIANTS},
        "forward_ratio": least["narrow", False] / least["wide", False],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for source in MODELS:
        row = measure(source, options.rounds)
        rows.append(row)
        print(
            f"{source}: weights {row['weights_bytes']['wide'] / 2**20:,.0f} -> "
            f"{row['weights_bytes']['narrow'] / 2**20:,.0f} MiB, step {row['step_ratio']:.2f} and forward pass "
            f"{row['forward_ratio']:.2f} times the processor time",
            flush=True,
        )
    machine = environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")
    found = {"rounds": options.rounds, "rows": rows, "environment": machine}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
