"""Writes the report's files, each whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tuneoff.analysis.figures import COSTS
from tuneoff.analysis.results import Results
from tuneoff.analysis.table import trials_frame
from tuneoff.collection import without_collection
from tuneoff.encoding import csv_cell, csv_table
from tuneoff.report import html, markdown
from tuneoff.report.arm_schema import ArmSummary, Figure
from tuneoff.report.charts import definitions
from tuneoff.report.schema import PairSummary, Report
from tuneoff.store import StudyStore, write_atomically

STUDY_FILE = "study.yaml"
_PARTS = ("mean", "std", "n", "interval_low", "interval_high")


@without_collection()
def write_built(results: Results, report: Report, plots: bool = True) -> Path:
    """Writes the files of a report that is built already from these results; returns the path of report.md.

    Raises:
        StoreError: if a file cannot be written.
    """
    folder = results.report_folder
    report_charts = definitions.build_charts(report) if plots else []
    drawings = []
    if report_charts:
        from tuneoff.report.charts.drawing import draw

        drawings = [draw(chart) for chart in report_charts]
    for drawing in drawings:
        write_atomically(folder / drawing.chart.file, drawing.png)
    current = {chart.file for chart in report_charts}
    for name in definitions.FILES:
        # A chart of an earlier report that this one has no points for would be out of date.
        if name not in current:
            (folder / name).unlink(missing_ok=True)
    trials = trials_frame(results.records)
    trials.columns = trials.columns.map(csv_cell)
    write_atomically(folder / "results.csv", trials.map(csv_cell).to_csv(index=False, lineterminator="\n"))
    write_atomically(folder / "methods.csv", methods_csv(report))
    write_atomically(folder / "pairs.csv", pairs_csv(report))
    write_atomically(folder / STUDY_FILE, study_yaml(results))
    write_atomically(
        folder / "report.json", json.dumps(report.as_data(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    origin = path_from_origin(results.store)
    write_atomically(folder / "report.html", html.render(report, drawings, origin, folder.name))
    write_atomically(folder / "report.md", markdown.render(report, report_charts, origin, folder.name))
    return folder / "report.md"


def path_from_origin(store: StudyStore) -> str:
    """Returns the study's folder relative to where it was run: `runs/quickstart-1a2b3c`. Empty where it lies elsewhere,
    because the path there would tell of this machine."""
    origin, root = store.origin(), store.root.resolve()
    return root.relative_to(origin).as_posix() if origin is not None and root.is_relative_to(origin) else ""


def study_yaml(results: Results) -> str:
    """Returns the complete study as a file that `tuneoff run` takes."""
    body = results.study.model_dump(mode="json")
    text: str = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=100)
    return f"# The study as it was run, with every default filled in; report.md says how to repeat it.\n{text}"


def methods_csv(report: Report) -> str:
    """Returns a table with one line per arm; a nested figure becomes columns joined with underscores."""
    lines = [flat(entry) for entry in report.methods]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    return csv_table([columns, *([line.get(column, "") for column in columns] for line in lines)])


def pairs_csv(report: Report) -> str:
    """Returns a table with one line per pair of arms on the primary metric; only the heading while nothing is
    compared."""
    pairs = report.verdict.pairs if report.verdict else ()
    heads = list(PairSummary.model_fields) if pairs else ["first", "second"]
    return csv_table([heads, *(pair.model_dump().values() for pair in pairs)])


def flat(entry: ArmSummary) -> dict[str, Any]:
    """Returns an arm's figures as the cells of one line."""
    line: dict[str, Any] = {
        "method": entry.method,
        "method_name": entry.method_name,
        "learning_rate": entry.learning_rate,
        "seeds": len(entry.seeds),
        "statuses": "; ".join(f"{name} {count}" for name, count in entry.statuses.items()),
    }
    for name, metric in entry.metrics.items():
        line |= {**_parts(name, metric), f"{name}_ties": metric.ties}
    for name, validation_metric in entry.validation_metrics.items():
        line |= _parts(f"validation_{name}", validation_metric)
    for cost in COSTS:
        line |= _parts(cost.name, entry.cost(cost.name))
    line |= {key: getattr(entry, key) for key in ("trainable_parameters", "total_parameters", "contended")}
    return {key: "" if value is None else value for key, value in line.items()}


def _parts(name: str, figure: Figure) -> dict[str, Any]:
    return {f"{name}_{part}": getattr(figure, part) for part in _PARTS}
