"""A budget of time on the command line: what fits into it, and what the verdict will then be able to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tuneoff.study.budget import Allotment

budget_option = click.option(
    "--budget",
    metavar="TIME",
    help="Time for all runs of this study together, e.g. 30m: as many search trials and seeds as fit, the equal search "
    "first, then seeds by racing (docs/protocol.md). The same command with more time goes on.",
)


def lines(allotment: Allotment) -> list[str]:
    """Describes what fits into a budget."""
    from tuneoff.report import units

    search = ""
    if allotment.asked:
        fewer = f" of {allotment.asked}" if allotment.search_trials < allotment.asked else ""
        search = f"{allotment.search_trials}{fewer} search trials of every arm, then "
    spent = f" ({units.seconds(allotment.spent)} of it spent)" if allotment.spent else ""
    first, seeds = units.seconds(allotment.first_seconds), allotment.seeds
    text = [
        f"budget {units.seconds(allotment.seconds)}{spent}: {search}seeds by racing, the next look after about "
        f"{first}; time for {seeds} seeds of every arm if none leaves the race"
    ]
    if allotment.smallest is not None:
        text.append(
            f"with {seeds} seeds a difference of {allotment.smallest:.2g} is found with a probability of 80%, "
            f"{allotment.smallest_by}"
        )
    return text


def as_data(allotment: Allotment) -> dict[str, Any]:
    """Returns what fits as plain data; `plan --json` has it."""
    return {
        "seconds": allotment.seconds,
        "spent_seconds": allotment.spent,
        "search_trials": allotment.search_trials,
        "next_look_seconds": allotment.first_seconds,
        "seeds": allotment.seeds,
        "smallest_difference": allotment.smallest,
        "smallest_difference_by": allotment.smallest_by,
    }
