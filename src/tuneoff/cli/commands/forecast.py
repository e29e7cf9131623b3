"""A forecast on the command line: progress while it is made, its table, its totals and the rows that will not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuneoff.cli.live.run_progress import RunProgress
    from tuneoff.records.forecast import RowForecast, StudyForecast
    from tuneoff.study.forecast_planner import Asking, Listener, RunListener

VERBS = {"probed": "probing", "counted": "counting"}
NAMES = {
    "probed": "probe",
    "peak_memory_bytes": "peak memory",
    "train_seconds": "train time",
    "seconds": "time of a trial",
    "search_seconds": "time of a search trial",
    "stored_bytes": "stored size",
    "predictions_bytes": "size of predictions",
    "counted": "count of its steps",
    "remedies": "remedies",
}
"""Figures of a row whose absence is reported, and the names that they have there."""

no_probe_option = click.option(
    "--no-probe",
    is_flag=True,
    help="Forecast by counting alone; else a few real steps of each row are run and timed (docs/plan.md).",
)


def asking_text(asking: Asking) -> str:
    """Describes what is asked: `probing lora (3/9)`, or `counting 9 rows`."""
    if asking.label is None:
        return f"{VERBS[asking.how]} {asking.rows} row{'s' if asking.rows > 1 else ''}"
    return f"{VERBS[asking.how]} {asking.label} ({asking.number}/{asking.rows})"


@contextmanager
def progress(console: Console) -> Iterator[Listener]:
    """Yields a listener that shows which row is being probed or counted: in place in a terminal, as lines elsewhere."""
    if not console.is_terminal:
        yield lambda asking: console.print(asking_text(asking), soft_wrap=True)
        return
    with console.status("looking at data and model") as status:
        yield lambda asking: status.update(asking_text(asking))


def run_listener(board: RunProgress) -> RunListener:
    """Returns a listener for a run: it prints a line before rows are probed, then the totals, and gives the board the
    forecast from which the time left is computed."""
    from tuneoff.records.forecast import StudyForecast

    def hear(update: Asking | StudyForecast) -> None:
        with suppress(OSError):  # nobody reads the output any more; the run continues
            if isinstance(update, StudyForecast):
                board.forecast = update
                for line in run_lines(update):
                    board.say(line)
            elif update.how == "probed" and update.number == 1:
                rows_text = f"{update.rows} rows" if update.rows > 1 else update.label
                board.say(f"forecast: a few real steps of {rows_text} first (--no-probe leaves them out)")

    return hear


def run_lines(forecast: StudyForecast) -> list[str]:
    """Describes what a run will take in one line, and adds a line for each row that will not fit."""
    if forecast.total_seconds is None:
        first_line = f"forecast: the time is not known, because {forecast.missing['total_seconds']}"
    else:
        first_line = f"forecast: {_about(forecast)} for all trials to come"
    return [first_line, *(f"warning: {line}" for line in fit_lines(forecast))]


def _about(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    assert forecast.total_seconds is not None
    caveat = " (counted, so roughly)" if _counted(forecast) else ""
    probed_row = next((row.corrected_by for row in forecast.rows.values() if row.corrected_by), None)
    if probed_row is not None:
        caveat = f" (counted, and corrected by real steps of {probed_row})"
    return f"about {units.seconds(forecast.total_seconds)}{caveat}"


def _counted(forecast: StudyForecast) -> bool:
    """Tells whether no row that trains was probed; a baseline has no steps to run."""
    rows = [row for row in forecast.rows.values() if row.train_seconds is not None] or list(forecast.rows.values())
    return all(row.how == "counted" for row in rows)


def table(forecast: StudyForecast) -> Table:
    """Returns a table with a line for each row: memory, times, stored size, and whether it fits."""
    from rich.table import Table

    from tuneoff.report import units

    has_search = any(row.search_seconds for row in forecast.rows.values())
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid.add_column("method", overflow="fold")
    times = ["train time", "whole trial", *(["search trial"] if has_search else [])]
    for heading in ("peak memory", *times, "stored"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("fits", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for label, row in forecast.rows.items():
        figures = [row.train_seconds, row.trial_seconds]
        figures += [sum(row.search_seconds.values()) if row.search_seconds else None] if has_search else []
        grid.add_row(
            label,
            "–" if row.peak_memory_bytes is None else units.size(row.peak_memory_bytes),
            *("–" if figure is None else units.seconds(figure) for figure in figures),
            "–" if row.stored_bytes is None else units.size(row.stored_bytes),
            {True: "yes", False: "no", None: "–"}[row.fits],
            # A baseline without a model has neither steps to run nor anything to count.
            "–" if row.seconds and row.train_seconds is None and row.peak_memory_bytes is None else row.how,
        )
    return grid


def lines(forecast: StudyForecast) -> list[str]:
    """Returns the lines below the table: the totals, how they were obtained, what does not fit, and what is not
    known."""
    return [_sums(forecast), _how(forecast), *fit_lines(forecast), *_missing(forecast)]


def _sums(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    parts = []
    if forecast.total_seconds is None:
        parts.append(f"the total time is not known, because {forecast.missing['total_seconds']}")
    else:
        parts.append(f"all trials, one after another: {_about(forecast)}")
    if forecast.disk_bytes is not None:
        parts.append(f"on disk: {units.size(forecast.disk_bytes)} of weights and predictions")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _how(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    duration = units.seconds(forecast.forecast_seconds)
    device = next((row.device for row in forecast.rows.values()), "")
    if _counted(forecast):
        text = f"Counted in {duration} for {device}, without running a step: times are rough."
    else:
        text = f"Probed in {duration}: a few real steps of each row on this machine ({device})."
    if forecast.memory_limit_bytes is not None:
        text += (
            f" Peak memory is that on a GPU of {units.size(forecast.memory_limit_bytes)}, without the process around "
            "it; times are this machine's."
        )
    return text


def fit_lines(forecast: StudyForecast) -> list[str]:
    """Describes for each row that does not fit by how much, and what would make it fit."""
    return [_unfit(row, forecast.memory_limit_bytes) for row in forecast.unfit]


def _unfit(row: RowForecast, limit: int | None) -> str:
    from tuneoff.report import units

    available = limit if limit is not None else row.available_bytes
    need = "" if row.peak_memory_bytes is None else f": it needs {units.size(row.peak_memory_bytes)} of memory"
    available_text = "" if available is None else f", there are {units.size(available)}"
    if not row.remedies:
        return f"{row.label} will not fit{need}{available_text}. No change that was tried would make it fit."
    changes = [
        f"--set {remedy.change} ({units.size(remedy.peak_memory_bytes)}, "
        f"{'same result' if remedy.same_result else 'another result'})"
        for remedy in row.remedies
    ]
    return f"{row.label} will not fit{need}{available_text}. It would with {', or with '.join(changes)}."


def _missing(forecast: StudyForecast) -> list[str]:
    """Explains why rows were not probed and which figures are not known; rows with the same reason stand together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for label, row in forecast.rows.items():
        figures_by_reason: dict[str, list[str]] = {}
        for figure, name in NAMES.items():
            if figure in row.missing:
                is_partial = figure == "probed" and row.how == "probed"
                figures_by_reason.setdefault(row.missing[figure], []).append("full probe" if is_partial else name)
        for reason, names in figures_by_reason.items():
            by_reason.setdefault((", ".join(names), reason), []).append(label)
    return [f"{', '.join(labels)}: no {names} ({reason})" for (names, reason), labels in by_reason.items()]
