"""Draws of rows: subsets of a split, and training rows anew at every seed (`protocol.splits: per_seed`).

A study trains on one sample of the rows that there might have been. To see what another sample would do, every seed
draws its training rows anew from those at hand, as many as there are or `train_rows` says, with replacement: the
bootstrap (Bouthillier et al., Accounting for variance in machine learning benchmarks, MLSys 2021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from tuneoff.config.protocol import Protocol
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


def subset(task: Task, examples: Sequence[Example], limit: int | None, seed: Seed, keep_back: int = 0) -> list[Example]:
    """Returns at most `limit` examples in their own order, every stratum in proportion.

    None is left out unless there are more strata than `limit`; the largest go first then. Of each stratum,
    `keep_back` examples are never taken.
    """
    if not keep_back and (limit is None or limit >= len(examples)):
        return list(examples)
    strata = _positions(task, examples)
    sizes = {name: len(members) for name, members in strata.items()}
    quotas = _apportion(sizes, len(examples) if limit is None else limit, keep_back)
    rng = np.random.default_rng(seed)
    positions = [int(p) for name in sorted(strata) for p in rng.permutation(strata[name])[: quotas[name]]]
    return [examples[position] for position in sorted(positions)]


def _apportion(sizes: dict[str, int], limit: int, keep_back: int = 0) -> dict[str, int]:
    """Returns how many examples of each stratum to take: its share, by largest remainder, and at least one where
    possible."""
    available = {name: size - keep_back for name, size in sizes.items() if size > keep_back}
    limit = min(limit, sum(available.values()))
    exact_shares = {name: limit * sizes[name] / sum(sizes.values()) for name in available}
    counts = {name: min(available[name], max(1, int(share))) for name, share in exact_shares.items()}
    by_remainder = sorted(available, key=lambda name: (counts[name] - exact_shares[name], name))
    while sum(counts.values()) < limit:
        for name in by_remainder:
            if sum(counts.values()) < limit and counts[name] < available[name]:
                counts[name] += 1
    for _ in range(sum(counts.values()) - limit):
        # Small strata got at least one example each: larger strata give one up for each.
        largest = max(
            counts, key=lambda name: (counts[name] > 1, counts[name] and counts[name] / exact_shares[name], name)
        )
        counts[largest] -= 1
    return {name: counts.get(name, 0) for name in sizes}


def draw_rows(task: Task, pool: Sequence[Example], count: int, seed: Seed) -> list[Example]:
    """Draws so many rows with replacement, every stratum in proportion; in their own order."""
    strata = _positions(task, pool)
    quotas = _apportion({name: len(members) for name, members in strata.items()}, count)
    random = np.random.default_rng(seed)
    positions = [int(p) for name in sorted(strata) for p in random.choice(strata[name], quotas[name])]
    return [pool[position] for position in sorted(positions)]


def _positions(task: Task, examples: Sequence[Example]) -> dict[str, list[int]]:
    """Maps each stratum to where its examples stand."""
    strata: dict[str, list[int]] = defaultdict(list)
    for position, example in enumerate(examples):
        strata[task.stratum(example)].append(position)
    return strata


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
