"""A trial's immutable result. Every key is described in docs/record.md; units are in the names.

A figure that could not be measured is null, and `missing` says why under the figure's dotted name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from tuneoff.config.spec import Frozen, TrialSpec

RECORD_VERSION = 3


class Status(StrEnum):
    """What became of a trial."""

    PLANNED = "planned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    OVER_BUDGET = "over_budget"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Tells whether the trial has a result that a re-run keeps (a re-run repeats all others)."""
        return self is Status.COMPLETED


Direction = Literal["higher", "lower"]
MemoryKind = Literal["cuda_allocated", "resident", "cuda_reserved"]


class Metric(Frozen):
    """One score. `direction` says which way is better."""

    name: str
    value: float
    unit: str = Field(description="'fraction', 'nats', …")
    direction: Direction
    split: Literal["train", "validation", "test"]


class RoleCounts(Frozen):
    """Parameters by role. A quantised weight counts as one parameter."""

    head: int = 0
    adapter: int = 0
    base: int = 0

    @property
    def total(self) -> int:
        return self.head + self.adapter + self.base


class Parameters(Frozen):
    """What the model holds and what of it is trained."""

    total: RoleCounts = RoleCounts()
    trainable: RoleCounts = RoleCounts()


class Timing(Frozen):
    """Seconds by phase, from a monotonic clock; `train_seconds` = train_step + data_wait + prefix, nothing else."""

    train_seconds: float | None = None
    load_seconds: float | None = None
    tokenize_seconds: float | None = None
    preflight_seconds: float | None = None
    train_step_seconds: float | None = None
    data_wait_seconds: float | None = None
    prefix_seconds: float | None = Field(
        None,
        description="of computing what the frozen first blocks give for the training rows; what another trial of the "
        "run computed counts with the seconds that it took there",
    )
    validation_seconds: float | None = None
    test_seconds: float | None = None
    inference_seconds: float | None = Field(None, description="the latency measurement after the test")
    checkpoint_seconds: float | None = None
    first_steps_seconds: float | None = Field(None, description="of the first steps, part of train_seconds")
    first_steps: int = 0
    step_seconds_median: float | None = Field(
        None, description="one optimizer step with its data wait, median over the steps after the first ones"
    )
    total_seconds: float | None = Field(None, description="the whole trial from its process's start")


class PhaseMemory(Frozen):
    """Peaks of one phase, in bytes."""

    resident_bytes: int | None = None
    allocated_bytes: int | None = Field(None, description="CUDA allocator")
    reserved_bytes: int | None = Field(None, description="CUDA allocator")


class Memory(Frozen):
    """Peak memory by phase. `peak_memory_bytes` is the training phase's: on CUDA allocated, on CPU resident."""

    peak_memory_bytes: int | None = None
    base_bytes: int | None = Field(
        None, description="the same when the trial began, before data and model: interpreter and libraries"
    )
    peak_over_base_bytes: int | None = Field(None, description="`peak_memory_bytes` less `base_bytes`")
    kind: MemoryKind | None = Field(None, description="`cuda_reserved`: of an imported record, over the whole run")
    phases: dict[str, PhaseMemory] = Field(default_factory=dict)


class Utilisation(Frozen):
    """Samples of the machine while the trial ran; lists are aligned, one entry per sample."""

    interval_seconds: float
    seconds: tuple[float, ...] = ()
    process_cpu_percent: tuple[float, ...] = Field((), description="this trial, 100 = one core")
    other_cpu_percent: tuple[float, ...] = Field((), description="all other processes, 100 = one core")
    steal_percent: tuple[float, ...] = Field((), description="taken by the hypervisor, 100 = one core")
    resident_bytes: tuple[int, ...] = ()
    gpu_percent: tuple[float, ...] = ()
    gpu_memory_bytes: tuple[int, ...] = ()
    gpu_power_watts: tuple[float, ...] = ()
    gpu_throttled: tuple[bool, ...] = ()


class Noise(Frozen):
    """What else used the machine while the trial trained. `contended` timings are flagged in every table."""

    other_cpu_percent_mean: float | None = None
    steal_percent_mean: float | None = None
    gpu_throttled_share: float | None = None
    contended: bool = False
    reason: str = ""


class GradientNorm(Frozen):
    """Norm of the whole gradient before clipping, per optimizer step."""

    per_step: tuple[float, ...] = ()
    mean: float | None = None
    max: float | None = None


class CurvePoint(Frozen):
    """One validation while training."""

    step: int
    epoch: float
    train_seconds: float
    learning_rate: float
    train_loss: float = Field(description="mean over the examples (generation: target tokens) since the last point")
    validation: dict[str, float] = Field(default_factory=dict)


class RankFigures(Frozen):
    """One process of a trial on several devices."""

    rank: int
    device: str
    threads: int = Field(description="threads that one operation uses")
    peak_memory_bytes: int | None = Field(None, description="as `memory.peak_memory_bytes`, which is the greatest")
    train_seconds: float | None = Field(None, description="by its own clock")
    data_wait_seconds: float | None = None
    cpu_percent_mean: float | None = Field(None, description="its own, while it trained; 100 = one core")
    gpu_percent_mean: float | None = Field(None, description="its GPU, over the whole trial")


class Throughput(Frozen):
    """Training speed over `train_seconds`; tokens are real ones, padding not counted."""

    examples_per_second: float | None = None
    tokens_per_second: float | None = None
    padding_share: float | None = Field(None, description="share of the computed tokens that was padding")


class Inference(Frozen):
    """Speed of the trained model on test examples."""

    latency_seconds_median: float | None = Field(None, description="one example at a time")
    latency_seconds_p95: float | None = None
    latency_examples: int = 0
    batch_size: int | None = None
    batched_examples_per_second: float | None = None
    batched_tokens_per_second: float | None = Field(None, description="tokens put in")
    generated_tokens_per_second: float | None = Field(None, description="in batches, over the whole test split")
    generated_tokens_mean: float | None = Field(None, description="per test example")


class SplitInfo(Frozen):
    """What one split held. `fingerprint` is a SHA-256 over texts, labels and the template's other columns, in order."""

    rows: int
    fingerprint: str
    classes: dict[str, int] = Field(default_factory=dict)
    truncated: int = Field(0, description="examples longer than max_length")
    longest_tokens: int = 0


class DataInfo(Frozen):
    """The rows a trial saw."""

    splits: dict[str, SplitInfo] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column, as given or guessed")
    overlap: dict[str, int] = Field(
        default_factory=dict, description="'train/test' -> rows of the first split standing in the second too"
    )
    overlap_exact: dict[str, int] = Field(default_factory=dict, description="of these, the same to the letter")
    overlap_removed: int = 0
    validation_removed: int = Field(0, description="validation rows dropped because they stand in test")
    skipped: dict[str, int] = Field(
        default_factory=dict, description="role -> rows left out for an empty cell; roles without any are no part"
    )
    commits: dict[str, str] = Field(
        default_factory=dict, description="role -> commit of the hub's data set that its rows were read at"
    )
    train_order_fingerprint: str | None = Field(None, description="SHA-256 of the order of examples trained")
    examples_trained: int = 0


class ModelInfo(Frozen):
    """The base model, as it was loaded."""

    source: str
    architecture: str = ""
    checksum: str | None = Field(None, description="SHA-256 of the weights as loaded: of their file or of all tensors")
    commit: str | None = Field(None, description="of the hub's model, that everything was loaded at; null elsewhere")
    files: dict[str, str] = Field(
        default_factory=dict, description="file of configuration or tokenizer -> its SHA-256 as loaded"
    )
    random_weights: bool = False
    hidden_size: int | None = None
    layers: int | None = None
    max_positions: int | None = None
    dtype: str = ""
    attention: str = Field("", description="implementation of attention in training steps: eager or sdpa")
    evaluation_attention: str = Field("", description="the same in evaluations, written text and timed examples")
    dropout_generator: str = Field(
        "", description="what draws dropout masks in training: PyTorch, or NumPy's SFC64; empty: nothing is trained"
    )


class PrecisionInfo(Frozen):
    """The precision policy in force and its measured error."""

    policy: str
    description: str
    matmul_relative_error: float | None = Field(
        None, description="largest error of a matrix product under the policy, relative to float64"
    )


class Environment(Frozen):
    """Machine and software."""

    platform: str
    python: str
    processor: str
    cores: int
    memory_bytes: int
    device: str
    device_name: str
    device_memory_bytes: int | None = Field(None, description="of the GPU; null on the CPU")
    threads: int
    versions: dict[str, str]
    commit: str | None = None
    started_at: str = Field(description="UTC, ISO 8601")
    release_memory: bool = Field(False, description="whether `execution.release_memory` was set and had an effect")

    @property
    def hardware(self) -> tuple[str, int, str]:
        """Returns what must be equal for timings to be comparable."""
        return (self.processor, self.cores, self.device_name)


class Finding(Frozen):
    """Something a reader must know before trusting the figures, e.g. `collapsed` or `contended`."""

    name: str
    message: str


class PredictionsInfo(Frozen):
    """Where a split's per-example predictions are (inside the trial's folder) and their checksum."""

    file: str
    sha256: str
    rows: int


class TrialRecord(Frozen):
    """Everything known of one trial."""

    record_version: int = RECORD_VERSION
    spec: TrialSpec
    status: Status
    cause: str = Field("", description="why the trial did not complete, for a person")
    log_tail: tuple[str, ...] = Field((), description="last lines of its log, where it did not complete")
    metrics: tuple[Metric, ...] = ()
    primary_metric: str | None = None
    selected_step: int | None = Field(None, description="optimizer step of the tested checkpoint")
    steps: int = 0
    parameters: Parameters | None = None
    timing: Timing = Timing()
    memory: Memory = Memory()
    gradient_norm: GradientNorm = GradientNorm()
    curve: tuple[CurvePoint, ...] = ()
    throughput: Throughput = Throughput()
    ranks: tuple[RankFigures, ...] = Field((), description="of a trial on several devices, each of its processes")
    inference: Inference = Inference()
    utilisation: Utilisation | None = None
    noise: Noise = Noise()
    stored_bytes: int | None = Field(None, description="files a user must keep beside the base model")
    energy_joules: float | None = None
    data: DataInfo | None = None
    model: ModelInfo | None = None
    precision: PrecisionInfo | None = None
    environment: Environment | None = None
    predictions: dict[str, PredictionsInfo] = Field(default_factory=dict)
    kept_files: dict[str, str] | None = Field(
        default_factory=dict, description="file of the trained weights, by its path in `weights/` -> its SHA-256"
    )
    findings: tuple[Finding, ...] = ()
    missing: dict[str, str] = Field(default_factory=dict, description="dotted name -> why it is null")

    @property
    def contents(self) -> dict[str, str]:
        """Returns what the trial loaded, as far as known: split -> fingerprint of its rows, `model` -> its hub
        commit."""
        rows = {name: split.fingerprint for name, split in self.data.splits.items()} if self.data else {}
        commit = self.model.commit if self.model else None
        return rows if commit is None else {**rows, "model": commit}

    def metric(self, name: str, split: str = "test") -> float | None:
        """Returns the value of a metric, or None where it was not measured."""
        for metric in self.metrics:
            if metric.name == name and metric.split == split:
                return metric.value
        return None


def upgraded(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a record as plain data in the form of this version; what its own version did not keep is null, with the
    reason.

    A record of an unknown version is returned unchanged.
    """
    if body.get("record_version") == 1:
        body = _with_seals(body)
    if body.get("record_version") == 2:
        body = {**body, "record_version": 3, "spec": upgraded_spec(body.get("spec"))}
    return body


def upgraded_spec(spec: Any) -> Any:
    """Returns a trial's specification as plain data in today's words: `final` was `verdict` once."""
    if isinstance(spec, dict) and spec.get("purpose") == "verdict":
        spec = {**spec, "purpose": "final"}
    return with_former_values(spec)


def with_former_values(stored: Any) -> Any:
    """Returns a stored study or trial with the values that keys stood for before they could be chosen."""
    former = {"execution": {"engine": "plain"}, "protocol": {"batching": "random"}}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(part, {}), dict) for part in former):
        return stored
    return {**stored, **{part: {**values, **stored.get(part, {})} for part, values in former.items()}}


def _with_seals(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of version 1 in the form of version 2."""
    reason = "written by an earlier version of tuneoff, which did not keep it"
    missing = {**body.get("missing", {}), **dict.fromkeys(("kept_files", "spec.fingerprints"), reason)}
    body = {**body, "record_version": 2, "kept_files": None, "missing": missing}
    model = body.get("model") or {}
    checksum = str(model.get("checksum"))
    if checksum.startswith("commit:"):
        # For a model of the hub, version 1 stored the commit instead of a checksum.
        body["model"] = {**model, "checksum": None, "commit": checksum.removeprefix("commit:")}
        missing["model.checksum"] = reason
    return body


class Prediction(Frozen):
    """One example's outcome. For classification, `scores` are log-probabilities in label order."""

    index: int = Field(description="position of the row in the study's split")
    target: str
    output: str
    scores: tuple[float, ...] = ()
    values: dict[str, float] = Field(
        default_factory=dict, description="metric -> this example's own value, for metrics that are means over examples"
    )
    loss: float | None = Field(None, description="nats summed over the target's tokens, end of text included")
    target_tokens: int | None = None
    generated_tokens: int | None = None
    source: str = Field(
        "",
        description="what was put in, as text, each column by its name where there are several; kept for a split's "
        "first examples only",
    )


Event = dict[str, Any]
"""One line of a trial's event log; keys are described in docs/events.md."""
