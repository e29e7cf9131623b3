"""A forecast on the command line: progress while it is made, its table, its totals and the arms that will not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuneoff.cli.live.run_progress import RunProgress
    from tuneoff.records.forecast import ArmForecast, StudyForecast
    from tuneoff.study.forecast_planner import ForecastListener, ForecastProgress, RunForecastListener

VERBS = {"profile": "profiling", "estimate": "estimating"}
NAMES = {
    "profile": "profile",
    "peak_memory_bytes": "peak memory",
    "train_seconds": "train time",
    "seconds": "time of a trial",
    "search_seconds": "time of a search trial",
    "stored_bytes": "stored size",
    "predictions_bytes": "size of predictions",
    "estimate": "estimate of its steps",
    "remedies": "remedies",
}
"""Figures of an arm whose absence is reported, and the names that they have there."""

no_profile_option = click.option(
    "--no-profile",
    is_flag=True,
    help="Only estimate, by counting; else a few real steps of each arm are run and timed (docs/plan.md).",
)


def progress_text(update: ForecastProgress) -> str:
    """Describes what is asked: `profiling lora (3/9)`, or `estimating 9 arms`."""
    if update.label is None:
        return f"{VERBS[update.how]} {update.arms} arm{'s' if update.arms > 1 else ''}"
    return f"{VERBS[update.how]} {update.label} ({update.number}/{update.arms})"


@contextmanager
def progress(console: Console) -> Iterator[ForecastListener]:
    """Yields a listener that shows which arm is being profiled or estimated: in place in a terminal, else as lines."""
    if not console.is_terminal:
        yield lambda update: console.print(progress_text(update), soft_wrap=True)
        return
    with console.status("looking at data and model") as status:
        yield lambda update: status.update(progress_text(update))


def run_listener(board: RunProgress) -> RunForecastListener:
    """Returns a listener for a run: it prints a line before arms are profiled, then the totals, and gives the board the
    forecast from which the time left is computed."""
    from tuneoff.records.forecast import StudyForecast

    def hear(update: ForecastProgress | StudyForecast) -> None:
        with suppress(OSError):  # nobody reads the output any more; the run continues
            if isinstance(update, StudyForecast):
                board.forecast = update
                for line in run_lines(update):
                    board.say(line)
            elif update.how == "profile" and update.number == 1:
                arms_text = f"{update.arms} arms" if update.arms > 1 else update.label
                board.say(f"forecast: a few real steps of {arms_text} first (--no-profile leaves them out)")

    return hear


def run_lines(forecast: StudyForecast) -> list[str]:
    """Describes what a run will take in one line, and adds a line for each arm that will not fit."""
    if forecast.total_seconds is None:
        first_line = f"forecast: the time is not known, because {forecast.missing['total_seconds']}"
    else:
        first_line = f"forecast: {_about(forecast)}{_money(forecast, ', ')} for all trials to come"
    return [first_line, *(f"warning: {line}" for line in fit_lines(forecast))]


def _about(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    assert forecast.total_seconds is not None
    caveat = " (a rough estimate)" if _only_estimated(forecast) else ""
    profiled_arm = next((arm.corrected_by for arm in forecast.arms.values() if arm.corrected_by), None)
    if profiled_arm is not None:
        caveat = f" (an estimate, corrected by real steps of {profiled_arm})"
    if (sizes := _batch_sizes(forecast)) is not None:
        caveat += f", with batches of {sizes[0]}, the least that may be chosen"
    if forecast.expected_seconds is not None:
        expected, most = (units.seconds(value) for value in (forecast.expected_seconds, forecast.total_seconds))
        return f"about {expected}, by racing, and {most} if no arm leaves the race{caveat}"
    return f"about {units.seconds(forecast.total_seconds)}{caveat}"


def _batch_sizes(forecast: StudyForecast) -> tuple[int, int] | None:
    """Returns the batch sizes that a search is still to choose from; None where it chooses none."""
    return next((arm.batch_sizes for arm in forecast.arms.values() if arm.batch_sizes is not None), None)


def _money(forecast: StudyForecast, before: str) -> str:
    """Returns what all trials to come cost, after some text; empty where that is not known."""
    from tuneoff.report import units

    return "" if forecast.money is None else f"{before}{units.number(forecast.money)} {forecast.currency}"


def _only_estimated(forecast: StudyForecast) -> bool:
    """Tells whether no arm that trains was profiled; a baseline has no steps to run."""
    arms = [arm for arm in forecast.arms.values() if arm.train_seconds is not None] or list(forecast.arms.values())
    return all(arm.how == "estimate" for arm in arms)


def table(forecast: StudyForecast, width: int) -> Table:
    """Returns a table with a line for each arm: memory, times, stored size, and whether it fits; long labels are
    cut."""
    from rich.table import Table

    from tuneoff.report import units
    from tuneoff.report.fitting import fitted

    has_search = any(arm.search_seconds for arm in forecast.arms.values())
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid.add_column("method", no_wrap=True, overflow="ellipsis")
    times = ["train time", "whole trial", *(["search trial"] if has_search else [])]
    money = [forecast.currency] if forecast.currency else []
    for heading in ("peak memory", *times, *money, "stored"):
        grid.add_column(heading, justify="right", no_wrap=True)
    grid.add_column("fits", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for label, arm in forecast.arms.items():
        figures = [arm.train_seconds, arm.trial_seconds]
        figures += [sum(arm.search_seconds.values()) if arm.search_seconds else None] if has_search else []
        grid.add_row(
            label,
            "–" if arm.peak_memory_bytes is None else units.size(arm.peak_memory_bytes),
            *("–" if figure is None else units.seconds(figure) for figure in figures),
            *(["–" if arm.money is None else units.number(arm.money)] if money else []),
            "–" if arm.stored_bytes is None else units.size(arm.stored_bytes),
            {True: "yes", False: "no", None: "–"}[arm.fits],
            # A baseline without a model has neither steps to run nor anything to estimate.
            "–" if arm.seconds and arm.train_seconds is None and arm.peak_memory_bytes is None else arm.how,
        )
    return fitted([grid], width)


def lines(forecast: StudyForecast, checkpoint_minutes: float | None = None) -> list[str]:
    """Returns the lines below the table: the totals, how they were obtained, what does not fit, and what is not
    known.

    Args:
        forecast: of the study.
        checkpoint_minutes: its `execution.checkpoint_minutes`.
    """
    first_lines = [_sums(forecast), *_checkpoints(forecast, checkpoint_minutes), _how(forecast)]
    if (sizes := _batch_sizes(forecast)) is not None:
        first_lines.append(
            f"The batch size is searched: times are those of {sizes[0]} examples a step, memory is that of {sizes[1]}, "
            "the most that either may be."
        )
    return [*first_lines, *_prices(forecast), *fit_lines(forecast), *_missing(forecast)]


def _prices(forecast: StudyForecast) -> list[str]:
    """Says what money is of, with what the table has no room for: the search, and 1,000 predictions of each arm."""
    from tuneoff.report import units

    if not forecast.currency:
        return []
    texts = [f"{forecast.currency}: the price of a whole trial at the study's prices."]
    for what, figure in (("the search", "search_money"), ("1,000 predictions", "prediction_money")):
        amounts = {label: getattr(arm, figure) for label, arm in forecast.arms.items()}
        known = [f"{label} {units.number(amount)}" for label, amount in amounts.items() if amount is not None]
        if known:
            texts.append(f"Of {what}: {', '.join(known)}.")
    unknown = dict.fromkeys(arm.missing["money"] for arm in forecast.arms.values() if arm.money is None)
    return [" ".join([*texts, *(f"Not known: {reason}." for reason in unknown)])]


def _checkpoints(forecast: StudyForecast, minutes: float | None) -> list[str]:
    """Describes what checkpoints take on the disk, where a trial trains for long enough to have some."""
    from tuneoff.report import units

    if minutes is None:
        return []
    sizes = [arm.checkpoint_bytes for arm in forecast.arms.values() if (arm.train_seconds or 0.0) > 60 * minutes]
    return [f"While a trial trains, its checkpoints take up to {units.size(max(sizes))} more."] if any(sizes) else []


def _sums(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    parts = []
    if forecast.total_seconds is None:
        parts.append(f"the total time is not known, because {forecast.missing['total_seconds']}")
    else:
        parts.append(f"all trials, one after another: {_about(forecast)}{_money(forecast, ', ')}")
    if forecast.disk_bytes is not None:
        parts.append(f"on disk: {units.size(forecast.disk_bytes)} of weights and predictions")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _how(forecast: StudyForecast) -> str:
    from tuneoff.report import units

    duration = units.seconds(forecast.forecast_seconds)
    device = next((arm.device for arm in forecast.arms.values()), "")
    if _only_estimated(forecast):
        text = f"Estimated in {duration} for {device}, without running a step: times are rough."
    else:
        text = f"Profiled in {duration}: a few real steps of each arm on this machine ({device})."
    if forecast.memory_limit_bytes is not None:
        text += (
            f" Peak memory is that on a GPU of {units.size(forecast.memory_limit_bytes)}, without the process around "
            "it; times are this machine's."
        )
    return text


def fit_lines(forecast: StudyForecast) -> list[str]:
    """Describes for each arm that does not fit by how much, and what would make it fit."""
    return [_unfit(arm, forecast.memory_limit_bytes) for arm in forecast.unfit]


def _unfit(arm: ArmForecast, limit: int | None) -> str:
    from tuneoff.report import units

    available = limit if limit is not None else arm.available_bytes
    need = "" if arm.peak_memory_bytes is None else f": it needs {units.size(arm.peak_memory_bytes)} of memory"
    available_text = "" if available is None else f", there are {units.size(available)}"
    if not arm.remedies:
        return f"{arm.label} will not fit{need}{available_text}. No change that was tried would make it fit."
    changes = [
        f"--set {remedy.change} ({units.size(remedy.peak_memory_bytes)}, "
        f"{'same result' if remedy.same_result else 'another result'})"
        for remedy in arm.remedies
    ]
    return f"{arm.label} will not fit{need}{available_text}. It would with {', or with '.join(changes)}."


def _missing(forecast: StudyForecast) -> list[str]:
    """Explains why arms were not profiled and which figures are not known; arms with the same reason stand together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for label, arm in forecast.arms.items():
        figures_by_reason: dict[str, list[str]] = {}
        for figure, name in NAMES.items():
            if figure in arm.missing:
                is_partial = figure == "profile" and arm.how == "profile"
                figures_by_reason.setdefault(arm.missing[figure], []).append("full profile" if is_partial else name)
        for reason, names in figures_by_reason.items():
            by_reason.setdefault((", ".join(names), reason), []).append(label)
    return [f"{', '.join(labels)}: no {names} ({reason})" for (names, reason), labels in by_reason.items()]
