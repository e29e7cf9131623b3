"""The processes that share one trial: what each does, and what they tell one another.

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

from tuneoff.errors import ExecutorError, TrialError
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
"""How long a collective may take: the second guard against ranks that hang, for what the first does not see."""


class LostRank(Exception):
    """Another rank is gone, so this one cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """One rank's view of them all.

    Attributes:
        number: its own, from 0.
        size: how many there are.
        sharded: whether trained weights are spread over them.
        beat: where it notes that it lives.
        pids: of the processes of all ranks, in order.
    """

    number: int = 0
    size: int = 1
    sharded: bool = False
    beat: Beat | None = None
    pids: tuple[int, ...] = ()

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.number == 0

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def others(self) -> tuple[int, ...]:
        """Process ids of the other ranks."""
        return tuple(pid for rank, pid in enumerate(self.pids) if rank != self.number)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of a micro-batch: neighbours, equally many up to one. May be empty."""
        if self.alone:
            return items
        first, last = (rank * len(items) // self.size for rank in (self.number, self.number + 1))
        return items[first:last]

    def deal(self, batches: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """This rank's batches of an evaluation in turn, and whether they count.

        Where weights are spread all ranks must compute equally often, so that some repeat a batch that does not count.
        """
        if self.alone:
            for batch in batches:
                yield batch, True
            return
        dealt = list(batches)
        mine = dealt[self.number :: self.size]
        for batch in mine:
            yield batch, True
        if self.sharded and len(mine) < -(-len(dealt) // self.size):
            yield dealt[0], False

    def gather(self, value: T) -> list[T]:
        """What every rank has here, in order, on every rank."""
        if self.alone:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
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
        """Starts to replace a tensor by its sum; it is there once the work was waited for."""
        import torch.distributed as dist

        self.meeting()
        work: dist.Work | None = dist.all_reduce(tensor, async_op=True)
        assert work is not None
        return work

    def wait(self) -> None:
        """Returns once all ranks have come here."""
        if not self.alone:
            self.add_up(torch.zeros(1))

    def meeting(self) -> None:
        """Notes that a collective is begun."""
        if self.beat is not None:
            self.beat.meeting()

    @contextmanager
    def inside(self, collective: str, size: int = 0) -> Iterator[None]:
        """Notes that what comes is a collective, which sends so many bytes and is waited for."""
        if self.beat is None:
            yield
            return
        self.beat.enter(collective, size)
        try:
            yield
        finally:
            self.beat.leave()

    def noting(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """What takes events, and notes the phases that they tell."""
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
        """Seeds what is random while training, differently on every rank: they see different examples."""
        seed_all(seed if self.alone else int(np.random.SeedSequence([seed, self.number]).generate_state(1)[0]))

    def check_equal(self, parameters: Iterable[torch.Tensor], when: str) -> None:
        """Compares the ranks' trained weights by their sums.

        Raises:
            TrialError: if they differ, which would make the trial's result that of no single model.
        """
        if self.alone or self.sharded:
            return
        sums = [part for p in parameters for part in _sums(p.detach())]
        if len({tuple(one) for one in self.gather(sums)}) > 1:
            raise TrialError(f"the ranks' trained weights differ {when}, though all ranks were given the same")


ALONE = Ranks()
"""A trial of one process."""


def _sums(tensor: torch.Tensor) -> tuple[float, float]:
    exact = tensor.double()
    return float(exact.sum()), float(exact.square().sum())


def device_of(wanted: str, number: int) -> torch.device:
    """The device of one rank: the processor for all, or a GPU each."""
    device = choose_device(wanted)
    if device.type == "cuda":
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    return device


def threads_each(size: int) -> int:
    """Threads of one rank: its share of the cores, or fewer where the environment says so."""
    share = max(1, core_count() // size)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdigit() and int(asked) else share


def check_devices(trials: Iterable[TrialSpec], wanted: str) -> None:
    """Whether the devices are there that trials ask for.

    Raises:
        ExecutorError: if the kind is not, or a trial asks for more than there are.
    """
    device = choose_device(wanted)
    most = max((trial.devices for trial in trials), default=1)
    if most == 1:
        return
    cuda = device.type == "cuda"
    there = torch.cuda.device_count() if cuda else core_count()
    if most > there:
        what = ("GPU" if cuda else "core") + ("" if there == 1 else "s")
        raise ExecutorError(
            f"{most} devices are asked for, and this machine has {there} {what}",
            hint=f"Set devices to {there} or less (--devices {there}).",
        )
    if not torch.distributed.is_available():
        raise ExecutorError("this PyTorch was built without torch.distributed, which several devices need")


@contextmanager
def joined(
    number: int,
    size: int,
    device: torch.device,
    *,
    sharded: bool = False,
    beat: Beat | None = None,
    store: Any = None,
) -> Iterator[Ranks]:
    """Makes this process a rank, in a group of gloo on the CPU and NCCL on CUDA.

    Args:
        number, size: which rank of how many.
        device: where it computes.
        sharded: whether trained weights are spread.
        beat: where it notes that it lives.
        store: a `torch.distributed.Store` by which ranks find one another; None: as torchrun's environment says.

    Raises:
        LostRank: when another rank goes away meanwhile.
    """
    import torch.distributed as dist

    us = Ranks(number, size, sharded, beat)
    try:
        with us.inside("init_process_group"):
            dist.init_process_group(
                # Sums of single numbers and whatever is no tensor stay on the CPU: they would make the GPU wait.
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                rank=number,
                world_size=size,
                store=store,
                timeout=TIMEOUT,
            )
        yield replace(us, pids=tuple(us.gather(os.getpid())))
    except RuntimeError as error:
        if is_loss(error):
            raise LostRank(f"rank {number} lost another rank: {str(error).splitlines()[0]}") from error
        raise
    # Not after an error: what was begun with a rank that is gone would be waited for.
    dist.destroy_process_group()


def is_loss(error: BaseException) -> bool:
    """Whether an error says that another rank is gone or does not answer."""
    import torch.distributed as dist

    kinds = tuple(
        k
        for n in ("DistBackendError", "DistNetworkError", "DistStoreError")
        if (k := getattr(dist, n, None)) is not None
    )
    return isinstance(error, kinds) or "gloo" in str(error).lower()
