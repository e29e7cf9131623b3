"""Trials as tasks of a Ray cluster, or of Ray started on this machine for the run.

This process submits, follows and seals. A task runs one trial in a process of its own on its node, and gives back the
files that it left; only bytes and text travel. Where all nodes see the study's folder, tasks write there instead.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.executors._elsewhere import ElsewhereExecutor, FollowedTrial
from tuneoff.executors._interrupts import noted_interrupts
from tuneoff.executors._needs import expected_needs
from tuneoff.executors._placement import Need, longest_first
from tuneoff.executors._ray_run import Demand, RayOptions, Tasks, describe_offer, last_line
from tuneoff.executors._ray_task import version_here
from tuneoff.executors._second_try import second_try
from tuneoff.executors.base import Inspection, Listener, Progress
from tuneoff.records.record import Status
from tuneoff.store import StudyStore

ANSWER_SECONDS = 60.0
"""How long a node may take to say what is installed there; it may have to make its environment first."""
CONNECT_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""


class RayExecutor(ElsewhereExecutor):
    """Submits a task for each trial, with the cores, GPUs and memory that it needs. A trial whose node is lost begins
    anew on another, or with `shared` continues there from its last checkpoint.

    Ctrl-C, SIGTERM and a lost connection cancel the tasks; where this process is killed, they end with it. The same
    command goes on.

    Model and data are inspected on this machine, on the CPU; forecasts are estimates, because nothing is tried here.
    """

    title = "Ray"
    summary = "Trials are tasks of a Ray cluster, one each."
    Options = RayOptions

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Self:
        if importlib.util.find_spec("ray") is None:
            raise ExecutorError("Ray is not installed here", hint="Install it with: pip install 'tuneoff[ray]'")
        return cls(device, RayOptions.model_validate(dict(options)))

    def __init__(self, device: str = "auto", options: RayOptions | None = None) -> None:
        """Args:
        device: auto, cpu or cuda, of the tasks.
        options: the defaults where unset.
        """
        super().__init__(device)
        self.options = options or RayOptions()
        self._ray: Any = None
        self._is_own = False

    def close(self) -> None:
        super().close()
        if self._ray is not None and self._is_own:
            self._ray.shutdown()
        self._ray = None

    def inspect(self, study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        if require_data:
            self._check(trials)
        return super().inspect(study, trials, require_data)

    def run(self, store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        followed = self.open_trials(store, trials, listener)
        if not followed:
            return
        self._check([one.trial for one in followed])
        tasks = Tasks(self._ray, self.options, self.job_device, store)
        needs = expected_needs(store, [one.trial for one in followed])
        try:
            by_id = {one.trial.id: one for one in followed}
            for trial in longest_first([one.trial for one in followed], needs):
                by_id[trial.id].prepare()
                tasks.submit(by_id[trial.id], needs.get(trial.id, Need()))
            while tasks.running:
                ended = tasks.wait()
                store.refuse_lost()
                tasks.follow(listener)
                for one, reference in ended:
                    record = tasks.seal(one, reference, listener)
                    if (smaller := second_try(record)) is not None:
                        again = FollowedTrial(one.store, smaller)
                        again.prepare()
                        tasks.submit(again, needs.get(smaller.id, Need()))
                        continue
                    listener(Progress("ended", one.trial, record=record))
        except KeyboardInterrupt:
            with noted_interrupts() as is_interrupted:
                ended = tasks.wait(0.0)
                begun = tasks.cancel(is_interrupted)
                store.refuse_lost()
                for one, reference in ended:
                    tasks.seal(one, reference, lambda _: None)
                for one in begun:
                    if one.store.record() is None:
                        one.seal(Status.CANCELLED, "the run was interrupted")
            raise
        except BaseException:
            tasks.cancel(lambda: False)
            raise

    def _check(self, trials: Sequence[TrialSpec]) -> None:
        """Connects, and refuses trials that no node can run.

        Raises:
            ExecutorError: with the reason.
        """
        ray = self._connect()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        capable: dict[str, Any] = {}
        for devices in {trial.devices for trial in trials}:
            demand = Demand.of(nodes, self.options, self.job_device, devices)
            fitting = [node for node in nodes if demand.fits(node["Resources"])]
            if not fitting and not self.options.autoscaling:
                offers = "; ".join(describe_offer(node["Resources"]) for node in nodes)
                raise ExecutorError(
                    f"no node of the Ray cluster has what a trial needs: {demand}",
                    hint=f"Nodes have: {offers}. Where nodes start as they are needed: executor.autoscaling=true.",
                )
            capable |= {node["NodeID"]: node for node in fitting}
        self._refuse_other_versions(list(capable.values()))

    def _refuse_other_versions(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Refuses nodes where tuneoff is missing or another one."""
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = self._ray.remote(max_calls=1)(version_here)
        answers = {}
        for node in nodes:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            reference = ask.options(num_cpus=0, scheduling_strategy=strategy).remote()
            answers[reference] = node["NodeManagerHostname"]
        for reference, host in answers.items():
            try:
                there = self._ray.get(reference, timeout=ANSWER_SECONDS)
            except RayError as error:
                raise ExecutorError(
                    f"node {host} of the Ray cluster cannot run tuneoff: {last_line(error)}",
                    hint="Install tuneoff there, or have Ray do so: "
                    "--set 'executor.runtime_env={pip: [tuneoff]}' (docs/cluster.md).",
                ) from None
            if there != version_here():
                raise ExecutorError(
                    f"node {host} of the Ray cluster has tuneoff {there}, this machine {version_here()}",
                    hint="Install the same version on both.",
                )

    def _connect(self) -> Any:
        """Connects to the cluster, or starts Ray here; returns the module.

        Raises:
            ExecutorError: if no cluster answers, or it is of another version.
        """
        if self._ray is not None:
            return self._ray
        address = self.options.address or os.environ.get("RAY_ADDRESS") or "local"
        # Unless somebody asks for it, nothing is told to Ray's makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if address == "local":
            # Ray listens on all interfaces: nobody else may give it tasks.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        import ray

        self._is_own = not ray.is_initialized()
        if self._is_own:
            arguments = {"include_dashboard": self.options.dashboard} if address == "local" else {}
            try:
                _refuse_silent(address)
                with _kept_handlers():
                    ray.init(
                        address=address,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        runtime_env=self.options.runtime_env or None,
                        **arguments,
                    )
            except (OSError, RuntimeError, ValueError) as error:
                raise ExecutorError(
                    f"the Ray cluster at {address} cannot be used: {last_line(error)}",
                    hint="`ray status --address HOST:PORT` shows whether it runs. Name another with executor.address "
                    "or RAY_ADDRESS.",
                ) from None
        self._ray = ray
        return ray


plugin = RayExecutor


def _refuse_silent(address: str) -> None:
    """Refuses an address where nothing listens; Ray itself would wait for it for minutes.

    Raises:
        OSError: if nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


@contextmanager
def _kept_handlers() -> Iterator[None]:
    """Keeps this process's handlers of signals, of which Ray replaces one."""
    is_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if is_main_thread:
            for number, handler in handlers.items():
                signal.signal(number, handler)
