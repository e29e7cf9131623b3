"""The progress of a run, shown as a bar in a notebook or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tuneoff.executors.base import Listener, Progress


def in_notebook() -> bool:
    """Returns whether this runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def listening(count: Callable[[], int], listener: Listener | None, wanted: bool | None) -> Iterator[Listener]:
    """Yields the listener that is given, or else one that moves a bar of so many trials, where one is wanted; in a
    notebook where that is not said."""
    if listener is not None:
        yield listener
        return
    with bar(count(), in_notebook() if wanted is None else wanted) as bar_listener:
        yield bar_listener


@contextmanager
def bar(total: int, wanted: bool) -> Iterator[Listener]:
    """Yields a listener that moves a progress bar of so many trials until the block ends; it does nothing where no bar
    is wanted."""
    if not wanted:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    # No markup: labels are the user's text.
    text_column = TextColumn("{task.description}", markup=False)
    with Bars(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), text_column) as bars:
        task = bars.add_task("preparing", total=total)

        def listen(progress: Progress) -> None:
            name = f"{progress.trial.label} seed {progress.trial.seed}"
            if progress.kind in ("ended", "skipped"):
                bars.update(
                    task, advance=1, description=f"{name}: {progress.record.status.value if progress.record else ''}"
                )
            elif progress.event.get("kind") == "step":
                steps = f"{progress.event['step']}/{progress.event['steps']}"
                bars.update(task, description=f"{name}: step {steps}")
            elif progress.kind == "started":
                bars.update(task, description=name)

        yield listen
