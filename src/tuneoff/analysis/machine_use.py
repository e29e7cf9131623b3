"""What each arm's first trial used of the machine while it ran, thinned out for a chart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from tuneoff.analysis.results import Arm
from tuneoff.config.base import Frozen
from tuneoff.records.record import TrialRecord, Utilisation

POINTS = 60
ARMS_SHOWN = 60
SERIES = (
    "process_cpu_percent",
    "other_cpu_percent",
    "steal_percent",
    "resident_bytes",
    "gpu_percent",
    "gpu_memory_bytes",
    "gpu_power_watts",
)


class UsageCurve(Frozen):
    """Samples of one trial, each a mean over a stretch of time."""

    method: str = Field(description="the arm's label")
    seed: int = Field(description="the trial's seed, the arm's lowest completed one")
    seconds: tuple[float, ...] = Field(description="middle of each stretch, from the trial's start")
    series: dict[str, tuple[float, ...]] = Field(
        description="{name as in a record's `utilisation`: one value per stretch}; only what the machine told"
    )


def machine_use(arms: Sequence[Arm]) -> tuple[UsageCurve, ...]:
    """Returns what the first completed trial of each arm used; only arms of which it was sampled."""
    found = []
    for arm in arms:
        record = next((each for each in arm.completed if each.utilisation and each.utilisation.seconds), None)
        if record is not None and record.utilisation is not None:
            found.append(_thinned(arm.label, record, record.utilisation))
    return tuple(found[:ARMS_SHOWN])


def _thinned(label: str, record: TrialRecord, samples: Utilisation) -> UsageCurve:
    count = len(samples.seconds)
    edges = [at * count // min(count, POINTS) for at in range(min(count, POINTS) + 1)]
    stretches = list(pairwise(edges))
    values = {name: getattr(samples, name) for name in SERIES}
    return UsageCurve(
        method=label,
        seed=record.spec.seed,
        seconds=tuple(round(statistics.fmean(samples.seconds[a:b]), 2) for a, b in stretches),
        series={
            name: tuple(round(statistics.fmean(of[a:b]), 1) for a, b in stretches)
            for name, of in values.items()
            if len(of) == count
        },
    )
