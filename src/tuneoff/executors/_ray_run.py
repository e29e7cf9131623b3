"""The tasks of one run on Ray: what they ask nodes for, what they tell, and how they end."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import Field

from tuneoff.errors import CorruptRecord
from tuneoff.executors._elsewhere import FollowedTrial
from tuneoff.executors._placement import Need
from tuneoff.executors._ray_task import Inbox, News, run_trial
from tuneoff.executors.base import Listener
from tuneoff.interfaces import ExecutorOptions
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.store.transfer import receive

POLL_SECONDS = 0.5
CANCEL_SECONDS = 30.0
"""How long tasks may take to end their trials when they are cancelled; then their workers are killed."""
MEMORY_MARGIN = 1.2
"""What a task asks for, as a multiple of the memory that the forecast expects."""
MOST_NEWS = 1000
"""Messages of tasks that are taken at once."""


class RayOptions(ExecutorOptions):
    """Options of `ray`."""

    address: str | None = Field(
        None,
        description="of a running cluster: HOST:PORT, or `auto` for that of this machine; unset: RAY_ADDRESS, or else "
        "Ray is started on this machine for the run",
    )
    cpus: int | None = Field(
        None,
        ge=1,
        description="cores of a trial, and threads that it uses; unset: those of the smallest node, or its GPUs' share "
        "of those of their node",
    )
    resources: dict[str, float] = Field(
        default_factory=dict, description="further resources of a trial as nodes offer them, e.g. `{a100: 1}`"
    )
    shared: bool = Field(
        False,
        description="all nodes see the study's folder under the same path, and trials write there; else what they "
        "leave is sent here",
    )
    retries: int = Field(3, ge=0, description="how often a trial goes to another node when its own is lost")
    autoscaling: bool = Field(False, description="wait for nodes that are not there yet, instead of refusing")
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, description="Ray's runtime environment of the tasks, e.g. `{working_dir: .}`"
    )
    dashboard: bool = Field(False, description="start Ray's dashboard, where Ray is started for the run")


class Demand:
    """What a trial asks a node for.

    Attributes:
        cpus: cores, and threads.
        gpus: how many.
        resources: others that the options name.
    """

    def __init__(self, cpus: int, gpus: int, resources: Mapping[str, float]) -> None:
        self.cpus, self.gpus, self.resources = cpus, gpus, resources

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, Any]], options: RayOptions, device: str, devices: int) -> Demand:
        """Returns what a trial on so many devices asks for: equally many cores wherever it runs, so that all trials of
        a study are comparable."""
        offers = [node["Resources"] for node in nodes]
        with_gpus = [offer for offer in offers if offer.get("GPU", 0) >= 1]
        gpus = devices if device == "cuda" or (device == "auto" and with_gpus) else 0
        if gpus:
            shares = [offer.get("CPU", 0) / offer["GPU"] for offer in with_gpus]
            cpus = int(min(shares, default=1) * gpus)
        else:
            cpus = int(min((offer["CPU"] for offer in offers if offer.get("CPU", 0) >= 1), default=1))
        return cls(options.cpus or max(1, cpus), gpus, options.resources)

    def fits(self, offer: Mapping[str, float]) -> bool:
        """Tells whether a node has that much in all."""
        wanted = {"CPU": float(self.cpus), "GPU": float(self.gpus), **self.resources}
        return all(offer.get(name, 0.0) >= amount for name, amount in wanted.items())

    def __str__(self) -> str:
        return describe_offer({"CPU": self.cpus, "GPU": self.gpus, **self.resources})


class Tasks:
    """The tasks of one run.

    Args:
        ray: the module, connected.
        options: of the executor.
        device: auto, cpu or cuda.
        store: the study's folder.

    Attributes:
        running: task -> its trial, until that has a record.
    """

    def __init__(self, ray: Any, options: RayOptions, device: str, store: StudyStore) -> None:
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._options, self._device, self._store = ray, options, device, store
        self._nodes = [node for node in ray.nodes() if node["Alive"]]
        # Beside this process, so that it is not lost with a node that runs trials.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._news = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._inbox = Inbox(with_content=not options.shared)
        self.running: dict[Any, FollowedTrial] = {}

    def submit(self, one: FollowedTrial, need: Need) -> None:
        """Submits the task of a trial."""
        demand = Demand.of(self._nodes, self._options, self._device, one.trial.devices)
        memory = None
        if need.memory_bytes is not None and not demand.gpus:
            # A trial that no node has room for is tried on the largest.
            room = [node["Resources"].get("memory", 0) for node in self._nodes if demand.fits(node["Resources"])]
            memory = min(need.memory_bytes * MEMORY_MARGIN, max(room, default=math.inf))
        # A worker of its own for each trial, which nothing outlives.
        task = self._ray.remote(max_calls=1)(run_trial).options(
            name=f"tuneoff {one.trial.label} {one.trial.seed}",
            num_cpus=demand.cpus,
            num_gpus=demand.gpus,
            memory=memory,
            resources=dict(demand.resources),
            max_retries=self._options.retries,
            retry_exceptions=False,
        )
        reference = task.remote(
            one.trial.model_dump_json(),
            str(self._store.root.resolve()) if self._options.shared else None,
            self._device if demand.gpus else "cpu",
            demand.cpus,
            None if "working_dir" in self._options.runtime_env else os.getcwd(),
            self._news.actor,
        )
        self.running[reference] = one

    def wait(self, seconds: float = POLL_SECONDS) -> list[tuple[FollowedTrial, Any]]:
        """Waits a moment; returns the trials whose tasks have ended, for `seal`."""
        references = list(self.running)
        if not references:
            return []
        ended, _ = self._ray.wait(references, num_returns=len(references), timeout=seconds, fetch_local=False)
        return [(self.running[reference], reference) for reference in ended]

    def follow(self, listener: Listener) -> None:
        """Passes on what tasks have told since the last time. If it is lost, it comes with the trials' results."""
        from ray.exceptions import RayError

        by_id = {one.trial.id: one for one in self.running.values()}
        news: list[News] = []
        with suppress(RayError):
            news = self._news.get_nowait_batch(min(self._news.qsize(), MOST_NEWS))
        for item in news:
            if (one := by_id.get(item.trial)) is not None:
                self._inbox.take(one, item)
                one.begin(listener)
        for one in by_id.values():
            if one.has_begun:
                one.follow(listener)

    def seal(self, one: FollowedTrial, reference: Any, listener: Listener) -> TrialRecord:
        """Takes over what a task that has ended left, also where an interrupt broke that off before; returns its
        record."""
        record = self._take_over(one, reference, listener)
        self.running.pop(reference, None)
        return record

    def _take_over(self, one: FollowedTrial, reference: Any, listener: Listener) -> TrialRecord:
        from ray.exceptions import RayError

        try:
            answer = self._ray.get(reference)
            if answer is not None and not one.store.record_path.exists():
                self._inbox.note(one, answer.attempt)
                receive(one.store, answer.files)
            one.begin(listener)
            one.follow(listener)
            record = one.store.record()
            return record or one.seal(Status.FAILED, "its Ray task ended without a result")
        except RayError as error:
            one.begin(listener)
            return one.seal(*_ending(error, self._options.retries))
        except CorruptRecord as error:
            one.begin(listener)
            return one.seal(Status.FAILED, f"what came back of it is damaged: {error.message}")

    def cancel(self, is_interrupted: Any) -> list[FollowedTrial]:
        """Ends all tasks, those that wait too; at once where the user interrupts again. Returns the trials that had
        begun."""
        self.follow(lambda _: None)
        begun = [one for one in self.running.values() if one.has_begun]
        left = list(self.running)
        deadline = time.monotonic() + CANCEL_SECONDS
        for force in (False, True):
            # Those that wait come first, so that none starts where another ends.
            for reference in reversed(left):
                with suppress(Exception):
                    self._ray.cancel(reference, force=force)
            while left and time.monotonic() < deadline and not is_interrupted():
                _, left = self._ray.wait(left, num_returns=len(left), timeout=POLL_SECONDS, fetch_local=False)
            deadline = time.monotonic() + CANCEL_SECONDS
        self.running.clear()
        return begun


def _ending(error: Exception, retries: int) -> tuple[Status, str]:
    """Returns how a task ended that left no result: status and cause."""
    from ray import exceptions

    if isinstance(error, exceptions.TaskCancelledError):
        return Status.CANCELLED, "its Ray task was cancelled"
    if isinstance(error, exceptions.OutOfMemoryError):
        return Status.OUT_OF_MEMORY, "Ray ended its task: the node ran out of memory"
    if isinstance(error, exceptions.RayTaskError):
        return Status.FAILED, f"its Ray task failed: {last_line(error)}"
    return Status.FAILED, f"its Ray node was lost, {retries + 1} times in all: {last_line(error)}"


def last_line(error: BaseException) -> str:
    """Returns what an error says, without the traceback that Ray puts before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def describe_offer(resources: Mapping[str, float]) -> str:
    """Describes what a node has, without Ray's own entries."""
    own = {name: amount for name, amount in resources.items() if ":" not in name and "memory" not in name}
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(own.items()) if amount) or "nothing"
