"""Writes report.md: the sections in order."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.encoding import markdown as escaped
from tuneoff.report.charts.chart import Chart
from tuneoff.report.schema import Report
from tuneoff.report.sections import (
    answer,
    certainty,
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


def render(report: Report, charts: Sequence[Chart], folder: str = "", report_folder: str = "report") -> str:
    """Writes the whole page; charts are embedded by relative path.

    Args:
        folder: the study's own as seen from where it was run, empty where that is not known.
        report_folder: the name of the report's folder in it.
    """
    sections = [
        answer.answer(report),
        answer.warnings(report),
        results.results(report),
        certainty.intervals(report),
        certainty.pairs(report),
        retention.section(report),
        published.section(report),
        search.section(report),
        _charts(charts),
        examples.section(report),
        results.speed(report),
        deployability.section(report),
        devices.section(report),
        forecast.section(report),
        protocol.protocol(report),
        data.section(report),
        machine.environment(report),
        protocol.methods(report),
        machine.failures(report, folder),
        machine.repeat(report, folder, report_folder),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _charts(charts: Sequence[Chart]) -> str:
    if not charts:
        return ""
    figures = [f"![{escaped(chart.alt)}]({chart.file})\n\n{escaped(chart.caption)}" for chart in charts]
    return "\n\n".join(["## Charts", *figures])
