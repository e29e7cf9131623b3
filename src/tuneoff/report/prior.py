"""A recommendation before anything is trained, as plain data and in words; docs/recommend.md describes both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.prior import COSTS, NO_PRIOR, TOLERANCE, Advice, Prospect
from tuneoff.analysis.decisions.recommend import Shortfall
from tuneoff.records.forecast import Prior, StudyForecast
from tuneoff.report.recommendation import COST_NAMES, cheapest_text, figure_text, limit_text, winner_text
from tuneoff.report.recommendation_data import limit_data, shortfall_data
from tuneoff.report.wording import join

SCHEMA_VERSION = 1
WARNING = (
    "Nothing was measured for this answer: it goes by a forecast of costs and by priors of quality, which others found "
    "with other models and data."
)


def as_data(study: str, advice: Advice, forecast: StudyForecast, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Returns everything the words say and more; every key is described in docs/recommend.md."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "before": True,
        "limits": [limit_data(limit) for limit in advice.limits],
        "answer": advice.answer,
        "prefer": advice.prefer or None,
        "rule": rule_text(advice),
        "best": advice.best,
        "as_good": list(advice.as_good),
        "nearest": advice.nearest.label if advice.nearest else None,
        "notes": [WARNING, *notes],
        "rows": [_row_data(row, forecast) for row in advice.rows],
        "text": " ".join(lines(advice)),
    }


def lines(advice: Advice) -> list[str]:
    """Returns the answer in words, one fact per line, the answer itself first."""
    return [
        *_answer(advice),
        *_why(advice),
        *_explain_no_cost(advice),
        *_priors(advice),
        *_excluded_rows(advice),
        *_rows_not_weighed(advice),
    ]


def rule_text(advice: Advice) -> str:
    """Returns the rule by which the answer was found."""
    cheapest = winner_text(advice.prefer)
    fit = " and are expected to keep the limits" if advice.limits else ""
    return (
        f"Rule: of the rows that train{fit}, those whose prior overlaps that of the best, with a middle at most "
        f"{share(TOLERANCE)} of the gain lower, count as equally good before a run, and of these {cheapest} is named."
    )


def share(value: float) -> str:
    """Formats a share of the gain: `70 %`."""
    return f"{100 * value:.0f} %"


def interval(prior: Prior) -> str:
    """Formats a prior's interval: `70 % to 103 %`."""
    return share(prior.low) if prior.low == prior.high else f"{share(prior.low)} to {share(prior.high)}"


def _answer(advice: Advice) -> list[str]:
    limits = join([limit_text(limit) for limit in advice.limits])
    if advice.answer is not None:
        row = advice.row(advice.answer)
        figures = [
            f"{COST_NAMES[axis]} {figure_text(AXES[axis], row.figures[axis])}" for axis in COSTS if axis in row.figures
        ]
        limits_text = f" with {limits}" if limits else ""
        return [
            f"Before a run: use {row.label}{limits_text}" + (f"; forecast: {', '.join(figures)}." if figures else ".")
        ]
    if not any(row.trains and row.prior is not None for row in advice.rows):
        return ["Nothing can be said before a run: no row that trains has a prior."]
    text = f"None fits: no row that trains and has a prior is expected to keep {limits}."
    if advice.nearest is None:
        return [text]
    return [text, f"The nearest is {advice.nearest.label}: {_misses(advice.nearest)}."]


def _why(advice: Advice) -> list[str]:
    if advice.answer is None or advice.best is None:
        return []
    best = advice.row(advice.best)
    assert best.prior is not None  # by the definition of best
    others = [label for label in advice.as_good if label != advice.best]
    text = f"{advice.best} has the best prior: {interval(best.prior)} of full fine-tuning's gain over the floor"
    if not others:
        return [f"{text}; that of no other row comes near it.", rule_text(advice)]
    cheapest = cheapest_text(advice.answer, advice.prefer)
    counts = "counts" if len(others) == 1 else "count"
    return [f"{text}. {join(others)} {counts} as equally good before a run{cheapest}.", rule_text(advice)]


def _explain_no_cost(advice: Advice) -> list[str]:
    """Says why no cost decides, where no cost is forecast of all rows that count as equally good."""
    if advice.answer is None or advice.prefer:
        return []
    missing = {label: advice.row(label).missing for label in advice.as_good}
    missing_texts = [
        f"{label} ({join([f'{COST_NAMES[axis]}: {reason}' for axis, reason in reasons.items()])})"
        for label, reasons in missing.items()
        if reasons
    ]
    return [f"No cost is forecast of all of these, so none decides. Missing: {'; '.join(missing_texts)}."]


def _priors(advice: Advice) -> list[str]:
    """Lists every prior with its source: those that decide, then the rest."""
    with_prior = [row for row in advice.rows if row.trains and row.prior is not None]
    with_prior.sort(key=lambda row: row.label not in advice.as_good)
    return [
        f"Prior of {row.label}: {interval(row.prior)} ({row.prior.source})."
        for row in with_prior
        if row.prior is not None
    ]


def _excluded_rows(advice: Advice) -> list[str]:
    excluded = [
        row
        for row in advice.rows
        if row.trains and row.prior is not None and not row.fits and row is not advice.nearest
    ]
    return (
        [f"Kept out by the limits: {'; '.join(f'{row.label} ({_misses(row)})' for row in excluded)}."]
        if excluded
        else []
    )


def _rows_not_weighed(advice: Advice) -> list[str]:
    without_prior = [row.label for row in advice.rows if row.trains and row.prior is None]
    parts = []
    if without_prior:
        parts.append(
            f"Not weighed, for {NO_PRIOR}: {join(without_prior)}; --prior '{without_prior[0]}=0.5..1' states one."
        )
    if floors := [row.label for row in advice.rows if not row.trains]:
        parts.append(f"Not weighed, for nothing is trained: {join(floors)}.")
    return parts


def _misses(row: Prospect) -> str:
    return join([_shortfall(shortfall) for shortfall in row.shortfalls])


def _shortfall(shortfall: Shortfall) -> str:
    axis = shortfall.limit.axis
    assert axis is not None  # metrics are refused before a run
    name = COST_NAMES[axis.name]
    if shortfall.figure is None or shortfall.excess is None:
        return f"{name} not known: {shortfall.reason}"
    figure, excess = figure_text(axis, shortfall.figure), figure_text(axis, shortfall.excess)
    return f"{name} {figure}, {excess} ({100 * shortfall.relative:.1f} %) over {shortfall.limit.text}"


def _row_data(row: Prospect, forecast: StudyForecast) -> dict[str, Any]:
    reason = "" if row.trains and row.prior is not None else NO_PRIOR if row.trains else "nothing is trained"
    return {
        "method": row.label,
        "trains": row.trains,
        "prior_low": row.prior.low if row.prior else None,
        "prior_high": row.prior.high if row.prior else None,
        "prior_source": row.prior.source if row.prior else None,
        "reason": reason,
        "fits": row.fits,
        **{AXES[axis].figure: row.figures.get(axis) for axis in COSTS},
        "forecast": forecast.rows[row.label].how,
        "device": forecast.rows[row.label].device,
        "missing": [{"figure": AXES[axis].figure, "reason": reason} for axis, reason in row.missing.items()],
        "shortfalls": [shortfall_data(shortfall) for shortfall in row.shortfalls],
    }
