"""What a LoRA step keeps for its backward pass, beside the usual trainer's.

One forward pass of GPT-2's architecture (random weights, dropout as pretrained, LoRA of rank 8 on its attention) over
texts of 512 tokens with 100 to write, once as tuneoff trains on a CPU that multiplies bfloat16 and once as transformers
and PEFT do it by default: float32, their own attention, logits at every position. Counted are the bytes of the tensors
that autograd holds between forward and backward, each storage once, without weights. They do not depend on the machine.

    python benchmarks/saved_activations.py [--batch 2] [--source 512] [--target 100] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from trial_model import prepare

from tuneoff.interfaces import Features
from tuneoff.measure import environment

RANK, ALPHA = 8, 16
BAR = 0.25


def features_of(batch: int, source: int, target: int) -> list[Features]:
    """Examples of full length, of random tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50000, (batch, source + target), generator=generator).tolist()
    return [Features(row[:source], 0, source, target_ids=row[source:]) for row in rows]


def saved_bytes(module: nn.Module, forward: Callable[[], torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, weights left out."""
    known = {tensor.untyped_storage().data_ptr() for tensor in [*module.parameters(), *module.buffers()]}
    # The tensors themselves, so that no storage is freed and its address given to another.
    held: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in known:
            held[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    size = sum(tensor.untyped_storage().nbytes() for tensor in held.values())
    loss.backward()  # type: ignore[no-untyped-call]
    return size


def ours(features: Sequence[Features]) -> int:
    """A step as a trial takes it."""
    study = {
        "model": {"source": "gpt2", "random_weights": True},
        "task": {"name": "generation", "data": "rows.csv", "source": "text", "target": "summary"},
        "protocol": {"seeds": 1, "precision": "bf16", "max_length": len(features[0].input_ids)},
        "methods": {"lora": {"r": RANK, "alpha": ALPHA}},
    }
    prepared = prepare(study)
    task = prepared.task

    def forward() -> torch.Tensor:
        batch = task.collate(features, 0)
        with prepared.policy.autocast():
            logits = task.forward(prepared.attached, batch)
        return task.loss(logits, batch) / task.loss_terms(features)

    with prepared.masks.drawing(0, 1):
        return saved_bytes(prepared.attached.module, forward)


def peers(features: Sequence[Features]) -> int:
    """A step as `Trainer` with PEFT takes it, nothing set."""
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2"))
    config = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM, r=RANK, lora_alpha=ALPHA, target_modules=["c_attn"], fan_in_fan_out=True
    )
    adapted: Any = peft.get_peft_model(model, config).train()
    ids = torch.tensor([[*f.input_ids, *f.target_ids] for f in features])
    labels = torch.tensor([[-100] * len(f.input_ids) + list(f.target_ids) for f in features])
    mask = torch.ones_like(ids)
    return saved_bytes(adapted, lambda: adapted(input_ids=ids, attention_mask=mask, labels=labels).loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--source", type=int, default=512)
    parser.add_argument("--target", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "saved_activations.json")
    arguments = parser.parse_args()
    features = features_of(arguments.batch, arguments.source, arguments.target)
    found = {"ours": ours(features), "peer": peers(features)}
    share = found["ours"] / found["peer"]
    for name, size in found.items():
        print(f"{name:5} {size / 2**20 / arguments.batch:8.1f} MiB an example")
    print(f"ours is {share:.1%} of the peer's; the bar is {BAR:.0%}")
    result = {"batch": arguments.batch, "source": arguments.source, "target": arguments.target}
    result |= {"saved_bytes": found, "share": share, "bar": BAR}
    result |= {"environment": environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json")}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
