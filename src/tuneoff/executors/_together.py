"""Which trials train together in one process; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.checksums import content_hash
from tuneoff.config.spec import AUTO_TOGETHER, ExecutionSpec, TrialSpec


@dataclass
class Companions:
    """Finds trials that can be trained together, and knows those that could not.

    Attributes:
        apart: kind of trial -> why trials of it are trained each alone.
    """

    apart: dict[str, str] = field(default_factory=dict)
    _untold: set[str] = field(default_factory=set)

    def find(
        self, lead: TrialSpec, waiting: Sequence[TrialSpec], on_gpu: bool, joins: Callable[[TrialSpec], bool]
    ) -> list[TrialSpec]:
        """Finds trials to train together with `lead`, in the order in which they wait; none where it trains alone.

        Args:
            lead: the trial that starts.
            waiting: those that could start with it.
            on_gpu: whether it computes on a GPU.
            joins: takes a trial into the same place, or tells that it does not fit there.
        """
        most, kind = most_together(lead.execution, on_gpu), _kind(lead)
        if most == 1 or lead.learning_rate is None or lead.devices > 1 or lead.halved_batches or kind in self.apart:
            return []
        companions: list[TrialSpec] = []
        for trial in waiting:
            if len(companions) == most - 1:
                break
            is_alike = trial.label == lead.label and trial.id != lead.id and _kind(trial) == kind
            if is_alike and joins(trial):
                companions.append(trial)
        return companions

    def separate(self, trial: TrialSpec, reason: str) -> None:
        """Notes that trials of this kind are trained each alone."""
        kind = _kind(trial)
        if kind not in self.apart:
            self.apart[kind] = reason
            self._untold.add(kind)

    def take_reason(self, trial: TrialSpec) -> str:
        """Returns why a trial is trained alone; once for trials of its kind, and empty where nothing was tried."""
        kind = _kind(trial)
        if kind not in self._untold:
            return ""
        self._untold.remove(kind)
        return self.apart[kind]


def most_together(execution: ExecutionSpec, on_gpu: bool) -> int:
    """Returns how many trials of an arm train at once in one process, at most."""
    if execution.engine == "plain":
        return 1
    if execution.together == "auto":
        return AUTO_TOGETHER if on_gpu else 1
    return execution.together


def _kind(trial: TrialSpec) -> str:
    """Names trials that are equal but for seed and learning rate."""
    excluded: Any = {"id": True, "seed": True, "learning_rate": True, "times_inference": True, "protocol": {"seeds"}}
    return content_hash(trial.model_dump(mode="json", exclude=excluded))
