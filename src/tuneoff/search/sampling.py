"""What a search tries next, as a pure function of the space, the outcomes so far and the seed.

There is no other state: an interrupted search continues with the same suggestions, as long as the rules are the same
(`rules`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from tuneoff.config.search import Sampler
from tuneoff.search.gaussian import most_promising
from tuneoff.search.space import Outcome, Space, Values, first, size

if TYPE_CHECKING:
    import optuna

SPREAD = 6
"""Suggestions that are spread evenly over the space before the scores are used (`benchmarks/search.py`)."""
CANDIDATES = 256
"""Points of the space among which `gp` chooses."""
RULES = 3
"""Number of the rules of this module; greater after every change that makes a search suggest something else."""


def rules(sampler: Sampler) -> str:
    """Names what suggestions depend on besides their arguments; a search goes on only by the rules that it began
    with."""
    library = "" if sampler == "gp" else f" of Optuna {version('optuna')}"
    return f"{sampler}{library}, rules {RULES}"


def suggest(space: Space, history: Sequence[Outcome], seed: int, sampler: Sampler = "gp") -> Values:
    """Suggests what to try after `history`; a pure function of its arguments.

    The first configuration comes first, then (but for `random`) points spread evenly over the space, at the same
    places of every arm's ranges, then what the sampler makes of the scores. Nothing is suggested twice while anything
    is left.

    Raises:
        ValueError: if all configurations were tried.
    """
    tried = [outcome.values for outcome in history]
    if (first_values := first(space)) not in tried:
        return first_values
    if len(history) >= size(space):
        raise ValueError("every configuration was tried")
    for values in _suggestions(space, history, seed, sampler):
        if values not in tried:
            return values
    return _untried(space, tried, random.Random(_seed(seed, len(history), 0)))


def _suggestions(space: Space, history: Sequence[Outcome], seed: int, sampler: Sampler) -> Iterator[Values]:
    """Yields a few suggestions, the best first; some may have been tried."""
    if sampler != "random" and len(history) < SPREAD:
        yield from (_spread(space, len(history) + attempt * SPREAD, seed) for attempt in range(8))
    elif sampler == "gp":
        tried = [outcome.values for outcome in history]
        points = itertools.islice(_points(len(space), seed), CANDIDATES)
        candidates = [values for point in points if (values := _values_at(space, point)) not in tried]
        if candidates:
            yield most_promising(space, history, candidates)
    else:
        yield from (_ask(space, history, _seed(seed, len(history), attempt), sampler) for attempt in range(8))


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _points(dimensions: int, seed: int) -> Iterator[list[float]]:
    """Yields points that fill the unit cube evenly at any length (Roberts' R sequence), shifted by the seed."""
    ratio = 2.0
    # The root of x ** (dimensions + 1) = x + 1, as the limit of two lines: no root finder is imported for a plan.
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    rng = random.Random(_seed(seed))
    shifts = [rng.random() for _ in range(dimensions)]
    for step in itertools.count(1):
        yield [(shift + step * ratio ** -(axis + 1)) % 1.0 for axis, shift in enumerate(shifts)]


def _values_at(space: Space, point: Sequence[float]) -> Values:
    return {dimension.name: dimension.at(share) for dimension, share in zip(space, point, strict=True)}


def _spread(space: Space, index: int, seed: int) -> Values:
    """Returns point `index` (from 1) of the sequence, without the points that would nearly repeat the first
    configuration."""
    first_point = [dimension.share(dimension.first) for dimension in space]
    far = (
        point
        for point in _points(len(space), seed)
        if max(abs(one - other) for one, other in zip(point, first_point, strict=True)) > 0.5 / SPREAD
    )
    return _values_at(space, next(itertools.islice(far, index - 1, None)))


def _ask(space: Space, history: Sequence[Outcome], seed: int, sampler: Sampler) -> Values:
    """Asks Optuna for a suggestion: makes a new Optuna study, adds the whole history, and asks once."""
    import optuna

    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=_sampler(sampler, seed, len(space)))
        distributions = {dimension.name: dimension.distribution() for dimension in space}
        for outcome in history:
            params = {
                d.name: d.position(outcome.values[d.name]) if d.choices else outcome.values[d.name] for d in space
            }
            score = -math.inf if outcome.score is None else outcome.score
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
        suggested = study.ask(distributions).params
    return {d.name: d.choices[suggested[d.name]] if d.choices else d.fit(suggested[d.name]) for d in space}


def _sampler(name: Sampler, seed: int, dimensions: int) -> optuna.samplers.BaseSampler:
    """Returns Optuna's sampler with every argument set, for their defaults change from version to version."""
    import numpy as np
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        consider_prior=True,
        prior_weight=1.0,
        consider_magic_clip=True,
        consider_endpoints=False,
        n_startup_trials=1,
        n_ei_candidates=24,
        gamma=lambda trials: math.ceil(trials / 4),
        weights=np.ones,
        seed=seed,
        multivariate=dimensions > 1,
        group=False,
        warn_independent_sampling=False,
        constant_liar=False,
        constraints_func=None,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Turns off Optuna's messages about every study it makes (many are made here), and its warnings of arguments that
    a later version will not take."""
    import optuna

    previous_verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(previous_verbosity)


def _untried(space: Space, tried: Sequence[Values], rng: random.Random) -> Values:
    """Returns an untried configuration of a space that is nearly exhausted, or whose values are too near one another to
    round."""
    if size(space) < math.inf:
        values_per_dimension = [d.choices or range(int(d.low), int(d.high) + 1) for d in space]
        names = [d.name for d in space]
        untried = [
            v
            for combination in itertools.product(*values_per_dimension)
            if (v := dict(zip(names, combination, strict=True))) not in tried
        ]
        return rng.choice(untried)
    return {d.name: d.at(rng.random()) if d.size < math.inf else rng.uniform(d.low, d.high) for d in space}
