"""A recommendation as data; docs/recommend.md is made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneoff.analysis.statistics import SEEDS_REQUIRED
from tuneoff.analysis.statistics.pairs import Relation
from tuneoff.records.forecast import How
from tuneoff.records.record import Direction
from tuneoff.report.arm_schema import MissingFigure, Part
from tuneoff.report.proposal_schema import Proposed

SCHEMA_VERSION = 3
SCHEMA_VERSION_BEFORE = 2


class JudgedMetric(Part):
    """What quality is judged by."""

    name: str = Field(description="the metric's name")
    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")


class AtMost(Part):
    """A limit from above."""

    figure: str = Field(description="the figure that is limited")
    at_most: float = Field(description="the most it may be: bytes, seconds, the metric's unit")
    text: str = Field(description="as it was given")


class AtLeast(Part):
    """A limit from below."""

    figure: str = Field(description="the metric that is limited")
    at_least: float = Field(description="the least it may be, in the metric's unit")
    text: str = Field(description="as it was given")


class ComparedTo(Part):
    """The answer against another arm, with keys of a comparison of the report."""

    against: str = Field(description="label of the other arm")
    difference: float | None = Field(description="as in the report's comparisons, like all below")
    interval_low: float | None = Field(description="lower end")
    interval_high: float | None = Field(description="upper end")
    p_corrected: float | None = Field(description="corrected over all pairs")
    most_worse: float | None = Field(description="by how much the answer is worse at most")
    relation: Relation = Field(description="`open`, `ahead`, `behind`, `tied` or `not_compared`")
    seeds_needed: int | None = Field(description="how many seeds would settle it")
    seeds_least: int | None = Field(description="lower end of that number's range")
    seeds_most: int | None = Field(description="upper end")
    reason: str = Field(description="why not compared, or why no number of seeds is named")


class ChangeSummary(Part):
    """What would change the answer."""

    kind: str = Field(description="`relax` or `tighten` a limit, `prefer` another cost, `quality_alone`")
    to: str | None = Field(description="the arm it would be; null: none would fit")
    figure: str | None = Field(description="the limit's figure")
    bound: float | None = Field(description="the limit then")
    prefer: str | None = Field(description="the cost that would decide")


class ShortfallSummary(Part):
    """A limit that an arm does not keep."""

    figure: str = Field(description="the figure that is limited")
    value: float | None = Field(description="the arm's; null where it is not known")
    excess: float | None = Field(description="how far beyond the limit")
    reason: str = Field(description="why the value is not known; else empty")


class RecommendedArm(Part):
    """An arm as it was weighed."""

    method: str = Field(description="its label")
    trains: bool = Field(description="false for a baseline")
    quality: float | None = Field(description="its mean, on the seeds that arms share; null with a `reason`")
    reason: str = Field(description="why it is not weighed; else empty")
    fits: bool = Field(description="whether it keeps the limits")
    diverged: int = Field(description="at how many of its seeds training diverged")
    failure_rate: float | None = Field(
        description="which share that is; [they count as doing without training](statistics.md#diverged-seeds)"
    )
    probability: float | None = Field(description="how often it is the answer")
    probability_fits: float | None = Field(description="how often it keeps the limits")
    train_seconds: float | None = Field(description="mean cost, like those below; null where not measured")
    peak_memory_bytes: float | None = Field(description="peak while training")
    stored_bytes: float | None = Field(description="files to keep")
    trainable_parameters: float | None = Field(description="how many are trained")
    latency_seconds: float | None = Field(description="for one example")
    energy_joules: float | None = Field(description="of the training phase")
    money: float | None = Field(description="the whole trial, at the study's `prices`")
    forgetting: float | None = Field(description="by how much what the study holds first is worse after training")
    shortfalls: tuple[ShortfallSummary, ...] = Field(description="limits that it does not keep")


class LeftOut(Part):
    """An arm that is not on a front for want of a figure."""

    method: str = Field(description="its label")
    reason: str = Field(description="why")


class FrontSummary(Part):
    """A Pareto front."""

    axes: tuple[str, ...] = Field(description="what it is a front of")
    front: tuple[str, ...] = Field(description="the arms on it")
    probabilities: dict[str, float] | None = Field(description="how often each is on it; null where there are none")
    left_out: tuple[LeftOut, ...] = Field(description="arms that lack a figure")


class RecommendationReport(Part):
    """A recommendation from measured results."""

    schema_version: int = Field(SCHEMA_VERSION, description="version of this schema")
    study: str = Field(description="the study's name")
    metric: JudgedMetric = Field(description="what quality is judged by")
    limits: tuple[AtMost | AtLeast, ...] = Field(description="the limits that were asked for")
    answer: str | None = Field(description="the arm to use; null where none fits")
    answer_trains: bool | None = Field(description="false where that is to do without training")
    prefer: str | None = Field(
        description="the cost that decides among equally good arms; null where none is known of all of them"
    )
    rule: str = Field(description="the rule in words")
    best: str | None = Field(description="the arm that trains with the best mean; null without one")
    best_fitting: str | None = Field(description="the same of those that keep the limits")
    as_good: tuple[str, ...] = Field(
        description="arms within one standard error of `best_fitting` (`rule` says over what), itself included"
    )
    tied_with: tuple[str, ...] = Field(
        description="arms that train and cannot be told apart from the answer by the study's tests"
    )
    ahead: tuple[str, ...] = Field(
        description="arms that train, other than `best`, and are significantly better than the answer"
    )
    open: tuple[ComparedTo, ...] = Field(
        description="the answer against each of `tied_with`, and against those that share fewer than six seeds with it"
    )
    gives_up: ComparedTo | None = Field(description="the answer against `best`; null where they are the same")
    baseline: str | None = Field(
        description="the best arm that does not train (of those that keep the limits, where any does)"
    )
    not_above_baseline: tuple[str, ...] = Field(
        description="arms that train and are not clearly better than `baseline`"
    )
    if_trained: str | None = Field(
        description="where it is not shown that training helps: the arm to use if one trains all the same; else null"
    )
    to_baseline: ComparedTo | None = Field(description="the answer against `baseline`")
    nearest: str | None = Field(
        description="where none fits: the arm whose worst excess is the smallest part of its limit"
    )
    changes: tuple[ChangeSummary, ...] = Field(description="what would change the answer")
    none_probability: float | None = Field(description="how often nothing fits; null where that cannot be said")
    probability_reason: str = Field(description="why there are no probabilities; empty where there are")
    without_error: tuple[str, ...] = Field(
        description="arms that the draws take at their means, for they have one seed"
    )
    seeds: int = Field(description="fewest seeds of an arm that trains")
    seeds_required: int = Field(SEEDS_REQUIRED, description="how many it takes to call anything significant")
    caveats: tuple[str, ...] = Field(description="what to know first, as in the report")
    arms: tuple[RecommendedArm, ...] = Field(description="one object per arm, best first")
    pareto: tuple[FrontSummary, ...] = Field(description="one object per front")
    text: str = Field(description="the answer in words")


class ExpectedArm(Part):
    """An arm as it was weighed before a run."""

    method: str = Field(description="its label")
    trains: bool = Field(description="false for a baseline")
    prior_low: float | None = Field(description="lower end of its prior; null where none is stated")
    prior_high: float | None = Field(description="upper end")
    prior_source: str | None = Field(description="where the prior is from")
    reason: str = Field(description="why it is not weighed; else empty")
    fits: bool = Field(description="whether it is expected to keep the limits")
    train_seconds: float | None = Field(description="forecast, like those below; null where it does not tell")
    peak_memory_bytes: float | None = Field(description="peak while training")
    stored_bytes: float | None = Field(description="files to keep")
    money: float | None = Field(description="the whole trial, at the study's `prices`")
    forecast: How = Field(description="how the forecast was made")
    device: str = Field(description="device that it was made for")
    missing: tuple[MissingFigure, ...] = Field(description="why costs are null: list of {`figure`, `reason`}")
    shortfalls: tuple[ShortfallSummary, ...] = Field(description="limits that it is expected not to keep")


class PriorReport(Part):
    """A recommendation before anything is trained."""

    schema_version: int = Field(SCHEMA_VERSION_BEFORE, description="version of this schema")
    study: str = Field(description="the study's name")
    before: Literal[True] = Field(True, description="true: nothing of this was measured")
    limits: tuple[AtMost | AtLeast, ...] = Field(description="the limits that were asked for")
    answer: str | None = Field(description="the arm to use; null where none fits")
    prefer: str | None = Field(
        description="the cost that decides among equally good arms; null where none is forecast of all of them"
    )
    rule: str = Field(description="the rule in words")
    best: str | None = Field(description="the arm with the best prior of those that keep the limits")
    as_good: tuple[str, ...] = Field(
        description="arms that keep the limits and count as equally good as `best` before a run, itself included"
    )
    nearest: str | None = Field(
        description="where none fits: the arm whose worst excess is the smallest part of its limit"
    )
    notes: tuple[str, ...] = Field(description="what to know first")
    arms: tuple[ExpectedArm, ...] = Field(description="one object per arm, best prior first")
    proposed: Proposed = Field(description="values of options and settings by published rules, and what would check it")
    text: str = Field(description="the answer in words")
