"""Made-up searches and effects of rows, for `scope.py`.

Each trial of a search tries one of some places, and the best by validation is chosen.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PLACES = 16
"""Configurations that there are to try."""
VALIDATION_ROWS, OTHER_ROWS = 200, 2000
"""Rows that a seed validates on, and those at hand besides, of which it trains on some or all."""
FURTHER_SEEDS = 2000
"""Of a study, for the truth given its validation rows."""
ALIKE = 0.3
"""Share of the variance of rows' effects that all arms have in common."""
EFFECTS = np.array([NormalDist().inv_cdf((place + 0.5) / PLACES) for place in range(PLACES)])
"""What places do to a score after all steps, in units of their standard deviation."""


def search_effects(
    trials: int,
    spread: float,
    noise: float,
    shared: float,
    seen: Array,
    size: tuple[int, int],
    random: np.random.Generator,
    of_places: Array | None = None,
) -> Array:
    """Draws by how much the place that a search chooses moves a score.

    Args:
        trials: of each search, each at a place drawn at random; the best by validation is chosen.
        spread: standard deviation of the places' effects.
        noise: of a validation score.
        shared: share of its variance that belongs to the place and is the same for all searches of a row.
        seen: what each place does to the score of a search trial, like `EFFECTS`.
        size: shape of what is returned.
        random: draws.
        of_places: that shared part, in units of its standard deviation, shape (rows, searches or 1, PLACES); drawn
            where None.
    """
    places = random.integers(PLACES, size=(*size, trials))
    if of_places is None:
        of_places = random.standard_normal((size[0], 1, PLACES))
    of_place = np.take_along_axis(np.broadcast_to(of_places, (*size, PLACES)), places, axis=-1)
    errors = np.sqrt(shared) * of_place + np.sqrt(1 - shared) * random.standard_normal(places.shape)
    best = (spread * seen[places] + noise * errors).argmax(axis=-1)
    return np.asarray(spread * EFFECTS[np.take_along_axis(places, best[..., None], axis=-1)[..., 0]])


def short_effects(alike: float, random: np.random.Generator) -> Array:
    """Draws what places do to the score of a short trial: with this correlation to what they do to a whole one."""
    other = random.standard_normal(PLACES)
    other -= other.mean() + EFFECTS * (other @ EFFECTS) / (EFFECTS @ EFFECTS)
    return np.asarray(alike * EFFECTS + np.sqrt(1 - alike**2) * other * EFFECTS.std() / other.std())


def row_effects(arms: int, rows: int, random: np.random.Generator) -> Array:
    """Draws the effect of each row on each arm, of mean 0 and variance 1 and with heavy tails, shape (arms, rows)."""
    own, common = (random.standard_t(5, size) / np.sqrt(5 / 3) for size in ((arms, rows), (1, rows)))
    return np.asarray(np.sqrt(1 - ALIKE) * own + np.sqrt(ALIKE) * common)


def rows_drawn(count: int, rows: int, searches: int, random: np.random.Generator) -> Array:
    """Draws for each search which of the rows are validated on, `count` of them; shape (searches, rows)."""
    order = random.random((searches, rows)).argsort(axis=1)
    return np.asarray(order < count, dtype=np.float64)
