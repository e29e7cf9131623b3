"""What it saves under bf16 autocast to keep frozen weights in bfloat16, and to turn others once in an evaluation.

LoRA on models of known architecture (random weights), with frozen weights as they were loaded (`wide`) and as a trial
keeps them (`narrow`). Told of each:

- bytes of the weights, counted, for the whole model;
- processor seconds of a training step and of a forward pass without gradients.

Then a batch's text is written with LoRA and with full fine-tuning, narrow as a trial has them: with every weight in
float32 turned for every token (`each time`) and turned once (`once`), which is what an evaluation does. Told are
processor seconds.

Variants take turns and the least of all rounds is kept, because what disturbs a pass only makes it longer. Losses, and
texts, must be equal to the last bit.

    python benchmarks/narrow_weights.py [--rounds 7] [--out benchmarks/results/narrow_weights.json]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace
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
from tuneoff.trial.evaluate import Bench
from tuneoff.trial.narrowing import narrow
from tuneoff.trial.precision import apply_policy

MODELS = ("gpt2", "smollm2-135m")
BATCH, SOURCE, TARGET, WRITTEN = 4, 128, 16, 16
CPU = torch.device("cpu")
VARIANTS = ("wide", "narrow")
WRITERS = ("lora", "full")


def build(source: str, task: Generation, variant: str, method_name: str = "lora") -> Attached:
    """A method on a model of random weights, the same every time."""
    study: dict[str, Any] = {
        "model": {"source": source, "random_weights": True},
        "task": {"name": "generation", "data": "rows.csv", "source": "text", "target": "summary"},
        "protocol": {"seeds": 1, "dropout": 0.0},
        "methods": [method_name],
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


def writing(source: str, rounds: int) -> dict[str, Any]:
    """Processor seconds of writing a batch's text, by method and by how often weights are turned."""
    task = Generation({"max_target_length": WRITTEN, "min_target_length": WRITTEN - 1})
    made = torch.randint(0, 40000, (BATCH, SOURCE), generator=torch.Generator().manual_seed(0)).tolist()
    rows = [Features(row, 0, SOURCE) for row in made]
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=0)
    found: dict[str, Any] = {}
    for name in WRITERS:
        attached = build(source, task, "narrow", name)
        attached.module.eval()
        bench = Bench(task, attached, CPU, apply_policy("bf16", CPU).autocast, 0, BATCH, tokenizer, attention="sdpa")
        least: dict[str, float] = {}
        for _ in range(rounds):
            texts = []
            for variant in ("each time", "once"):
                with trial_model.attending(attached.model, "sdpa") if variant == "each time" else bench.evaluating():
                    started = time.process_time()
                    with torch.no_grad() if variant == "once" else torch.inference_mode():
                        texts.append(bench.generate(rows))
                    seconds = time.process_time() - started
                least[variant] = min(seconds, least.get(variant, seconds))
            if texts[0] != texts[1]:
                raise SystemExit(f"{source}: texts differ")
        found[name] = {"cpu_seconds": least, "ratio": least["once"] / least["each time"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for source in MODELS:
        row = measure(source, options.rounds) | {"writing": writing(source, options.rounds)}
        rows.append(row)
        print(
            f"{source}: weights {row['weights_bytes']['wide'] / 2**20:,.0f} -> "
            f"{row['weights_bytes']['narrow'] / 2**20:,.0f} MiB, step {row['step_ratio']:.2f} and forward pass "
            f"{row['forward_ratio']:.2f} times the processor time; weights turned once, writing takes "
            + ", ".join(f"{part['ratio']:.2f} ({name})" for name, part in row["writing"].items()),
            flush=True,
        )
    machine = environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")
    found = {"rounds": options.rounds, "rows": rows, "environment": machine}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
