"""Whether a trial fits into memory, and which changes would make it fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch

from tuneoff.records.forecast import Remedy
from tuneoff.trial.estimate.counts import ForecastCounts, ForecastRequest
from tuneoff.trial.estimate.material import Material
from tuneoff.trial.estimate.process import EstimateFailed
from tuneoff.trial.estimate.step_cost import ModelStateBytes, StepCost
from tuneoff.trial.modeling.precision import PolicyName

GPU_RESERVE_BYTES = 768 * 2**20
"""What a GPU needs besides a trial's tensors: the CUDA context and its libraries' workspaces (300 to 500 MB as others
report) and the memory that the allocator holds and cannot use (fragmentation). Not measured here."""
SHORTEST = 16
"""The smallest `max_length`, in tokens, that is suggested."""


@dataclass(frozen=True)
class MemoryFigures:
    """A forecast's figures of memory, as `ArmForecast` names them."""

    available_bytes: int
    peak_memory_bytes: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)
    fits: bool | None = None
    remedies: tuple[Remedy, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def free_bytes(device: torch.device) -> int:
    """Returns the memory that is free where the model is."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def available_bytes(request: ForecastRequest) -> int:
    """Returns the memory that this machine has for one rank of a trial."""
    if request.device.type == "cuda":
        total_bytes = int(torch.cuda.get_device_properties(request.device).total_memory) - GPU_RESERVE_BYTES
    else:
        total_bytes = request.free_bytes
    return request.topology.rank_memory(total_bytes)


def unknown_peak(request: ForecastRequest, reason: str) -> MemoryFigures:
    """Returns the figures where the peak is not known."""
    limit = request.memory_limit_bytes
    return MemoryFigures(
        available_bytes=limit if limit is not None else available_bytes(request),
        missing=dict.fromkeys(("peak_memory_bytes", "fits"), reason),
    )


def judge(
    counts: ForecastCounts, peak: int, parts: Mapping[str, int], step: StepCost | None, available: int
) -> MemoryFigures:
    """Tells whether a peak fits, and what would make it fit.

    Args:
        counts: of the trial.
        peak: in bytes.
        parts: of the peak.
        step: what takes the peak; None where no changes are to be tried.
        available: bytes that a rank may take.
    """
    remedies: tuple[Remedy, ...] = ()
    missing: dict[str, str] = {}
    if peak > available and step is not None and counts.request.method.trains:
        try:
            remedies = tuple(_remedies(counts, peak - step.activations, available))
        except EstimateFailed as error:
            missing["remedies"] = f"changes cannot be estimated: {error}"
    return MemoryFigures(available, peak, parts, peak <= available, remedies, missing)


def judge_gpu(request: ForecastRequest, material: Material, limit: int) -> MemoryFigures:
    """Tells whether a trial fits a GPU with so many bytes, by counting."""
    precision = request.spec.protocol.precision
    policy: PolicyName = "bf16" if precision == "auto" else precision
    counts = ForecastCounts(request, material, request.setup(policy, torch.device("cuda")))
    step = counts.peak_step()
    if counts.states is None or step is None:
        return unknown_peak(request, counts.missing["estimate"])
    reserve = f"not measured: {GPU_RESERVE_BYTES / 2**20:.0f} MiB are kept back for the CUDA context and fragmentation"
    parts = {"reserve": GPU_RESERVE_BYTES, **parts_of(counts.states, step.activations)}
    figures = judge(counts, sum(parts.values()), parts, step, limit)
    return replace(figures, missing={"memory.reserve": reserve, **figures.missing})


def parts_of(states: ModelStateBytes, activations: int) -> dict[str, int]:
    """Returns the parts of a peak that can be counted, in bytes."""
    return {
        "weights": states.weights,
        "gradients": states.gradients,
        "optimizer": states.optimizer,
        "activations": activations,
    }


def _remedies(counts: ForecastCounts, base: int, available: int) -> Iterator[Remedy]:
    """Yields the smallest change of each kind that fits; those that keep the result come first.

    Args:
        counts: of the trial.
        base: bytes of the peak that no change touches.
        available: bytes that a rank may take.
    """
    features = counts.material.features["train"]
    protocol = counts.request.spec.protocol
    accumulation_steps = protocol.gradient_accumulation_steps
    while accumulation_steps < protocol.batch_size:
        accumulation_steps = min(2 * accumulation_steps, protocol.batch_size)
        changed_protocol = protocol.model_copy(update={"gradient_accumulation_steps": accumulation_steps})
        peak = base + counts.activations(features, changed_protocol)
        if peak <= available:
            change = f"protocol.gradient_accumulation_steps={accumulation_steps}"
            yield Remedy(change=change, peak_memory_bytes=peak, same_result=True)
            break
    if not protocol.gradient_checkpointing:
        # In some models the blocks cannot be found.
        with suppress(EstimateFailed):
            peak = base + counts.checkpointed_activations()
            if peak <= available:
                yield Remedy(change="protocol.gradient_checkpointing=true", peak_memory_bytes=peak, same_result=True)
    max_length = protocol.max_length // 2
    while max_length >= SHORTEST:
        truncated = [replace(f, input_ids=f.input_ids[:max_length], prompt_ids=()) for f in features]
        peak = base + counts.activations(truncated, protocol)
        if peak <= available:
            change = f"protocol.max_length={max_length}"
            yield Remedy(change=change, peak_memory_bytes=peak, same_result=False)
            break
        max_length //= 2
