"""A forecast on the command line: how its making goes on, its table, its sums and what will not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuneoff.cli.live.run_progress import Board
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
"""Figures of a row whose absence is told, and what they are called then."""

no_probe_option = click.option(
    "--no-probe",
    is_flag=True,
    help="Forecast by counting alone; else a few real steps of each row are run and timed (docs/plan.md).",
)


def asking_text(asking: Asking) -> str:
    """`probing lora (3/9)`, or `counting 9 rows`."""
    if asking.label is None:
        return f"{VERBS[asking.how]} {asking.rows} row{'s' if asking.rows > 1 else ''}"
    return f"{VERBS[asking.how]} {asking.label} ({asking.number}/{asking.rows})"


@contextmanager
def progress(console: Console) -> Iterator[Listener]:
    """A listener that shows which row is being looked into: in place in a terminal, as lines elsewhere."""
    if not console.is_terminal:
        yield lambda asking: console.print(asking_text(asking), soft_wrap=True)
        return
    with console.status("looking at data and model") as status:
        yield lambda asking: status.update(asking_text(asking))


def run_listener(board: Board) -> RunListener:
    """A listener for a run: a line before rows are probed, and what the whole comes to, which the time left goes by."""
    from tuneoff.records.forecast import StudyForecast

    def hear(told: Asking | StudyForecast) -> None:
        with suppress(OSError):  # nobody reads any more; the run goes on
            if isinstance(told, StudyForecast):
                board.forecast = told
                for line in run_lines(told):
                    board.say(line)
            elif told.how == "probed" and told.number == 1:
                which = f"{told.rows} rows" if told.rows > 1 else told.label
                board.say(f"forecast: a few real steps of {which} first (--no-probe leaves them out)")

    return hear


def run_lines(found: StudyForecast) -> list[str]:
    """What a run will take, in a line, and a line for each row that will not fit."""
    if found.total_seconds is None:
        first = f"forecast: the time is not known, because {found.missing['total_seconds']}"
    else:
        first = f"forecast: {_about(found)} for all trials to come"
    return [first, *(f"warning: {line}" for line in fit_lines(found))]


def _about(found: StudyForecast) -> str:
    from tuneoff.report import units

    assert found.total_seconds is not None
    rough = " (counted, so roughly)" if _counted(found) else ""
    by = next((row.corrected_by for row in found.rows.values() if row.corrected_by), None)
    if by is not None:
        rough = f" (counted, and corrected by real steps of {by})"
    return f"about {units.seconds(found.total_seconds)}{rough}"


def _counted(found: StudyForecast) -> bool:
    """Whether no row that trains was probed: a floor has no steps to run."""
    rows = [row for row in found.rows.values() if row.train_seconds is not None] or list(found.rows.values())
    return all(row.how == "counted" for row in rows)


def table(found: StudyForecast) -> Table:
    """A line per row: memory, times, what is stored, and whether it fits."""
    from rich.table import Table

    from tuneoff.report import units

    searched = any(row.search_seconds for row in found.rows.values())
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("method", overflow="fold")
    times = ["train time", "whole trial", *(["search trial"] if searched else [])]
    for heading in ("peak memory", *times, "stored"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("fits", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for label, row in found.rows.items():
        figures = [row.train_seconds, row.trial_seconds]
        figures += [sum(row.search_seconds.values()) if row.search_seconds else None] if searched else []
        shown.add_row(
            label,
            "–" if row.peak_memory_bytes is None else units.size(row.peak_memory_bytes),
            *("–" if figure is None else units.seconds(figure) for figure in figures),
            "–" if row.stored_bytes is None else units.size(row.stored_bytes),
            {True: "yes", False: "no", None: "–"}[row.fits],
            # A floor without a model has neither steps to run nor anything to count.
            "–" if row.seconds and row.train_seconds is None and row.peak_memory_bytes is None else row.how,
        )
    return shown


def lines(found: StudyForecast) -> list[str]:
    """What stands below the table: the sums, how all was had, what does not fit, and what is not known."""
    return [_sums(found), _how(found), *fit_lines(found), *_missing(found)]


def _sums(found: StudyForecast) -> str:
    from tuneoff.report import units

    parts = []
    if found.total_seconds is None:
        parts.append(f"the total time is not known, because {found.missing['total_seconds']}")
    else:
        parts.append(f"all trials, one after another: {_about(found)}")
    if found.disk_bytes is not None:
        parts.append(f"on disk: {units.size(found.disk_bytes)} of weights and predictions")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _how(found: StudyForecast) -> str:
    from tuneoff.report import units

    took = units.seconds(found.forecast_seconds)
    device = next((row.device for row in found.rows.values()), "")
    if _counted(found):
        text = f"Counted in {took} for {device}, without running a step: times are rough."
    else:
        text = f"Probed in {took}: a few real steps of each row on this machine ({device})."
    if found.memory_limit_bytes is not None:
        text += (
            f" Peak memory is that on a GPU of {units.size(found.memory_limit_bytes)}, without the process around it; "
            "times are this machine's."
        )
    return text


def fit_lines(found: StudyForecast) -> list[str]:
    """For every row that does not fit: by how much, and what would make it fit."""
    return [_unfit(row, found.memory_limit_bytes) for row in found.unfit]


def _unfit(row: RowForecast, limit: int | None) -> str:
    from tuneoff.report import units

    there = limit if limit is not None else row.available_bytes
    need = "" if row.peak_memory_bytes is None else f": it needs {units.size(row.peak_memory_bytes)} of memory"
    have = "" if there is None else f", there are {units.size(there)}"
    if not row.remedies:
        return f"{row.label} will not fit{need}{have}. No change that was tried would make it fit."
    ways = [
        f"--set {remedy.change} ({units.size(remedy.peak_memory_bytes)}, "
        f"{'same result' if remedy.same_result else 'another result'})"
        for remedy in row.remedies
    ]
    return f"{row.label} will not fit{need}{have}. It would with {', or with '.join(ways)}."


def _missing(found: StudyForecast) -> list[str]:
    """Why rows were not probed, and which figures are not known, rows with the same reason together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for label, row in found.rows.items():
        lacking: dict[str, list[str]] = {}
        for figure, name in NAMES.items():
            if figure in row.missing:
                partly = figure == "probed" and row.how == "probed"
                lacking.setdefault(row.missing[figure], []).append("full probe" if partly else name)
        for reason, names in lacking.items():
            by_reason.setdefault((", ".join(names), reason), []).append(label)
    return [f"{', '.join(labels)}: no {names} ({reason})" for (names, reason), labels in by_reason.items()]
