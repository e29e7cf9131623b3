"""What probed and counted forecasts of a row share: its micro-batches, seconds by phase, memory, and settings that
would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from tuneoff.config.spec import Protocol, TrialSpec
from tuneoff.methods.base import Method
from tuneoff.records.forecast import ArmForecast, Counted, How, Probed, Remedy, Shape, predictions_size
from tuneoff.tasks.base import Example, Features, Task, computed_tokens
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.estimate import profiler
from tuneoff.trial.estimate.evaluations import Evaluations, Material
from tuneoff.trial.estimate.process import CountingFailed, CountingProcess
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch, candidates, course
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Setup, StepCost
from tuneoff.trial.estimate.time_model import Curve
from tuneoff.trial.modeling.precision import PolicyName, choose_attention
from tuneoff.trial.training.trainer import evaluation_steps

GPU_RESERVE_BYTES = 768 * 2**20
"""What a GPU needs besides a trial's tensors: the CUDA context and its libraries' workspaces (300 to 500 MB as others
report) and the memory that the allocator holds and cannot use (fragmentation). Not measured here."""
SHORTEST = 16
"""The smallest `max_length`, in tokens, that is suggested."""


@dataclass
class Row:
    """What is known of a row (an arm of the study) so far.

    Attributes:
        material: what a final trial works on.
        setup: how it computes.
        steps: the micro-batches of every step.
        count: counts a micro-batch; raises `CountingFailed` where it cannot be counted.
        states: what it holds between steps; None where it could not be counted.
        missing: figure -> why it is null.
    """

    material: Material
    setup: Setup
    steps: list[list[MicroBatch]]
    count: Callable[[MicroBatch], StepCost]
    states: ModelStateBytes | None = None
    missing: dict[str, str] = field(default_factory=dict)


class Forecaster:
    """Base class of probed and counted forecasts.

    Args:
        spec, search: final and search trials.
        method: the method.
        device: where a trial runs.
        limit: bytes of memory of the GPU that is asked about, if any.
        aside: the process that counts.
    """

    how: How

    def __init__(
        self,
        spec: TrialSpec,
        search: TrialSpec | None,
        method: Method[Any],
        device: torch.device,
        limit: int | None,
        aside: CountingProcess,
    ) -> None:
        self.spec, self.search, self.method, self.device = spec, search, method, device
        self.limit, self.aside = limit, aside
        # What this process holds now will be free for a trial's process.
        self.resident = profiler.resident_bytes()
        self.free = profiler.free_bytes(device) + (self.resident if device.type == "cpu" else 0)

    def forecast(self) -> ArmForecast:
        """Returns the row's forecast."""
        raise NotImplementedError

    # --- counting

    def begin(self, material: Material, setup: Setup) -> Row:
        """Lists the micro-batches to come and counts what the trial holds between its steps."""
        train = material.lengths("train")
        accumulates = self.spec.protocol.gradient_accumulation_steps > 1
        steps = self.course(train, self.spec.protocol, self.spec.seed) if self.method.trains else []
        row = Row(material, setup, steps, self.counter(material.task, material.features["train"], accumulates))
        try:
            row.states = self.aside.build(self.spec, material.task, setup)
        except CountingFailed as error:
            row.missing["counted"] = f"this row cannot be counted: {error}"
        return row

    def course(self, lengths: Lengths, protocol: Protocol, seed: int) -> list[list[MicroBatch]]:
        """Returns the micro-batches of every step of a trial."""
        return course(lengths, protocol, seed)

    def counter(self, task: Task, features: Sequence[Features], accumulates: bool) -> Callable[[MicroBatch], StepCost]:
        """Returns a function that counts micro-batches, each shape once."""
        steps_by_shape: dict[tuple[int, int, int], StepCost] = {}

        def count(micro: MicroBatch) -> StepCost:
            key = (*micro.size, micro.targets)
            if key not in steps_by_shape:
                batch_features = [features[row] for row in micro.rows]
                steps_by_shape[key] = self.aside.step(
                    task.collate(batch_features, 0), task.units(batch_features), accumulates=accumulates
                )
            return steps_by_shape[key]

        return count

    def count_forward(self, task: Task, weights: int) -> Callable[[Sequence[Features]], StepCost]:
        """Returns a function that counts the forward passes of an evaluation. Where a pass cannot be counted, the
        function uses the rule of thumb for so many weights."""

        def count(features: Sequence[Features]) -> StepCost:
            batch = task.collate(features, 0)
            try:
                return self.aside.evaluation(batch)
            except CountingFailed:
                return by_rule(weights, computed_tokens(batch))

        return count

    def largest(self, row: Row) -> tuple[MicroBatch, StepCost] | None:
        """Returns the micro-batch that takes the most memory, with its step; None where it cannot be counted."""
        if row.states is None or not row.steps:
            return None
        try:
            counted = [(micro, row.count(micro)) for micro in candidates(row.steps)]
        except CountingFailed as error:
            row.missing["counted"] = f"a step cannot be counted: {error}"
            row.states = None
            return None
        return max(counted, key=lambda pair: pair[1].activations)

    # --- seconds

    def train_seconds(self, steps: Sequence[Sequence[MicroBatch]], curve: Curve, update: float, first: float) -> float:
        """Returns the seconds of training: of every micro-batch, of every update, and once for each shape of preparing
        its kernels."""
        micro_batches = [micro for step in steps for micro in step]
        shapes = {micro.size for micro in micro_batches}
        return sum(curve(micro.cells) for micro in micro_batches) + update * len(steps) + first * len(shapes)

    def searched(self, row: Row) -> tuple[Protocol, list[list[MicroBatch]], float, int] | None:
        """Returns, for a trial of the search, its protocol, its micro-batches, its rows as a share of the verdict's,
        and how many of its rows are trained on."""
        if self.search is None or not self.method.trains:
            return None
        material, protocol = row.material, self.search.protocol
        train = trial_data.subset(material.task, material.examples["train"], protocol.train_rows, protocol.data_seed)
        features = [material.features["train"][example.index] for example in train]
        evaluation_rows = sum(len(material.features[split]) for split in ("validation", "test"))
        share = (len(features) + evaluation_rows) / (len(material.features["train"]) + evaluation_rows)
        apart = material.lengths("train").apart
        steps = self.course(Lengths(features, apart), protocol, self.search.seed)
        return protocol, steps, share, len(features)

    def by_phase(
        self,
        row: Row,
        startup_seconds: dict[str, float],
        evaluations: Evaluations,
        train: Callable[[list[list[MicroBatch]]], float] | None,
        checkpoint: float,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Returns the seconds by phase of a final trial, and those of a trial of the search.

        Args:
            row: the row.
            startup_seconds: seconds to load, tokenize and preflight.
            evaluations: of the verdict's splits.
            train: seconds of training on these micro-batches; None where they are not known.
            checkpoint: seconds to keep the weights once.
        """
        if self.method.trains and train is None:
            return {}, {}
        rows = len(row.material.features["train"])
        validations = len(evaluation_steps(rows, self.spec.protocol)) if self.method.trains else 1
        seconds = dict(startup_seconds)
        if train is not None:
            seconds |= {"train": train(row.steps), "checkpoint": validations * checkpoint}
        seconds |= {"validation": evaluations.validation(validations), "test": evaluations.test()}
        seconds["inference"] = evaluations.inference(sum(seconds.values()))
        search = self.searched(row)
        if search is None or train is None:
            return seconds, {}
        protocol, steps, share, size = search
        search_validations = len(evaluation_steps(size, protocol))
        search_seconds = {**startup_seconds, "tokenize": share * startup_seconds["tokenize"], "train": train(steps)}
        search_seconds |= {
            "validation": evaluations.validation(search_validations),
            "checkpoint": search_validations * checkpoint,
        }
        return seconds, search_seconds

    def setup(self, policy: PolicyName, device: torch.device) -> Setup:
        """Returns how a trial of the row would compute on that device."""
        protocol = self.spec.protocol
        attention = choose_attention(protocol.attention, device, protocol.max_length, policy)
        return Setup(policy, attention.training, device.type == "cuda", attention.evaluation)

    # --- memory

    def on_gpu(self, row: Row) -> dict[str, Any]:
        """Returns the figures of memory for the GPU that is asked about."""
        assert self.limit is not None
        precision = self.spec.protocol.precision
        policy: PolicyName = "bf16" if precision == "auto" else precision
        gpu_row = self.begin(row.material, self.setup(policy, torch.device("cuda")))
        step = self.peak_step(gpu_row)
        if gpu_row.states is None or step is None:
            return self.unknown(row, gpu_row.missing["counted"])
        row.missing["memory.reserve"] = (
            f"not measured: {GPU_RESERVE_BYTES / 2**20:.0f} MiB are kept back for the CUDA context and fragmentation"
        )
        parts = {"reserve": GPU_RESERVE_BYTES, **parts_of(gpu_row.states, step.activations)}
        return self.judge(gpu_row, sum(parts.values()), parts, step, self.limit)

    def unknown(self, row: Row, reason: str) -> dict[str, Any]:
        """Returns the figures of memory where the peak is not known."""
        row.missing |= dict.fromkeys(("peak_memory_bytes", "fits"), reason)
        return {"available_bytes": self.limit if self.limit is not None else self.available()}

    def peak_step(self, row: Row) -> StepCost | None:
        """Returns the step with the greatest peak: of training, or of an evaluation where nothing is trained."""
        if self.method.trains:
            largest = self.largest(row)
            return largest[1] if largest is not None else None
        material = row.material
        longest = max(material.features["test"], key=lambda f: len(f.input_ids) + len(f.target_ids))
        size = min(len(material.features["test"]), self.spec.protocol.evaluation_batch_size)
        try:
            return self.aside.evaluation(material.task.collate([longest] * size, 0))
        except CountingFailed as error:
            row.missing["counted"] = f"a forward pass cannot be counted: {error}"
            return None

    def judge(
        self, row: Row, peak: int, parts: dict[str, int], step: StepCost | None, available: int
    ) -> dict[str, Any]:
        """Returns the peak, its parts, whether it fits, and what would make it fit."""
        fits = peak <= available
        remedies: list[Remedy] = []
        if not fits and step is not None and self.method.trains:
            try:
                remedies = self._remedies(row, peak - step.activations, available)
            except CountingFailed as error:
                row.missing["remedies"] = f"changes cannot be counted: {error}"
        return {
            "peak_memory_bytes": peak,
            "memory": parts,
            "available_bytes": available,
            "fits": fits,
            "remedies": tuple(remedies),
        }

    def _remedies(self, row: Row, base: int, available: int) -> list[Remedy]:
        """Returns the smallest change of each kind that fits; those that keep the result come first."""
        remedies = []
        features = row.material.features["train"]
        protocol = self.spec.protocol
        accumulation_steps = protocol.gradient_accumulation_steps
        while accumulation_steps < protocol.batch_size:
            accumulation_steps = min(2 * accumulation_steps, protocol.batch_size)
            changed_protocol = protocol.model_copy(update={"gradient_accumulation_steps": accumulation_steps})
            peak = base + self._activations(row, features, changed_protocol)
            if peak <= available:
                change = f"protocol.gradient_accumulation_steps={accumulation_steps}"
                remedies.append(Remedy(change=change, peak_memory_bytes=peak, same_result=True))
                break
        if not protocol.gradient_checkpointing:
            # In some models the blocks cannot be found.
            with suppress(CountingFailed):
                peak = base + self._recomputed(row, features)
                if peak <= available:
                    change = "protocol.gradient_checkpointing=true"
                    remedies.append(Remedy(change=change, peak_memory_bytes=peak, same_result=True))
        max_length = protocol.max_length // 2
        while max_length >= SHORTEST:
            truncated = [replace(f, input_ids=f.input_ids[:max_length], prompt_ids=()) for f in features]
            peak = base + self._activations(row, truncated, protocol)
            if peak <= available:
                change = f"protocol.max_length={max_length}"
                remedies.append(Remedy(change=change, peak_memory_bytes=peak, same_result=False))
                break
            max_length //= 2
        return remedies

    def _recomputed(self, row: Row, features: Sequence[Features]) -> int:
        """Returns the activations of the largest micro-batch with activation checkpointing."""
        protocol = self.spec.protocol.model_copy(update={"gradient_checkpointing": True})
        task = row.material.task
        try:
            self.aside.build(self.spec.model_copy(update={"protocol": protocol}), task, row.setup)
            return self._activations(row, features, protocol)
        finally:
            self.aside.build(self.spec, task, row.setup)

    def _activations(self, row: Row, features: Sequence[Features], protocol: Protocol) -> int:
        """Returns the activations of the largest micro-batch under another protocol."""
        task, accumulates = row.material.task, protocol.gradient_accumulation_steps > 1
        steps = self.course(Lengths(features, row.material.lengths("train").apart), protocol, self.spec.seed)
        count = self.counter(task, features, accumulates)
        return max(count(micro).activations for micro in candidates(steps))

    def available(self) -> int:
        """Returns the memory that this machine has for a trial."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory) - GPU_RESERVE_BYTES
        return self.free

    # --- the answer

    def answer(
        self, row: Row, largest: tuple[MicroBatch, StepCost] | None, rungs: Sequence[profiler.Rung], **figures: Any
    ) -> ArmForecast:
        """Builds the forecast from the figures."""
        shape = partial(_shape, row.material)
        counted = {rung.micro: rung.counted for rung in rungs if row.states is not None}
        if largest is not None:
            counted[largest[0]] = largest[1]
        missing = {key: reason for key, reason in row.missing.items() if figures.get(key) is None}
        if not self.method.trains:
            missing |= dict.fromkeys(("train_seconds", "largest"), "this method does not train")
        return ArmForecast(
            label=self.spec.label,
            trial=self.spec.id,
            how=self.how,
            device=str(self.device),
            largest=shape(largest[0]) if largest is not None else None,
            counted=tuple(
                Counted(shape=shape(micro), activations_bytes=step.activations, operations=step.operations)
                for micro, step in counted.items()
            ),
            probed=tuple(
                Probed(
                    shape=shape(rung.micro),
                    steps=rung.steps,
                    seconds=rung.seconds + rung.update_seconds,
                    peak_bytes=rung.peak_bytes,
                )
                for rung in rungs
            ),
            predictions_bytes=predictions_bytes(row.material.task, row.material.examples["test"]),
            missing=missing,
            **figures,
        )


def _shape(material: Material, micro: MicroBatch) -> Shape:
    features = material.chosen("train", micro.rows)
    ids = material.task.collate(features, 0)["input_ids"]
    return Shape(examples=len(micro.rows), tokens=int(ids.shape[1]), targets=micro.targets)


def parts_of(states: ModelStateBytes, activations: int) -> dict[str, int]:
    """Returns the parts of a peak that can be counted, in bytes."""
    return {
        "weights": states.weights,
        "gradients": states.gradients,
        "optimizer": states.optimizer,
        "activations": activations,
    }


def by_rule(weights: int, cells: int) -> StepCost:
    """Estimates a forward pass by the rule of thumb: two operations for each weight and token."""
    return StepCost(0, 2 * weights * cells, 0, 0)


def predictions_bytes(task: Task, test: Sequence[Example]) -> int:
    """Returns the bytes of the predictions that a trial keeps of its test split."""
    return predictions_size(
        [example.target for example in test],
        task.labels,
        [example.put_in for example in test[: task.sources_kept]],
        len(task.written_metrics),
    )
