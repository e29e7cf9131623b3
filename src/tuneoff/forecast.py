"""What a study will take, before it is trained: memory, seconds and disk of each row.

Model states and activations are counted without running anything; a probe of a few real steps says what this machine
adds to that. `trial/forecasting.py` makes a row's forecast in a process of its own; what is here is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from tuneoff.spec import Frozen

FORECAST_VERSION = 1

How = Literal["probed", "counted"]


class Shape(Frozen):
    """A micro-batch as it is computed, padding included."""

    examples: int
    tokens: int = Field(description="of each example: what is put in, padded to the longest")
    targets: int = Field(0, description="positions of the micro-batch whose logits are computed; 0 for a class head")


class Counted(Frozen):
    """One training step at one shape, counted without running it."""

    shape: Shape
    activations_bytes: int = Field(description="greatest sum of live tensors above weights, gradients and optimizer")
    operations: int = Field(description="floating-point operations of forward and backward pass")


class Probed(Frozen):
    """Real training steps at one shape."""

    shape: Shape
    steps: int = Field(description="steps that were timed, the first ones at this shape not among them")
    seconds: float = Field(description="median of one step")
    peak_bytes: int | None = Field(None, description="peak of the process (CPU) or the allocator (CUDA) until then")


class Remedy(Frozen):
    """A change under which a row that does not fit would fit."""

    change: str = Field(description="as it is given to --set, e.g. `protocol.gradient_accumulation_steps=4`")
    peak_memory_bytes: int
    same_result: bool = Field(description="whether the row computes the same, apart from rounding")


class RowForecast(Frozen):
    """What one trial of a row will take. A figure that cannot be told is null, and `missing` says why."""

    label: str
    how: How
    device: str
    peak_memory_bytes: int | None = None
    memory: dict[str, int] = Field(
        default_factory=dict,
        description="its parts in bytes: `process` (interpreter, libraries, data), `weights`, `gradients`, "
        "`optimizer`, `activations`",
    )
    train_seconds: float | None = None
    seconds: dict[str, float] = Field(
        default_factory=dict,
        description="by phase, of a trial of the verdict: load, tokenize, preflight, train, validation, test, "
        "inference, checkpoint",
    )
    search_seconds: dict[str, float] = Field(
        default_factory=dict, description="the same of a trial of the search; empty without one"
    )
    stored_bytes: int | None = None
    largest: Shape | None = Field(None, description="the micro-batch that takes the most memory")
    counted: tuple[Counted, ...] = ()
    probed: tuple[Probed, ...] = ()
    forecast_seconds: float = Field(0.0, description="what this forecast took")
    fits: bool | None = Field(None, description="whether it fits the memory asked about; null where none was")
    remedies: tuple[Remedy, ...] = Field((), description="what would make it fit; empty where it fits or nothing would")
    missing: dict[str, str] = Field(default_factory=dict)


class StudyForecast(Frozen):
    """What the whole study will take."""

    forecast_version: int = FORECAST_VERSION
    rows: dict[str, RowForecast]
    total_seconds: float | None = Field(None, description="all trials of search and verdict, one after another")
    disk_bytes: int | None = Field(None, description="kept weights and predictions of all trials of the verdict")
    memory_limit_bytes: int | None = None
    missing: dict[str, str] = Field(default_factory=dict)


def study_forecast(
    rows: Mapping[str, RowForecast],
    verdict: Sequence[str],
    search: Sequence[str] = (),
    *,
    keep_weights: bool = True,
    memory_limit_bytes: int | None = None,
) -> StudyForecast:
    """Adds up the rows.

    Args:
        rows: label -> forecast of one of its trials.
        verdict: the label of every trial of the verdict.
        search: the label of every trial of the search.
        keep_weights: whether trained weights stay after the trial.
        memory_limit_bytes: the memory that was asked about.
    """
    missing: dict[str, str] = {}
    unknown = sorted({label for label in verdict if not rows[label].seconds})
    unknown_search = sorted({label for label in search if not rows[label].search_seconds})
    total: float | None = None
    if unknown or unknown_search:
        missing["total_seconds"] = f"no time is known of {', '.join(dict.fromkeys([*unknown, *unknown_search]))}"
    else:
        total = sum(sum(rows[label].seconds.values()) for label in verdict)
        total += sum(sum(rows[label].search_seconds.values()) for label in search)
    disk: int | None = 0
    if keep_weights:
        sizes = [rows[label].stored_bytes for label in verdict]
        if any(size is None for size in sizes):
            disk, missing["disk_bytes"] = None, "the stored size of some rows is not known"
        else:
            disk = sum(size or 0 for size in sizes)
    return StudyForecast(
        rows=dict(rows),
        total_seconds=total,
        disk_bytes=disk,
        memory_limit_bytes=memory_limit_bytes,
        missing=missing,
    )
