"""How long a running trial has still to go, phase by phase: from its own pace, and where there is none yet from the
time expected of a phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneoff.config.spec import TrialSpec

STAGES = (
    ("load",),
    ("tokenize",),
    ("preflight",),
    ("train", "validation", "checkpoint"),
    ("test",),
    ("inference",),
    ("retention",),
    ("rewind",),
)
"""A trial's phases in order; phases that alternate stand together."""
_STAGE = {phase: stage for stage, phases in enumerate(STAGES) for phase in phases}


@dataclass
class Running:
    """A trial that runs now: when it started, its newest events, and what its phases took so far.

    Times are seconds of any one clock.
    """

    trial: TrialSpec
    since: float
    together: int = 1
    """How many trials its process trains at once."""
    phase: str = ""
    step: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, float | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    writing: dict[str, Any] = field(default_factory=dict)
    _spent: dict[str, float] = field(default_factory=dict)
    _phase_since: float = 0.0
    _noted_at: float = 0.0
    """When the newest step or text was reported."""
    _trained: float = 0.0
    """Seconds of training at the newest step."""
    _validated: int = 0
    _validating: float = 0.0
    """How many validations are over, and their seconds."""

    def hear(self, event: dict[str, Any], now: float) -> None:
        """Updates the figures with one line of the trial's event log, which was written at `now`."""
        kind = event.get("kind")
        if kind == "phase":
            self._spent = self.spent(now)
            self.phase, self._phase_since = str(event.get("phase", "")), now
            self.writing = {}
        elif kind == "resumed":
            # What is done already counts for the pace.
            for phase in ("train", "validation"):
                self._spent[phase] = float(event.get(f"{phase}_seconds") or 0.0)
        elif kind == "step":
            self.step, self._noted_at = event, now
            self._trained = self.spent(now).get("train", 0.0) or float(event.get("elapsed_seconds") or 0.0)
        elif kind == "validation":
            self.validation = dict(event.get("metrics") or {})
            self._validated += 1
            self._validating = self.spent(now).get("validation", 0.0)
        elif kind == "writing":
            self.writing, self._noted_at = event, now
        elif kind == "machine":
            self.machine = event

    def spent(self, now: float) -> dict[str, float]:
        """Returns phase -> seconds so far."""
        if not self.phase:
            return dict(self._spent)
        return {**self._spent, self.phase: self._spent.get(self.phase, 0.0) + now - self._phase_since}

    def seconds_left(self, now: float, expected: Mapping[str, float] | None = None) -> float | None:
        """Estimates the time left in seconds; None where it cannot be estimated.

        Args:
            now: the time now, in seconds of the same clock.
            expected: phase -> seconds that it is expected to take in all; None: nothing is expected.
        """
        spent = self.spent(now)
        stage = _STAGE.get(self.phase, -1)
        remaining = {
            phase: max(0.0, total - spent.get(phase, 0.0))
            for phase, total in (expected or {}).items()
            if _STAGE.get(phase, len(STAGES)) >= stage
        }
        estimates = {
            "train": self._training_left(now),
            "validation": self._validation_left(spent.get("validation", 0.0)),
            "test": self._writing_left(now) if self.phase == "test" else None,
        }
        remaining |= {p: s for p, s in estimates.items() if s is not None and _STAGE[p] >= stage}
        return sum(remaining.values()) if remaining else None

    def _training_left(self, now: float) -> float | None:
        step, steps = (self.step.get(key) for key in ("step", "steps"))
        if not step or not steps or not self._trained:
            return None
        elapsed = now - self._noted_at if self.phase == "train" else 0.0
        return max(0.0, self._trained / float(step) * (float(steps) - float(step)) - elapsed)

    def _validation_left(self, spent: float) -> float | None:
        """Estimates the seconds of the validations to come, from those that are over or from the texts that the first
        one has written."""
        count = self.step.get("validations")
        if self._validated:
            seconds_each: float | None = self._validating / self._validated
        else:
            seconds_each = self._writing_seconds() if self.phase == "validation" else None
        return None if not count or seconds_each is None else max(0.0, seconds_each * count - spent)

    def _writing_seconds(self) -> float | None:
        """Estimates how many seconds all texts of a split take at the pace so far."""
        if not self.writing.get("texts"):
            return None
        return float(self.writing["elapsed_seconds"]) / float(self.writing["texts"]) * float(self.writing["of"])

    def _writing_left(self, now: float) -> float | None:
        total = self._writing_seconds()
        if total is None:
            return None
        return max(0.0, total - float(self.writing["elapsed_seconds"]) - (now - self._noted_at))
