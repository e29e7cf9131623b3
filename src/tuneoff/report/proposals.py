"""What is proposed before anything is measured, in words."""

from __future__ import annotations

from tuneoff.report import units
from tuneoff.report.proposal_schema import CheckStudy, Proposed, ProposedValue


def lines(proposed: Proposed) -> list[str]:
    """Returns a line for each value, for what no rule covers, and for the study that would check it, whose command
    follows."""
    return [
        *(describe(value) for value in proposed.values),
        *(f"Not proposed: {reason}." for reason in proposed.not_covered),
        *([_check(proposed.check)] if proposed.check is not None else []),
    ]


def describe(value: ProposedValue) -> str:
    """Says what is proposed, by which rule, and where that rule does not apply."""
    whole_study = " for all arms" if "." in value.key else ""
    change = "as it is" if value.value == value.current else f"now {value.current}"
    return (
        f"Proposed for {value.method}: {value.key} {value.value}{whole_study} ({change}), by rule {value.rule} "
        f"({value.source}); not measured here. {value.reason} Limits of the rule: {value.outside}."
    )


def _check(check: CheckStudy) -> str:
    time = "" if check.seconds is None else f", about {units.seconds(check.seconds)} by the forecast"
    return (
        f"The smallest study that checks it: {' against '.join(check.methods)}, {check.search_trials} search trials "
        f"and {check.seeds} seeds of each{time} ({check.reason}):"
    )
