"""What every phase of a trial is handed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Task
from tuneoff.measure.utilisation import Sampler
from tuneoff.records.record import Event, Finding
from tuneoff.trial.distributed.context import ALONE, RankContext
from tuneoff.trial.phases import Phases


@dataclass(frozen=True)
class TrialContext:
    """What every phase of a trial is handed.

    Attributes:
        spec: what is asked for, with model and rows at the commits that the run saw.
        task: the task, with its options.
        device: where the trial computes; of a rank its own.
        phases: clocks, memory peaks and samples of the machine.
        emit: takes events.
        ranks: the processes that share the trial.
        scratch: a folder that the trials of a run share, removed in its end; None: nothing is shared.
    """

    spec: TrialSpec
    task: Task
    device: torch.device
    phases: Phases
    emit: Callable[[Event], None]
    ranks: RankContext = ALONE
    scratch: Path | None = None

    @classmethod
    def of(
        cls,
        spec: TrialSpec,
        device: torch.device,
        sampler: Sampler,
        emit: Callable[[Event], None] = lambda event: None,
        ranks: RankContext = ALONE,
        scratch: Path | None = None,
    ) -> TrialContext:
        """Makes the context of a trial with fresh clocks; ranks are told of the phases that events name."""
        # First, because what the process holds now is the base of its memory peaks.
        phases = Phases(device, sampler, ranks.noting(emit))
        task = registry.create_task(spec.task)
        return cls(spec, task, device, phases, emit, ranks, scratch)

    def report(self, findings: Iterable[Finding]) -> None:
        """Emits findings as events."""
        for finding in findings:
            self.emit({"kind": "finding", **finding.model_dump()})
