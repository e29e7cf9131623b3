"""Reasons of figures that are null because no trial on this machine, or with this model, could have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneoff.records.record import TrialRecord

if TYPE_CHECKING:
    import torch


def null_reasons(record: TrialRecord, device: torch.device) -> dict[str, str]:
    """Explains why figures are null that no trial on this machine, or with this model, could have."""
    reasons: dict[str, str] = {}
    if device.type != "cuda":
        for phase in record.memory.phases:
            for figure in ("allocated_bytes", "reserved_bytes"):
                reasons[f"memory.phases.{phase}.{figure}"] = "the trial ran on the CPU"
        reasons["noise.gpu_throttled_share"] = "the trial ran on the CPU"
        reasons["environment.device_memory_bytes"] = "the trial ran on the CPU"
    if "inference" not in record.missing:
        reasons |= _explain_inference(record)
    if record.environment is not None and record.environment.commit is None:
        reasons["environment.commit"] = "tuneoff did not run from a git checkout"
    if record.model is not None and record.model.checksum is None:
        reasons["model.checksum"] = "random weights come from no file"
    if record.model is not None and record.model.commit is None:
        reasons["model.commit"] = "the model was not fetched from the hub"
    if record.model is not None and record.model.max_positions is None:
        reasons["model.max_positions"] = "the model sets no limit"
    return reasons


def _explain_inference(record: TrialRecord) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if not record.inference.latency_examples:
        latency = ("inference.latency_seconds_median", "inference.latency_seconds_p95")
        reasons = dict.fromkeys(latency, "execution.latency_examples is 0")
    if record.inference.generated_tokens_per_second is not None:
        return {**reasons, "inference.batched_tokens_per_second": "the speed is that of generated tokens"}
    generation = ("inference.generated_tokens_per_second", "inference.generated_tokens_mean")
    return {**reasons, **dict.fromkeys(generation, "the task writes no text")}
