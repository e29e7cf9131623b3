"""What it saves to compute logits only where there is a target.

One LoRA step of GPT-2 small's architecture (random weights, batch of 8, 512 tokens put in, 128 to write), once as the
task `generation` does it and once as transformers' own loss does it, which computes logits at every position and turns
them into float32. Each variant runs in a process of its own; the peak is that of the step.

    python benchmarks/logits_memory.py [--batch 8] [--source 512] [--target 128] [--rounds 3] [--out FILE]
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
from tuneoff.methods.base import Attached, Method
from tuneoff.spec import ModelSpec
from tuneoff.tasks.base import Batch, Features
from tuneoff.trial import model as trial_model
from tuneoff.trial.precision import PolicyName, apply_policy

VARIANTS = ("targets", "everywhere")
POLICIES: tuple[PolicyName, ...] = ("fp32", "bf16")
STEPS = 3


def own_loss(attached: Attached, batch: Batch) -> torch.Tensor:
    """Mean loss by transformers' own forward pass over all positions, on the same labels."""
    model: Any = attached.model
    loss: torch.Tensor = model(**batch, use_cache=False).loss
    return loss


def measure(variant: str, policy: PolicyName, batch_size: int, source: int, target: int) -> dict[str, float]:
    """Peak bytes and median seconds of a training step in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = registry.tasks()["generation"]({})
    spec = ModelSpec(source="gpt2", random_weights=True)
    loaded = trial_model.load(spec, task, seed=0, dropout=0.0, attention="sdpa")
    method = registry.methods()["lora"].create({})
    assert isinstance(method, Method)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    attached.module.to(device).train()
    autocast = apply_policy(policy, device).autocast
    ids = torch.randint(0, 50000, (batch_size, source + target), generator=torch.Generator().manual_seed(0))
    rows = ids.tolist()
    features = [Features(row[:source], 0, source, target_ids=row[source:]) for row in rows]
    labels = ids.clone()
    labels[:, :source] = -100
    meter = MemoryMeter(device)
    seconds, losses = [], []
    with meter.phase("train"):
        for _ in range(STEPS):
            started = time.perf_counter()
            if variant == "targets":
                batch = {name: tensor.to(device) for name, tensor in task.collate(features, 0).items()}
                with autocast():
                    logits = task.forward(attached, batch)
                loss = task.loss(logits, batch) / task.units(features)
                del logits
            else:
                batch = {"input_ids": ids.to(device), "labels": labels.to(device)}
                with autocast():
                    loss = own_loss(attached, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            attached.module.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    memory = meter.memory("train")
    assert memory.peak_memory_bytes is not None
    return {"peak_bytes": memory.peak_memory_bytes, "step_seconds": statistics.median(seconds[1:]), "loss": losses[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--source", type=int, default=512)
    parser.add_argument("--target", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "logits_memory.json")
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "POLICY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.batch, arguments.source, arguments.target)
    if arguments.one:
        variant, policy = arguments.one
        print(json.dumps(measure(variant, policy, *sizes)))
        return
    rows = []
    for policy in POLICIES:
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
        for _ in range(arguments.rounds):
            for variant in VARIANTS:
                command = [sys.executable, __file__, "--one", variant, policy]
                command += ["--batch", str(sizes[0]), "--source", str(sizes[1]), "--target", str(sizes[2])]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[variant].append(json.loads(done.stdout.splitlines()[-1]))
        peaks = {v: statistics.median(one["peak_bytes"] for one in found[v]) for v in VARIANTS}
        pairs = zip(found["everywhere"], found["targets"], strict=True)
        row = {
            "precision": policy,
            **{f"{v}_peak_bytes": peaks[v] for v in VARIANTS},
            "saved_share": 1 - peaks["targets"] / peaks["everywhere"],
            "speedup": statistics.median(base["step_seconds"] / own["step_seconds"] for base, own in pairs),
            "losses": {v: found[v][0]["loss"] for v in VARIANTS},
        }
        rows.append(row)
        at, everywhere = (f"{peaks[variant] / 2**20:,.0f} MiB" for variant in VARIANTS)
        print(f"{policy}: logits at targets {at}, everywhere {everywhere}: {row['saved_share']:.1%} less", flush=True)
        print(f"  steps {row['speedup']:.2f}x as fast; losses {row['losses']}", flush=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    machine = environment.describe(device, torch.get_num_threads()).model_dump(mode="json")
    result = {"batch": sizes[0], "source": sizes[1], "target": sizes[2], "rounds": arguments.rounds, "rows": rows}
    result["environment"] = machine
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
