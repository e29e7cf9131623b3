"""Successive halving: few steps for all configurations of an arm, and twice as many for the better half, rung by rung.

Every rung costs an arm about as much as any other, so most is spent on what looks good: Jamieson & Talwalkar,
Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016; Li et al., Hyperband, J Mach Learn
Res 18, 2018, of which this is one bracket. Rungs and steps are equal for all arms and depend on the protocol alone.

A promoted configuration is trained from the beginning: the learning-rate schedule is that of its own steps, so the
first half of a long trial is not a short trial.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff.config.protocol import Protocol
from tuneoff.errors import Problem, StudyError
from tuneoff.search.space import Outcome, Values

FEWEST_STEPS = 10
"""Of the first rung: with fewer, its scores show the first updates and little else."""
WHERE = "protocol.search.prune"


@dataclass(frozen=True)
class Rung:
    """One stage of the search, equal for every arm.

    Attributes:
        trials: the most trials of an arm; where it has fewer configurations left, all of them.
        steps: the most optimizer steps of each; None: what the protocol gives a search trial.
    """

    trials: int
    steps: int | None


def rungs(protocol: Protocol) -> tuple[Rung, ...]:
    """Returns the stages of the protocol's search, first to last: one without pruning, none without a search.

    Halving has as many rungs as it can until one trial of an arm is left or the first rung would have fewer than
    `FEWEST_STEPS` steps (or less than twice the warm-up). The last has the whole share of steps.

    Raises:
        StudyError: if the protocol does not give the steps, or there is nothing to halve.
    """
    search = protocol.search
    if search is None:
        return ()
    if search.prune == "none":
        return (Rung(search.trials, None),)
    full_steps = _most_steps(protocol)
    if full_steps is None:
        message = "halving needs to know the steps of a search trial: set protocol.search.max_steps, e.g. to 200"
        raise StudyError([Problem(WHERE, message)])
    min_steps = max(FEWEST_STEPS, 2 * (protocol.warmup_steps or 0))
    count = 1
    while search.trials >> count and full_steps >> count >= min_steps:
        count += 1
    if count == 1:
        message = (
            f"halving takes 2 trials and {2 * min_steps} steps at least, and the search has "
            f"{search.trials} and {full_steps}: give it more, or set {WHERE}=none"
        )
        raise StudyError([Problem(WHERE, message)])
    return tuple(Rung(search.trials >> index, full_steps >> (count - 1 - index)) for index in range(count))


def check_rows(protocol: Protocol, rows: int) -> None:
    """Checks that the training rows of a search trial are enough for the steps that its rungs count on.

    Raises:
        StudyError: if not: then even trials of the lower rungs might take all the steps that there are.
    """
    search = protocol.search
    if search is None or search.prune == "none":
        return
    required = rungs(protocol)[-1].steps
    epochs = search.epochs or protocol.epochs
    steps = _steps(rows, epochs, protocol)
    if required is not None and steps < required:
        message = (
            f"halving counts on {required:,} steps of a search trial, but {rows:,} training rows give {steps:,} in "
            f"{epochs} epoch{'s' if epochs != 1 else ''}: set protocol.search.max_steps to {steps} or less"
        )
        raise StudyError([Problem(WHERE, message)])


def promoted(history: Sequence[Outcome], rung: int, count: int) -> list[Values]:
    """Returns the configurations of the `count` best outcomes of a rung, best first; none that did not complete."""
    completed = [outcome for outcome in history if outcome.rung == rung and outcome.score is not None]
    # Sorting is stable, so that of equal outcomes the earlier one is promoted.
    return [outcome.values for outcome in sorted(completed, key=lambda o: o.merit, reverse=True)[:count]]


def _most_steps(protocol: Protocol) -> int | None:
    """Computes the most optimizer steps of a search trial, as far as the protocol alone gives them; None where it does
    not."""
    search = protocol.search
    assert search is not None
    rows = search.train_rows or protocol.train_rows
    limits = [search.max_steps or protocol.max_steps]
    limits.append(_steps(rows, search.epochs or protocol.epochs, protocol) if rows else None)
    return min((limit for limit in limits if limit is not None), default=None)


def _steps(rows: int, epochs: int, protocol: Protocol) -> int:
    return epochs * math.ceil(rows / protocol.batch_size)
