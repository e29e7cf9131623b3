"""The tables of a series, as texts: for its pages and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.statistics import letters
from tuneoff.report import columns
from tuneoff.report.series import wording
from tuneoff.report.series.schema import SeriesReport, SetsSummary, SizesSummary
from tuneoff.report.wording import join

TOLD = 0.05
"""Least share of the draws of a law that is named."""


@dataclass(frozen=True)
class Grid:
    """A table: a title, headings, and rows whose first cell is the row's name."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    explanation: str


def grids(report: SeriesReport) -> list[Grid]:
    """Returns the tables that there is something for; those of bases are the joined report's own."""
    found: list[Grid] = []
    if report.sizes is not None:
        sizes = report.sizes
        found = [scores(report, sizes), laws(report, sizes), crossings(sizes), train_times(report, sizes)]
    elif report.sets is not None:
        found = [ranks(report, report.sets)]
    return [grid for grid in found if grid.rows]


def scores(report: SeriesReport, sizes: SizesSummary, intervals: bool = True) -> Grid:
    """Returns each arm's score at each size; the ends of intervals are left out where room is short."""
    rows = sorted({point.rows for arm in sizes.arms for point in arm.points})
    lines = []
    for arm in sizes.arms:
        cells = {
            point.rows: wording.score_text(
                report,
                point.mean,
                point.interval_low if intervals else None,
                point.interval_high if intervals else None,
            )
            for point in arm.points
        }
        lines.append((arm.method, *(cells.get(size, "–") for size in rows)))
    return Grid(
        "By training rows",
        ("arm", *(f"{size:,} rows" for size in rows)),
        tuple(lines),
        f"Mean test {metric_name(report.metric)} over seeds, with its 95% interval over seeds and test examples.",
    )


def laws(report: SeriesReport, sizes: SizesSummary) -> Grid:
    """Returns what more rows bring to each arm, and how well the law without the largest size foretold it."""
    lines = []
    more = next((arm.gains for arm in sizes.arms if arm.gains), ())
    for arm in sizes.arms:
        if not arm.laws:
            continue
        held_out = ("–",) * 3
        if arm.held_out is not None:
            predicted, error = arm.held_out.predicted, arm.held_out.error
            held_out = (
                wording.score_text(report, predicted.value, predicted.low, predicted.high),
                columns.score(arm.held_out.measured, unit=report.unit),
                wording.figure_text(report, error) + ("" if arm.held_out.holds else " (missed)"),
            )
        gains = (wording.change_text(report, gain.gain) for gain in arm.gains)
        forms = join([law.form for law in arm.laws if law.share >= TOLD])
        lines.append((arm.method, forms, *gains, *held_out))
    largest = report.members[-1].train_rows
    return Grid(
        "What more rows bring",
        (
            "arm",
            "law",
            *(f"{gain.more:,} more rows" for gain in more),
            f"{largest:,} rows foretold",
            "measured",
            "off by",
        ),
        tuple(lines),
        "A law of the error, fitted to draws of all true means together, with its 95% interval: "
        "error(D) = limit + scale / (offset + D^exponent), the rectified scaling law (arXiv 2402.02314). A law has "
        "fewer parameters than there are sizes: with four or three sizes two of its special cases share the draws by "
        "how well they fit. “Foretold” is by the laws of all sizes but the largest, which have one parameter less "
        "where sizes are few; “missed”: the interval of the difference does not hold 0, and what more rows bring is "
        "to be doubted. "
        "Gains are for each arm alone, not corrected for looking at many.",
    )


def crossings(sizes: SizesSummary) -> Grid:
    """Returns where arms overtake one another."""
    lines = tuple(
        (
            f"{each.first} → {each.second}",
            f"{each.rows:,.0f}",
            "–" if each.low is None or each.high is None else f"{each.low:,.0f} to {each.high:,.0f}",
            "–" if each.share is None else f"{each.share:.0%}",
            "yes" if each.shown else "no",
        )
        for each in sizes.crossings
    )
    return Grid(
        "Where arms cross",
        ("from → to", "rows", "95% interval", "draws", "shown"),
        lines,
        "The means cross there, interpolated between sizes by the logarithm of rows. “Draws” is the share of draws of "
        "all true means in which the first arm is better at the least size and the second at the largest; the interval "
        "is of these. “Shown”: each is significantly ahead at some size, in that order, corrected over all pairs and "
        "sizes.",
    )


def train_times(report: SeriesReport, sizes: SizesSummary) -> Grid:
    """Returns how long each arm trained at each size."""
    column = columns.TRAIN_TIME
    lines = []
    for arm in sizes.arms:
        by_member = {point.member: report.reports[point.member].arm(arm.method) for point in arm.points}
        cells = (
            column.text(by_member[member.name]) or "–" if member.name in by_member else "–" for member in report.members
        )
        lines.append((arm.method, *cells))
    return Grid(
        "What more rows cost",
        ("arm", *(f"{member.train_rows:,} rows" for member in report.members)),
        tuple(lines),
        "Train time, mean ± standard deviation over seeds († timed on a busy machine). Memory and all other costs are "
        "in each size's own report.",
    )


def ranks(report: SeriesReport, sets: SetsSummary, by_set: bool = True) -> Grid:
    """Returns each arm's average rank, its score and rank on each set, and its groups; the sets are left out where room
    is short."""
    names, shared = [member.name for member in report.members] if by_set else [], letters(sets.groups)
    lines = tuple(
        (
            arm.method,
            f"{arm.average_rank:.2f}",
            *(f"{columns.score(arm.means[name], unit=_unit(report, name))} ({arm.ranks[name]:g})" for name in names),
            shared[arm.method],
        )
        for arm in sets.arms
    )
    return Grid(
        "Over data sets",
        ("arm", "average rank", *names, "ties"),
        lines,
        "Mean of each set's primary metric, and the arm's rank there in brackets. Arms that share a letter cannot be "
        "told apart by their average ranks. Ranks do not tell by how much an arm is better, and that a set's own "
        "means are uncertain is no part of them; each set's report tells that.",
    )


def _unit(report: SeriesReport, member: str) -> str | None:
    return report.reports[member].study.primary_unit
