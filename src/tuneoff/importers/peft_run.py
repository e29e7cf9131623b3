"""One result file of PEFT's `method_comparison` suite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

METRICS: dict[str, tuple[str, str, Literal["higher", "lower"]]] = {
    "accuracy": ("generation", "fraction", "higher"),
    "dino_similarity": ("image_generation", "cosine similarity", "higher"),
}
"""Metric that a run is judged by -> task, unit, direction."""


@dataclass(frozen=True)
class Run:
    """One result file that could be read."""

    file: str
    run: Mapping[str, Any]
    train: Mapping[str, Any]
    meta: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.run["train_config"]
        return config

    @property
    def experiment(self) -> str:
        return str(self.run["experiment_name"])

    @property
    def model(self) -> str:
        return str(self.settings["model_id"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def last(self) -> Mapping[str, Any]:
        """Returns the last entry of the run's log; where the run came to its end, this entry holds the test metrics."""
        entry: Mapping[str, Any] = self.train["metrics"][-1] if self.train["metrics"] else {}
        return entry

    @property
    def primary(self) -> str | None:
        return next((name for name in METRICS if f"test {name}" in self.last), None)

    @property
    def model_sha(self) -> str | None:
        """Returns the revision of the base model; None where the file does not state it."""
        info = self.meta.get("model_info")
        sha = info.get("sha") if isinstance(info, dict) else self.meta.get("model_sha")
        return sha if isinstance(sha, str) and sha else None

    @property
    def machine(self) -> str | None:
        """Returns the name of the accelerator; None where the file does not state it."""
        system = self.meta.get("system_info")
        accelerator = (system.get("accelerator") or system.get("gpu")) if isinstance(system, dict) else None
        return accelerator if isinstance(accelerator, str) else None

    def version(self, package: str) -> str | None:
        """Returns the version of a package; None where the file does not state it."""
        packages = self.meta.get("package_info")
        package_version = packages.get(f"{package}-version") if isinstance(packages, dict) else None
        return package_version if isinstance(package_version, str) else None


def finite(value: Any) -> float | None:
    """Returns the value as a float where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def is_count(value: Any) -> bool:
    """Tells whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
