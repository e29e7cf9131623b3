"""A trial's immutable result. Every key is described in docs/record.md; units are in the names.

A figure that could not be measured is null, and `missing` says why under the figure's dotted name.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.config.spec import TrialSpec
from tuneoff.records.served import Served
from tuneoff.records.start import Start

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
        """Tells whether the trial has the result that was asked for."""
        return self is Status.COMPLETED

    @property
    def is_answer(self) -> bool:
        """Tells whether it is an outcome of the configuration, which a re-run keeps: to train again would diverge
        again. A trial that ended in any other way is run again."""
        return self in {Status.COMPLETED, Status.DIVERGED}


Direction = Literal["higher", "lower"]
MemoryKind = Literal["cuda_allocated", "resident", "cuda_reserved"]


class Metric(Frozen):
    """One score. `direction` says which way is better."""

    name: str = Field(
        description="`accuracy`, `macro_f1`, `mcc`, `loss` of classification; `rouge_1`, `rouge_2`, `rouge_l`, "
        "`rouge_lsum`, `exact_match`, `token_f1`, `loss`, `perplexity` of generation"
    )
    value: float = Field(description="the score")
    unit: str = Field(description="'fraction', 'nats', …")
    direction: Direction = Field(description="which way is better: `higher` or `lower`")
    split: Literal["train", "validation", "test"] = Field(
        description="`train`, `validation` or `test`; validation scores are the selected checkpoint's"
    )
    examples: int | None = Field(
        None,
        ge=1,
        description="of an imported share of examples: how many there are, where the record has no predictions of them",
    )


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


class HeldScore(Frozen):
    """A text or a task that is held, before training and after it."""

    metric: str = Field(description="`bits_per_byte` of a text, the main metric of a task")
    unit: str = Field(description="of the metric")
    direction: Direction = Field(description="which values are better")
    before: float = Field(description="of the base model, as pretrained and without the method")
    after: float = Field(description="of the trained model, as it was tested: with its adapter or its prompt")
    change: float = Field(
        description="by how much it is worse after training, in the metric's unit: above 0 something was forgotten, "
        "whichever way is better"
    )
    changes: tuple[float, ...] = Field(
        description="what each row contributes to `change`, which is their mean: its own change or, of a metric of all "
        "rows together, that of the jackknife"
    )
    rows: int = Field(description="rows that were scored")
    fingerprint: str = Field(description="SHA-256 of these rows; equal for all arms and seeds")


class RewindPoint(Frozen):
    """A model between the base model and the trained one, by weights."""

    fraction: float = Field(
        description="of the trained change: 0 the base model, 1 the merged one; a head stays as trained"
    )
    quality: float = Field(description="the metric that selects (`Retention.rewind_metric`), on the validation split")
    held: dict[str, float] = Field(description="name of what is held -> its metric")


class Retention(Frozen):
    """What of the base model's own was kept."""

    held: dict[str, HeldScore] = Field(
        default_factory=dict, description="name -> scores, in the study's order; empty where nothing was held"
    )
    rewind: tuple[RewindPoint, ...] = Field((), description="in ascending order; empty where none was asked for")
    rewind_metric: str | None = Field(None, description="the metric of `rewind[].quality`; null without")

    @property
    def forgetting(self) -> float | None:
        """Returns the change of what is held first; None where nothing is."""
        return next((score.change for score in self.held.values()), None)


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


class SplitInfo(Frozen):
    """What one split held. `fingerprint` is a SHA-256 over texts, labels and the template's other columns, in order."""

    rows: int = Field(description="examples")
    fingerprint: str = Field(
        description="SHA-256 over texts, labels (or the texts to write) and the other columns that "
        "`task.template` names, in order; equal for all methods"
    )
    classes: dict[str, int] = Field(default_factory=dict, description="class or label -> examples that have it")
    truncated: int = Field(0, description="examples longer than max_length")
    longest_tokens: int = Field(0, description="tokens of the longest example before truncation")


class DataInfo(Frozen):
    """The rows a trial saw."""

    splits: dict[str, SplitInfo] = Field(default_factory=dict, description="split -> what it held")
    labels: tuple[str, ...] = Field((), description="classes in order of their numbers")
    fitted: dict[str, float | str] = Field(
        default_factory=dict,
        description="option of the task -> what the training rows gave it, such as the numbers `center` and `scale` of "
        "regression, or where token classification splits a text into words (`split_words`)",
    )
    columns: dict[str, str] = Field(default_factory=dict, description="role -> column, as given or guessed")
    overlap: dict[str, int] = Field(
        default_factory=dict,
        description="for every pair of splits, such as 'validation/test' -> rows of the first that stand in the "
        "second too: the same text and, where `task.template` names further columns, the same in "
        "those, but for case, spaces and Unicode form",
    )
    overlap_exact: dict[str, int] = Field(default_factory=dict, description="of these, the same to the letter")
    overlap_removed: int = Field(0, description="training rows dropped because they stand in validation or test")
    validation_removed: int = Field(0, description="validation rows dropped because they stand in test")
    skipped: dict[str, int] = Field(
        default_factory=dict,
        description="role (`train`, `validation`, `test`) -> rows left out for an empty cell (`task.missing: "
        "skip`); roles without any are no part",
    )
    train_pool: int = Field(
        0,
        description="rows that the training rows were drawn from, with replacement; 0 where all seeds have the same "
        "(`protocol.splits: fixed`)",
    )
    groups: dict[str, int] = Field(
        default_factory=dict, description="split -> how many groups its rows are of; empty without `task.group`"
    )
    groups_removed: dict[str, int] = Field(
        default_factory=dict,
        description="split -> rows dropped because their group stands in a later split; empty without `task.group`",
    )
    commits: dict[str, str] = Field(
        default_factory=dict,
        description="role (`train`, `validation`, `test`) -> commit of the hub's data set that its rows were read "
        "at, whatever revision the study names; empty for rows from elsewhere",
    )
    files: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="role (`train`, `validation`, `test`) -> file -> SHA-256, where its rows were read from the files "
        "of a pattern or of a saved data set; `spec.fingerprints` has those of single files",
    )
    train_order_fingerprint: str | None = Field(None, description="SHA-256 of the order of examples trained")
    examples_trained: int = Field(0, description="examples seen, over all epochs")


class ModelInfo(Frozen):
    """The base model, as it was loaded."""

    source: str = Field(description="as the study names it")
    architecture: str = Field("", description="transformers' class")
    checksum: str | None = Field(
        None,
        description="SHA-256 of the weights as this trial loaded them: of the pinned file of an alias or a GGUF "
        "file, else over all tensors but the task's head. Null where a record of version 1 kept the "
        "commit instead",
    )
    commit: str | None = Field(
        None,
        description="commit of the hub's model that everything was loaded at, whatever revision the study names; "
        "null for a model from elsewhere",
    )
    files: dict[str, str] = Field(
        default_factory=dict,
        description="file of the model's configuration or tokenizer -> its SHA-256 when it was loaded",
    )
    random_weights: bool = Field(False, description="true: quality means nothing")
    hidden_size: int | None = Field(None, description="width")
    layers: int | None = Field(None, description="transformer blocks")
    max_positions: int | None = Field(None, description="tokens the model can take")
    dtype: str = Field("", description="of the weights as loaded")
    attention: str = Field("", description="implementation of attention in training steps: `eager` or `sdpa`")
    evaluation_attention: str = Field(
        "",
        description="the same in evaluations, written text and timed examples; another than in training only "
        "where both were found to compute the same",
    )
    dropout_generator: str = Field(
        "",
        description="what drew dropout masks in training: `sfc64` (NumPy's), or `torch`; empty where nothing is "
        "trained. See [protocol.md](protocol.md#dropout-masks)",
    )


class PrecisionInfo(Frozen):
    """The precision policy in force and its measured error."""

    policy: str = Field(description="see [protocol.md](protocol.md#precision)")
    description: str = Field(description="the policy in words")
    matmul_relative_error: float | None = Field(
        None, description="largest error of a matrix product under the policy, relative to float64"
    )


class Environment(Frozen):
    """Machine and software."""

    platform: str = Field(description="operating system")
    python: str = Field(description="version")
    processor: str = Field(description="name")
    cores: int = Field(description="that the trial may use")
    memory_bytes: int = Field(description="of the machine")
    device: str = Field(description="`cpu` or `cuda:0`")
    device_name: str = Field(description="name of the GPU or processor")
    device_memory_bytes: int | None = Field(None, description="of the GPU; null on the CPU")
    threads: int = Field(description="torch's threads")
    versions: dict[str, str] = Field(description="package -> version")
    commit: str | None = Field(
        None, description="of tuneoff's source tree, where it is a checkout; `+dirty` when changed"
    )
    started_at: str = Field(description="UTC, ISO 8601")
    release_memory: bool = Field(False, description="whether `execution.release_memory` was set and had an effect")
    trials_at_once: int = Field(
        1,
        description="trials that had the processor at once, each on cores of its own (`executor.trials_per_device`); "
        "1 on a GPU",
    )

    @property
    def hardware(self) -> tuple[str, int, str]:
        """Returns what must be equal for timings to be comparable."""
        return (self.processor, self.cores, self.device_name)


class Finding(Frozen):
    """Something a reader must know before trusting the figures, e.g. `collapsed` or `contended`."""

    name: str = Field(
        description="e.g. `collapsed`, `below_baseline`, `overlap`, `truncated`, `contended`, `random_weights`, "
        "`fresh_weights`, `halved_batches`, `idle_parameters`, `ia3_without_feedforward`, `tracker_failed`, "
        "`memory_not_released`, `kernels_disagree`, `unseen_targets`, `whole_words`, "
        "`targets_not_read_back`, `single_words`, `similar_labels`, `spaced_labels`, `unlearned_tags`, "
        "`groups_removed`, `groups_of_one`, `few_groups`, `unparsed_answers`, `cut_answers`, `network_latency`, "
        "`started_from`, `start_saw_test`, `retention_not_scored`, "
        "`pad_token_replaced`"
    )
    message: str = Field(description="what was found, for a person")


class PredictionsInfo(Frozen):
    """Where a split's per-example predictions are (inside the trial's folder) and their checksum."""

    file: str = Field(description="name inside the trial's folder")
    sha256: str = Field(description="checksum of the file")
    rows: int = Field(description="predictions in it")


class TrialRecord(Frozen):
    """Everything known of one trial."""

    record_version: int = Field(RECORD_VERSION, description="version of this format")
    spec: TrialSpec = Field(description="what was asked for")
    status: Status = Field(
        description="`completed`, `failed`, `out_of_memory`, `diverged`, `over_budget` or `cancelled` (`planned` "
        "and `running` are never sealed)"
    )
    cause: str = Field("", description="why the trial did not complete, for a person")
    log_tail: tuple[str, ...] = Field((), description="last lines of its log, where it did not complete")
    metrics: tuple[Metric, ...] = Field((), description="all scores, of validation and of test")
    primary_metric: str | None = Field(None, description="the metric that the task is judged by")
    chosen: dict[str, float | dict[str, float]] = Field(
        default_factory=dict,
        description="option of the task -> what was chosen on the validation split for the tested checkpoint, such as "
        "the `threshold` of each label; empty where nothing was",
    )
    selected_step: int | None = Field(None, description="optimizer step of the tested checkpoint")
    steps: int = Field(0, description="optimizer steps that were run")
    resumed: int = Field(
        0,
        description="how often its training continued from a checkpoint, because its process had ended; times are then "
        "those of all its processes, each up to its last checkpoint, and samples of the machine those of the last",
    )
    parameters: Parameters | None = Field(
        None,
        description="counts by role; null where the trial ended before they were counted, and of a model that others "
        "run",
    )
    timing: Timing = Field(Timing(), description="seconds by phase")
    memory: Memory = Field(Memory(), description="peaks by phase")
    gradient_norm: GradientNorm = Field(GradientNorm(), description="before clipping")
    curve: tuple[CurvePoint, ...] = Field((), description="one point per validation")
    throughput: Throughput = Field(Throughput(), description="training speed")
    ranks: tuple[RankFigures, ...] = Field(
        (), description="of a trial on several devices, each of its processes; else empty"
    )
    inference: Inference = Field(Inference(), description="speed of the trained model")
    served: Served | None = Field(
        None, description="of a model that others run, what was asked of it; null for every other method"
    )
    retention: Retention = Field(Retention(), description="what it can still do of what the base model could")
    utilisation: Utilisation | None = Field(None, description="samples of the machine")
    noise: Noise = Field(Noise(), description="what disturbed the timing")
    stored_bytes: int | None = Field(None, description="files a user must keep beside the base model")
    energy_joules: float | None = Field(None, description="of the training phase, where the hardware reports it")
    data: DataInfo | None = Field(None, description="the rows")
    model: ModelInfo | None = Field(None, description="the base model")
    start: Start | None = Field(
        None, description="trained weights that its training started from (`start_from`); null where there are none"
    )
    precision: PrecisionInfo | None = Field(None, description="the policy in force and its error")
    environment: Environment | None = Field(None, description="machine and software")
    predictions: dict[str, PredictionsInfo] = Field(
        default_factory=dict, description="split -> its file of predictions"
    )
    kept_files: dict[str, str] | None = Field(
        default_factory=dict,
        description="file in `weights/` -> its SHA-256; empty where no weights were kept, null in a record of "
        "version 1",
    )
    findings: tuple[Finding, ...] = Field((), description="what a reader must know first")
    money: Money = Field(
        Money(),
        exclude=True,
        description="what it cost; never in the file, because prices change: set by the study's `prices` when results "
        "are read",
    )
    missing: dict[str, str] = Field(default_factory=dict, description="dotted name -> why it is null")

    @property
    def contents(self) -> dict[str, str]:
        """Returns what the trial loaded, as far as known: split -> fingerprint of its rows, `held NAME` -> that of what
        is held, `model` -> its hub commit."""
        rows = {name: split.fingerprint for name, split in self.data.splits.items()} if self.data else {}
        rows |= {key_of_held(name): score.fingerprint for name, score in self.retention.held.items()}
        commit = self.model.commit if self.model else None
        return rows if commit is None else {**rows, "model": commit}

    def metric(self, name: str, split: str = "test") -> float | None:
        """Returns the value of a metric, or None where it was not measured."""
        for metric in self.metrics:
            if metric.name == name and metric.split == split:
                return metric.value
        return None


def key_of_held(label: str) -> str:
    """Returns the key of `TrialSpec.contents` that holds the fingerprint of the rows of something that is held."""
    return f"held {label}"


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
    former: dict[str, dict[str, Any]] = {
        "execution": {"engine": "plain"},
        "protocol": {"batching": "random", "frozen_dropout": True},
    }
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
    """One example's outcome. For classes and labels, `scores` are log-probabilities in label order, for options of a
    row's own in the row's order."""

    index: int = Field(description="position of the row in the study's split")
    target: str = Field(
        description="the right answer; several labels as a JSON list in alphabetical order, one of a row's options "
        "as its letter"
    )
    output: str = Field(description="the model's answer, likewise")
    scores: tuple[float, ...] = Field(
        (),
        description="for classification log-probabilities in the order of `data.labels`; for several labels a row the "
        "log-probability that it has each; for options to choose from log-probabilities in their order",
    )
    values: dict[str, float] = Field(
        default_factory=dict, description="metric -> this example's own value, for metrics that are means over examples"
    )
    loss: float | None = Field(
        None, description="nats summed over the target's tokens, end of text included; for generation"
    )
    target_tokens: int | None = Field(None, description="tokens of the target, end of text included")
    target_bytes: int | None = Field(
        None, description="bytes (UTF-8) of what is learned of the target, for bits per byte"
    )
    generated_tokens: int | None = Field(None, description="tokens written")
    group: int | None = Field(
        None,
        description="number of the row's group (`task.group`) in the split, in order of appearance; null without one",
    )
    source: str = Field(
        "",
        description="what was put in, without the words of `task.template`: the source's text; where the template "
        "names further columns, a line `NAME: TEXT` for each and for `source`, the shortest first. "
        "Of texts that are written, kept for a split's first 20 examples; of classification the first 440 characters, "
        "kept where the answer is wrong and the example is among the split's first 10,000",
    )


Event = dict[str, Any]
"""One line of a trial's event log; keys are described in docs/events.md."""
