"""Where the time of a training step goes, operation by operation.

Steps as a trial takes them (LoRA of rank 8, bfloat16, dropout as pretrained, random weights, batches of 16 texts of
like length) under PyTorch's profiler: forward, loss, backward, clipping, optimizer. An operation's own time is counted,
without what it calls, and put under one of a few headings; what no operation takes is Python and the profiler itself.

    python benchmarks/step_profile.py [--model minilm,roberta-base] [--steps 40] [--tokens 48] [--out FILE]

Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from trial_model import prepare

from tuneoff.interfaces import Features
from tuneoff.measure import environment

BATCH = 16
HEADINGS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "mkldnn", "onednn"),
    "attention": ("softmax", "scaled_dot_product", "flash", "masked_fill", "where"),
    "norms and activations": ("layer_norm", "gelu", "tanh", "relu", "silu"),
    "dropout's random numbers": ("random", "bernoulli", "dropout", "uniform"),
    "conversions and copies": ("copy", "_to_copy", "to", "clone", "cat", "contiguous", "fill", "zero"),
    "sums and products, element by element": ("add", "addcmul", "mul", "sum", "sub", "div", "lt", "ge", "bitwise"),
    "optimizer and clipping": ("adamw", "foreach", "norm", "stack"),
}


def heading_of(operation: str) -> str:
    """Returns the heading of a profiled operation, such as `aten::addmm`."""
    name = operation.rpartition("::")[2].strip("_").lower()
    for heading, words in HEADINGS.items():
        if any(name == word or (len(word) > 3 and word in name) for word in words):
            return heading
    return "other operations"


def profile_steps(model: str, steps: int, tokens: int) -> dict[str, Any]:
    """Runs steps under the profiler; returns seconds of a step under each heading, and of one without the profiler."""
    study = {
        "model": {"source": model, "random_weights": True},
        "task": {"data": "rows.csv", "text": "text", "label": "label", "labels": ["0", "1", "2", "3"]},
        "protocol": {"seeds": 1, "precision": "bf16", "max_length": tokens},
        "methods": {"lora": {"r": 8, "alpha": 16}},
    }
    prepared = prepare(study)
    task, attached = prepared.task, prepared.attached
    trained = [p for p in attached.module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    ids = torch.randint(1000, 5000, (BATCH, tokens), generator=torch.Generator().manual_seed(0)).tolist()
    features = [Features(row, number % 4, tokens) for number, row in enumerate(ids)]

    def step(number: int) -> None:
        batch = task.collate(features, 0)
        with prepared.masks.drawing(number, 0):
            with prepared.policy.autocast():
                logits = task.forward(attached, batch)
            (task.loss(logits, batch) / task.loss_terms(features)).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for number in range(5):
        step(number)
    started = time.perf_counter()
    for number in range(steps):
        step(number)
    plain_seconds = (time.perf_counter() - started) / steps
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(steps):
            step(number)
    profiled_seconds = (time.perf_counter() - started) / steps
    seconds: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for event in profiler.key_averages():
        own = event.self_cpu_time_total * 1e-6 / steps
        heading = heading_of(event.key)
        seconds[heading] += own
        if heading == "other operations":
            unknown[event.key] += own
    seconds["Python, and the profiler"] = max(0.0, profiled_seconds - sum(seconds.values()))
    return {
        "model": model,
        "tokens": BATCH * tokens,
        "step_seconds": plain_seconds,
        "profiled_step_seconds": profiled_seconds,
        "seconds": dict(seconds.most_common()),
        "largest_others": dict(unknown.most_common(5)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm,roberta-base")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=48, help="of each text")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "step_profile.json")
    arguments = parser.parse_args()
    models = [profile_steps(model, arguments.steps, arguments.tokens) for model in arguments.model.split(",")]
    for found in models:
        print(f"{found['model']}: {1e3 * found['step_seconds']:.1f} ms a step of {found['tokens']} tokens")
        for heading, seconds in found["seconds"].items():
            print(f"  {heading:40} {seconds / found['profiled_step_seconds']:6.1%}")
        print("  others:", ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in found["largest_others"].items()))
    result = {"batch": BATCH, "steps": arguments.steps, "models": models}
    result |= {"environment": environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
