"""Writes index.html and report.md of a series, with the pieces that a study's pages are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from markupsafe import Markup

from tuneoff.encoding import markdown as escaped
from tuneoff.encoding import one_line
from tuneoff.report import html, page_data
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.differences import DIFFERENCES
from tuneoff.report.markup import grid, to_html
from tuneoff.report.page_parts import render_page
from tuneoff.report.sections import certainty, results
from tuneoff.report.series.charts import CURVES, RANKS
from tuneoff.report.series.schema import Axis, SeriesReport
from tuneoff.report.series.tables import Grid, grids
from tuneoff.report.wording import groups_text, join

if TYPE_CHECKING:
    from tuneoff.report.charts.drawing import Drawing

MEMBERS: dict[Axis, str] = {"train_rows": "Training rows", "model": "Base models", "data": "Data sets"}
SCRIPTS = ("base", "theme", "folding", "tables", "pictures", "figures", "rule", "explorer", "budget")
"""Parts of the page's script, in order."""
_PAGE = "series.html.jinja"
_FIRST = (CURVES, RANKS, DIFFERENCES)
"""Charts that stand beside the answer."""


def html_page(
    report: SeriesReport, drawings: Sequence[Drawing], folder: str = "", addresses: Mapping[str, str] | None = None
) -> str:
    """Writes index.html, which needs no network.

    Args:
        report: what to show.
        drawings: its charts.
        folder: the series' own as seen from where it was run; empty where that is not known.
        addresses: member -> the address of its own report; its file beside the series' where unset.
    """
    pictures, left_out = html.pictures_of(drawings)
    shown, bases = {picture.name for picture in pictures}, report.bases
    explorer = page_data.explorer(bases, folder) if bases is not None else None
    data = {
        "best": bases.answer.best if bases is not None else None,
        "explorer": explorer,
        "charts": page_data.chart_rows([each.chart for each in drawings if each.chart.name in shown]),
    }
    sections = (results.speed, certainty.intervals, certainty.pairs)
    return render_page(
        _PAGE,
        SCRIPTS,
        data=Markup(page_data.as_text(data)),
        report=report,
        subject=_subject(report),
        explorer=explorer is not None,
        verdict=[picture for picture in pictures if picture.name in _FIRST],
        courses=[picture for picture in pictures if picture.name not in _FIRST],
        left_out=left_out,
        table=html.arm_table(bases) if bases is not None else None,
        level=certainty.level(bases) if bases is not None else "",
        groups=groups_text(bases) if bases is not None else "",
        marks=html.marks_of(bases) if bases is not None else [],
        tables=[html.Section(each.title, Markup(to_html(_table(each)))) for each in grids(report)],
        members_title=MEMBERS[report.axis],
        addresses=addresses or {member.name: quote(member.report) for member in report.members},
        sections=html.folded_sections(bases, *sections) if bases is not None else [],
    )


def markdown_page(report: SeriesReport, charts: Sequence[Chart]) -> str:
    """Writes report.md; charts are embedded by relative path."""
    answer = "\n\n".join(escaped(sentence) for sentence in report.text)
    cautions = "\n>\n".join(f"> **Caution:** {escaped(note)}" for note in report.notes)
    figures = [f"![{escaped(chart.alt)}]({chart.file})\n\n{escaped(chart.caption)}" for chart in charts]
    parts = [
        f"# {escaped(report.name)}",
        escaped(_subject(report)),
        "## Answer",
        f"**{escaped(report.headline)}**",
        cautions,
        answer,
        *(f"## {each.title}\n\n{_table(each)}" for each in grids(report)),
        *(
            part(report.bases)
            for part in (results.results, certainty.intervals, certainty.pairs, results.speed)
            if report.bases is not None
        ),
        "\n\n".join(["## Charts", *figures]) if figures else "",
        _members(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _subject(report: SeriesReport) -> str:
    names = join(
        [f"{member.train_rows:,}" if report.axis == "train_rows" else member.name for member in report.members]
    )
    what = {"train_rows": f"numbers of training rows, {names}", "model": f"base models, {names}"}
    return f"A series over {what.get(report.axis, f'data sets, {names}')}."


def _table(table: Grid) -> str:
    """Returns a table and what its cells are, as Markdown."""
    rows = [[escaped(one_line(cell)) for cell in row] for row in table.rows]
    return f"{grid([escaped(one_line(head)) for head in table.heads], rows)}\n\n{table.explanation}"


def _members(report: SeriesReport) -> str:
    rows = [
        [
            f"[{escaped(member.name)}]({quote(member.report.removesuffix('.html'))}.md)",
            f"{member.train_rows:,}",
            f"{member.trials.completed} of {member.trials.planned}",
            escaped(member.headline),
        ]
        for member in report.members
    ]
    title = MEMBERS[report.axis]
    return "\n\n".join(
        [
            f"## {title}",
            "Each is a study of its own, with its own search, its own report and its own verdict.",
            grid(["member", "training rows", "trials", "answer"], rows, align=":---"),
            "Everything here as data: `report.json`. Per member and arm: `members.csv`.",
        ]
    )
