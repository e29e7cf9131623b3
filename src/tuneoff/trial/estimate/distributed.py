"""What one rank of a trial on several devices will hold, and how long it will take: counted, never probed.

A rank computes its share of every micro-batch. It holds the whole model, and copies of the gradients while they are
sent to the others; or its part of a sharded model, and what is gathered of it for a while. A step takes as long as its
slowest rank, and then as long as the sums of gradients. How much of these sums the backward pass hides is not
estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from tuneoff.config.spec import Protocol
from tuneoff.measure.machine import core_count
from tuneoff.tasks.base import Features, Task
from tuneoff.trial.distributed.context import RankContext
from tuneoff.trial.distributed.fsdp import gathered_bytes
from tuneoff.trial.distributed.gradient_sync import copied_bytes
from tuneoff.trial.estimate.base import Row
from tuneoff.trial.estimate.common import Common
from tuneoff.trial.estimate.counted import Counting
from tuneoff.trial.estimate.evaluations import Material
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Setup, StepCost
from tuneoff.trial.estimate.time_model import Curve, Speed
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.precision import Policy

RANK_BYTES = 48 * 2**20
"""What a rank's process holds more than the process of a trial on one device, because it is no fork of a warm parent
and is part of a process group: 25 to 79 MiB were measured."""
START_SECONDS = 10.0
"""What starting the ranks takes: new interpreters, where a trial on one device forks a warm parent. About this much was
measured with two ranks."""
SUM_BYTES_PER_SECOND = {"cpu": 5e8, "cuda": 1e10}
"""Bytes of gradients that two ranks sum in a second: 2e8 to 6e8 were measured for gloo on two busy cores, in buckets of
8 MiB and more; for NCCL the value is assumed, for GPUs without a link of their own, and not measured."""
NO_TIME = "no times are told of sharded weights: how long they take to be gathered is not known without running them"
NOT_PROBED = "a trial on several devices is counted, not probed"


class Sharing(Counting):
    """The forecast of a row on several devices: the forecast of its largest rank."""

    extra_bytes = RANK_BYTES

    def __init__(self, *arguments: Any, common: Common) -> None:
        super().__init__(*arguments, common=common)
        self.copies = self.gradients = 0

    def figures(
        self, row: Row, largest: tuple[MicroBatch, StepCost] | None, policy: Policy, startup_seconds: dict[str, float]
    ) -> dict[str, Any]:
        """Returns only the stored bytes where weights are sharded."""
        if self.spec.shard:
            return {"stored_bytes": self.gradients}
        return super().figures(
            row, largest, policy, {**startup_seconds, "load": startup_seconds["load"] + START_SECONDS}
        )

    def speed(self, policy: Policy) -> Speed:
        """Returns, on a CPU, the speed of a share of the cores: all ranks work at the same time."""
        machine_speed = super().speed(policy)
        if self.device.type != "cpu":
            return machine_speed
        # This process may have been given fewer threads than there are cores, as each rank will be.
        share = min(1.0, core_count() / self.spec.devices / torch.get_num_threads())
        return replace(
            machine_speed, operations=share * machine_speed.operations, traffic=share * machine_speed.traffic
        )

    def train_seconds(self, steps: Sequence[Sequence[MicroBatch]], curve: Curve, update: float, first: float) -> float:
        """Returns the seconds of training: in every step those of the slowest rank, of the sums of gradients and of the
        update."""
        size = self.spec.devices
        rank_seconds = [super(Sharing, self).train_seconds([rank_step], curve, 0.0, 0.0) for rank_step in steps]
        slowest = [max(rank_seconds[start : start + size]) for start in range(0, len(rank_seconds), size)]
        # In a ring all-reduce, each part of the gradients is sent around twice.
        sent_bytes = 2 * (size - 1) / size * self.gradients
        return sum(slowest) + len(slowest) * (sent_bytes / SUM_BYTES_PER_SECOND[self.device.type] + update)

    def begin(self, material: Material, setup: Setup) -> Row:
        row = super().begin(material, setup)
        row.missing["probed"] = NOT_PROBED
        if self.spec.shard:
            searched = ["search_seconds"] if self.search is not None else []
            row.missing |= dict.fromkeys(("train_seconds", "seconds", *searched), NO_TIME)
        if row.states is not None:
            self.gradients = row.states.gradients
            row.states = self._divide_states(row.states, material.task)
        return row

    def _divide_states(self, states: ModelStateBytes, task: Task) -> ModelStateBytes:
        """Returns what one rank holds of the states of the whole trial."""
        model, view = trial_model.build_empty(self.spec.model, task)
        with torch.device("meta"):
            attached = self.method.attach(model, view)
        if not self.spec.shard:
            groups = self.method.parameter_groups(attached, 0.0) if self.method.trains else []
            self.copies = copied_bytes(parameter for group in groups for parameter in group["params"])
            return states
        weights, gradients, optimizer = (
            -(-total_bytes // self.spec.devices) for total_bytes in (states.weights, states.gradients, states.optimizer)
        )
        return ModelStateBytes(weights + gathered_bytes(attached.model), states.parameters, gradients, optimizer)

    def course(self, lengths: Lengths, protocol: Protocol, seed: int) -> list[list[MicroBatch]]:
        """Returns the micro-batches of every rank in every step: those of all ranks in the first step, in order, then
        those in the second."""
        ranks = [RankContext(number, self.spec.devices) for number in range(self.spec.devices)]
        return [
            [lengths.micro(share) for micro in step if (share := rank.share(micro.rows))]
            for step in super().course(lengths, protocol, seed)
            for rank in ranks
        ]

    def counter(self, task: Task, features: Sequence[Features], accumulates: bool) -> Callable[[MicroBatch], StepCost]:
        """Returns a function that counts micro-batches with the copies of gradients.

        Copies of gradients are made while activations are freed, so only the greater of the two counts. Of a sharded
        model's gradients only a part exists at a time: activations are counted without them, as in a micro-batch
        that adds to existing gradients.
        """
        count = super().counter(task, features, accumulates or self.spec.shard)

        def shared(micro: MicroBatch) -> StepCost:
            step = count(micro)
            return replace(step, activations=max(step.activations, self.copies))

        return shared

    def available(self) -> int:
        """Returns an equal part of the machine's memory for every rank; on a GPU, the whole memory of the GPU."""
        available_bytes = super().available()
        return available_bytes // self.spec.devices if self.device.type == "cpu" else available_bytes
