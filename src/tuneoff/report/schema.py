"""The report of a study as data: one `Report`, which every renderer reads; docs/report-schema.md is made of it.

What analysis derives as a whole (the search, devices, the forecast, examples, curves) has its model there.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from tuneoff.analysis.answers import ClassReport, Residuals
from tuneoff.analysis.curves import LearningCurves
from tuneoff.analysis.decisions.rule_data import RuleData
from tuneoff.analysis.deployability import ArmDeployability
from tuneoff.analysis.devices import DeviceComparison
from tuneoff.analysis.disagreements import Disagreement, Hardness
from tuneoff.analysis.examples import SampledExample
from tuneoff.analysis.forecast_accuracy import ForecastComparison
from tuneoff.analysis.machine_use import UsageCurve
from tuneoff.analysis.retention import RetentionReport
from tuneoff.analysis.search_summary import SearchSummary
from tuneoff.analysis.statistics import LEVEL, SEEDS_REQUIRED
from tuneoff.config.data import DataSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import TokenPrices
from tuneoff.records.record import (
    DataInfo,
    Direction,
    Environment,
    Finding,
    ModelInfo,
    PrecisionInfo,
    Status,
)
from tuneoff.report.arm_schema import ArmSummary, Comparison, Part

SCHEMA_VERSION = 4


class StudySummary(Part):
    """What was asked. No folder is named, of a local file neither: a study can be copied anywhere."""

    name: str = Field(description="the study's name")
    description: str = Field(description="what its file says of it")
    model: str = Field(description="the base model's source")
    random_weights: bool = Field(description="true: quality means nothing")
    task: str = Field(description="the task")
    task_options: dict[str, Any] = Field(description="its options with defaults filled in")
    sources: DataSpec = Field(
        description="where the rows of `train`, `validation` and `test` come from, each null (cut from train) or "
        "{`source`, `split`, `config`, `revision`} as the study names them: `split` null is the role's own name, "
        "`revision` null a hub's newest of the time. Which rows these were, the fingerprints in `data` tell"
    )
    selected_by: str | None = Field(
        description="the validation metric that chose the tested checkpoints; null where the last ones are tested, and "
        "while no record tells it"
    )
    primary_metric: str | None = Field(description="what arms are ranked by; null while nothing is completed")
    primary_direction: Direction | None = Field(description="which way is better; null likewise")
    primary_unit: str | None = Field(description="its unit; null likewise")
    seeds: tuple[int, ...] = Field(description="seeds of the final trials")


class TrialCounts(Part):
    """How many final trials there are."""

    planned: int = Field(description="all")
    recorded: int = Field(description="with a record, whatever the status")
    completed: int = Field(description="with a result")


class ArmNames(Part):
    """The two arms of a pair."""

    first: str = Field(description="label of the better arm by rank")
    second: str = Field(description="label of the other")


class PairSummary(Comparison, ArmNames):
    """A pair of arms of the verdict; `this arm` is the first."""


class VerdictSummary(Part):
    """Every pair of arms on the primary metric. Baselines are arms like all others here."""

    metric: str = Field(description="the primary metric")
    unit: str = Field(description="its unit")
    direction: Direction = Field(description="`higher` or `lower` is better")
    groups: tuple[tuple[str, ...], ...] = Field(
        description="the largest groups of arms within which nothing could be told apart, best first; none while every "
        "pair is open"
    )
    effect_size: str = Field(description="name of the effect size")
    correction: str = Field(description="Shaffer")
    pairs: tuple[PairSummary, ...] = Field(
        description="every pair once, the better by rank first, as a comparison with the labels `first` and `second`"
    )


class Unsettled(Part):
    """An arm that is open or tied with the best."""

    method: str = Field(description="its label")
    seeds: int | None = Field(description="seeds that would tell it from the best, or null")
    least: int | None = Field(description="lower end of the 80 % range of that number, or null")
    most: int | None = Field(description="upper end; null where there is none")
    reason: str = Field(description="why no number is named; else empty")


class AnswerSummary(Part):
    """Which method to use, and how certain that is."""

    best: str | None = Field(
        description="the trained arm that is the best on the seeds that arms share; null while none can be weighed"
    )
    winner: str | None = Field(
        description="the same, if it is significantly ahead of every other arm that trains; else null"
    )
    tied_with: tuple[str, ...] = Field(description="labels that cannot be told apart from the best")
    open: tuple[str, ...] = Field(description="labels that share too few seeds with it to tell")
    behind: tuple[str, ...] = Field(description="labels that are significantly worse")
    ahead: tuple[str, ...] = Field(
        description="significantly better than the best on shared seeds: only where arms have different seeds and each "
        "is behind another"
    )
    not_compared: tuple[str, ...] = Field(description="labels for which there is no fair comparison with it")
    without_score: tuple[str, ...] = Field(description="arms that train and have no score, or none yet")
    unequal_seeds: bool = Field(description="whether arms have scores of different seeds")
    baseline: str | None = Field(
        description="the best arm that does not train, or null; of equal ones the first in the study's order"
    )
    not_above_baseline: tuple[str, ...] = Field(
        description="trained arms that are not clearly better than it: the interval of the difference reaches 0, or, "
        "where there is none, the mean is no better"
    )
    if_trained: str | None = Field(
        description="where it is not shown that training helps, the arm that `tuneoff recommend` gives if one trains "
        "all the same; else null"
    )
    cheapest: dict[str, str] = Field(
        description="{cost: label} among the best and those tied with it; a cost that one of them lacks is left out"
    )
    margin: float | None = Field(
        description="by how much of the primary metric an arm may be worse than the best and count as as good; null "
        "where none is named"
    )
    as_good: tuple[str, ...] = Field(
        description="labels of arms that train and are shown to be worse than the best by no more than the margin; "
        "empty without one"
    )
    seeds: int = Field(description="fewest seeds in those comparisons")
    significant: bool = Field(description="whether some arm is behind")
    seeds_required: int = Field(SEEDS_REQUIRED, description="6: under it nothing is called significant")
    to_settle: tuple[Unsettled, ...] = Field(
        description="list of {`method`, `seeds`, `reason`}: seeds that would tell the best from each arm that is open "
        "or tied with it, or null and why"
    )
    scope: str = Field(description="what the verdict speaks of, in a sentence; empty without a best arm")
    interval_level: float = Field(LEVEL, description="0.95")
    caveats: tuple[str, ...] = Field(description="warnings that belong to the answer, the gravest first")
    doubt: str = Field(
        description="that nothing was learned or that it is not shown that training helps, and what to do; it comes "
        "before all else; empty where it is shown, where there is no arm to weigh it by, and where weights are random"
    )
    text: str = Field(description="all this in a few sentences")


class Failure(Part):
    """A trial that did not complete."""

    id: str = Field(description="the trial's id")
    label: str = Field(description="its arm")
    seed: int = Field(description="its seed")
    status: Status = Field(description="what became of it")
    cause: str = Field(description="why, for a person")
    log_tail: tuple[str, ...] = Field(description="the last lines that the trial's process printed")


class PublishedSummary(Part):
    """Figures that somebody published of the same question."""

    citation: str = Field(description="where they are from")
    other_model: str | None = Field(description="base model that they are of, where the study has another; else null")
    notes: tuple[str, ...] = Field(description="what to know of them")
    without_an_arm: dict[str, dict[str, float]] = Field(description="figures of arms that this study has not")


class Machine(Environment):
    """A machine that trials ran on."""

    versions: dict[str, str] = Field(default_factory=dict, exclude=True)
    commit: str | None = Field(None, exclude=True)
    started_at: str = Field("", exclude=True)


class Environments(Part):
    """Machines and software of the completed trials."""

    machines: tuple[Machine, ...] = Field(description="each different one once, as in a trial's record")
    versions: dict[str, str] = Field(description="the first completed trial's")
    version_differences: dict[str, tuple[str, ...]] = Field(description="{package: versions} where trials differ")
    commit: str | None = Field(description="the first completed trial's")
    precision: tuple[PrecisionInfo, ...] = Field(
        description="each policy in force, with the largest measured error of a matrix product"
    )


class DataSummary(DataInfo):
    """The data as a completed trial saw them, key by key as in a trial's record."""

    train_order_fingerprint: str | None = Field(None, exclude=True)
    model: ModelInfo | None = Field(description="the base model as it was loaded")


class MoneySummary(Part):
    """What the study cost by its `prices`."""

    currency: str = Field(description="word for the money")
    device_hour: dict[str, float] = Field(description="device -> price of an hour, as stated")
    million_tokens: dict[str, TokenPrices] = Field(
        default_factory=dict, description="model that others run -> price of a million tokens, as stated"
    )
    note: str = Field(description="where the prices come from; may be empty")
    final: float = Field(description="all final trials whose price is known")
    search: float | None = Field(
        description="all trials of the search, at the prices of their arms' final trials; null without a search, and "
        "where one is not known"
    )
    search_reason: str = Field("", description="why that is null; else empty")
    unpriced: int = Field(
        description="final trials that ended, in whatever way, and whose price is not known: of one that diverged or "
        "failed no time is recorded"
    )


class RaceLookSummary(Part):
    """One look of a race."""

    seeds: int = Field(description="seeds of every arm that was in the race then")
    arms: tuple[str, ...] = Field(description="labels of these arms")
    best: str | None = Field(description="the best of those that stayed; null where none has a score")
    beaten: dict[str, str] = Field(description="label of an arm that left -> an arm that is significantly ahead of it")
    without_score: tuple[str, ...] = Field(description="labels of arms that left because they have no score")


class RaceSummary(Part):
    """A race over seeds (`seeds: race`): who got more seeds, and why it ended."""

    counts: tuple[int, ...] = Field(description="seeds at each look that there may be, fixed beforehand")
    looks: tuple[RaceLookSummary, ...] = Field(description="the looks that there were")
    running: tuple[str, ...] = Field(
        description="labels of the arms that are to have more seeds; empty when it is over"
    )
    ending: str | None = Field(
        description="`settled` (every arm but one is significantly behind), `equivalent` (all that are left are as "
        "good as the best within the margin), `hopeless` (even the most seeds would not tell those apart that are "
        "left), `last look`; null while it goes on"
    )


class Report(Part):
    """The report of a study."""

    schema_version: int = Field(SCHEMA_VERSION, description="4")
    study: StudySummary = Field(description="what was asked")
    trials: TrialCounts = Field(description="how many trials there are")
    warnings: tuple[Finding, ...] = Field(
        description="list of {`name`, `message`}: what a reader must know; those of the answer first, then the "
        "records' findings, one for each kind with its trials counted; `methods[].findings` tells them arm by arm"
    )
    methods: tuple[ArmSummary, ...] = Field(description="one object per arm of the table, in the study's order")
    answer: AnswerSummary = Field(description="which method to use")
    verdict: VerdictSummary | None = Field(
        description="null while nothing is compared, else every pair of arms on the primary metric"
    )
    failures: tuple[Failure, ...] = Field(description="trials that did not complete")
    published: PublishedSummary | None = Field(description="null, or what others published")
    search: SearchSummary | None = Field(description="null without a search, else what it tried, chose and cost")
    forecast: ForecastComparison | None = Field(
        description="null without one, else what was predicted before training and what was measured"
    )
    devices: tuple[DeviceComparison, ...] = Field(
        description="one object per arm on several devices; empty where there is none"
    )
    examples: tuple[SampledExample, ...] = Field(
        description="at most four test examples with what every arm wrote; empty for a task whose "
        "trials keep no sources (classification)"
    )
    comparable: bool = Field(
        description="false when trials ran on different machines or software, with and without "
        "`execution.release_memory`, or some timing is contended"
    )
    environments: Environments = Field(description="machines and software")
    protocol: Protocol = Field(
        description="what was held equal: the study file's `protocol` with every default filled in"
    )
    data: DataSummary | None = Field(
        description="null while nothing is completed, else the data as a completed trial saw them"
    )
    money: MoneySummary | None = Field(None, description="null where the study has no `prices`")
    retention: RetentionReport | None = Field(
        None, description="null where nothing is held (`retention`), else what the arms forget"
    )
    race: RaceSummary | None = Field(None, description="null without a race over seeds, else how it went")
    deployability: tuple[ArmDeployability, ...] = Field(
        (), description="arms whose trained models were measured again in the forms in which they may be deployed"
    )
    curves: LearningCurves = Field(
        LearningCurves(), exclude=True, description="the arms' learning curves; no part of the JSON"
    )
    rule: RuleData | None = Field(
        None, exclude=True, description="what the rule of a recommendation reads; no part of the JSON"
    )
    disagreements: tuple[Disagreement, ...] = Field(
        (), exclude=True, description="test examples that arms answer differently; no part of the JSON"
    )
    classes: ClassReport | None = Field(
        None, exclude=True, description="what the best arm and the chosen one answered; no part of the JSON"
    )
    residuals: tuple[Residuals, ...] = Field((), exclude=True, description="the same of numbers; no part of the JSON")
    hardness: Hardness | None = Field(
        None, exclude=True, description="how hard the test examples are; no part of the JSON"
    )
    machine_use: tuple[UsageCurve, ...] = Field(
        (), exclude=True, description="what each arm's first trial used of the machine; no part of the JSON"
    )

    @property
    def is_ours(self) -> bool:
        """Whether tuneoff trained what is reported; an imported study was trained by another suite."""
        return "tuneoff" in self.environments.versions

    def arm(self, label: str) -> ArmSummary:
        """Returns the arm of that label. Raises KeyError if there is none."""
        for arm in self.methods:
            if arm.method == label:
                return arm
        raise KeyError(label)


class JoinedArm(ArmSummary):
    """An arm of several studies side by side."""

    study: str = Field(description="of `tuneoff compare` alone: name of the arm's study")


class JoinedReport(Report):
    """The report of several studies side by side, as `tuneoff compare` gives it."""

    methods: tuple[JoinedArm, ...] = Field(description="likewise, each with its `study`")
    notes: tuple[str, ...] = Field(
        description="of `tuneoff compare` alone: what could not be checked, and what differs though the question is "
        "the same"
    )

    @classmethod
    def of(cls, report: Report, studies: dict[str, str], notes: tuple[str, ...]) -> Self:
        """Returns a report with the study of each arm and notes on how the studies differ."""
        arms = tuple(JoinedArm(**dict(arm), study=studies[arm.method]) for arm in report.methods)
        return cls(**{**dict(report), "methods": arms}, notes=notes)
