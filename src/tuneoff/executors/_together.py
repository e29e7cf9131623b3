"""Which trials train together in one process; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.checksums import content_hash
from tuneoff.config.execution import AUTO_TOGETHER, ExecutionSpec
from tuneoff.config.spec import TrialSpec


@dataclass
class Companions:
    """Finds trials that can be trained together, and knows those that could not.

    Attributes:
        apart: kind of trial -> why trials of it are trained each alone.
    """

    apart: dict[str, str] = field(default_factory=dict)
    _untold: set[str] = field(default_factory=set)
    _by_label: dict[str, list[str]] = field(default_factory=dict)
    _kinds: dict[str, str] = field(default_factory=dict)
    """Trial id -> its kind, of those that were asked for."""

    def expect(self, trials: Iterable[TrialSpec]) -> None:
        """Notes the trials of a run, in the order in which they wait; `find` looks among them."""
        self._by_label, self._kinds = {}, {}
        for trial in trials:
            self._by_label.setdefault(trial.label, []).append(trial.id)

    def find(
        self, lead: TrialSpec, waiting: Mapping[str, TrialSpec], on_gpu: bool, joins: Callable[[TrialSpec], bool]
    ) -> list[TrialSpec]:
        """Finds trials to train together with `lead`, in the order in which they wait; none where it trains alone.

        Args:
            lead: the trial that starts.
            waiting: those that have not started, by their ids.
            on_gpu: whether it computes on a GPU.
            joins: takes a trial into the same place, or tells that it does not fit there.
        """
        most = self.most(lead, on_gpu)
        companions: list[TrialSpec] = []
        for name in self._by_label.get(lead.label, ()) if most > 1 else ():
            if len(companions) == most - 1:
                break
            trial = waiting.get(name)
            if trial is None or trial.id == lead.id or trial.halved_batches:
                continue
            if self._kind(trial) == self._kind(lead) and joins(trial):
                companions.append(trial)
        return companions

    def may_continue(self, lead: TrialSpec, others: Sequence[TrialSpec], on_gpu: bool) -> bool:
        """Tells whether a trial may go on together with those that it was trained with before."""
        # How trials are run may have been changed since some of them ended.
        now = {"execution": lead.execution, "contents": lead.contents}
        kinds = {_kind(other.model_copy(update=now)) for other in others}
        return len(others) < self.most(lead, on_gpu) and kinds == {self._kind(lead)}

    def most(self, trial: TrialSpec, on_gpu: bool) -> int:
        """Returns how many trials, itself included, are trained together with one at most."""
        most = most_together(trial.execution, on_gpu)
        if most == 1 or trial.learning_rate is None or trial.devices > 1 or trial.halved_batches or trial.stopping:
            return 1
        return 1 if self._kind(trial) in self.apart else most

    def separate(self, trial: TrialSpec, reason: str) -> None:
        """Notes that trials of this kind are trained each alone."""
        kind = self._kind(trial)
        if kind not in self.apart:
            self.apart[kind] = reason
            self._untold.add(kind)

    def take_reason(self, trial: TrialSpec) -> str:
        """Returns why a trial is trained alone; once for trials of its kind, and empty where nothing was tried."""
        if not self._untold or (kind := self._kind(trial)) not in self._untold:
            return ""
        self._untold.remove(kind)
        return self.apart[kind]

    def _kind(self, trial: TrialSpec) -> str:
        if trial.id not in self._kinds:
            self._kinds[trial.id] = _kind(trial)
        return self._kinds[trial.id]


def most_together(execution: ExecutionSpec, on_gpu: bool) -> int:
    """Returns how many trials of an arm train at once in one process, at most."""
    if execution.engine == "plain":
        return 1
    if execution.together == "auto":
        return AUTO_TOGETHER if on_gpu else 1
    return execution.together


def _kind(trial: TrialSpec) -> str:
    """Names trials that are equal but for seed and learning rate; seeds that draw rows of their own differ."""
    excluded: Any = {"id": True, "seed": True, "learning_rate": True, "times_inference": True}
    if trial.protocol.splits == "fixed":
        excluded["protocol"] = {"seeds"}
    return content_hash(trial.model_dump(mode="json", exclude=excluded))
