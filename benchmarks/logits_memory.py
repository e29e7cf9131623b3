"""What it saves to compute logits only where there is a target.

One LoRA step of GPT-2 small's architecture (random weights, batch of 8, 512 tokens put in, 128 to write), once as the
task `generation` does it and once as transformers' own loss does it, which computes logits at every position and turns
them into float32. Three peaks of that step are told of each:

- `counted`: its tensors alone, on tensors without memory: what PyTorch's allocator on CUDA would have to hold;
- `process`: the resident set of a process that takes the step, which on a CPU keeps freed memory too;
- `released`: the same where freed memory goes back at once, as with `execution.release_memory`.

Each variant runs in a process of its own.

    python benchmarks/logits_memory.py [--batch 8] [--source 512] [--target 128] [--rounds 3] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.interfaces import Attached, Batch, Features, Method
from tuneoff.measure import environment
from tuneoff.measure.memory import MemoryMeter
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.tasks.generation import Generation
from tuneoff.trial.estimate.fake_model import FakeModel
from tuneoff.trial.estimate.step_cost import Setup
from tuneoff.trial.modeling import allocator
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import PolicyName, apply_policy

POLICIES: tuple[PolicyName, ...] = ("fp32", "bf16")
WAYS = ("process", "released")
STEPS = 3
STUDY = {
    "model": {"source": "gpt2", "random_weights": True},
    "task": {"name": "generation", "data": "rows.csv", "source": "text", "target": "summary"},
    "protocol": {"seeds": 1, "dropout": 0.0},
    "methods": ["lora"],
}


class Everywhere(Generation):
    """The loss by transformers' own forward pass over all positions, on the same labels."""

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        ids = torch.tensor([[*f.input_ids, *f.target_ids] for f in features])
        labels = torch.tensor([[-100] * len(f.input_ids) + list(f.target_ids) for f in features])
        return {"input_ids": ids, "labels": labels}

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        model: Any = attached.model
        loss: torch.Tensor = model(**batch, use_cache=False).loss
        return loss

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The sum over target tokens, as tasks give it; transformers gives the mean."""
        return logits * (batch["labels"] >= 0).sum()


VARIANTS: dict[str, type[Generation]] = {"targets": Generation, "everywhere": Everywhere}


@dataclass(frozen=True)
class Sizes:
    """Examples of a batch, tokens put in and tokens to write."""

    batch: int
    source: int
    target: int

    def features(self) -> list[Features]:
        """The examples, all of full length."""
        made = torch.randint(
            0, 50000, (self.batch, self.source + self.target), generator=torch.Generator().manual_seed(0)
        )
        rows = made.tolist()
        return [Features(row[: self.source], 0, self.source, target_ids=row[self.source :]) for row in rows]


def count(variant: str, policy: PolicyName, sizes: Sizes) -> int:
    """Bytes of the step's tensors at their peak: weights, gradients, activations."""
    (spec,) = plan(parse(STUDY))
    task = VARIANTS[variant](spec.task.options)
    twin = FakeModel(spec, task, Setup(policy, "sdpa", gpu=True))
    features = sizes.features()
    step = twin.step(task.collate(features, 0), task.loss_terms(features))
    return twin.states.weights + twin.states.gradients + step.activations


def measure(variant: str, policy: PolicyName, sizes: Sizes, release: bool) -> dict[str, float]:
    """Peak bytes and median seconds of a training step in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if release and (reason := allocator.release_freed_blocks(device)):
        raise SystemExit(reason)
    (spec,) = plan(parse(STUDY))
    task = VARIANTS[variant](spec.task.options)
    loaded = trial_model.load(spec.model, task, seed=0, dropout=0.0, attention="sdpa")
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    if policy == "bf16":
        keep_frozen_in_bf16(attached)
    attached.module.to(device).train()
    autocast = apply_policy(policy, device).autocast
    features = sizes.features()
    meter = MemoryMeter(device)
    seconds, losses = [], []
    allocator.trim(device)
    with meter.phase("train"):
        for _ in range(STEPS):
            started = time.perf_counter()
            batch = {name: tensor.to(device) for name, tensor in task.collate(features, 0).items()}
            with autocast():
                logits = task.forward(attached, batch)
            loss = task.loss(logits, batch) / task.loss_terms(features)
            del logits
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
            attached.module.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    memory = meter.memory("train")
    assert memory.peak_memory_bytes is not None
    return {"peak_bytes": memory.peak_memory_bytes, "step_seconds": statistics.median(seconds[1:]), "loss": losses[0]}


def in_own_process(variant: str, policy: str, way: str, sizes: Sizes) -> dict[str, float]:
    """`measure` in a process of its own, so that no peak is inherited."""
    command = [sys.executable, __file__, "--one", variant, policy, way]
    command += ["--batch", str(sizes.batch), "--source", str(sizes.source), "--target", str(sizes.target)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peaks_of(variants: dict[str, float]) -> dict[str, float]:
    """Both peaks, and the share that is saved."""
    return {**variants, "saved_share": 1 - variants["targets"] / variants["everywhere"]}


def row_of(policy: PolicyName, ways: Sequence[str], sizes: Sizes, rounds: int) -> dict[str, Any]:
    """All peaks under one precision, and how fast the steps are."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {(v, way): [] for way in ways for v in VARIANTS}
    for _ in range(rounds):
        for variant, way in found:
            found[variant, way].append(in_own_process(variant, policy, way, sizes))
    peaks = {"counted": peaks_of({v: count(v, policy, sizes) for v in VARIANTS})}
    for way in ways:
        peaks[way] = peaks_of({v: statistics.median(one["peak_bytes"] for one in found[v, way]) for v in VARIANTS})

    def ratio(base: tuple[str, str], other: tuple[str, str]) -> float:
        pairs = zip(found[base], found[other], strict=True)
        return statistics.median(one["step_seconds"] / two["step_seconds"] for one, two in pairs)

    slower = {v: ratio((v, "released"), (v, "process")) for v in VARIANTS} if "released" in ways else None
    return {
        "precision": policy,
        "peak_bytes": peaks,
        "speedup": {way: ratio(("everywhere", way), ("targets", way)) for way in ways},
        "released_step_ratio": slower,
        "losses": {v: found[v, "process"][0]["loss"] for v in VARIANTS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--source", type=int, default=512)
    parser.add_argument("--target", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "logits_memory.json")
    parser.add_argument("--one", nargs=3, metavar=("VARIANT", "POLICY", "WAY"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = Sizes(arguments.batch, arguments.source, arguments.target)
    if arguments.one:
        variant, policy, way = arguments.one
        print(json.dumps(measure(variant, policy, sizes, way == "released")))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # On CUDA the process's peak is the allocator's, and there is nothing to release.
    ways = WAYS if device == "cpu" else WAYS[:1]
    rows = []
    for policy in arguments.policies.split(","):
        row = row_of(policy, ways, sizes, arguments.rounds)
        rows.append(row)
        for way, peaks in row["peak_bytes"].items():
            at, everywhere = (f"{peaks[variant] / 2**20:6,.0f} MiB" for variant in VARIANTS)
            print(
                f"{policy} {way:8}: at targets {at}, everywhere {everywhere}: {peaks['saved_share']:.1%} less",
                flush=True,
            )
        fast = ", ".join(f"{way} {ratio:.2f}" for way, ratio in row["speedup"].items())
        print(f"  steps at targets, times as fast: {fast}")
        if row["released_step_ratio"] is not None:
            slow = ", ".join(f"{variant} {ratio:.2f}" for variant, ratio in row["released_step_ratio"].items())
            print(f"  released steps, times as long: {slow}")
        print(f"  losses {row['losses']}", flush=True)
    machine = environment.describe(device, torch.get_num_threads()).model_dump(mode="json")
    result = {"batch": sizes.batch, "source": sizes.source, "target": sizes.target, "rounds": arguments.rounds}
    result |= {"rows": rows, "environment": machine}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
