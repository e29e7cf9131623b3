"""Writes report.html: one file that needs nothing else, under a strict content-security policy.

Jinja escapes every text. The longer sections are those of report.md, turned into HTML by a parser that lets no tag,
link or image through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import one_line
from tuneoff.report import columns, page_data, wording
from tuneoff.report.arm_schema import ArmSummary, Comparison, Figure
from tuneoff.report.charts import svg
from tuneoff.report.charts.differences import DIFFERENCES
from tuneoff.report.charts.standings import FORECAST
from tuneoff.report.columns import Column
from tuneoff.report.markup import to_html
from tuneoff.report.page_parts import render_page
from tuneoff.report.schema import JoinedReport, Report
from tuneoff.report.sections import (
    answer,
    certainty,
    checklist,
    data,
    deployability,
    devices,
    examples,
    forecast,
    machine,
    protocol,
    published,
    results,
    retention,
    search,
)

if TYPE_CHECKING:
    from tuneoff.report.charts.drawing import Drawing

ARMS_SHOWN = 500
SECTION_LENGTH = 150_000
"""A section of more characters is left out, and report.md has it."""
CHARTS_LENGTH = 450_000
"""Charts are shown until they take this many characters; the others are in their files alone."""
SCRIPTS = (
    "base",
    "theme",
    "folding",
    "tables",
    "pictures",
    "figures",
    "rule",
    "explorer",
    "budget",
    "examples",
    "machine",
)
"""Parts of the page's script, in order."""
_PAGE = "report.html.jinja"


@dataclass(frozen=True)
class Cell:
    """A figure of the table of arms: its text, its interval in words, the numbers behind both, and a footnote's number
    where there is no figure."""

    text: str
    interval: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False
    note: int | None = None


@dataclass(frozen=True)
class Row:
    """An arm of the table; `difference` to the best is the number behind `standing`, None where not compared."""

    label: str
    cells: tuple[Cell, ...]
    ties: str
    standing: str
    difference: float | None
    seeds: str


@dataclass(frozen=True)
class ArmTable:
    """The table of arms: metrics, then costs."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    grouped: bool
    left_out: int


@dataclass(frozen=True)
class Picture:
    """A chart in the page."""

    name: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """A part that is folded at first; `body` is empty where it is too long for this page."""

    title: str
    body: Markup


def render(report: Report, drawings: Sequence[Drawing], folder: str = "", report_folder: str = "report") -> str:
    """Writes the whole page.

    Args:
        report: what to show.
        drawings: its charts; none where charts are not wanted.
        folder: the study's own as seen from where it was run, empty where that is not known.
        report_folder: the name of the report's folder in it.
    """
    pictures, left_out = pictures_of(drawings)
    explorer = page_data.explorer(report, folder)
    shown = {picture.name for picture in pictures}
    data_shown = {
        "best": report.answer.best,
        "explorer": explorer,
        "charts": page_data.chart_rows([each.chart for each in drawings if each.chart.name in shown]),
        "disagreements": page_data.disagreements(report),
        "hardest": page_data.hardest(report),
        "machine_use": page_data.machine_use(report),
    }
    headline = wording.headline(report)
    return render_page(
        _PAGE,
        SCRIPTS,
        data=Markup(page_data.as_text(data_shown)),
        explorer=explorer is not None,
        report=report,
        headline=headline,
        notes=report.notes if isinstance(report, JoinedReport) else (),
        # Its first sentence is the headline.
        doubt=report.answer.doubt.removeprefix(headline).strip(),
        answer=wording.after_caveats(report),
        groups=wording.groups_text(report),
        verdict=[picture for picture in pictures if picture.name == DIFFERENCES],
        table=arm_table(report),
        metric=metric_name(report.study.primary_metric or ""),
        level=certainty.level(report),
        marks=marks_of(report),
        costs=[picture for picture in pictures if _is_cost(picture)],
        courses=[p for p in pictures if not _is_cost(p) and p.name != DIFFERENCES],
        left_out=left_out,
        cost_sections=folded_sections(
            report, retention.section, results.speed, deployability.section, devices.section, forecast.section
        ),
        certainty_sections=folded_sections(report, certainty.intervals, certainty.pairs, published.section),
        coverage=_coverage(report),
        details=folded_sections(
            report,
            answer.warnings,
            lambda whole: machine.failures(whole, folder),
            checklist.section,
            search.section,
            examples.section,
            protocol.protocol,
            protocol.methods,
            data.section,
            machine.environment,
            lambda whole: machine.repeat(whole, folder, report_folder),
        ),
    )


def pictures_of(drawings: Sequence[Drawing]) -> tuple[list[Picture], list[str]]:
    """Returns the charts that there is room for, and the files of the others."""
    pictures: list[Picture] = []
    left_out = []
    room = CHARTS_LENGTH
    for drawing in drawings:
        chart = drawing.chart
        drawn = svg.inline(drawing.svg, chart.name, one_line(chart.alt))
        if len(drawn) > room:
            left_out.append(chart.file)
            continue
        room -= len(drawn)
        pictures.append(Picture(chart.name, Markup(drawn), chart.caption))
    return pictures, left_out


def _is_cost(picture: Picture) -> bool:
    return picture.name.startswith("quality_") or picture.name == FORECAST


def arm_table(report: Report) -> ArmTable:
    """Builds the table of arms in the study's order; of very many, the first."""
    shown = (*columns.metrics(report), *columns.costs(report))
    best = {column.key: columns.best_arms(column, report) for column in shown}
    reasons: dict[str, int] = {}
    rows = tuple(
        Row(
            label=one_line(arm.method),
            cells=tuple(_cell(column, arm, arm.method in best[column.key], reasons) for column in shown),
            ties=arm.ties or "–",
            standing=columns.standing(arm, report.study.primary_unit),
            difference=arm.to_best.difference if isinstance(arm.to_best, Comparison) else 0.0 if arm.to_best else None,
            seeds=columns.trials(arm),
        )
        for arm in report.methods[:ARMS_SHOWN]
    )
    return ArmTable(shown, rows, tuple(reasons), columns.grouped(report), len(report.methods) - len(rows))


def _cell(column: Column, arm: ArmSummary, best: bool, reasons: dict[str, int]) -> Cell:
    text, figure, value = column.text(arm), column.figure(arm), column.value(arm)
    if text is None or value is None:
        return Cell("–", note=reasons.setdefault(column.why_missing(arm), len(reasons) + 1))
    if not isinstance(figure, Figure) or figure.interval_low is None or figure.interval_high is None:
        return Cell(text, value=value[0], best=best)
    ends = [column.spread(end, None) for end in (figure.interval_low, figure.interval_high)]
    # An interval that rounds to its mean tells nothing.
    interval = "" if set(ends) == {column.spread(value[0], None)} else f"[{', '.join(ends)}]"
    return Cell(text, interval, value[0], figure.interval_low, figure.interval_high, best)


def marks_of(report: Report) -> list[str]:
    """Explains the marks in the table, and what to know of its metrics."""
    marks = [results.DAGGER] if any(arm.contended for arm in report.methods) else []
    marks += ["‡ Diverged seeds count as doing without training."] if columns.any_diverged(report) else []
    return marks + results.describe_metrics(report)


def folded_sections(report: Report, *parts: Callable[[Report], str]) -> list[Section]:
    """Returns the sections that have something to say."""
    sections = []
    for part in parts:
        title, _, body = part(report).removeprefix("## ").partition("\n\n")
        if title:
            whole = Markup(to_html(body)) if len(body) <= SECTION_LENGTH else Markup("")
            sections.append(Section(title, whole))
    return sections


def _coverage(report: Report) -> list[tuple[str, str]]:
    """Returns what the study speaks of, as pairs of a word and its text."""
    study, trials = report.study, report.trials
    splits = report.data.splits if report.data else {}
    rows = ", ".join(f"{split.rows:,} {name}" for name, split in splits.items())
    devices_used = ", ".join(dict.fromkeys(m.device_name or m.processor for m in report.environments.machines))
    facts = {
        "Base model": study.model + (" (random weights)" if study.random_weights else ""),
        "Task": study.task,
        "Rows": rows,
        "Seeds": ", ".join(map(str, study.seeds)),
        "Trials": f"{trials.completed:,} of {trials.planned:,} completed",
        "Search": search.in_short(report),
        "Ran on": devices_used,
        "Money": results.describe_money(report),
        "Costs": "" if report.comparable else "taken under unlike conditions; the warnings say which",
    }
    return [(name, text) for name, text in facts.items() if text]
