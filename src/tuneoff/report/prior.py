"""A recommendation before anything is trained, as data and in words; docs/recommend.md describes both."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.prior import COSTS, NO_PRIOR, TOLERANCE, PriorAdvice, Prospect
from tuneoff.analysis.decisions.recommend import Shortfall
from tuneoff.records.forecast import StudyForecast
from tuneoff.records.prior import Prior
from tuneoff.report.arm_schema import MissingFigure
from tuneoff.report.cost_wording import COST_NAMES, cheapest_text, figure_text, limit_text, winner_text
from tuneoff.report.proposal_schema import Proposed
from tuneoff.report.recommendation_data import limit_summary, shortfall_summary
from tuneoff.report.recommendation_schema import ExpectedArm, PriorReport
from tuneoff.report.wording import join

WARNING = (
    "Nothing was measured for this answer: it goes by a forecast of costs and by priors of quality, which others found "
    "with other models and data."
)


def build_prior(
    study: str, advice: PriorAdvice, forecast: StudyForecast, proposed: Proposed, notes: Sequence[str] = ()
) -> PriorReport:
    """Collects everything the words say and more; every key is described in docs/recommend.md."""
    return PriorReport(
        study=study,
        limits=tuple(limit_summary(limit) for limit in advice.limits),
        answer=advice.answer,
        prefer=advice.prefer or None,
        rule=rule_text(advice),
        best=advice.best,
        as_good=tuple(advice.as_good),
        nearest=advice.nearest.label if advice.nearest else None,
        notes=(WARNING, *notes),
        arms=tuple(_arm(arm, forecast) for arm in advice.arms),
        proposed=proposed,
        text=" ".join(lines(advice)),
    )


def lines(advice: PriorAdvice) -> list[str]:
    """Returns the answer in words, one fact per line, the answer itself first."""
    return [
        *_answer(advice),
        *_why(advice),
        *_explain_no_cost(advice),
        *_priors(advice),
        *_excluded_arms(advice),
        *_arms_not_weighed(advice),
    ]


def rule_text(advice: PriorAdvice) -> str:
    """Returns the rule by which the answer was found."""
    cheapest = winner_text(advice.prefer)
    fit = " and are expected to keep the limits" if advice.limits else ""
    return (
        f"Rule: of the arms that train{fit}, those whose prior overlaps that of the best, with a middle at most "
        f"{share(TOLERANCE)} of the gain lower, count as equally good before a run, and of these {cheapest} is named."
    )


def share(value: float) -> str:
    """Formats a share of the gain: `70 %`."""
    return f"{100 * value:.0f} %"


def interval(prior: Prior) -> str:
    """Formats a prior's interval: `70 % to 103 %`."""
    return share(prior.low) if prior.low == prior.high else f"{share(prior.low)} to {share(prior.high)}"


def _answer(advice: PriorAdvice) -> list[str]:
    limits = join([limit_text(limit) for limit in advice.limits])
    if advice.answer is not None:
        arm = advice.arm(advice.answer)
        figures = [
            f"{COST_NAMES[axis]} {figure_text(AXES[axis], arm.figures[axis], advice.currency)}"
            for axis in COSTS
            if axis in arm.figures
        ]
        limits_text = f" with {limits}" if limits else ""
        return [
            f"Before a run: use {arm.label}{limits_text}" + (f"; forecast: {', '.join(figures)}." if figures else ".")
        ]
    if not any(arm.trains and arm.prior is not None for arm in advice.arms):
        return ["Nothing can be said before a run: no arm that trains has a prior."]
    text = f"None fits: no arm that trains and has a prior is expected to keep {limits}."
    if advice.nearest is None:
        return [text]
    return [text, f"The nearest is {advice.nearest.label}: {_misses(advice, advice.nearest)}."]


def _why(advice: PriorAdvice) -> list[str]:
    if advice.answer is None or advice.best is None:
        return []
    best = advice.arm(advice.best)
    assert best.prior is not None  # by the definition of best
    others = [label for label in advice.as_good if label != advice.best]
    text = f"{advice.best} has the best prior: {interval(best.prior)} of full fine-tuning's gain over the baseline"
    if not others:
        return [f"{text}; that of no other arm comes near it.", rule_text(advice)]
    cheapest = cheapest_text(advice.answer, advice.prefer)
    counts = "counts" if len(others) == 1 else "count"
    return [f"{text}. {join(others)} {counts} as equally good before a run{cheapest}.", rule_text(advice)]


def _explain_no_cost(advice: PriorAdvice) -> list[str]:
    """Says why no cost decides, where no cost is forecast of all arms that count as equally good."""
    if advice.answer is None or advice.prefer:
        return []
    missing = {
        label: {axis: why for axis, why in advice.arm(label).missing.items() if axis != "money" or advice.currency}
        for label in advice.as_good
    }
    missing_texts = [
        f"{label} ({join([f'{COST_NAMES[axis]}: {reason}' for axis, reason in reasons.items()])})"
        for label, reasons in missing.items()
        if reasons
    ]
    return [f"No cost is forecast of all of these, so none decides. Missing: {'; '.join(missing_texts)}."]


def _priors(advice: PriorAdvice) -> list[str]:
    """Lists every prior with its source: those that decide, then the rest."""
    with_prior = [arm for arm in advice.arms if arm.trains and arm.prior is not None]
    with_prior.sort(key=lambda arm: arm.label not in advice.as_good)
    return [
        f"Prior of {arm.label}: {interval(arm.prior)} ({arm.prior.source})."
        for arm in with_prior
        if arm.prior is not None
    ]


def _excluded_arms(advice: PriorAdvice) -> list[str]:
    excluded = [
        arm
        for arm in advice.arms
        if arm.trains and arm.prior is not None and not arm.fits and arm is not advice.nearest
    ]
    return (
        [f"Kept out by the limits: {'; '.join(f'{arm.label} ({_misses(advice, arm)})' for arm in excluded)}."]
        if excluded
        else []
    )


def _arms_not_weighed(advice: PriorAdvice) -> list[str]:
    without_prior = [arm.label for arm in advice.arms if arm.trains and arm.prior is None]
    parts = []
    if without_prior:
        parts.append(
            f"Not weighed, for {NO_PRIOR}: {join(without_prior)}; --prior '{without_prior[0]}=0.5..1' states one."
        )
    if baselines := [arm.label for arm in advice.arms if not arm.trains]:
        parts.append(f"Not weighed, for nothing is trained: {join(baselines)}.")
    return parts


def _misses(advice: PriorAdvice, arm: Prospect) -> str:
    return join([_shortfall(shortfall, advice.currency) for shortfall in arm.shortfalls])


def _shortfall(shortfall: Shortfall, currency: str) -> str:
    axis = shortfall.limit.axis
    assert axis is not None  # metrics are refused before a run
    name = COST_NAMES[axis.name]
    if shortfall.figure is None or shortfall.excess is None:
        return f"{name} not known: {shortfall.reason}"
    figure, excess = (figure_text(axis, value, currency) for value in (shortfall.figure, shortfall.excess))
    return f"{name} {figure}, {excess} ({100 * shortfall.relative:.1f} %) over {shortfall.limit.text}"


def _arm(arm: Prospect, forecast: StudyForecast) -> ExpectedArm:
    return ExpectedArm(
        method=arm.label,
        trains=arm.trains,
        prior_low=arm.prior.low if arm.prior else None,
        prior_high=arm.prior.high if arm.prior else None,
        prior_source=arm.prior.source if arm.prior else None,
        reason="" if arm.trains and arm.prior is not None else NO_PRIOR if arm.trains else "nothing is trained",
        fits=arm.fits,
        **{AXES[axis].figure: arm.figures.get(axis) for axis in COSTS},
        forecast=forecast.arms[arm.label].how,
        device=forecast.arms[arm.label].device,
        missing=tuple(MissingFigure(figure=AXES[axis].figure, reason=why) for axis, why in arm.missing.items()),
        shortfalls=tuple(shortfall_summary(shortfall) for shortfall in arm.shortfalls),
    )
