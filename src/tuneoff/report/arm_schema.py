"""The parts of a report on one arm: its figures, its comparisons, its settings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from tuneoff.analysis.published import PublishedComparison
from tuneoff.analysis.search_summary import RateFrom
from tuneoff.analysis.statistics.equivalence import Equivalence
from tuneoff.analysis.statistics.estimates import Over
from tuneoff.analysis.statistics.pairs import Relation, Test
from tuneoff.config.base import Frozen
from tuneoff.records.record import Direction, MemoryKind, RoleCounts


class Part(Frozen):
    """Base of a report's parts: frozen, of strict types, without NaN."""

    model_config = ConfigDict(strict=True)

    def as_data(self) -> dict[str, Any]:
        """Returns it as plain data, as JSON holds it."""
        return self.model_dump(mode="json")


class Figure(Part):
    """A figure over the completed trials that have it."""

    mean: float | None = Field(description="null where no trial has it")
    std: float | None = Field(description="sample standard deviation (ddof 1); null for fewer than two")
    n: int = Field(description="how many trials have it")
    interval_low: float | None = Field(
        description="lower end of the mean's 95 % interval: of a cost by a factor, that of Student's t over the "
        "logarithms; of a metric cut where the metric cannot be"
    )
    interval_high: float | None = Field(description="upper end")
    interval_reason: str = Field(
        description="why there is no interval (`one seed`, or the same at every seed); else empty"
    )


class ValidationFigure(Figure):
    """A metric of the validation split."""

    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")
    values: tuple[float, ...] = Field(description="one per completed trial, in the order of `seeds`")


class TestFigure(Figure):
    """A metric of the test split."""

    __test__ = False  # no class of pytest's

    interval_over: Over | None = Field(
        description="what the interval lets vary: `seeds and examples`, `examples` (one seed) or `seeds` (predictions "
        "do not tell the metric example by example), with `task.group` `groups` in the place of examples; null without "
        "an interval"
    )
    examples: int | None = Field(description="test examples behind it, null where only the seeds tell")
    groups: int | None = Field(
        description="groups of test examples (`task.group`) that vary as one; null where every example stands for "
        "itself"
    )
    ties: str = Field(description="letters of the arm's groups on this metric")
    exploratory: bool = Field(
        description="true for a metric besides the primary: its ties are corrected over its own pairs, and nothing is "
        "corrected for looking at several metrics"
    )
    caution: str = Field(description="what to know of the metric's values, as its task declares it; else empty")
    note: str = Field(description="why only seeds tell, or why the arm takes no part in comparisons; else empty")
    diverged_seeds: tuple[int, ...] = Field(
        description="seeds at which training diverged: they count as doing without training in `mean`, `std`, `n`, the "
        "interval and all comparisons; `values` are of completed trials alone"
    )
    counted_as: str = Field(
        description="what these seeds count as: the label of an arm that does not train, or words; empty where none "
        "diverged"
    )
    without_diverged: Figure | None = Field(
        description="the same figure of completed trials alone; null where none diverged, or none completed"
    )
    ranked_mean: float | None = Field(
        description="the mean by which arms are ranked: set beside other arms' on the seeds that they share "
        "([statistics.md](statistics.md)), the same as `mean` where all arms have the same seeds; null where "
        "the arm is not weighed"
    )
    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")
    values: tuple[float, ...] = Field(description="one per completed trial, in the order of `seeds`")


class Best(Part):
    """Stands in the place of the best arm's comparison with itself."""

    relation: Literal["best"] = "best"


class Comparison(Part):
    """Two arms on the primary metric, on the seeds and examples that both have."""

    relation: Relation = Field(
        description="`open` (fewer than six seeds in common, whatever the difference); else `ahead` and `behind` (by "
        "the metric's direction, and significant), `tied` (cannot be told apart); `not_compared`"
    )
    difference: float | None = Field(description="of this arm minus the other; null when not compared")
    interval_low: float | None = Field(
        description="lower end of its 95 % interval, of this pair alone: not corrected for looking at many"
    )
    interval_high: float | None = Field(description="upper end")
    p: float | None = Field(description="two-sided p of this pair alone")
    p_corrected: float | None = Field(
        description="corrected over all pairs of the verdict by Shaffer's method; this one decides the relation"
    )
    effect: float | None = Field(
        description="the verdict's `effect_size`: the difference in standard deviations between seeds; null "
        "under three seeds, or without a spread"
    )
    win_rate: float | None = Field(
        description="share of seeds at which this arm is the better one, ties counted half: P(better), which the page "
        "shows for two seeds or more"
    )
    test: Test | None = Field(
        description="what the test lets vary: `seeds and examples`, `seeds`, or of one seed `mcnemar` or `examples`, "
        "which speak of two trained models, not of their methods; with `task.group` `groups` in the place of examples"
    )
    seeds: int = Field(description="number of seeds that both completed; only these are compared")
    examples: int | None = Field(description="test examples compared, null when only the seeds' means were")
    groups: int | None = Field(
        description="groups of them (`task.group`) that vary as one; null where every example stands for itself"
    )
    most_worse: float | None = Field(
        description="by how much this arm is worse than the other at most, 0 where it is surely no worse: one-sided, "
        "95 % for all rivals of the other together; null while the pair is open or not compared"
    )
    most_better: float | None = Field(description="by how much it is better at most; likewise")
    equivalence: Equivalence | None = Field(
        description="with the study's `margin`: `as_good` (at most the margin worse), `equivalent` (nor better by "
        "more), or `not_shown`; null without a margin"
    )
    seeds_needed: int | None = Field(
        description="of a pair that is `tied` or `open`: how many seeds would settle it with probability 0.8 if "
        "difference and spread are what they seem; null when settled or when no number would"
    )
    seeds_least: int | None = Field(
        description="lower end of the range of that number, in which the difference lies in its 80 % interval; null "
        "where no number would settle the pair even then"
    )
    seeds_most: int | None = Field(description="upper end; null where more than 100 or no number would settle it")
    reason: str = Field(description="why not compared, or why no number of seeds is named")


class ArmFinding(Part):
    """A finding of an arm's records."""

    name: str = Field(description="its kind")
    message: str = Field(description="for a person")
    seeds: tuple[int, ...] = Field(description="seeds whose record has it")


class MissingFigure(Part):
    """Why a figure of an arm is null."""

    figure: str = Field(
        description="`metrics` when no trial is completed, or the name of one metric that other arms have, or a cost"
    )
    reason: str = Field(description="why")


class ArmSummary(Part):
    """One arm of the table."""

    method: str = Field(
        description="the arm's label; where one label was run with several configurations, what differs is added"
    )
    method_name: str = Field(description="the method (the plug-in)")
    trains: bool = Field(description="false for a baseline")
    options: dict[str, Any] = Field(description="the method's options, defaults filled in")
    learning_rate: float | None = Field(description="null for a baseline")
    learning_rate_from: RateFrom | None = Field(
        description="who said it: `search`, `protocol` (one for all arms), `study` (set for this arm) or `default` "
        "(the method's own); null for a baseline, and in `tuneoff compare`"
    )
    searched_settings: dict[str, Any] = Field(
        description="setting of the protocol that was searched (`search.space`) -> the arm's own value"
    )
    searched_per_seed: dict[str, tuple[Any, ...]] = Field(
        description="option, `learning_rate` or setting of the protocol -> what each seed's own search chose, in the "
        "order of `planned_seeds`; what stands elsewhere is then the first seed's. Empty where all seeds have one "
        "configuration"
    )
    seeds: tuple[int, ...] = Field(
        description="seeds of the completed trials; every mean is over these, that of a test metric also over its "
        "`diverged_seeds`"
    )
    planned_seeds: tuple[int, ...] = Field(description="seeds of all its trials")
    statuses: dict[str, int] = Field(
        description="{status: number of trials}, trials without a record as `planned` or `running`"
    )
    metrics: dict[str, TestFigure] = Field(
        description="{name: metric} on the test split, whatever the task scores; empty while no trial is completed and "
        "none diverged"
    )
    validation_metrics: dict[str, ValidationFigure] = Field(description="likewise on the validation split")
    train_seconds: Figure = Field(description="cost: training steps and their data waits")
    total_seconds: Figure = Field(description="cost: the whole trial")
    peak_memory_bytes: Figure = Field(
        description="cost: peak while training (of an arm that does not train: while tested)"
    )
    peak_over_base_bytes: Figure = Field(
        description="cost: `peak_memory_bytes` less what the process held before data and model"
    )
    stored_bytes: Figure = Field(description="cost: files to keep beside the base model")
    step_seconds: Figure = Field(description="cost: median training step after the first ones, its data wait included")
    examples_per_second: Figure = Field(description="speed of training")
    tokens_per_second: Figure = Field(description="the same in real tokens, padding not counted")
    latency_seconds: Figure = Field(
        description="cost: median for one example (of its whole text, where text is written)"
    )
    batched_examples_per_second: Figure = Field(description="speed of inference in batches")
    generated_tokens_per_second: Figure = Field(
        description="speed of writing the test split in batches; null where no text is written"
    )
    generated_tokens_mean: Figure = Field(description="tokens written per example; null likewise")
    gradient_norm_mean: Figure = Field(description="norm of the whole gradient before clipping, mean over steps")
    gradient_norm_max: Figure = Field(description="the largest of any step")
    energy_joules: Figure = Field(description="cost: energy of the training phase, where the hardware reports it")
    money: Figure = Field(description="cost: the whole trial at the study's `prices`; null without them")
    prediction_money: Figure = Field(description="cost: 1,000 predictions in batches, likewise")
    forgetting: Figure = Field(
        description="cost: by how much what the study holds first is worse after training, interval over seeds and its "
        "rows; below 0 where it is better, null without `retention`"
    )
    train_loss: Figure = Field(description="mean over the whole training, in nats")
    trainable_parameters: int | None = Field(description="how many are trained, the head included")
    total_parameters: int | None = Field(description="how many the model has, the method's own included")
    trainable_parameters_by_role: RoleCounts | None = Field(description="{`head`, `adapter`, `base`}")
    total_parameters_by_role: RoleCounts | None = Field(description="{`head`, `adapter`, `base`}")
    memory_kind: MemoryKind | None = Field(
        description="what `peak_memory_bytes` is the peak of: `resident` (the process), `cuda_allocated` (CUDA's "
        "allocator), or of an imported study `cuda_reserved`"
    )
    latency_examples: int | None = Field(
        description="how many single examples `latency_seconds` is the median of, in the trial that timed fewest; null "
        "where that is not told. Under five, no arm's latency is marked as the best"
    )
    contended: bool = Field(description="true when something else used the machine during a completed trial of the arm")
    findings: tuple[ArmFinding, ...] = Field(description="findings of its records")
    ties: str = Field(
        description="letters of its groups on the primary metric: arms that share one cannot be told apart, or share "
        "too few seeds to tell; empty where it takes no part in the verdict, and while every pair is open"
    )
    to_best: Comparison | Best | None = Field(
        description="comparison of this arm with the best; {`relation`: `best`} for the best itself"
    )
    to_baseline: Comparison | None = Field(
        description="comparison of an arm that trains with the baseline; null without one"
    )
    missing: tuple[MissingFigure, ...] = Field(description="why figures are null: list of {`figure`, `reason`}")
    published: dict[str, float] = Field(description="{figure: value} as in the study; empty where there is none")
    published_comparison: tuple[PublishedComparison, ...] = Field(description="published figures beside ours")

    def cost(self, name: str) -> Figure:
        """Returns the figure of that name, e.g. `train_seconds`."""
        figure: Figure = getattr(self, name)
        return figure
