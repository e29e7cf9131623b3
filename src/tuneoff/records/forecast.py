"""What a study will take, before it is trained: memory, seconds and disk of each arm.

An estimate counts model states and activations without running anything; a profile of a few real steps says what this
machine adds to that. `trial/estimate` makes an arm's forecast in a process of its own; what is here is plain data and
the sums over it. docs/plan.md describes every key.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.records.record import Prediction

FORECAST_VERSION = 2
TOO_SHORT_SECONDS = 0.1
"""An estimated phase shorter than this gets no factor: its error is a constant overhead."""
CHARGED = ("tokenize", "train", "retention")
"""Phases of which a trial's record counts what it finds as well, with the seconds that another trial took for it."""

How = Literal["profile", "estimate"]


@dataclass(frozen=True)
class Prior:
    """What the literature leads one to expect of a method before a run: an interval, wide rather than narrow.

    Attributes:
        low, high: share of full fine-tuning's gain over the baseline, in models of up to a few billion parameters.
        source: what was published, with its year; the interval is our reading of it.

    Raises:
        ValueError: if `low` and `high` are no interval.
    """

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"{self.low} to {self.high} is no interval")


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


def corrected(arm: ArmForecast, estimated: ArmForecast, profiled: ArmForecast) -> ArmForecast:
    """Corrects an arm that was estimated by the error of the estimate of another arm, which was profiled too.

    Machine, model and data are the same for both, so each phase, and each part of training, is assumed to have the same
    relative error (a very short one the same error in seconds), and the memory of the process besides its tensors the
    same error in bytes.

    Args:
        arm: estimate of the arm.
        estimated, profiled: forecasts of the other arm.
    """
    changes = _corrected_times(arm, estimated, profiled)
    arm_peak, estimated_peak, profiled_peak = (
        arm.peak_memory_bytes,
        estimated.peak_memory_bytes,
        profiled.peak_memory_bytes,
    )
    if arm_peak is not None and estimated_peak is not None and profiled_peak is not None and arm.memory:
        difference = profiled_peak - estimated_peak
        peak = max(0, arm_peak + difference)
        fits = arm.fits if arm.available_bytes is None else peak <= arm.available_bytes
        memory = {**arm.memory, "process": max(0, arm.memory.get("process", 0) + difference)}
        changes |= {"memory": memory, "peak_memory_bytes": peak, "fits": fits}
        if fits is False and arm.fits:
            changes["missing"] = {**arm.missing, "remedies": "by its estimate alone it fits, so none were tried"}
    return arm.model_copy(update={**changes, "corrected_by": profiled.label})


def _corrected_times(arm: ArmForecast, estimated: ArmForecast, profiled: ArmForecast) -> dict[str, Any]:
    """Corrects the times of an arm.

    Frozen blocks are computed as a test is, without gradients: where the profiled arm has none, their error is that of
    its test.
    """
    train_factor = _factor("train", estimated.seconds, profiled.seconds, 1.0)
    test_factor = _factor("test", estimated.seconds, profiled.seconds, train_factor)

    def scaled(seconds: Mapping[str, float]) -> dict[str, float]:
        return {
            phase: _corrected_seconds(value, phase, estimated.seconds, profiled.seconds, train_factor)
            for phase, value in seconds.items()
        }

    seconds, search_seconds, parts = scaled(arm.seconds), scaled(arm.search_seconds), {}
    if arm.train_parts and estimated.train_parts and profiled.train_parts:
        parts = {
            part: _corrected_seconds(value, part, estimated.train_parts, profiled.train_parts, test_factor)
            for part, value in arm.train_parts.items()
        }
        seconds["train"] = sum(parts.values())
        if search_seconds:
            # A trial of the search finds what frozen blocks give.
            steps_factor = _steps_seconds(parts) / _steps_seconds(arm.train_parts)
            search_seconds["train"] = steps_factor * arm.search_seconds["train"]
    kept = {phase: value * seconds[phase] / arm.seconds[phase] for phase, value in arm.kept_seconds.items() if value}
    if "frozen" in parts:
        kept["train"] = parts["frozen"]
    return {
        "seconds": seconds,
        "search_seconds": search_seconds,
        "kept_seconds": kept,
        "train_parts": parts,
        "train_seconds": seconds.get("train"),
    }


def _steps_seconds(parts: Mapping[str, float]) -> float:
    """Returns the seconds of training steps, without what frozen blocks give."""
    return sum(parts.values()) - parts.get("frozen", 0.0)


def _corrected_seconds(
    value: float, name: str, estimated: Mapping[str, float], profiled: Mapping[str, float], otherwise: float
) -> float:
    """Corrects a phase or a part of an estimate.

    Args:
        value: its seconds.
        name: of the phase or part.
        estimated, profiled: seconds of the other arm.
        otherwise: factor where nothing is known of it there.
    """
    if name in estimated and name in profiled and estimated[name] < TOO_SHORT_SECONDS:
        return max(0.0, value + profiled[name] - estimated[name])
    return value * _factor(name, estimated, profiled, otherwise)


def _factor(name: str, estimated: Mapping[str, float], profiled: Mapping[str, float], otherwise: float) -> float:
    """Returns how many times as long a phase or part takes as was estimated; `otherwise` where that is not known."""
    return profiled[name] / estimated[name] if estimated.get(name) and name in profiled else otherwise


def recorded_seconds(arm: ArmForecast, timed: int, untimed: int, search_shares: Sequence[float] = ()) -> float | None:
    """Sums what the records of an arm's trials will tell: each as if it had computed what it finds (see `CHARGED`), so
    more than the run takes; None where its times are not known.

    Args:
        arm: its forecast.
        timed, untimed: how many final trials time the trained model, and how many do not.
        search_shares: for each trial of its search, its share of the steps of the forecast.
    """
    count = timed + untimed
    mean = arm.mean_trial_seconds(1 / count) if count else 0.0
    if mean is None or (search_shares and not arm.search_seconds):
        return None
    search = sum(map(arm.search_trial_seconds, search_shares))
    return count * mean - untimed * arm.seconds.get("inference", 0.0) + search


def study_forecast(
    arms: Mapping[str, ArmForecast],
    final: Sequence[str],
    search: Sequence[str] = (),
    *,
    search_shares: Sequence[float] = (),
    untimed: Sequence[str] = (),
    keep_weights: bool = True,
    memory_limit_bytes: int | None = None,
) -> StudyForecast:
    """Adds up the arms. What frozen blocks give is computed once for all trials of an arm, and so are tokens, once for
    those of its search.

    Args:
        arms: label -> forecast of one of its trials.
        final: the label of every final trial.
        search: the label of every trial of the search, which keeps neither weights nor predictions.
        search_shares: for each trial of the search, its share of the steps of its arm's forecast; 1 where not given.
        untimed: the label of every final trial that does not time the trained model (`execution.latency_seeds`).
        keep_weights: whether trained weights stay after the trial.
        memory_limit_bytes: the memory limit that was asked about; None: this machine's.
    """
    missing: dict[str, str] = {}
    unknown_times = [label for label in final if not arms[label].seconds]
    unknown_times += [label for label in search if not arms[label].search_seconds]
    total: float | None = None
    if unknown_times:
        missing["total_seconds"] = f"no time is known of {', '.join(dict.fromkeys(unknown_times))}"
    else:
        total = sum(sum(arms[label].seconds.values()) for label in final)
        counts = Counter(final)
        total -= sum((count - 1) * sum(arms[label].kept_seconds.values()) for label, count in counts.items())
        # What is held is scored by the base model once, for all arms.
        holding = [label for label in counts if "retention" in arms[label].kept_seconds]
        total -= sum(arms[label].kept_seconds["retention"] for label in holding[1:])
        total -= sum(arms[label].seconds.get("inference", 0.0) for label in untimed)
        for label, count in Counter(search).items():
            if "tokenize" in arms[label].kept_seconds:
                total -= (count - 1) * arms[label].search_seconds.get("tokenize", 0.0)
        shares = search_shares or [1.0] * len(search)
        total += sum(arms[label].search_trial_seconds(share) for label, share in zip(search, shares, strict=True))
    sizes = {label: _kept_bytes(arms[label], keep_weights) for label in final}
    unknown_sizes = [label for label, size in sizes.items() if size is None]
    disk = None if unknown_sizes else sum(sizes[label] or 0 for label in final)
    if unknown_sizes:
        missing["disk_bytes"] = f"what is kept is not known of {', '.join(unknown_sizes)}"
    return StudyForecast(
        arms=dict(arms),
        total_seconds=total,
        disk_bytes=disk,
        memory_limit_bytes=memory_limit_bytes,
        missing=missing,
    )


def _kept_bytes(arm: ArmForecast, weights: bool) -> int | None:
    """Returns the bytes that a final trial keeps; None where a part of them is not known."""
    if arm.predictions_bytes is None or (weights and arm.stored_bytes is None):
        return None
    return arm.predictions_bytes + ((arm.stored_bytes or 0) if weights else 0)


def upgraded(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a forecast as plain data in the words of this version; one of an unknown version unchanged."""
    if body.get("forecast_version") != 1:
        return body
    arms = body.get("rows", {})
    if isinstance(arms, dict):
        arms = {label: _upgraded_arm(arm) if isinstance(arm, dict) else arm for label, arm in arms.items()}
    return {**{key: value for key, value in body.items() if key != "rows"}, "forecast_version": 2, "arms": arms}


def _upgraded_arm(arm: dict[str, Any]) -> dict[str, Any]:
    """Returns an arm's forecast of version 1, which called a profile `probed` and an estimate `counted`."""
    words = {"probed": "profile", "counted": "estimate"}
    steps = {"probed": "profiled_steps", "counted": "estimated_steps"}
    renamed = {steps.get(key, key): value for key, value in arm.items()}
    if arm.get("how") in words:
        renamed["how"] = words[arm["how"]]
    if isinstance(missing := arm.get("missing"), dict):
        renamed["missing"] = {words.get(figure, figure): reason for figure, reason in missing.items()}
    return renamed


def predictions_size(
    targets: Iterable[str], labels: Sequence[str] = (), sources: Iterable[str] = (), metrics: int = 0
) -> int:
    """Computes in advance how many bytes the predictions take that a trial keeps of a split.

    A line holds index, target and output, with a score for each class or the task's values for a text. An output is
    taken to be as long as its target.

    Args:
        targets: target of every example of the split, in order.
        labels: the classes; empty for a task that writes.
        sources: inputs that are kept with the first examples, in order.
        metrics: number of values that each example has in a task that writes text.
    """
    kept_sources = list(sources)
    size = 0
    for index, target in enumerate(targets):
        line = Prediction(
            index=index,
            target=target,
            output=target,
            scores=(-1.234567,) * len(labels),
            values={f"metric_{number}": 0.1234567890123456 for number in range(metrics)},
            loss=None if labels else 12.34567890123456,
            target_tokens=None if labels else 10,
            generated_tokens=None if labels else 10,
            source=kept_sources[index] if index < len(kept_sources) else "",
        )
        size += len(line.model_dump_json().encode()) + 1
    return size
