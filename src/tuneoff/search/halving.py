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
from tuneoff.config.search import SEED_TRIALS
from tuneoff.errors import Problem, StudyError
from tuneoff.search.space import Outcome, Values

FEWEST_STEPS = 10
"""Of the shortest trials: with fewer, its scores show the first updates and little else."""
WHERE = "protocol.search.prune"
WHERE_SHARED = "protocol.search.per_seed"
UNKNOWN_STEPS = "needs to know the steps of a search trial: set protocol.search.max_steps, e.g. to 200"


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
        raise StudyError([Problem(WHERE, f"halving {UNKNOWN_STEPS}")])
    min_steps = _fewest_steps(protocol)
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


def shared_steps(protocol: Protocol) -> int | None:
    """Returns the most steps of a trial of one seed's search, where every seed has its own (`search.per_seed`); None
    where its trials are whole ones.

    Each of the seeds that share a search gets an equal part of its steps, and each trial of a seed an equal part of
    these.

    Raises:
        StudyError: if the protocol does not give the steps of a whole trial, or too few are left.
    """
    search = protocol.search
    assert search is not None
    parts = search.seed_trials * search.sharers
    if search.trials >= parts:
        return None
    full_steps = _most_steps(protocol)
    if full_steps is None:
        raise StudyError([Problem(WHERE_SHARED, f"sharing the steps of one search {UNKNOWN_STEPS}")])
    steps, min_steps = full_steps * search.trials // parts, _fewest_steps(protocol)
    if steps < min_steps:
        least = min(math.ceil(min_steps * SEED_TRIALS * search.sharers / full_steps), SEED_TRIALS * search.sharers)
        message = (
            f"{search.trials} search trials of {full_steps:,} steps, shared among {search.sharers} seeds, leave "
            f"{steps} to each of a seed's {search.seed_trials} trials, and {min_steps} are the least: set "
            f"protocol.search.trials to {least} or more"
        )
        raise StudyError([Problem(WHERE_SHARED, message)])
    return steps


def check_rows(protocol: Protocol, rows: int) -> None:
    """Checks that the training rows of a search trial are enough for the steps that its rungs, or the seeds that share
    them, count on.

    Raises:
        StudyError: if not: then even short trials might take all the steps that there are.
    """
    search = protocol.search
    if search is None:
        return
    is_shared = bool(search.per_seed) and shared_steps(protocol) is not None
    if search.prune == "none" and not is_shared:
        return
    required = _most_steps(protocol)
    epochs = search.epochs or protocol.epochs
    steps = _steps(rows, epochs, protocol)
    if required is not None and steps < required:
        where, name = (WHERE_SHARED, "search.per_seed") if is_shared else (WHERE, "halving")
        message = (
            f"{name} counts on {required:,} steps of a search trial, but {rows:,} training rows give {steps:,} in "
            f"{epochs} epoch{'s' if epochs != 1 else ''}: set protocol.search.max_steps to {steps} or less"
        )
        raise StudyError([Problem(where, message)])


def promoted(history: Sequence[Outcome], rung: int, count: int) -> list[Values]:
    """Returns the configurations of the `count` best outcomes of a rung, best first; none that did not complete."""
    completed = [outcome for outcome in history if outcome.rung == rung and outcome.score is not None]
    # Sorting is stable, so that of equal outcomes the earlier one is promoted.
    return [outcome.values for outcome in sorted(completed, key=lambda o: o.merit, reverse=True)[:count]]


def _fewest_steps(protocol: Protocol) -> int:
    return max(FEWEST_STEPS, 2 * (protocol.warmup_steps or 0))


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
