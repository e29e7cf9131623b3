"""The device a trial runs on and the precision policy it runs under."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from tuneoff.config.protocol import Attention, Precision
from tuneoff.errors import ExecutorError


def choose_device(wanted: str) -> torch.device:
    """Chooses the device; `auto` is CUDA where there is one, else the CPU.

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
Kernel = Literal["eager", "sdpa"]
"""An implementation of attention: product by product, or fused."""

SHORT = 256
"""Tokens up to which attention is mostly faster product by product than fused on a CPU (benchmarks/step_time.py)."""
SHORT_EVALUATION = 128
"""The same of evaluations in bf16 (see benchmarks/batching.py)."""


@dataclass(frozen=True)
class Attending:
    """The implementations of attention that every method gets. They may differ only where both compute the same, which
    every trial checks on its own rows (see `kernels`).

    Attributes:
        training: of training steps.
        evaluation: of what needs no gradients: scores, written text, timed examples.
    """

    training: Kernel
    evaluation: Kernel


def choose_attention(wanted: Attention, device: torch.device, max_length: int, policy: PolicyName) -> Attending:
    """Chooses the implementation; `auto` is the faster one for this device, length and precision."""
    if wanted != "auto":
        return Attending(wanted, wanted)
    if device.type != "cpu" or max_length > SHORT:
        return Attending("sdpa", "sdpa")
    return Attending("eager", "sdpa" if policy == "bf16" and max_length > SHORT_EVALUATION else "eager")


def _multiplies_bf16(device: torch.device) -> bool:
    """Tells whether the hardware multiplies bfloat16 matrices itself: AMX or AVX512-BF16 on a CPU."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True)
class Policy:
    """A precision policy in force: its name and the context every forward pass runs in."""

    name: PolicyName
    autocast: Callable[[], AbstractContextManager[object]]


@contextmanager
def full_precision() -> Iterator[None]:
    """Computes float32 products in full precision while open, whatever policy is in force; autocast is not changed."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)


def size_of(values: torch.Tensor) -> torch.Tensor:
    """Returns the size of the largest value, by which changes are judged; never zero."""
    return values.abs().max().clamp(min=1e-3)


def relative_change(values: torch.Tensor, others: torch.Tensor) -> float:
    """Computes the largest difference of two tensors, relative to the size of the first; NaN where there is one."""
    return float((others - values).abs().max() / size_of(values))


def apply_policy(wanted: Precision, device: torch.device) -> Policy:
    """Puts a precision policy in force for this process.

    `auto` is bf16 autocast where the hardware multiplies bfloat16 matrices (GPUs from Ampere on, CPUs with AMX or
    AVX512-BF16), `fp32-medium` on other CPUs and fp32 on other GPUs. What is trained, its gradients and optimizer
    states are float32 under every policy; frozen weights are bfloat16 under bf16 where that changes no product (see
    `frozen_bf16`).
    """
    if wanted == "auto":
        name: PolicyName = "bf16" if _multiplies_bf16(device) else "fp32-medium" if device.type == "cpu" else "fp32"
    else:
        name = wanted
    torch.set_float32_matmul_precision("medium" if name == "fp32-medium" else "highest")
    if name == "bf16":
        return Policy(name, lambda: torch.autocast(device.type, dtype=torch.bfloat16))
    return Policy(name, nullcontext)
