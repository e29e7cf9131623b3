"""Estimates of arms, corrected by the arm of which real steps were run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneoff.records.forecast import ArmForecast

TOO_SHORT_SECONDS = 0.1
"""An estimated phase shorter than this gets no factor: its error is a constant overhead."""


def corrected(arm: ArmForecast, estimated: ArmForecast, profiled: ArmForecast) -> ArmForecast:
    """Corrects an arm that was estimated by the error of the estimate of another arm, which was profiled too.

    Machine, model and data are the same for both, so each phase, and each part of training, is assumed to have the same
    relative error (a very short one the same error in seconds), and the memory of the process besides its tensors the
    same error in bytes.

    Args:
        arm: estimate of the arm.
        estimated, profiled: forecasts of the other arm.
    """
    changes = _corrected_times(arm, estimated, profiled)
    arm_peak, estimated_peak, profiled_peak = (
        arm.peak_memory_bytes,
        estimated.peak_memory_bytes,
        profiled.peak_memory_bytes,
    )
    if arm_peak is not None and estimated_peak is not None and profiled_peak is not None and arm.memory:
        difference = profiled_peak - estimated_peak
        peak = max(0, arm_peak + difference)
        fits = arm.fits if arm.available_bytes is None else peak <= arm.available_bytes
        memory = {**arm.memory, "process": max(0, arm.memory.get("process", 0) + difference)}
        changes |= {"memory": memory, "peak_memory_bytes": peak, "fits": fits}
        if fits is False and arm.fits:
            changes["missing"] = {**arm.missing, "remedies": "by its estimate alone it fits, so none were tried"}
    return arm.model_copy(update={**changes, "corrected_by": profiled.label})


def _corrected_times(arm: ArmForecast, estimated: ArmForecast, profiled: ArmForecast) -> dict[str, Any]:
    """Corrects the times of an arm.

    Frozen blocks are computed as a test is, without gradients: where the profiled arm has none, their error is that of
    its test.
    """
    train_factor = _factor("train", estimated.seconds, profiled.seconds, 1.0)
    test_factor = _factor("test", estimated.seconds, profiled.seconds, train_factor)

    def scaled(seconds: Mapping[str, float]) -> dict[str, float]:
        return {
            phase: _corrected_seconds(value, phase, estimated.seconds, profiled.seconds, train_factor)
            for phase, value in seconds.items()
        }

    seconds, search_seconds, parts = scaled(arm.seconds), scaled(arm.search_seconds), {}
    if arm.train_parts and estimated.train_parts and profiled.train_parts:
        parts = {
            part: _corrected_seconds(value, part, estimated.train_parts, profiled.train_parts, test_factor)
            for part, value in arm.train_parts.items()
        }
        seconds["train"] = sum(parts.values())
        if search_seconds:
            # A trial of the search finds what frozen blocks give.
            steps_factor = _steps_seconds(parts) / _steps_seconds(arm.train_parts)
            search_seconds["train"] = steps_factor * arm.search_seconds["train"]
    kept = {phase: value * seconds[phase] / arm.seconds[phase] for phase, value in arm.kept_seconds.items() if value}
    if "frozen" in parts:
        kept["train"] = parts["frozen"]
    return {
        "seconds": seconds,
        "search_seconds": search_seconds,
        "kept_seconds": kept,
        "train_parts": parts,
        "train_seconds": seconds.get("train"),
    }


def _steps_seconds(parts: Mapping[str, float]) -> float:
    """Returns the seconds of training steps, without what frozen blocks give."""
    return sum(parts.values()) - parts.get("frozen", 0.0)


def _corrected_seconds(
    value: float, name: str, estimated: Mapping[str, float], profiled: Mapping[str, float], otherwise: float
) -> float:
    """Corrects a phase or a part of an estimate.

    Args:
        value: its seconds.
        name: of the phase or part.
        estimated, profiled: seconds of the other arm.
        otherwise: factor where nothing is known of it there.
    """
    if name in estimated and name in profiled and estimated[name] < TOO_SHORT_SECONDS:
        return max(0.0, value + profiled[name] - estimated[name])
    return value * _factor(name, estimated, profiled, otherwise)


def _factor(name: str, estimated: Mapping[str, float], profiled: Mapping[str, float], otherwise: float) -> float:
    """Returns how many times as long a phase or part takes as was estimated; `otherwise` where that is not known."""
    return profiled[name] / estimated[name] if estimated.get(name) and name in profiled else otherwise
