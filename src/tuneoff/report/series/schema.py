"""The report of a series as data; docs/series-report.md is made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneoff.analysis.statistics.learning_law import Form
from tuneoff.records.record import Direction
from tuneoff.report.arm_schema import Part
from tuneoff.report.recommendation_schema import RecommendationReport
from tuneoff.report.schema import JoinedReport, Report, TrialCounts

SCHEMA_VERSION = 1
Axis = Literal["train_rows", "model", "data"]


class MemberSummary(Part):
    """One study of the series. Its own report is in its folder."""

    name: str = Field(description="its name, which is that of its folder")
    value: Any = Field(description="what it has of the series' list")
    report: str = Field(description="its own page, from the series' page")
    train_rows: int = Field(description="training rows of its trials")
    trials: TrialCounts = Field(description="how many trials there are")
    metric: str = Field(description="its primary metric")
    headline: str = Field(description="its answer in a sentence")
    best: str | None = Field(description="its best arm that trains, significant or not; null while none can be weighed")
    winner: str | None = Field(description="the same, if it is significantly ahead of every other arm that trains")
    tied_with: tuple[str, ...] = Field(description="labels that cannot be told apart from the best")


class BoundedFigure(Part):
    """A figure with its 95 % interval."""

    value: float = Field(description="the figure")
    low: float = Field(description="lower end")
    high: float = Field(description="upper end")


class SizePoint(Part):
    """What an arm scored at one size."""

    rows: int = Field(description="training rows")
    member: str = Field(description="name of the member")
    mean: float = Field(description="mean of the primary metric over seeds")
    interval_low: float | None = Field(description="lower end of its 95 % interval; null without one")
    interval_high: float | None = Field(description="upper end")
    seeds: int = Field(description="seeds behind it")


class LawSummary(Part):
    """error(D) = limit + scale / (offset + (D / unit)^exponent); the error is the distance to the metric's best."""

    form: Form = Field(
        description="`rectified` (five sizes or more); of four sizes `power with limit` (offset 0) and `power with "
        "offset` (limit 0); of three `power` (both are 0) and `square root` (offset 0, exponent 1/2)"
    )
    share: float = Field(description="share of the draws that this law has: 1, or by how well each of two laws fits")
    limit: float = Field(description="error that is left with any number of rows")
    scale: float = Field(description="of the part that falls")
    offset: float = Field(description="what pretraining stands for")
    exponent: float = Field(description="how fast the error falls")
    unit: float = Field(description="rows that D is counted in: the geometric mean of the sizes")
    misfit: float = Field(
        description="standard deviation, in the metric's unit, of an error that sizes have besides that of their means"
    )


class GainSummary(Part):
    """What more rows are expected to bring, by the law."""

    more: int = Field(description="rows more than the largest size")
    gain: BoundedFigure = Field(description="change of the primary metric, positive where it is better")


class HeldOutSummary(Part):
    """The law without the largest size against what was measured there."""

    rows: int = Field(description="the largest size")
    forms: tuple[Form, ...] = Field(description="the laws that fit the sizes without it")
    predicted: BoundedFigure = Field(description="the metric by these laws, as it would be measured")
    measured: float = Field(description="the mean that was measured")
    error: BoundedFigure = Field(description="predicted minus measured")
    holds: bool = Field(description="whether that interval holds 0")


class LinePoint(Part):
    """A place of a law's line."""

    rows: int = Field(description="training rows")
    figure: BoundedFigure = Field(description="the metric by the law")


class SizedArm(Part):
    """An arm's learning curve over training rows."""

    method: str = Field(description="the arm's label")
    points: tuple[SizePoint, ...] = Field(description="what it scored, by size")
    laws: tuple[LawSummary, ...] = Field(
        description="the law, or the two that share the draws; empty where there is none, with a `reason`"
    )
    reason: str = Field(description="why there is no law; else empty")
    gains: tuple[GainSummary, ...] = Field(description="what a quarter more rows, and twice the rows, would bring")
    held_out: HeldOutSummary | None = Field(description="the test of the law; null with three sizes or fewer")
    line: tuple[LinePoint, ...] = Field((), exclude=True, description="the law's line; no part of the JSON")


class CrossingSummary(Part):
    """Where one arm overtakes another."""

    first: str = Field(description="the better with few rows")
    second: str = Field(description="the better with many")
    rows: float = Field(description="where their means cross, between two sizes by the logarithm of rows")
    low: float | None = Field(description="lower end of the 95 % interval of that place; null where nothing tells it")
    high: float | None = Field(description="upper end")
    share: float | None = Field(
        description="share of draws of all true means in which the first is better at the least size and the second at "
        "the largest"
    )
    shown: bool = Field(
        description="whether the first is significantly ahead at some size and the second at a larger one, corrected "
        "over all pairs and sizes"
    )


class SizesSummary(Part):
    """A series over numbers of training rows."""

    arms: tuple[SizedArm, ...] = Field(description="one object per arm that trains, in the study's order")
    crossings: tuple[CrossingSummary, ...] = Field(description="the surest first")


class RankedArm(Part):
    """An arm over the data sets."""

    method: str = Field(description="the arm's label")
    average_rank: float = Field(description="mean of its ranks; 1 is the best")
    ranks: dict[str, float] = Field(description="{data set: rank}; equal arms share a rank")
    means: dict[str, float] = Field(description="{data set: mean of the set's primary metric}")
    trains: bool = Field(description="false for a baseline")


class ArmPair(Part):
    """Two arms whose average ranks differ."""

    first: str = Field(description="the better")
    second: str = Field(description="the other")


class SetsSummary(Part):
    """A series over data sets."""

    arms: tuple[RankedArm, ...] = Field(description="the arms that every set has, the best average rank first")
    statistic: float | None = Field(
        description="F of Iman and Davenport; null with one set, and where all sets agree, which makes it infinite"
    )
    p: float | None = Field(
        description="of no difference between any arms, over permutations of the ranks in each set; null with one set"
    )
    critical_difference: float | None = Field(description="Nemenyi's, at 5 %; null with one set")
    agreement: float | None = Field(description="Kendall's W: 0 where sets do not agree, 1 where all do")
    different: tuple[ArmPair, ...] = Field(description="pairs whose average ranks are significantly different")
    groups: tuple[tuple[str, ...], ...] = Field(
        description="the largest groups of arms within which nothing could be told apart, best first"
    )
    left_out: tuple[str, ...] = Field(description="arms that some set lacks")


class SeriesReport(Part):
    """The report of a series."""

    schema_version: int = Field(SCHEMA_VERSION, description="1")
    name: str = Field(description="the series' name")
    axis: Axis = Field(description="what the members differ in: `train_rows`, `model` or `data`")
    metric: str = Field(description="the primary metric; of several data sets the first one's")
    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")
    members: tuple[MemberSummary, ...] = Field(description="the studies with a completed trial, in the series' order")
    left_out: dict[str, str] = Field(description="{member: why it is not among them}")
    headline: str = Field(description="the answer in a sentence")
    text: tuple[str, ...] = Field(description="the answer's other sentences, the most important first")
    notes: tuple[str, ...] = Field(description="what to know before the answer is trusted")
    sizes: SizesSummary | None = Field(description="null but for a series over training rows")
    bases: JoinedReport | None = Field(
        description="null but for a series over base models: the [report](report-schema.md) of one study of all arms "
        "of all bases, whose `study` is the base's member"
    )
    sets: SetsSummary | None = Field(
        description="null but for a series over data sets, and where fewer than two arms are in all"
    )
    reports: dict[str, Report] = Field(
        default_factory=dict, exclude=True, description="the members' own reports; no part of the JSON"
    )


class SetsStanding(Part):
    """An arm as it was weighed over data sets."""

    method: str = Field(description="its label")
    trains: bool = Field(description="false for a baseline")
    average_rank: float | None = Field(
        description="among the arms that keep the limits on every set; null for one that does not"
    )
    fits: bool = Field(description="whether it keeps the limits on every set")
    reasons: dict[str, str] = Field(description="{data set: why it does not}")


class SeriesRecommendation(Part):
    """A recommendation from a series' results."""

    schema_version: int = Field(SCHEMA_VERSION, description="1")
    series: str = Field(description="the series' name")
    axis: Axis = Field(description="what the members differ in")
    member: str | None = Field(description="over training rows the member of the largest size; else null")
    answer: str | None = Field(description="the arm to use; null where none fits")
    notes: tuple[str, ...] = Field(description="what to know first")
    recommendation: RecommendationReport | None = Field(
        description="over training rows of the largest size, over base models of all arms of all bases, as "
        "[of a study](recommend.md#the-json-version-2); null over data sets"
    )
    more_rows: tuple[GainSummary, ...] = Field(
        description="what a quarter more rows, and twice the rows, would bring to the answer; empty where that is not "
        "known, and but over training rows"
    )
    arms: tuple[SetsStanding, ...] = Field(
        description="over data sets each arm, the best average rank first; else empty"
    )
    text: str = Field(description="the answer in words")
