"""What one rank of a trial on several devices will hold: counted, never probed.

A rank computes its share of every micro-batch. It holds the whole model and copies of the gradients on their way to the
others; or its part of a sharded model, and what is gathered of it for a while. No time is told: how long ranks wait for
one another is not known without running them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from tuneoff.spec import Protocol
from tuneoff.tasks.base import Features, Task
from tuneoff.trial import model as trial_model
from tuneoff.trial.common import Common
from tuneoff.trial.counting import Setup, States, Step
from tuneoff.trial.course import Lengths, Micro
from tuneoff.trial.evaluations import Material
from tuneoff.trial.forecaster import Row
from tuneoff.trial.forecasting_counted import Counting
from tuneoff.trial.ranks import Ranks
from tuneoff.trial.reduction import copied_bytes
from tuneoff.trial.sharding import gathered_bytes

RANK_BYTES = 48 * 2**20
"""What a rank's process holds more than that of a trial on one device, for it is no fork of a warm parent and takes
part in a process group: 25 to 79 MiB were seen."""
NO_TIME = "no times are told of a trial on several devices"
NOT_PROBED = "a trial on several devices is counted, not probed"


class Sharing(Counting):
    """The forecast of a row on several devices: that of its largest rank."""

    extra_bytes = RANK_BYTES

    def __init__(self, *given: Any, common: Common) -> None:
        super().__init__(*given, common=common)
        self.copies = self.stored = 0

    def figures(self, *_: Any) -> dict[str, Any]:
        """What is kept alone."""
        return {"stored_bytes": self.stored}

    def begin(self, material: Material, setup: Setup) -> Row:
        row = super().begin(material, setup)
        row.missing |= {"probed": NOT_PROBED, "train_seconds": NO_TIME, "seconds": NO_TIME}
        if self.search is not None:
            row.missing["search_seconds"] = NO_TIME
        if row.states is not None:
            self.stored = row.states.gradients
            row.states = self._of_a_rank(row.states, material.task)
        return row

    def _of_a_rank(self, states: States, task: Task) -> States:
        """What one rank holds of the states of them all."""
        model: Any = trial_model.build_empty(self.spec.model, task)
        with torch.device("meta"):
            attached = self.method.attach(model, task.view(model))
        if not self.spec.shard:
            groups = self.method.parameter_groups(attached, 0.0) if self.method.trains else []
            self.copies = copied_bytes(parameter for group in groups for parameter in group["params"])
            return states
        weights, gradients, optimizer = (
            -(-held // self.spec.devices) for held in (states.weights, states.gradients, states.optimizer)
        )
        return States(weights + gathered_bytes(attached.model), gradients, optimizer)

    def course(self, lengths: Lengths, protocol: Protocol) -> list[list[Micro]]:
        """The shares of all ranks in the micro-batches of every step."""
        ranks = [Ranks(number, self.spec.devices) for number in range(self.spec.devices)]
        return [
            [lengths.micro(share) for micro in step for rank in ranks if (share := rank.share(micro.rows))]
            for step in super().course(lengths, protocol)
        ]

    def counter(self, task: Task, features: Sequence[Features], accumulates: bool) -> Callable[[Micro], Step]:
        """Copies of gradients come when activations go, so that the greater of both counts.

        Of a sharded model's gradients a part is there at a time; activations are counted without them, as in
        a micro-batch that adds to gradients.
        """
        count = super().counter(task, features, accumulates or self.spec.shard)

        def shared(micro: Micro) -> Step:
            step = count(micro)
            return replace(step, activations=max(step.activations, self.copies))

        return shared

    def available(self) -> int:
        """Of the machine's memory an equal part for every rank; a GPU's whole."""
        whole = super().available()
        return whole // self.spec.devices if self.device.type == "cpu" else whole
