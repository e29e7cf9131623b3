"""What was measured of a trial: parameters, time, memory, speed, the machine's use, and what it cost.

Units are in the names. A figure that could not be measured is null; the record's `missing` says why.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneoff.config.base import Frozen

MemoryKind = Literal["cuda_allocated", "resident", "cuda_reserved"]


class RoleCounts(Frozen):
    """Parameters by role. A quantised weight counts as one parameter."""

    head: int = Field(0, description="of the task's head")
    adapter: int = Field(0, description="added by the method")
    base: int = Field(0, description="of the pretrained model")

    @property
    def total(self) -> int:
        return self.head + self.adapter + self.base


class Parameters(Frozen):
    """What the model holds and what of it is trained."""

    total: RoleCounts = Field(RoleCounts(), description="all parameters of the model as it is trained")
    trainable: RoleCounts = Field(RoleCounts(), description="those that receive gradients")


class Timing(Frozen):
    """Seconds by phase, from a monotonic clock; `train_seconds` = train_step + data_wait + prefix + start, nothing
    else."""

    train_seconds: float | None = Field(
        None,
        description="`train_step_seconds` + `data_wait_seconds` + `prefix_seconds` + `start_seconds`, nothing else",
    )
    load_seconds: float | None = Field(None, description="reading data and weights, attaching the method")
    tokenize_seconds: float | None = Field(
        None,
        description="text to token ids; those that another trial of the run made count with the seconds that it took "
        "there",
    )
    preflight_seconds: float | None = Field(None, description="checks before training")
    train_step_seconds: float | None = Field(None, description="forward, backward, optimizer")
    data_wait_seconds: float | None = Field(None, description="drawing and collating batches")
    prefix_seconds: float | None = Field(
        None,
        description="of computing what the frozen first blocks give for the training rows ([frozen "
        "blocks](protocol.md#frozen-blocks)); what another trial of the run computed counts with the "
        "seconds that it took there",
    )
    start_seconds: float | None = Field(
        None, description="of computing a start from training rows ([starts](methods.md#starts-from-training-rows))"
    )
    validation_seconds: float | None = Field(None, description="scoring validation while training")
    test_seconds: float | None = Field(None, description="scoring test, once")
    inference_seconds: float | None = Field(
        None, description="timing the trained model after the test, at the study's first seeds"
    )
    retention_seconds: float | None = Field(
        None,
        description="scoring what the study holds (`retention`); the base model's scores that another trial of the run "
        "made count with the seconds that they took there",
    )
    rewind_seconds: float | None = Field(
        None, description="scoring the models between the base model and the trained one (`retention.rewind`)"
    )
    checkpoint_seconds: float | None = Field(
        None, description="saving and restoring the selected weights, and checkpoints to continue from"
    )
    first_steps_seconds: float | None = Field(None, description="of the first steps, part of train_seconds")
    first_steps: int = Field(0, description="how many steps `first_steps_seconds` covers")
    step_seconds_median: float | None = Field(
        None,
        description="one optimizer step with its data wait: median over the steps after the first ones; null "
        "where there are no more",
    )
    total_seconds: float | None = Field(
        None,
        description="the whole trial from its process's start, with what `tokenize_seconds`, `prefix_seconds` and "
        "`retention_seconds` count of other trials of the run",
    )


class PhaseMemory(Frozen):
    """Peaks of one phase, in bytes."""

    resident_bytes: int | None = Field(None, description="resident set of the trial's process")
    allocated_bytes: int | None = Field(None, description="CUDA allocator")
    reserved_bytes: int | None = Field(None, description="CUDA allocator")


class Memory(Frozen):
    """Peak memory by phase. `peak_memory_bytes` is the training phase's: on CUDA allocated, on CPU resident."""

    peak_memory_bytes: int | None = Field(None, description="peak of the training phase")
    base_bytes: int | None = Field(
        None,
        description="the same figure when the trial began, before data and model were loaded: on a CPU "
        "interpreter and libraries, on CUDA 0",
    )
    peak_over_base_bytes: int | None = Field(
        None, description="`peak_memory_bytes` less `base_bytes`: what the trial itself took"
    )
    kind: MemoryKind | None = Field(
        None,
        description="what `peak_memory_bytes` is: `cuda_allocated` or `resident`; of an imported record "
        "`cuda_reserved`, over the whole run",
    )
    phases: dict[str, PhaseMemory] = Field(default_factory=dict, description="phase -> its peaks")


class Utilisation(Frozen):
    """Samples of the machine while the trial ran; lists are aligned, one entry per sample."""

    interval_seconds: float = Field(description="time between samples")
    seconds: tuple[float, ...] = Field((), description="when each sample was taken, from the trial's start")
    process_cpu_percent: tuple[float, ...] = Field((), description="this trial, 100 = one core")
    other_cpu_percent: tuple[float, ...] = Field((), description="all other processes, 100 = one core")
    steal_percent: tuple[float, ...] = Field((), description="taken by the hypervisor, 100 = one core")
    resident_bytes: tuple[int, ...] = Field((), description="resident set of the trial")
    gpu_percent: tuple[float, ...] = Field((), description="of the GPU's time")
    gpu_memory_bytes: tuple[int, ...] = Field((), description="used on the GPU, by all")
    gpu_power_watts: tuple[float, ...] = Field((), description="drawn by the GPU")
    gpu_throttled: tuple[bool, ...] = Field((), description="whether the GPU slowed itself down")


class Noise(Frozen):
    """What else used the machine while the trial trained. `contended` timings are flagged in every table."""

    other_cpu_percent_mean: float | None = Field(
        None, description="other processes while training, without the person's other trials, 100 = one core"
    )
    steal_percent_mean: float | None = Field(None, description="taken by the hypervisor, 100 = one core")
    gpu_throttled_share: float | None = Field(
        None, description="share of the samples in which the GPU slowed itself down"
    )
    contended: bool = Field(False, description="true where the timing cannot be trusted")
    reason: str = Field("", description="why, with the numbers")


class GradientNorm(Frozen):
    """Norm of the whole gradient before clipping, per optimizer step."""

    per_step: tuple[float, ...] = Field((), description="one number per optimizer step")
    mean: float | None = Field(None, description="over the steps")
    max: float | None = Field(None, description="over the steps")


class CurvePoint(Frozen):
    """One validation while training."""

    step: int = Field(description="optimizer step")
    epoch: float = Field(description="passes over the training rows so far")
    train_seconds: float | None = Field(None, description="training seconds so far; null where `timing` is")
    learning_rate: float = Field(description="in force at this step")
    train_loss: float = Field(description="mean over the examples since the last point")
    validation: dict[str, float] = Field(default_factory=dict, description="metric -> value")


class RankFigures(Frozen):
    """One process of a trial on several devices."""

    rank: int = Field(description="which process, from 0")
    device: str = Field(description="where it computed, e.g. `cpu`, `cuda:1`")
    threads: int = Field(description="threads that one operation uses")
    peak_memory_bytes: int | None = Field(None, description="its own, as `memory.peak_memory_bytes`")
    train_seconds: float | None = Field(None, description="training, by its own clock")
    data_wait_seconds: float | None = Field(None, description="its own wait for data")
    cpu_percent_mean: float | None = Field(None, description="its processor time while it trained, 100 = one core")
    gpu_percent_mean: float | None = Field(None, description="utilisation of its GPU over the whole trial")


class Throughput(Frozen):
    """Training speed over `train_seconds`; tokens are real ones, padding not counted."""

    examples_per_second: float | None = Field(None, description="training examples")
    tokens_per_second: float | None = Field(None, description="real tokens")
    padding_share: float | None = Field(None, description="share of the computed tokens that was padding")


class Inference(Frozen):
    """Speed of the trained model on test examples."""

    latency_seconds_median: float | None = Field(None, description="one example at a time")
    latency_seconds_p95: float | None = Field(None, description="95th percentile")
    latency_examples: int = Field(
        0, description="how many were timed: fewer than asked for where the time did not suffice"
    )
    batch_size: int | None = Field(None, description="of the batched measurement")
    batched_examples_per_second: float | None = Field(None, description="in batches")
    batched_tokens_per_second: float | None = Field(None, description="real tokens put in, in batches")
    generated_tokens_per_second: float | None = Field(
        None, description="tokens written, in batches, over the whole test split"
    )
    generated_tokens_mean: float | None = Field(None, description="tokens written per test example")


class Money(Frozen):
    """What a trial costs, in the currency of the prices."""

    trial: float | None = Field(
        None, description="the whole trial: its time at the price of its devices, or of an endpoint its tokens"
    )
    predictions: float | None = Field(
        None,
        description="1,000 predictions in batches, on one device; of texts by the tokens written; of an endpoint as in "
        "its test",
    )
