"""Warns of arms on different numbers of devices."""

from __future__ import annotations

from tuneoff.analysis.results import Results
from tuneoff.records.record import Finding


def device_warnings(results: Results) -> list[Finding]:
    """Warns that times and memory of arms on different numbers of devices are no comparison of methods."""
    counts = {arm.label: arm.trials[0].devices for arm in results.arms if any(r.model for r in arm.completed)}
    if len(set(counts.values())) < 2:
        return []
    listed = ", ".join(f"{label} {count}" for label, count in counts.items())
    message = f"Arms ran on different numbers of devices ({listed}): their times and memory do not compare methods."
    return [Finding(name="different_devices", message=message)]
