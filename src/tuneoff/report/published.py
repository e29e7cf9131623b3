"""Published figures beside ours: a published figure's name says its unit, and ours is converted to it.

`accuracy_percent` is our fraction times 100, `peak_memory_megabytes` our bytes in decimal megabytes, and so on.
A figure that names nothing we measure is still listed, without one of ours.
"""

from __future__ import annotations

from typing import Any

_UNITS: dict[str, tuple[str, float]] = {
    "percent": ("", 100.0),
    "kilobytes": ("bytes", 1e-3),
    "megabytes": ("bytes", 1e-6),
    "gigabytes": ("bytes", 1e-9),
    "kibibytes": ("bytes", 2.0**-10),
    "mebibytes": ("bytes", 2.0**-20),
    "gibibytes": ("bytes", 2.0**-30),
    "milliseconds": ("seconds", 1e3),
    "minutes": ("seconds", 1 / 60),
    "hours": ("seconds", 1 / 3600),
}
"""Suffix of a published name -> suffix of ours, and what ours is multiplied with."""

_ALIASES = {
    "samples_per_second": "examples_per_second",
    "memory_bytes": "peak_memory_bytes",
    "peak_gpu_memory_bytes": "peak_memory_bytes",
    "train_time_seconds": "train_seconds",
    "gradient_norm": "gradient_norm_mean",
}

_COUNTS = ("trainable_parameters", "total_parameters")


def our_name(figure: str) -> tuple[str, float]:
    """Our name for a published figure, and the factor that turns ours into its unit."""
    base, _, suffix = figure.rpartition("_")
    name, factor = figure, 1.0
    if suffix in _UNITS:
        ours, factor = _UNITS[suffix]
        name = f"{base}_{ours}" if ours else base
    return _ALIASES.get(name, name), factor


def compare(figures: dict[str, float], method: dict[str, Any]) -> list[dict[str, Any]]:
    """Each published figure of a row with ours in the same unit.

    Args:
        figures: published name -> value.
        method: the row's entry of the summary.

    Returns:
        Objects with `figure`, `published`, `ours` (mean or null), `ours_std`, `n` and `measured_as`: the name
        of our figure, null where we have none of that name.
    """
    return [_compare_one(figure, value, method) for figure, value in figures.items()]


def _compare_one(figure: str, value: float, method: dict[str, Any]) -> dict[str, Any]:
    name, factor = our_name(figure)
    found: dict[str, Any] = {"figure": figure, "published": value}
    for split in ("test", "validation"):
        if name.startswith(f"{split}_"):
            ours = method["metrics" if split == "test" else "validation_metrics"].get(name.removeprefix(f"{split}_"))
            break
    else:
        ours = method["metrics"].get(name)
    if name in _COUNTS:
        mean = method[name]
        return {**found, "ours": mean, "ours_std": None, "n": None, "measured_as": name}
    ours = ours or (method[name] if isinstance(method.get(name), dict) and "mean" in method[name] else None)
    if ours is None:
        known = name in method and isinstance(method[name], dict)
        return {**found, "ours": None, "ours_std": None, "n": 0, "measured_as": name if known else None}
    std = None if ours["std"] is None else ours["std"] * factor
    mean = None if ours["mean"] is None else ours["mean"] * factor
    return {**found, "ours": mean, "ours_std": std, "n": ours["n"], "measured_as": name}
