"""Compares published figures with ours: a published figure's name says its unit, and ours is converted to it.

`accuracy_percent` is our fraction times 100, `peak_memory_megabytes` our bytes in decimal megabytes,
`validation_loss` the validation split's metric `loss` of the tested checkpoint, and so on. Some figures are worked out
of the records (`DERIVED`). A figure that names nothing we measure is still listed, without one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tuneoff.analysis.outcomes import over_seeds
from tuneoff.records.record import TrialRecord
from tuneoff.report import columns

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

_TIMED = {column.key for column in (*columns.COSTS, *columns.SPEED) if column.timing}
_COUNTS = ("trainable_parameters", "total_parameters")


def _best_epoch(record: TrialRecord) -> float | None:
    """Returns the epochs trained at the tested checkpoint."""
    return next((point.epoch for point in record.curve if point.step == record.selected_step), None)


def _training_samples(record: TrialRecord, values: Sequence[float]) -> list[float]:
    """Returns the utilisation's values that were sampled while training and its validations ran."""
    timing = record.timing
    if record.utilisation is None or not values or not timing.train_seconds:
        return []
    begin = sum(s or 0.0 for s in (timing.load_seconds, timing.tokenize_seconds, timing.preflight_seconds))
    end = begin + timing.train_seconds + (timing.validation_seconds or 0.0) + (timing.checkpoint_seconds or 0.0)
    pairs = zip(record.utilisation.seconds, values, strict=True)
    return [value for at, value in pairs if begin < at <= end]


def _cpu_percent(record: TrialRecord) -> float | None:
    """Returns the trial's mean use of all cores while it trained, in percent of them."""
    if record.utilisation is None or record.environment is None:
        return None
    samples = _training_samples(record, record.utilisation.process_cpu_percent)
    return sum(samples) / len(samples) / record.environment.cores if samples else None


def _gpu_memory_percent(record: TrialRecord) -> float | None:
    """Returns the most of the GPU's memory that was in use while the trial trained, in percent of it."""
    total = record.environment.device_memory_bytes if record.environment else None
    if record.utilisation is None or total is None:
        return None
    samples = _training_samples(record, record.utilisation.gpu_memory_bytes)
    return 100 * max(samples) / total if samples else None


DERIVED: dict[str, Callable[[TrialRecord], float | None]] = {
    "best_epoch": _best_epoch,
    "cpu_percent": _cpu_percent,
    "gpu_memory_percent": _gpu_memory_percent,
}
"""Published name -> the figure of one record, in that name's unit."""


def our_name(figure: str) -> tuple[str, float]:
    """Returns our name for a published figure, and the factor that turns ours into its unit."""
    base, _, suffix = figure.rpartition("_")
    name, factor = figure, 1.0
    if suffix in _UNITS:
        ours, factor = _UNITS[suffix]
        name = f"{base}_{ours}" if ours else base
    return _ALIASES.get(name, name), factor


def compare(
    figures: dict[str, float], method: dict[str, Any], records: Sequence[TrialRecord] = ()
) -> list[dict[str, Any]]:
    """Compares each published figure of an arm with ours in the same unit.

    Args:
        figures: published name -> value.
        method: the arm's entry of the summary.
        records: its completed trials, for the figures of `DERIVED`.

    Returns:
        Objects with `figure`, `published`, `ours` (mean or null), `ours_std`, `n` and `measured_as`: the name
        of our figure, null where we have none of that name; `contended`: whether ours is a timing of a busy machine;
        and `memory_kind`: what ours is the peak of, null of any other figure.
    """
    comparisons = (
        _derive(figure, value, records) if figure in DERIVED else _compare_one(figure, value, method)
        for figure, value in figures.items()
    )
    return [
        {
            **comparison,
            "contended": comparison["measured_as"] in _TIMED and comparison["ours"] is not None and method["contended"],
            "memory_kind": method["memory_kind"] if comparison["measured_as"] == columns.MEMORY.key else None,
        }
        for comparison in comparisons
    ]


def _derive(figure: str, value: float, records: Sequence[TrialRecord]) -> dict[str, Any]:
    estimate = over_seeds(ours for record in records if (ours := DERIVED[figure](record)) is not None)
    mean, std, n = (estimate.mean, estimate.std, estimate.seeds) if estimate else (None, None, 0)
    return {"figure": figure, "published": value, "ours": mean, "ours_std": std, "n": n, "measured_as": figure}


def _compare_one(figure: str, value: float, method: dict[str, Any]) -> dict[str, Any]:
    name, factor = our_name(figure)
    comparison: dict[str, Any] = {"figure": figure, "published": value}
    for split in ("test", "validation"):
        if name.startswith(f"{split}_"):
            ours = method["metrics" if split == "test" else "validation_metrics"].get(name.removeprefix(f"{split}_"))
            break
    else:
        ours = method["metrics"].get(name)
    if name in _COUNTS:
        mean = method[name]
        return {**comparison, "ours": mean, "ours_std": None, "n": None, "measured_as": name}
    if ours is not None and ours.get("diverged_seeds"):
        # Published figures are of trainings that came to an end.
        ours = ours["without_diverged"] or {"mean": None, "std": None, "n": 0}
    ours = ours or (method[name] if isinstance(method.get(name), dict) and "mean" in method[name] else None)
    if ours is None:
        is_figure = name in method and isinstance(method[name], dict)
        return {**comparison, "ours": None, "ours_std": None, "n": 0, "measured_as": name if is_figure else None}
    std = None if ours["std"] is None else ours["std"] * factor
    mean = None if ours["mean"] is None else ours["mean"] * factor
    return {**comparison, "ours": mean, "ours_std": std, "n": ours["n"], "measured_as": name}
