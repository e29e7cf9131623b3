"""One result file of PEFT's `method_comparison` suite, as it tells of itself."""

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
        found: Mapping[str, Any] = self.run["train_config"]
        return found

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
        """The last entry of its log; of a run that came to its end, the one with the test."""
        found: Mapping[str, Any] = self.train["metrics"][-1] if self.train["metrics"] else {}
        return found

    @property
    def primary(self) -> str | None:
        return next((name for name in METRICS if f"test {name}" in self.last), None)

    @property
    def model_sha(self) -> str | None:
        """The revision of the base model; None where the file does not tell it."""
        info = self.meta.get("model_info")
        sha = info.get("sha") if isinstance(info, dict) else self.meta.get("model_sha")
        return sha if isinstance(sha, str) and sha else None

    @property
    def machine(self) -> str | None:
        """The accelerator; None likewise."""
        system = self.meta.get("system_info")
        found = (system.get("accelerator") or system.get("gpu")) if isinstance(system, dict) else None
        return found if isinstance(found, str) else None

    def version(self, package: str) -> str | None:
        """Of a package; None likewise."""
        packages = self.meta.get("package_info")
        found = packages.get(f"{package}-version") if isinstance(packages, dict) else None
        return found if isinstance(found, str) else None


def finite(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
