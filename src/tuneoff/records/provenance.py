"""What a trial's result comes from: rows, base model, precision, machine and software."""

from __future__ import annotations

from pydantic import Field

from tuneoff.config.base import Frozen


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
