"""Draws of training rows, other ones at every seed (`protocol.splits: per_seed`).

A study trains on one sample of the rows that there might have been. To see what another sample would do, every seed
draws its training rows anew from those at hand, as many as there are or `train_rows` says, with replacement: the
bootstrap (Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from tuneoff.config.spec import Protocol
from tuneoff.errors import DataError
from tuneoff.interfaces import Example, Task

Seed = int | tuple[int, int]
"""Of a generator of random numbers."""
TRIES = 100
"""Draws of groups until one holds every class."""


def draw_seed(protocol: Protocol) -> Seed:
    """Returns what decides which rows are validation and which are trained on: the data seed and, where every seed has
    a draw of its own, the trial's (of a whole study the first one's)."""
    return protocol.data_seed if protocol.splits == "fixed" else (protocol.data_seed, protocol.seeds[0])


def draw_rows(
    task: Task, pool: Sequence[Example], counts: Callable[[dict[str, int]], dict[str, int]], seed: Seed
) -> list[Example]:
    """Draws rows with replacement, of every stratum by itself.

    Args:
        task: tells the strata.
        pool: the rows to draw from.
        counts: from stratum -> rows of the pool to stratum -> rows to draw.
        seed: what decides the draw.
    """
    strata: dict[str, list[int]] = defaultdict(list)
    for position, example in enumerate(pool):
        strata[task.stratum(example)].append(position)
    quotas = counts({name: len(members) for name, members in strata.items()})
    random = np.random.default_rng(seed)
    positions = [int(p) for name in sorted(strata) for p in random.choice(strata[name], quotas[name])]
    return [pool[position] for position in sorted(positions)]


def draw_groups(task: Task, pool: Sequence[Example], count: int, seed: Seed) -> list[Example]:
    """Draws whole groups with replacement until there are so many rows; the last group is cut.

    Raises:
        DataError: if no draw holds every class.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in pool:
        groups[example.group].append(example)
    names, random = sorted(groups), np.random.default_rng(seed)
    strata = {task.stratum(example) for example in pool}
    for _ in range(TRIES):
        drawn: list[Example] = []
        while len(drawn) < count:
            drawn += groups[names[int(random.integers(len(names)))]]
        drawn = drawn[:count]
        if {task.stratum(example) for example in drawn} == strata:
            return drawn
    raise DataError(
        f"{TRIES} draws of groups (protocol.splits: per_seed) left out a class: too few groups have one of the "
        f"{len(strata)} classes",
        hint="Set protocol.splits to fixed, or give rows of more groups.",
    )
