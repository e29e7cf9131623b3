"""The ranks of a trial: what each of them computes and holds, and how long they take together.

A rank computes its share of every micro-batch. It holds the whole model, and copies of the gradients while they are
sent to the others; or its part of a sharded model, and what is gathered of it for a while. A step takes as long as its
slowest rank, and then as long as the sums of gradients. How much of these sums the backward pass hides is not
estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tuneoff.interfaces import Attached, Method
from tuneoff.measure.machine import core_count
from tuneoff.trial.distributed import fsdp, gradient_sync
from tuneoff.trial.distributed.context import RankContext
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch
from tuneoff.trial.estimate.step_cost import ModelStateBytes
from tuneoff.trial.estimate.time_model import Speed

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
NOT_PROFILED = "a trial on several devices is estimated, not profiled"


@dataclass(frozen=True)
class Topology:
    """How a trial is spread over devices.

    Attributes:
        devices: number of ranks, each with a device of its own.
        shard: whether each rank holds a part of the model's states, not all of them.
        device_type: cpu or cuda.
    """

    devices: int
    shard: bool
    device_type: str

    @property
    def process_bytes(self) -> int:
        """Returns what a rank's process holds more than the process of a trial on one device."""
        return RANK_BYTES if self.devices > 1 else 0

    @property
    def start_seconds(self) -> float:
        """Returns what starting the ranks takes longer than starting a trial on one device."""
        return START_SECONDS if self.devices > 1 else 0.0

    def missing(self, searches: bool) -> dict[str, str]:
        """Returns the figures that are not known of such a trial, and why; `searches` tells whether it is searched."""
        reasons = {"profile": NOT_PROFILED} if self.devices > 1 else {}
        if self.shard:
            times = ["train_seconds", "seconds", *(["search_seconds"] if searches else [])]
            reasons |= dict.fromkeys(times, NO_TIME)
        return reasons

    # --- work

    def divide_schedule(self, steps: Sequence[Sequence[MicroBatch]], lengths: Lengths) -> list[list[MicroBatch]]:
        """Returns the micro-batches of every rank in every step: those of all ranks in the first step, in order, then
        those in the second."""
        if self.devices == 1:
            return [list(step) for step in steps]
        ranks = [RankContext(number, self.devices) for number in range(self.devices)]
        return [
            [lengths.micro_batch(share) for micro in step if (share := rank.share(micro.rows))]
            for step in steps
            for rank in ranks
        ]

    def slowest(
        self, rank_steps: Sequence[Sequence[MicroBatch]], seconds: Callable[[Sequence[MicroBatch]], float]
    ) -> list[Sequence[MicroBatch]]:
        """Returns, for every step, the micro-batches of the rank that takes longest.

        Args:
            rank_steps: as `divide_schedule` returns them.
            seconds: what a rank's micro-batches take.
        """
        starts = range(0, len(rank_steps), self.devices)
        return [max(rank_steps[start : start + self.devices], key=seconds) for start in starts]

    def longest_share(self, batches: list[MicroBatch]) -> list[MicroBatch]:
        """Returns those of an evaluation's batches that the main rank computes: it has the most and the longest."""
        return batches[:: self.devices]

    def sum_seconds(self, gradients: int) -> float:
        """Returns the seconds in which the ranks sum so many bytes of gradients."""
        # In a ring all-reduce, each part of the gradients is sent around twice.
        sent_bytes = 2 * (self.devices - 1) / self.devices * gradients
        return sent_bytes / SUM_BYTES_PER_SECOND[self.device_type]

    def rank_speed(self, machine_speed: Speed) -> Speed:
        """Returns how fast a rank computes: on a CPU with a share of the cores, for all ranks work at the same time."""
        if self.devices == 1 or self.device_type != "cpu":
            return machine_speed
        # This process may have been given fewer threads than there are cores, as each rank will be.
        share = min(1.0, core_count() / self.devices / torch.get_num_threads())
        return replace(
            machine_speed, operations=share * machine_speed.operations, traffic=share * machine_speed.traffic
        )

    # --- memory

    def rank_memory(self, available_bytes: int) -> int:
        """Returns what a rank has of the memory: on a CPU an equal part, on a GPU that of its own device."""
        return available_bytes // self.devices if self.device_type == "cpu" else available_bytes

    def rank_states(self, states: ModelStateBytes, attached: Attached) -> ModelStateBytes:
        """Returns what one rank holds of the states of the whole trial.

        Args:
            states: of the whole trial.
            attached: model and method; no weights are needed.
        """
        if not self.shard:
            return states
        weights, gradients, optimizer = (
            -(-total_bytes // self.devices) for total_bytes in (states.weights, states.gradients, states.optimizer)
        )
        gathered_bytes = fsdp.gathered_bytes(attached.model)
        return ModelStateBytes(weights + gathered_bytes, states.parameters, gradients, optimizer)

    def copied_bytes(self, method: Method[Any], attached: Attached) -> int:
        """Returns the bytes of gradients that are copied to be sent to other ranks; as in `rank_states`, no weights are
        needed."""
        if self.shard or not method.trains:
            return 0
        groups = method.parameter_groups(attached, 0.0)
        return gradient_sync.copied_bytes(parameter for group in groups for parameter in group["params"])
