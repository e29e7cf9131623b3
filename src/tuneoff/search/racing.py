"""Racing over seeds: at how many of them a study is looked at, fixed before it begins."""

from __future__ import annotations

import math

from tuneoff.config.protocol import RaceSpec

GROWTH = 4 / 3
"""Of the seeds from look to look: then each look tells clearly more than the one before, and few looks share the error.
"""


def looks(race: RaceSpec) -> tuple[int, ...]:
    """Returns the numbers of seeds at which a race is looked at, rising: 6, 8, 11, 15 and 20 by default."""
    counts = [race.min]
    while counts[-1] < race.max:
        counts.append(min(race.max, math.ceil(counts[-1] * GROWTH)))
    return tuple(counts)


EXPECTED_SHARE = 1 / 3
"""Share that races are expected to take of the seeds that they may take after their first look: of made-up studies
without a difference they took 0.12 to 0.34 (`benchmarks/results/calibration.md`)."""
