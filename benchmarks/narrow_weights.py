"""What it saves under bf16 autocast to keep frozen weights in bfloat16, and to turn others once in an evaluation.

LoRA on models of known architecture (random weights), with frozen weights as they were loaded (`wide`) and as a trial
keeps them (`narrow`). Told of each:

- bytes of the weights, counted, for the whole model;
- processor seconds of a training step and of a forward pass without gradients.

Then a batch's text is written with LoRA and with full fine-tuning, narrow as a trial has them: with every weight in
float32 turned for every token (`each time`) and turned once (`once`), which is what an evaluation does. Told are
processor seconds.

All on one thread, as threads that wait for one another use the processor too. Variants take turns, and the median of
the rounds' ratios is told: a machine's speed changes over minutes. Losses, and texts, must be equal to the last bit.

    python benchmarks/narrow_weights.py [--rounds 9] [--out benchmarks/results/narrow_weights.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from tuneoff import registry
from tuneoff.interfaces import Attached, Batch, Features, Method
from tuneoff.measure import environment
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import apply_policy
from tuneoff.trial.training.evaluate import ModelRunner

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
        keep_frozen_in_bf16(attached)
    return attached


def turns(rounds: int, passes: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Two passes that take turns, the first to come changing from round to round: the ratio of the second's processor
    seconds to the first's."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for round_ in range(rounds):
        made = []
        for name in sorted(passes, reverse=bool(round_ % 2)):
            started = time.process_time()
            made.append(passes[name]())
            seconds[name].append(time.process_time() - started)
        if made[0] != made[1]:
            raise SystemExit(f"{' and '.join(passes)} differ: {made}")
    first, second = seconds.values()
    ratios = sorted(after / before for before, after in zip(first, second, strict=True))
    return {"cpu_seconds": seconds, "ratio": statistics.median(ratios), "ratios": ratios}


def learn(task: Generation, attached: Attached, batch: Batch, train: bool) -> float:
    """One pass, with its gradients where it trains; returns the loss."""
    attached.module.train(train)
    with torch.set_grad_enabled(train):
        with apply_policy("bf16", CPU).autocast():
            logits = task.forward(attached, batch)
        loss = task.loss(logits, batch)
    if train:
        loss.backward()  # type: ignore[no-untyped-call]
    attached.module.zero_grad(set_to_none=True)
    return float(loss.detach())


def measure(source: str, rounds: int) -> dict[str, Any]:
    """The figures of frozen weights of one model."""
    task = Generation({})
    models = {variant: build(source, task, variant) for variant in VARIANTS}
    batch = task.collate([replace(row, target_ids=row.input_ids[:TARGET]) for row in rows_of()], 0)
    held = {
        variant: sum(p.numel() * p.element_size() for p in attached.module.parameters())
        for variant, attached in models.items()
    }

    def passes(train: bool) -> dict[str, Callable[[], Any]]:
        return {variant: partial(learn, task, attached, batch, train) for variant, attached in models.items()}

    return {
        "model": source,
        "weights_bytes": held,
        "saved_share": 1 - held["narrow"] / held["wide"],
        "step": turns(rounds, passes(True)),
        "forward": turns(rounds, passes(False)),
    }


def writing(source: str, method: str, rounds: int) -> dict[str, Any]:
    """What turning weights once saves of writing a batch's text."""
    task = Generation({"max_target_length": WRITTEN, "min_target_length": WRITTEN - 1})
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=0)
    attached = build(source, task, "narrow", method)
    attached.module.eval()
    autocast = apply_policy("bf16", CPU).autocast
    runner = ModelRunner(task, attached, CPU, autocast, 0, BATCH, tokenizer, attention="sdpa")

    def write(context: AbstractContextManager[object]) -> list[list[int]]:
        with context:
            return runner.generate(rows_of())

    def each_time() -> list[list[int]]:
        with trial_model.attending(attached.model, "sdpa"):
            return write(torch.inference_mode())

    return turns(rounds, {"each time": each_time, "once": lambda: write(runner.evaluating())})


def rows_of() -> list[Features]:
    """A batch's prompts."""
    made = torch.randint(0, 40000, (BATCH, SOURCE), generator=torch.Generator().manual_seed(0)).tolist()
    return [Features(row, 0, SOURCE) for row in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for source in MODELS:
        row = measure(source, options.rounds)
        row["writing"] = {method: writing(source, method, options.rounds) for method in WRITERS}
        rows.append(row)
        print(
            f"{source}: weights {row['weights_bytes']['wide'] / 2**20:,.0f} -> "
            f"{row['weights_bytes']['narrow'] / 2**20:,.0f} MiB, step {row['step']['ratio']:.2f} and forward pass "
            f"{row['forward']['ratio']:.2f} times the processor time; weights turned once, writing takes "
            + ", ".join(f"{part['ratio']:.2f} ({name})" for name, part in row["writing"].items()),
            flush=True,
        )
    machine = environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")
    found = {"rounds": options.rounds, "rows": rows, "environment": machine}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
