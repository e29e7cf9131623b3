"""What can be known of a trial without running it: its micro-batches, what they cost, and what it holds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Attached, Features, Method, Task, computed_tokens
from tuneoff.trial.data.batching import pads_targets_apart
from tuneoff.trial.estimate.material import Material
from tuneoff.trial.estimate.process import EstimateFailed, FakeModelProcess
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch, batch_schedule, candidates, evaluation_batches
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Part, Setup, StepCost, rule_of_thumb
from tuneoff.trial.estimate.topology import Topology
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.hidden_states import limit_bytes
from tuneoff.trial.modeling.precision import PolicyName, choose_attention


@dataclass(frozen=True)
class ForecastRequest:
    """What is forecast, and where.

    Attributes:
        spec: a final trial.
        search: a trial of the search, where there is one.
        method: what both train.
        device: where they run.
        topology: how they are spread over devices.
        memory_limit_bytes: memory of a GPU that is asked about, if any.
        resident_bytes: what this process held when it was asked.
        free_bytes: what was free then, this process's own memory included.
        process: holds the fake model.
        keeps_frozen: whether what frozen first blocks give is computed once and kept, where there are any.
    """

    spec: TrialSpec
    search: TrialSpec | None
    method: Method[Any]
    device: torch.device
    topology: Topology
    memory_limit_bytes: int | None
    resident_bytes: int
    free_bytes: int
    process: FakeModelProcess
    keeps_frozen: bool

    def setup(self, policy: PolicyName, device: torch.device) -> Setup:
        """Returns how a trial would compute on that device."""
        protocol = self.spec.protocol
        attention = choose_attention(protocol.attention, device, protocol.max_length, policy)
        return Setup(policy, attention.training, device.type == "cuda", attention.evaluation, self.keeps_frozen)


class StepCounter:
    """Counts what micro-batches of some examples cost on the process's fake model, each shape once.

    Args:
        process: holds the trial's fake model.
        task: the task.
        features: the examples.
        accumulates: whether gradients of earlier micro-batches exist already.
        copied_bytes: of gradients that are sent to other ranks. They are copied while activations are freed, so only
            the greater of the two counts.
    """

    def __init__(
        self,
        process: FakeModelProcess,
        task: Task,
        features: Sequence[Features],
        *,
        accumulates: bool,
        copied_bytes: int,
    ) -> None:
        self._process, self._task, self._features = process, task, features
        self._accumulates, self._copied_bytes = accumulates, copied_bytes
        self._costs: dict[tuple[int, int, int], StepCost] = {}

    def __call__(self, micro: MicroBatch) -> StepCost:
        """Counts a micro-batch.

        Raises:
            EstimateFailed: if it cannot be counted.
        """
        key = (*micro.size, micro.targets)
        if key not in self._costs:
            features = [self._features[row] for row in micro.rows]
            cost = self._process.step(
                self._task.collate(features, 0), self._task.loss_terms(features), accumulates=self._accumulates
            )
            self._costs[key] = replace(cost, activations=max(cost.activations, self._copied_bytes))
        return self._costs[key]


class ForecastCounts:
    """Counts a trial's micro-batches and what one of its ranks holds.

    Args:
        request: what is forecast.
        material: what the trial works on.
        setup: how it computes.

    Attributes:
        steps: the micro-batches of every step, as the topology divides them.
        states: what a rank holds between steps; None where it could not be counted.
        trained_bytes: of what the whole trial trains.
        step: counts a micro-batch.
        keeps_frozen: whether there are frozen first blocks, and what they give is computed once and kept.
        largest: the micro-batch that takes the most memory, with its cost; None where it is not known.
        missing: figure -> why it is not known.
    """

    def __init__(self, request: ForecastRequest, material: Material, setup: Setup) -> None:
        self.request, self.material, self.setup = request, material, setup
        spec = request.spec
        self.missing: dict[str, str] = {}
        features = material.features["train"]
        self.steps = self.schedule(features, spec.protocol, spec.seed) if request.method.trains else []
        self.states: ModelStateBytes | None = None
        self.keeps_frozen = False
        self.trained_bytes = self._copied_bytes = self._frozen_peak = 0
        self.largest: tuple[MicroBatch, StepCost] | None = None
        try:
            states = request.process.build(spec, material.task, setup)
        except EstimateFailed as error:
            self.missing["estimate"] = f"this arm cannot be estimated: {error}"
        else:
            self.trained_bytes = states.gradients
            self.states = self._rank_states(states)
        self.missing |= request.topology.missing(searches=request.search is not None)
        self.step = self.counter(features, spec.protocol)
        if self.states is not None and self.steps:
            try:
                self.keeps_frozen = self._keep_frozen()
                self.largest = self._largest(self.steps, self.step)
                self._frozen_peak = self._frozen_activations(features, self.states)
            except EstimateFailed as error:
                self.missing["estimate"] = f"a step cannot be estimated: {error}"
                self.states = None

    def _keep_frozen(self) -> bool:
        """Tells whether there are frozen first blocks and room for what they give; without room nothing is kept."""
        if not self.setup.keeps_frozen:
            return False
        task, features = self.material.task, self.material.features["train"]
        token_bytes = self.request.process.kept_bytes(task.collate(features[:1], 0))
        tokens = sum(f.row_tokens for f in features)
        if tokens * token_bytes <= limit_bytes(Path(tempfile.gettempdir())):
            return token_bytes > 0
        self.setup = replace(self.setup, keeps_frozen=False)
        self.request.process.build(self.request.spec, task, self.setup)
        return False

    def _frozen_activations(self, features: Sequence[Features], states: ModelStateBytes) -> int:
        """Returns the activations of the frozen blocks' pass over these training examples, less the gradients and
        optimizer states, which do not exist yet then."""
        if not self.keeps_frozen:
            return 0
        task, size = self.material.task, self.request.spec.protocol.evaluation_batch_size
        lengths = Lengths(features, pads_targets_apart(task, features))
        batches = evaluation_batches(lengths, size, "cuda" if self.setup.gpu else "cpu")
        largest = max(batches, key=lambda batch: batch.padded_tokens)
        cost = self.request.process.evaluation(task.collate([features[row] for row in largest.rows], 0), "frozen")
        return max(0, cost.activations - states.gradients - states.optimizer)

    def _rank_states(self, states: ModelStateBytes) -> ModelStateBytes:
        request = self.request
        if request.topology.devices == 1:
            return states
        model, view = trial_model.build_empty(request.spec.model, self.material.task)
        with torch.device("meta"):
            attached: Attached = request.method.attach(model, view)
        self._copied_bytes = request.topology.copied_bytes(request.method, attached)
        return request.topology.rank_states(states, attached)

    def schedule(self, features: Sequence[Features], protocol: Protocol, seed: int) -> list[list[MicroBatch]]:
        """Returns the micro-batches of every step of a trial on these examples, as the topology divides them."""
        lengths = Lengths(features, pads_targets_apart(self.material.task, features))
        return self.request.topology.divide_schedule(batch_schedule(lengths, protocol, seed), lengths)

    def counter(self, features: Sequence[Features], protocol: Protocol) -> StepCounter:
        """Returns a counter of micro-batches of these examples.

        Of a sharded model's gradients only a part exists at a time: activations are counted without them, as in a
        micro-batch that adds to existing gradients.
        """
        accumulates = protocol.gradient_accumulation_steps > 1 or self.request.topology.shard
        return StepCounter(
            self.request.process,
            self.material.task,
            features,
            accumulates=accumulates,
            copied_bytes=self._copied_bytes,
        )

    def forward(self, features: Sequence[Features], part: Part, weights: int) -> StepCost:
        """Counts the forward pass of an evaluation, or a part of it; where it cannot be counted, uses the rule of thumb
        for so many weights."""
        batch = self.material.task.collate(features, 0)
        try:
            return self.request.process.evaluation(batch, part)
        except EstimateFailed:
            return rule_of_thumb(weights, computed_tokens(batch))

    def peak_step(self) -> StepCost | None:
        """Returns the step with the greatest peak: of training, or of an evaluation where nothing is trained. Its
        activations are those of the frozen blocks' pass where these are more. None where it cannot be counted."""
        if self.request.method.trains:
            if self.largest is None:
                return None
            cost = self.largest[1]
            return replace(cost, activations=max(cost.activations, self._frozen_peak))
        if self.states is None:
            return None
        material, process = self.material, self.request.process
        batches = material.test_candidates("cuda" if self.setup.gpu else "cpu")
        try:
            costs = [process.evaluation(material.task.collate(features, 0)) for features in batches]
            return max(costs, key=lambda cost: cost.activations)
        except EstimateFailed as error:
            self.missing["estimate"] = f"a forward pass cannot be estimated: {error}"
            return None

    # --- the same trial, changed

    def activations(self, features: Sequence[Features], protocol: Protocol) -> int:
        """Returns the activations of training with other examples or another protocol.

        Raises:
            EstimateFailed: if it cannot be counted.
        """
        steps = self.schedule(features, protocol, self.request.spec.seed)
        assert self.states is not None
        step = self._largest(steps, self.counter(features, protocol))[1]
        return max(step.activations, self._frozen_activations(features, self.states))

    def checkpointed_activations(self) -> int:
        """Returns the activations of the largest micro-batch with activation checkpointing.

        Raises:
            EstimateFailed: if it cannot be counted.
        """
        spec, process = self.request.spec, self.request.process
        protocol = spec.protocol.model_copy(update={"gradient_checkpointing": True})
        try:
            process.build(spec.model_copy(update={"protocol": protocol}), self.material.task, self.setup)
            return self.activations(self.material.features["train"], protocol)
        finally:
            process.build(spec, self.material.task, self.setup)

    @staticmethod
    def _largest(steps: Sequence[Sequence[MicroBatch]], count: StepCounter) -> tuple[MicroBatch, StepCost]:
        return max(((micro, count(micro)) for micro in candidates(steps)), key=lambda pair: pair[1].activations)
