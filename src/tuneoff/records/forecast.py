"""What a study will take, before it is trained: memory, seconds and disk of each arm.

An estimate counts model states and activations without running anything; a profile of a few real steps says what this
machine adds to that. `trial/estimate` makes an arm's forecast in a process of its own; what is here is plain data.
docs/plan.md describes every key.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneoff.config.base import Frozen

FORECAST_VERSION = 2
CHARGED = ("tokenize", "train", "retention")
"""Phases of which a trial's record counts what it finds as well, with the seconds that another trial took for it."""

How = Literal["profile", "estimate"]


class Shape(Frozen):
    """A micro-batch as it is computed, padding included."""

    examples: int = Field(description="of the micro-batch")
    tokens: int = Field(description="of each example: what is put in, padded to the longest")
    targets: int = Field(0, description="positions of the micro-batch whose logits are computed; 0 for a class head")


class EstimatedStep(Frozen):
    """One training step at one shape, counted without running it."""

    shape: Shape = Field(description="shape of its micro-batch")
    activations_bytes: int = Field(description="greatest sum of live tensors above weights, gradients and optimizer")
    operations: int = Field(description="floating-point operations of forward and backward pass")


class ProfiledStep(Frozen):
    """Real training steps at one shape."""

    shape: Shape = Field(description="shape of its micro-batch")
    steps: int = Field(description="steps that were timed, the first ones at this shape not among them")
    seconds: float = Field(description="median of one step")
    peak_bytes: int | None = Field(None, description="peak of the process (CPU) or of the allocator (CUDA) until then")


class Remedy(Frozen):
    """A change under which an arm that does not fit would fit."""

    change: str = Field(description="as it is given to `--set`")
    peak_memory_bytes: int = Field(description="with it")
    same_result: bool = Field(description="whether the arm computes the same, apart from rounding")


class ArmForecast(Frozen):
    """What one trial of an arm will take. A figure that cannot be told is null, and `missing` says why."""

    label: str = Field(description="the arm")
    trial: str = Field("", description="id of the trial that it is of: the arm's first final trial")
    how: How = Field(description="`profile` (by running real steps) or `estimate` (by counting)")
    corrected_by: str | None = Field(
        None,
        description="of an arm that was estimated before a run: the profiled arm by which its figures were "
        "corrected; else null",
    )
    device: str = Field(description="what it is a forecast for")
    device_name: str = Field("", description="name of that GPU or processor; empty where it is not known")
    processor: str = Field("", description="name of the machine's processor, likewise")
    trials_device: str = Field(
        "",
        description="of trials that run on other machines: auto, cpu or cuda; empty where they run on this one, which "
        "the forecast is for",
    )
    peak_memory_bytes: int | None = Field(
        None,
        description="peak while training: of the process on a CPU, of the allocator on CUDA; with `--gpu-memory` "
        "that of such a GPU",
    )
    memory: dict[str, int] = Field(
        default_factory=dict,
        description="its parts in bytes: `process` (interpreter, libraries, data), `weights`, `gradients`, "
        "`optimizer`, `activations`; and with `--gpu-memory` `reserve` in place of `process`",
    )
    train_seconds: float | None = Field(None, description="of one final trial")
    train_parts: dict[str, float] = Field(
        default_factory=dict,
        description="its parts in seconds: `calls` (calling operations, whatever their size), `work` (products and "
        "memory traffic), `update` (clipping and the optimizer), `frozen` (computing what frozen blocks give); empty "
        "where they are not known",
    )
    seconds: dict[str, float] = Field(
        default_factory=dict,
        description="by phase, of one final trial: `load`, `tokenize`, `preflight`, `train`, `validation`, "
        "`test`, `inference` (at the study's first seeds alone), `checkpoint`, and where the study holds something "
        "`retention` and `rewind`",
    )
    search_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="the same of one trial of the search, without what frozen blocks give; empty without one",
    )
    kept_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="the part of `seconds` that computes what the arm's other trials of a run find: tokens "
        "(`tokenize`; not where every seed has rows of its own), what frozen blocks give (`train`, `validation`, "
        "`test`), the base model's scores of what is held (`retention`, for other arms too); empty where nothing is "
        "kept",
    )
    stored_bytes: int | None = Field(None, description="what a trial keeps beside the base model")
    predictions_bytes: int | None = Field(None, description="predictions that a final trial keeps")
    test_examples: int | None = Field(None, description="examples that its test scores")
    money: float | None = Field(None, description="price of one final trial; null without the study's `prices`")
    search_money: float | None = Field(None, description="price of the trials of its search that are to come")
    prediction_money: float | None = Field(None, description="price of 1,000 predictions in batches, as in its test")
    batch_sizes: tuple[int, int] | None = Field(
        None,
        description="of an arm whose search is still to choose the batch size: the least, which all times are of, and "
        "the greatest, which memory is of: the most that either may be; else null",
    )
    largest: Shape | None = Field(None, description="the micro-batch that takes the most memory")
    estimated_steps: tuple[EstimatedStep, ...] = Field((), description="steps that were counted")
    profiled_steps: tuple[ProfiledStep, ...] = Field((), description="steps that were run; empty in an estimate")
    forecast_seconds: float = Field(0.0, description="what this forecast took")
    available_bytes: int | None = Field(
        None, description="the memory that `fits` is about: what was asked about, else what this machine has for it"
    )
    fits: bool | None = Field(None, description="whether the peak is within it; null where that is not known")
    remedies: tuple[Remedy, ...] = Field(
        (),
        description="what would make it fit; empty where it fits, or where nothing that was tried would make it fit",
    )
    missing: dict[str, str] = Field(
        default_factory=dict,
        description="figure -> why it is null; `profile`: why it was only estimated; `estimate`: why it could not "
        "be; `memory.reserve`: that the reserve was not measured",
    )

    @property
    def trial_seconds(self) -> float | None:
        """Returns the seconds of a whole final trial; None where its phases are not known."""
        return sum(self.seconds.values()) if self.seconds else None

    @property
    def checkpoint_bytes(self) -> int:
        """Returns what its checkpoints take while one of its trials trains: two, and one that is being written. Each
        holds what is trained, in float32 as its gradients, and the optimizer's state."""
        return 3 * (self.memory.get("gradients", 0) + self.memory.get("optimizer", 0))

    def mean_trial_seconds(self, share: float) -> float | None:
        """Returns the mean seconds that the records of final trials tell of which this share computes what the others
        find; None where the phases are not known. Tokens and training rows count in full in every record."""
        seconds = self.trial_seconds
        return None if seconds is None else seconds - (1 - share) * self._evaluation_seconds

    @property
    def _evaluation_seconds(self) -> float:
        """Returns the part of what is kept that no other trial's record counts."""
        return sum(self.kept_seconds.values()) - sum(self.kept_seconds.get(phase, 0.0) for phase in CHARGED)

    def search_trial_seconds(self, share: float = 1.0) -> float:
        """Returns the seconds of a trial of the search that takes this share of the steps; 0 where the arm is not
        searched."""
        return sum(self.search_seconds.values()) - (1 - share) * self.search_seconds.get("train", 0.0)


class StudyForecast(Frozen):
    """What the trials of a study will take that were to come when it was made."""

    forecast_version: int = Field(FORECAST_VERSION, description="version of this format: 2")
    arms: dict[str, ArmForecast] = Field(description="by the arm's label")
    total_seconds: float | None = Field(
        None, description="all search and final trials that were to come, one after another"
    )
    expected_seconds: float | None = Field(
        None,
        description="of a race over seeds: what is expected of them, where `total_seconds` is the most; null without "
        "one, or where times are not known",
    )
    disk_bytes: int | None = Field(
        None,
        description="kept weights and predictions of all final trials that were to come; logs and records come to "
        "little",
    )
    memory_limit_bytes: int | None = Field(None, description="the memory that was asked about; null: this machine's")
    currency: str = Field("", description="word for the money; empty without the study's `prices`")
    money: float | None = Field(None, description="price of all search and final trials that were to come")
    missing: dict[str, str] = Field(default_factory=dict, description="figure -> why it is null")

    @property
    def forecast_seconds(self) -> float:
        """Returns the seconds that it took to make this forecast."""
        return sum(arm.forecast_seconds for arm in self.arms.values())

    @property
    def unfit(self) -> list[ArmForecast]:
        """Returns the arms that do not fit into the available memory."""
        return [arm for arm in self.arms.values() if arm.fits is False]


def with_times_of(arm: ArmForecast, slowest: ArmForecast) -> ArmForecast:
    """Returns an arm's forecast with the times of another one, which is of the same arm with other batches."""
    times = ("train_seconds", "train_parts", "seconds", "search_seconds", "kept_seconds")
    missing = {key: reason for key, reason in arm.missing.items() if key not in times}
    missing = {**{key: reason for key, reason in slowest.missing.items() if key in (*times, "profile")}, **missing}
    return arm.model_copy(update={**{name: getattr(slowest, name) for name in times}, "missing": missing})
