"""The axes on which methods are compared. Imports nothing heavy: the command line offers these names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneoff.analysis.figures import COSTS, FORGETTING
from tuneoff.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from tuneoff.records.record import TrialRecord

Unit = Literal["seconds", "bytes", "count", "joules", "money", "change"]
QUALITY = "quality"


@dataclass(frozen=True)
class Axis:
    """A cost on which methods are compared; less is better.

    Attributes:
        name: the word for it.
        figure: name of the figure in tables and reports, unit included.
        place: its dotted name in a record, under which `missing` says why it is null.
        unit: what it is counted in.
        timing: whether a busy machine spoils it.
        training: whether it is a cost of training alone: an arm that does not train has none of it.
        signed: whether it may be below 0.
    """

    name: str
    figure: str
    place: str
    unit: Unit
    timing: bool = False
    training: bool = False
    signed: bool = False

    def of(self, record: TrialRecord) -> float | None:
        """Returns the figure of one trial; None where it was not measured."""
        if self.figure == "trainable_parameters":
            return float(record.parameters.trainable.total) if record.parameters else None
        return next(cost for cost in COSTS if cost.name == self.figure).of(record)


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("time", "train_seconds", "timing.train_seconds", "seconds", timing=True, training=True),
        Axis("memory", "peak_memory_bytes", "memory.peak_memory_bytes", "bytes", training=True),
        Axis("stored", "stored_bytes", "stored_bytes", "bytes"),
        Axis("parameters", "trainable_parameters", "parameters", "count", training=True),
        Axis("latency", "latency_seconds", "inference.latency_seconds_median", "seconds", timing=True),
        Axis("energy", "energy_joules", "energy_joules", "joules", timing=True, training=True),
        Axis("money", "money", "money.trial", "money", timing=True),
        Axis(FORGETTING, FORGETTING, "retention.forgetting", "change", training=True, signed=True),
    )
}
"""Every cost by its name, in the order in which they decide where the preferred one is not known of all arms; quality
is an axis besides, with its metric's direction."""


def axis_named(name: str) -> Axis | None:
    """Returns the cost of that name; None for `quality`.

    Raises:
        StudyError: if there is no such axis.
    """
    if name != QUALITY and name not in AXES:
        names = [QUALITY, *AXES]
        raise StudyError(f"no axis {name!r}{did_you_mean(name, names)}", hint=f"Axes: {', '.join(names)}.")
    return AXES.get(name)
