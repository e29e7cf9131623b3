"""The processes that share one trial: what each does, and what they send to one another.

All of them (the *ranks*) hold the same model, read the same rows and go through the same steps. A rank computes its
share of every micro-batch and of every evaluation; gradients are summed and predictions gathered, so every decision is
taken on the same figures everywhere. Rank 0 alone writes. `ALONE` stands for a trial of one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from tuneoff.errors import ExecutorError, TrialError, first_line
from tuneoff.measure.machine import core_count
from tuneoff.records.record import Event
from tuneoff.trial.distributed.heartbeat import Beat
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.randomness import seed_all

if TYPE_CHECKING:
    import torch.distributed as dist

    from tuneoff.config.spec import TrialSpec

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a collective may take: the second guard against ranks that hang, after the hang detector."""


class LostRank(Exception):
    """Another rank is gone, so this one cannot go on."""


@dataclass(frozen=True)
class RankContext:
    """One rank's view of them all.

    Attributes:
        rank: its own, from 0.
        world_size: how many there are.
        sharded: whether weights are sharded over them (FSDP).
        beat: its heartbeat.
        pids: of the processes of all ranks, in order.
    """

    rank: int = 0
    world_size: int = 1
    sharded: bool = False
    beat: Beat | None = None
    pids: tuple[int, ...] = ()

    @property
    def is_main(self) -> bool:
        """Returns whether this rank is the one that writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.world_size == 1

    @property
    def others(self) -> tuple[int, ...]:
        """Returns the process ids of the other ranks."""
        return tuple(pid for rank, pid in enumerate(self.pids) if rank != self.rank)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Returns this rank's part of a micro-batch: neighbours, equally many up to one. It may be empty."""
        if self.alone:
            return items
        first, last = (rank * len(items) // self.world_size for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def deal(self, batches: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """Yields this rank's batches of an evaluation in turn, and whether they count.

        Where weights are sharded, all ranks must compute equally often, so some repeat a batch that does not count.
        """
        if self.alone:
            for batch in batches:
                yield batch, True
            return
        all_batches = list(batches)
        own_batches = all_batches[self.rank :: self.world_size]
        for batch in own_batches:
            yield batch, True
        if self.sharded and len(own_batches) < -(-len(all_batches) // self.world_size):
            yield all_batches[0], False

    def gather(self, value: T) -> list[T]:
        """Gathers every rank's value, in the order of the ranks; every rank gets them all."""
        if self.alone:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        # How much is sent is not known here; it is far from what would take seconds.
        with self.inside("all_gather"):
            dist.all_gather_object(values, value)
        return values

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, in double precision and equal on all."""
        if self.alone:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64)
        self.add_up(totals)
        return [float(total) for total in totals]

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the ranks."""
        import torch.distributed as dist

        with self.inside("all_reduce", tensor.nbytes):
            dist.all_reduce(tensor)

    def begin_adding_up(self, tensor: torch.Tensor) -> dist.Work:
        """Starts to replace a tensor by its sum, which is there after waiting for the returned work."""
        import torch.distributed as dist

        self.meeting()
        work: dist.Work | None = dist.all_reduce(tensor, async_op=True)
        assert work is not None
        return work

    def wait(self) -> None:
        """Waits until all ranks have come here (a barrier)."""
        if not self.alone:
            self.add_up(torch.zeros(1))

    def meeting(self) -> None:
        """Notes that a collective begins."""
        if self.beat is not None:
            self.beat.meeting()

    @contextmanager
    def inside(self, collective: str, size: int = 0) -> Iterator[None]:
        """Notes, while open, that the rank waits in a collective that sends `size` bytes."""
        if self.beat is None:
            yield
            return
        self.beat.enter(collective, size)
        try:
            yield
        finally:
            self.beat.leave()

    def noting(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """Returns a function that notes the phases named by events and passes all events to `emit`."""
        beat = self.beat
        if beat is None:
            return emit

        def note(event: Event) -> None:
            if event["kind"] == "phase":
                beat.phase(event["phase"])
            emit(event)

        return note

    def stepped(self) -> None:
        """Notes that a training step is over."""
        if self.beat is not None:
            self.beat.step()

    def rest(self) -> None:
        """Notes that training pauses."""
        if self.beat is not None:
            self.beat.rest()

    def seed(self, seed: int) -> None:
        """Seeds what is random in training, differently on every rank, because the ranks see different examples."""
        seed_all(seed if self.alone else int(np.random.SeedSequence([seed, self.rank]).generate_state(1)[0]))

    def check_equal(self, parameters: Iterable[torch.Tensor], when: str) -> None:
        """Compares the ranks' trained weights by their sums.

        Raises:
            TrialError: if they differ, which would make the trial's result that of no single model.
        """
        if self.alone or self.sharded:
            return
        sums = [part for p in parameters for part in _sum_values_and_squares(p.detach())]
        if len({tuple(rank_sums) for rank_sums in self.gather(sums)}) > 1:
            raise TrialError(f"the ranks' trained weights differ {when}, though all ranks were given the same")


ALONE = RankContext()
"""A trial of one process."""


def _sum_values_and_squares(tensor: torch.Tensor) -> tuple[float, float]:
    double = tensor.double()
    return float(double.sum()), float(double.square().sum())


def device_of(wanted: str, number: int) -> torch.device:
    """Returns the device of one rank: the CPU for all, or one GPU each."""
    device = choose_device(wanted)
    if device.type == "cuda":
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    return device


def threads_each(size: int) -> int:
    """Returns the number of threads of one rank: its share of the cores, or fewer where the environment says so."""
    share = max(1, core_count() // size)
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(setting)) if setting.isdigit() and int(setting) else share


def check_devices(trials: Iterable[TrialSpec], wanted: str) -> None:
    """Checks that this machine has the devices that trials ask for.

    Raises:
        ExecutorError: if it has none of that kind, or fewer than a trial asks for.
    """
    device = choose_device(wanted)
    device_count = max((trial.devices for trial in trials), default=1)
    if device_count == 1:
        return
    cuda = device.type == "cuda"
    available = torch.cuda.device_count() if cuda else core_count()
    if device_count > available:
        unit = ("GPU" if cuda else "core") + ("" if available == 1 else "s")
        raise ExecutorError(
            f"{device_count} devices are asked for, and this machine has {available} {unit}",
            hint=f"Set devices to {available} or less (--devices {available}).",
        )
    if not torch.distributed.is_available():
        raise ExecutorError("this PyTorch was built without torch.distributed, which several devices need")


@contextmanager
def joined(
    rank: int,
    world_size: int,
    device: torch.device,
    *,
    sharded: bool = False,
    beat: Beat | None = None,
    store: Any = None,
) -> Iterator[RankContext]:
    """Makes this process a rank, in a group of gloo on the CPU and NCCL on CUDA.

    Args:
        number, size: which rank of how many.
        device: where it computes.
        sharded: whether weights are sharded over the ranks.
        beat: its heartbeat.
        store: a `torch.distributed.Store` by which ranks find one another; None: as torchrun's environment says.

    Raises:
        LostRank: when another rank goes away meanwhile.
    """
    import torch.distributed as dist

    ranks = RankContext(rank, world_size, sharded, beat)
    try:
        with ranks.inside("init_process_group"):
            dist.init_process_group(
                # Sums of single numbers and whatever is no tensor stay on the CPU: they would make the GPU wait.
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                rank=rank,
                world_size=world_size,
                store=store,
                timeout=TIMEOUT,
            )
        yield replace(ranks, pids=tuple(ranks.gather(os.getpid())))
    except RuntimeError as error:
        if is_loss(error):
            raise LostRank(f"rank {rank} lost another rank: {first_line(error)}") from error
        raise
    # Not after an error: it would wait for what was begun with a rank that is gone.
    dist.destroy_process_group()


def is_loss(error: BaseException) -> bool:
    """Returns whether an error says that another rank is gone or does not answer."""
    import torch.distributed as dist

    error_types = tuple(
        error_type
        for name in ("DistBackendError", "DistNetworkError", "DistStoreError")
        if (error_type := getattr(dist, name, None)) is not None
    )
    return isinstance(error, error_types) or "gloo" in str(error).lower()
