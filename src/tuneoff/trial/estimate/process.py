"""Counting in a process of its own.

What makes tensors without memory possible takes seconds to import and tens of megabytes to keep. In the process that
is probed it would show in the figures, so it lives beside it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from tuneoff.config.spec import TrialSpec
from tuneoff.tasks.base import Batch, Task
from tuneoff.trial.estimate.step_cost import Setup, States, Step, Twin
from tuneoff.trial.parentage import die_with

PATIENCE_SECONDS = 120.0
"""A count that takes longer is given up."""


class NotCounted(Exception):
    """Something could not be counted; the message says why."""


class Aside:
    """A process that counts steps. Use as a context manager; make it before anything is loaded, and before any thread.

    Where the system can, it is forked, which takes no time; elsewhere it starts afresh.
    """

    def __init__(self) -> None:
        forks = "fork" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self._ours, theirs = context.Pipe()
        # A fork has our end too and must close it, or it would never see that we are gone.
        given = (theirs, self._ours if forks else None, os.getpid())
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()

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

    def build(self, spec: TrialSpec, task: Task, setup: Setup) -> States:
        """Builds a trial's twin, in the place of any before.

        Raises:
            NotCounted: if it cannot be.
        """
        made: States = self._ask("build", spec, task, setup)
        return made

    def step(self, batch: Batch, units: int, *, accumulates: bool = False) -> Step:
        """As `Twin.step`.

        Raises:
            NotCounted: if this model's step cannot be counted.
        """
        made: Step = self._ask("step", batch, units, accumulates)
        return made

    def evaluation(self, batch: Batch) -> Step:
        """As `Twin.evaluation`.

        Raises:
            NotCounted: if this model's forward pass cannot be counted.
        """
        made: Step = self._ask("evaluation", batch)
        return made

    def _ask(self, what: str, *given: Any) -> Any:
        try:
            # Pickled here: the connection's own way would put tensors into shared memory.
            self._ours.send_bytes(pickle.dumps((what, given)))
            if not self._ours.poll(PATIENCE_SECONDS):
                self._process.kill()
                raise NotCounted(f"it took longer than {PATIENCE_SECONDS:.0f} s")
            made = pickle.loads(self._ours.recv_bytes())
        except (EOFError, OSError) as error:
            raise NotCounted(f"the process that counts has ended: {error or type(error).__name__}") from None
        if isinstance(made, NotCounted):
            raise made
        return made


def _serve(theirs: Connection, ours: Connection | None, asker: int) -> None:
    """Answers until the asker is gone."""
    # A count may take long, and would see only afterwards that nobody waits for it.
    die_with(asker)
    import torch

    if ours is not None:
        ours.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A fork must not use threads that the asker may have started.
    torch.set_num_threads(1)
    kept: dict[str, Twin] = {}
    while True:
        try:
            what, given = pickle.loads(theirs.recv_bytes())
        except (EOFError, OSError):
            return
        made: Any
        try:
            made = _answer(what, given, kept)
        except Exception as error:
            # Any model, method or third party's code may fail on tensors without memory: it is not counted then.
            text = str(error).strip()
            line = text.splitlines()[0] if text else ""
            print(f"not counted: {type(error).__name__}: {text}", file=sys.stderr, flush=True)
            made = NotCounted(f"{type(error).__name__}: {line}" if line else type(error).__name__)
        try:
            theirs.send_bytes(pickle.dumps(made))
        except OSError:
            return


def _answer(what: str, given: tuple[Any, ...], kept: dict[str, Twin]) -> States | Step:
    if what == "build":
        kept.clear()
        kept["twin"] = Twin(*given)
        return kept["twin"].states
    if what == "step":
        batch, units, accumulates = given
        return kept["twin"].step(batch, units, accumulates=accumulates)
    return kept["twin"].evaluation(*given)
