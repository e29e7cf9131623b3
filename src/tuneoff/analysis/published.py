"""Compares published figures with ours: a published figure's name says its unit, and ours is converted to it.

`accuracy_percent` is our fraction times 100, `peak_memory_megabytes` our bytes in decimal megabytes,
`validation_loss` the validation split's metric `loss` of the tested checkpoint, and so on. Some figures are worked out
of the records (`DERIVED`). A figure that names nothing we measure is still listed, without one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field

from tuneoff.analysis.figures import COSTS
from tuneoff.analysis.outcomes import over_seeds
from tuneoff.analysis.results import Arm
from tuneoff.analysis.statistics import Estimate
from tuneoff.config.base import Frozen
from tuneoff.records.record import MemoryKind, TrialRecord

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

COUNTS = ("trainable_parameters", "total_parameters")
_TIMED = {cost.name for cost in COSTS if cost.timing}


class PublishedComparison(Frozen):
    """A published figure beside ours, in the published unit."""

    figure: str = Field(description="its published name")
    published: int | float = Field(description="its published value")
    ours: int | float | None = Field(description="our mean, or null")
    ours_std: float | None = Field(description="standard deviation of ours")
    n: int | None = Field(description="how many trials ours is the mean of; null for a count")
    measured_as: str | None = Field(
        description="the name of our figure; null when we measure nothing of the published name"
    )
    contended: bool = Field(description="true where ours is a timing of a busy machine")
    memory_kind: MemoryKind | None = Field(description="what our peak memory is the peak of; null of any other figure")


Ours = Mapping[str, Estimate | int | None]
"""Name of a figure of ours -> its estimate over trials, or a count that is equal in all; None where there is none.

Metrics of the test split have their own name and `test_NAME`, those of the validation split `validation_NAME`.
"""


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


def compare(figures: Mapping[str, float], ours: Ours, arm: Arm) -> tuple[PublishedComparison, ...]:
    """Compares each published figure of an arm with ours in the same unit.

    Args:
        figures: published name -> value.
        ours: our figures of the arm.
        arm: the arm, for the figures of `DERIVED`, and to say whether its timings are to be trusted.
    """
    return tuple(_compare(figure, value, ours, arm) for figure, value in figures.items())


def _compare(figure: str, value: float, ours: Ours, arm: Arm) -> PublishedComparison:
    name, factor = figure, 1.0
    estimate: Estimate | int | None
    if figure in DERIVED:
        estimate = over_seeds(v for record in arm.completed if (v := DERIVED[figure](record)) is not None)
    else:
        name, factor = our_name(figure)
        estimate = ours.get(name)
    measured_as = name if figure in DERIVED or name in ours else None
    mean = std = None
    n: int | None = 0
    if isinstance(estimate, Estimate):
        mean, n = estimate.mean * factor, estimate.seeds
        std = None if estimate.std is None else estimate.std * factor
    elif name in COUNTS:
        mean, n = estimate, None
    return PublishedComparison(
        figure=figure,
        published=value,
        ours=mean,
        ours_std=std,
        n=n,
        measured_as=measured_as,
        contended=measured_as in _TIMED and mean is not None and arm.contended,
        memory_kind=arm.memory_kind if measured_as == "peak_memory_bytes" else None,
    )
