"""Trials on this machine, each begun when nothing else keeps it busy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
from pydantic import Field

from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Listener
from tuneoff.executors.local import LocalExecutor
from tuneoff.interfaces import ExecutorOptions
from tuneoff.store import StudyStore


class IdleOptions(ExecutorOptions):
    """Keys of `executor` for `idle`."""

    max_percent: float = Field(50.0, gt=0, le=100, description="processor use of others at which a trial may begin")
    seconds: float = Field(5.0, gt=0, description="how long the processor is watched for that")


class IdleExecutor(LocalExecutor):
    """Waits before each trial until the machine is idle enough; a busy one would spoil its timings."""

    title = "This machine, when idle"
    summary = "Trials run on this machine, one at a time, each begun when others leave the processor alone."
    Options = IdleOptions
    options = IdleOptions()

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> IdleExecutor:
        executor = cls(device)
        executor.options = cls.Options.model_validate(dict(options))
        return executor

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        for trial in trials:
            if store.trial(trial.id).finished_record() is None:
                self._wait()
            super().run(store, [trial], listener)

    def _wait(self) -> None:
        """Returns once the processor was used little for a while; an interrupt ends the run as usual."""
        while psutil.cpu_percent(self.options.seconds) > self.options.max_percent:
            time.sleep(self.options.seconds)


plugin = IdleExecutor
