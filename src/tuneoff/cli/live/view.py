"""What `run` and `watch` show: one live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tuneoff.cli.live.arm_progress import ArmProgress
from tuneoff.cli.live.run_progress import PREPARING, RunProgress
from tuneoff.cli.wording import seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

    from tuneoff.config.spec import TrialSpec

PLAIN_INTERVAL_SECONDS = 10.0
REFRESHES_PER_SECOND = 4
MOST_CHECKPOINTS = 6
"""Lines about checkpoints."""
LABEL_LEAST = 11
"""Columns that labels of arms keep: the width of their heading."""
IMPORTANCE = ("left", "loss", "step", "phase", "validation", "epoch", "spent", "speed")
"""The parts of `RunProgress.describe`, most important first, because a narrow terminal has no room for all."""
FIGURES = ("step", "loss", "validation", "speed")
"""The parts that stand on the second line."""


@contextmanager
def show(
    trials: Sequence[TrialSpec],
    console: Console,
    *,
    plain: bool = False,
    interval: float = PLAIN_INTERVAL_SECONDS,
    state: str = PREPARING,
) -> Iterator[RunProgress]:
    """Yields a board whose `update` is an executor's listener, and shows it on a console until the block ends.

    Args:
        trials: all trials, in order.
        console: where to show it.
        plain: lines even in a terminal.
        interval: seconds between two lines about what runs.
        state: state of the board; empty: nothing is shown before the first trial.
    """
    from rich.live import Live
    from rich.text import Text

    if plain or not console.is_terminal or console.is_dumb_terminal:
        board = RunProgress(trials, lambda line: console.print(Text(line), soft_wrap=True), interval, state=state)
        if state:
            board.say(state)
        yield board
        return

    live: Live
    board = RunProgress(trials, lambda line: live.console.print(Text(line)), state=state)
    # Only stderr is redirected around the view: stdout may be read by a program.
    live = Live(
        get_renderable=lambda: view(board, console.width),
        console=console,
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
        redirect_stdout=False,
    )

    def close() -> None:
        with suppress(OSError):  # the terminal was closed
            live.stop()

    board.close = close
    live.start()
    try:
        yield board
    finally:
        close()


def view(board: RunProgress, width: int) -> RenderableType:
    """Returns the live view for a width in columns: how far the study is, what runs, what it uses of the machine, and
    the best score of each arm."""
    from rich.console import Group
    from rich.text import Text

    with board.lock:
        lines: list[RenderableType] = [Text(board.title, style="bold", overflow="ellipsis")] if board.title else []
        lines += _head(board) if board.trials else []
        if not board.running and (board.waiting or not board.active):
            lines.append(Text(board.state, style="dim" if board.active else "yellow"))
        for running in board.running.values():
            name = board.name(running.trial)
            for label, text in zip((name, ""), _two_lines(name, board.describe(running), width), strict=True):
                line = Text(label, style="bold", no_wrap=True, overflow="ellipsis")
                lines.append(line.append(f"  {text}", style="not bold cyan"))
        if machine := _machine(board):
            lines.append(Text(machine, style="dim", no_wrap=True, overflow="ellipsis"))
        lines += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in _checkpoints(board)]
        lines += _arms(board, width)
    return Group(*lines)


def _two_lines(name: str, parts: dict[str, str], width: int) -> tuple[str, str]:
    """Formats the parts of a running trial as the text after its name and the line below: where it is, and its figures.

    Parts that do not fit on the first line go to the beginning of the second; parts that fit on neither are left out.
    """
    from rich.cells import cell_len

    # In training the time left says enough; otherwise the phase comes first.
    order = IMPORTANCE if "left" in parts and parts["phase"] == "train" else ("phase", *IMPORTANCE)
    shown: set[str] = set()
    lines = "", ""
    for part in order:
        selection = {key: text for key, text in parts.items() if key in shown | {part}}
        second_line = [text for key, text in selection.items() if key in FIGURES]
        first_line = [text for key, text in selection.items() if key not in FIGURES]
        while first_line and cell_len(f"{name}  {' · '.join(first_line)}") > width:
            second_line.insert(0, first_line.pop())
        if cell_len(f"  {' · '.join(second_line)}") <= width:
            shown, lines = set(selection), (" · ".join(first_line), " · ".join(second_line))
    return lines


def _head(board: RunProgress) -> list[RenderableType]:
    """Returns the counts of trials by state, and a bar with the time."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    done = len(board.records)
    counts = [f"{done}/{len(board.trials)} done", f"{len(board.running)} running", f"{board.waiting} waiting"]
    if board.failed:
        counts.insert(1, f"{board.failed} failed")
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    remaining = board.seconds_left() if board.active else None
    clock = seconds(board.clock() - board.begun_at) if board.active else ""
    clock += f", about {seconds(remaining)} left" if remaining else ""
    line.add_row(ProgressBar(total=max(1, len(board.trials)), completed=done), clock)
    return [Text(" · ".join(counts), no_wrap=True, overflow="ellipsis"), line]


def _machine(board: RunProgress) -> str:
    """Describes what the running trial and others use; empty where no figures are known."""
    from tuneoff.report import units

    usage = board.machine
    if not usage:
        return ""
    parts = []
    if "cpu_percent" in usage:
        others = f" (others {usage['other_cpu_percent'] / 100:.2f})" if "other_cpu_percent" in usage else ""
        parts.append(f"{usage['cpu_percent'] / 100:.2f} CPU cores{others}")
    if "resident_bytes" in usage:
        parts.append(f"memory {units.size(usage['resident_bytes'])}")
    gpu = [f"{usage['gpu_percent']:.0f} %"] if "gpu_percent" in usage else []
    gpu += [units.size(usage["gpu_memory_bytes"])] if "gpu_memory_bytes" in usage else []
    if gpu:
        parts.append(f"GPU {', '.join(gpu)}")
    return "machine: " + " · ".join(parts)


def _checkpoints(board: RunProgress) -> list[str]:
    """Describes the checkpoints that trials would continue from, a line each; many of them in sum."""
    from tuneoff.report import units

    lines = [
        f"checkpoint: {trial}, {'damaged' if kept.step is None else f'step {kept.step}'}, {units.size(kept.bytes)}"
        for trial, kept in board.checkpoints.items()
    ]
    if len(lines) <= MOST_CHECKPOINTS:
        return lines
    total = units.size(sum(kept.bytes for kept in board.checkpoints.values()))
    return [*lines[: MOST_CHECKPOINTS - 1], f"checkpoints: {len(lines)} in all, {total}"]


def _arms(board: RunProgress, width: int) -> list[RenderableType]:
    """Returns a table of the arms with their scores so far; nothing before the first score."""
    from rich.text import Text

    from tuneoff.report.fitting import fitted

    arms, test_metric, search_metric = board.arms()
    if not (test_metric or search_metric):
        return []
    columns: dict[str, list[RenderableType]] = {"trials": [_trials(arm) for arm in arms]}
    if test_metric:
        columns[f"test {test_metric}"] = [Text("–" if arm.score is None else f"{arm.score:.3f}") for arm in arms]
    if search_metric:
        counts = [f" ({arm.tried}/{arm.to_try})" if arm.to_try else "" for arm in arms]
        best = ["–" if arm.best is None else f"{arm.best:.3f}" for arm in arms]
        columns[f"search: {search_metric}"] = [Text(text) for text in map(str.__add__, best, counts)]
    labels, headings = [arm.label for arm in arms], list(columns)
    # Where there is no room, the search is left out first: it is over once final trials have scores.
    selections = (headings, headings[:2], headings[1:2])
    return [fitted([_table(labels, {head: columns[head] for head in selection}) for selection in selections], width)]


def _table(labels: Sequence[str], columns: dict[str, list[RenderableType]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("best so far", no_wrap=True, overflow="ellipsis", min_width=LABEL_LEAST)
    for head in columns:
        table.add_column(head, no_wrap=True, justify="left" if head == "trials" else "right")
    for label, *cells in zip(labels, *columns.values(), strict=True):
        table.add_row(Text(label), *cells)
    return table


def _trials(arm: ArmProgress) -> RenderableType:
    from rich.text import Text

    text = Text(f"{arm.done}/{arm.planned}")
    return text.append(f", {arm.failed} failed", style="red") if arm.failed else text
