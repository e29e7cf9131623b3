"""Early stopping of search trials by their curves: by a quartile, of each arm by itself.

A trial is stopped at a validation on the way where its best score so far is worse than the worst quartile of what the
arm's earlier trials had reached there. It is the median rule of Golovin et al. (Google Vizier, KDD 2017) with a
quartile in the place of the median, which on recorded curves stops the best trial two to three times as often
(`benchmarks/stopping.py`). Arms never stop one another: what learns slowly is held against nothing but itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tuneoff.config.protocol import Protocol
from tuneoff.config.search import SearchSpec
from tuneoff.config.spec import Stopping
from tuneoff.errors import Problem, StudyError
from tuneoff.records.record import CurvePoint, Direction

STARTUP = 4
"""Trials of an arm that are never stopped: fewer say little of what is bad."""
SHARE = 0.25
"""Of the earlier trials that must be worse for a trial to go on."""
WHERE = "protocol.search.stop"


def idle_reason(search: SearchSpec, configurations: Iterable[float]) -> str:
    """Returns why a search that is to stop trials never stops one; empty where it may.

    Args:
        search: it.
        configurations: how many configurations there are of each arm that is searched.
    """
    if search.stop == "none":
        return ""
    most = max(configurations, default=math.inf)
    trials = search.seed_trials if search.per_seed else search.trials
    if search.grow:
        trials += math.ceil(search.trials / 2)
    if min(most, trials) > STARTUP:
        return ""
    if most <= STARTUP:
        count, change = f"no arm has more than {most:g} configurations", "give the arms more to choose from"
    elif search.per_seed:
        least = (STARTUP + 1) * search.sharers
        count, change = f"the search of a seed has {trials}", f"set protocol.search.trials to {least} or more"
    else:
        count, change = f"the search has {trials}", f"set protocol.search.trials to {STARTUP + 1} or more"
    return f"stops nothing: an arm's first {STARTUP} trials are never stopped, and {count}: {change}, or leave stop out"


def check_rows(protocol: Protocol, rows: int) -> None:
    """Checks that trials of a search that are to be stopped are validated on the way.

    Args:
        protocol: of its trials.
        rows: their training rows.

    Raises:
        StudyError: if not: then no trial is ever stopped.
    """
    last, per_epoch = protocol.total_steps(rows), math.ceil(rows / protocol.batch_size)
    if min(protocol.evaluation_steps(rows)) < last:
        return
    change = (
        f"set protocol.evaluations_per_epoch to {math.ceil(per_epoch / (last - 1))} or more"
        if last > 1
        else "give it more steps"
    )
    steps = f"{last:,} step{'s' if last > 1 else ''}"
    message = (
        f"stops nothing: on {rows:,} training rows a search trial takes {steps}, with no validation before the last: "
        f"{change}, or leave stop out"
    )
    raise StudyError([Problem(WHERE, message)])


def bounds(
    curves: Sequence[Sequence[CurvePoint]], metric: str, direction: Direction, share: float = SHARE
) -> Stopping | None:
    """Returns when the next trial of an arm is stopped, given the curves of its earlier ones, each as far as it came;
    None while nothing is stopped."""
    import numpy as np

    if len(curves) < STARTUP:
        return None
    reached = [_best_so_far(curve, metric, direction) for curve in curves]
    # At the last validation there is nothing left to stop.
    checks = max(map(len, reached)) - 1
    share = share if direction == "higher" else 1 - share
    limits = [float(np.quantile([each[at] for each in reached if len(each) > at], share)) for at in range(checks)]
    return Stopping(metric=metric, direction=direction, bounds=tuple(limits)) if limits else None


def is_stopped(stopping: Stopping | None, curve: Sequence[CurvePoint]) -> bool:
    """Returns whether a trial is stopped at the last point of its curve."""
    if stopping is None or not 0 < len(curve) <= len(stopping.bounds):
        return False
    best, bound = _best_so_far(curve, stopping.metric, stopping.direction)[-1], stopping.bounds[len(curve) - 1]
    return best < bound if stopping.direction == "higher" else best > bound


def _best_so_far(curve: Sequence[CurvePoint], metric: str, direction: Direction) -> list[float]:
    best: list[float] = []
    for point in curve:
        score = point.validation[metric]
        better = max if direction == "higher" else min
        best.append(better(score, best[-1]) if best else score)
    return best
