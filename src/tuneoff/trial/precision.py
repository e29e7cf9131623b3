"""The device a trial runs on and the precision policy it runs under."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from tuneoff.errors import ExecutorError
from tuneoff.spec import Precision


def choose_device(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ExecutorError: for a device that is not there.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ExecutorError(
            "no CUDA device is visible to PyTorch here", hint="Use --device cpu, or see `tuneoff doctor`."
        )
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


PolicyName = Literal["fp32", "fp32-medium", "bf16"]


@dataclass(frozen=True)
class Policy:
    """A precision policy in force: its name and the context every forward pass runs in."""

    name: PolicyName
    autocast: Callable[[], AbstractContextManager[object]]


def apply_policy(wanted: Precision, device: torch.device) -> Policy:
    """Puts a precision policy in force for this process.

    `auto` is bf16 autocast on a GPU that has it, and `fp32-medium` on the CPU: weights, activations and sums in
    float32, products in what the processor multiplies fastest (bfloat16 where it has AMX). Frozen float32
    weights would be cast again in every step under autocast on a CPU, which costs more than it gains.
    """
    if wanted == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        chosen: PolicyName = "bf16" if bf16 else "fp32-medium" if device.type == "cpu" else "fp32"
    else:
        chosen = wanted
    torch.set_float32_matmul_precision("medium" if chosen == "fp32-medium" else "highest")
    if chosen == "bf16":
        return Policy(chosen, lambda: torch.autocast(device.type, dtype=torch.bfloat16))
    return Policy(chosen, nullcontext)
