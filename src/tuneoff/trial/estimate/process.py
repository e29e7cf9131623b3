"""A fake model in a process of its own.

What makes tensors without memory possible takes seconds to import and tens of megabytes to keep. In a process that runs
real steps it would change the figures, so it has a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from copy import copy
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import first_line
from tuneoff.interfaces import Batch, Task
from tuneoff.trial.estimate.fake_model import FakeModel
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Part, Setup, StepCost
from tuneoff.trial.parentage import die_with

PATIENCE_SECONDS = 120.0
"""Seconds after which an answer is waited for no more."""


class EstimateFailed(Exception):
    """Something could not be estimated; the message says why."""


class FakeModelProcess:
    """A process that counts what steps of a fake model cost.

    Use as a context manager; make it before anything is loaded, and before any thread.

    Where the system can fork, it is forked, which takes almost no time; elsewhere a new process is spawned.
    """

    def __init__(self) -> None:
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if can_fork else "spawn")
        self._ours, child_end = context.Pipe()
        # A fork also has this process's end of the pipe. It must close it, or it could not see that this process ended.
        arguments = (child_end, self._ours if can_fork else None, os.getpid())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        child_end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._process.join(1.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def build(self, spec: TrialSpec, task: Task, setup: Setup) -> ModelStateBytes:
        """Builds a trial's fake model, which replaces any before.

        Raises:
            EstimateFailed: if it cannot be built.
        """
        # Metrics cost a step nothing, and those of somebody else may be functions that cannot be sent.
        sent = copy(task)
        sent.added_metrics = ()
        states: ModelStateBytes = self._ask("build", spec, sent, setup)
        return states

    def step(self, batch: Batch, loss_terms: int, *, accumulates: bool = False) -> StepCost:
        """Counts a training step, as `FakeModel.step` does.

        Raises:
            EstimateFailed: if this model's step cannot be estimated.
        """
        step: StepCost = self._ask("step", batch, loss_terms, accumulates)
        return step

    def evaluation(self, batch: Batch, part: Part = "all") -> StepCost:
        """Counts a forward pass, as `FakeModel.evaluation` does.

        Raises:
            EstimateFailed: if this model's forward pass cannot be estimated.
        """
        step: StepCost = self._ask("evaluation", batch, part)
        return step

    def kept_bytes(self, batch: Batch) -> int:
        """Returns the bytes that are kept of each token, as `FakeModel.kept_bytes` does.

        Raises:
            EstimateFailed: if this model's forward pass cannot be estimated.
        """
        size: int = self._ask("kept_bytes", batch)
        return size

    def _ask(self, request: str, *arguments: Any) -> Any:
        try:
            # Pickled here: the connection's own pickling would put tensors into shared memory.
            self._ours.send_bytes(pickle.dumps((request, arguments)))
            if not self._ours.poll(PATIENCE_SECONDS):
                self._process.kill()
                raise EstimateFailed(f"it took longer than {PATIENCE_SECONDS:.0f} s")
            answer = pickle.loads(self._ours.recv_bytes())
        except (EOFError, OSError) as error:
            raise EstimateFailed(f"the process of the fake model has ended: {error or type(error).__name__}") from None
        if isinstance(answer, EstimateFailed):
            raise answer
        return answer


def _serve(child_end: Connection, parent_end: Connection | None, parent_pid: int) -> None:
    """Answers requests until the parent has ended."""
    # A count may take long: without this it would notice only afterwards that nobody waits for it.
    die_with(parent_pid)
    import torch

    if parent_end is not None:
        parent_end.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A fork must not use threads that the parent may have started.
    torch.set_num_threads(1)
    server = _Server()
    while True:
        try:
            request, arguments = pickle.loads(child_end.recv_bytes())
        except (EOFError, OSError):
            return
        answer: Any
        try:
            answer = getattr(server, request)(*arguments)
        except Exception as error:
            # Any model, method or third party's code may fail on tensors without memory: it is not estimated then.
            name, line = type(error).__name__, first_line(error)
            print(f"not estimated: {name}: {str(error).strip()}", file=sys.stderr, flush=True)
            answer = EstimateFailed(f"{name}: {line}" if line != name else name)
        try:
            child_end.send_bytes(pickle.dumps(answer))
        except OSError:
            return


class _Server:
    """Answers the requests of `FakeModelProcess`; each is the name of a method."""

    def __init__(self) -> None:
        self._model: FakeModel | None = None

    @property
    def model(self) -> FakeModel:
        if self._model is None:
            raise RuntimeError("there is no fake model")
        return self._model

    def build(self, spec: TrialSpec, task: Task, setup: Setup) -> ModelStateBytes:
        # The model before is freed first.
        self._model = None
        self._model = FakeModel(spec, task, setup)
        return self._model.states

    def step(self, batch: Batch, loss_terms: int, accumulates: bool) -> StepCost:
        return self.model.step(batch, loss_terms, accumulates=accumulates)

    def evaluation(self, batch: Batch, part: Part) -> StepCost:
        return self.model.evaluation(batch, part)

    def kept_bytes(self, batch: Batch) -> int:
        return self.model.kept_bytes(batch)
