"""What a study can tell apart: the smallest difference that it finds with a probability of 80 %."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from statistics import median

from tuneoff.analysis.statistics.crossed import Components
from tuneoff.analysis.statistics.estimates import LEVEL
from tuneoff.analysis.statistics.pairs import POWER, SEEDS_REQUIRED
from tuneoff.analysis.statistics.sequential import Looks

PRIOR_SEED_SPREAD = 0.0185
PRIOR_EXAMPLE_VARIANCE = 0.041
"""Of the difference of two arms in a metric that is a mean of fractions: the standard deviation between seeds, and the
variance between examples. Medians over the 45 pairs of trained arms of AG News with MiniLM, each searched (six seeds,
1,000 test examples, `benchmarks/studies/ag-news-minilm`).
"""


PRIOR_QUARTILES = ((0.012, 0.026), (0.028, 0.091))
"""Standard deviation between seeds and variance between examples: between these half of the same pairs lie."""
MOST_SEEDS = 1000
"""Most seeds that are told."""
ALIKE = 0.5
"""Share that a pair of arms which are alike takes of the most that others can tell of how much seeds differ
(`moderated.py`), on the median of six seeds, which vary more in one arm by chance; of twelve or more it is 0.75."""


def prior_components(
    seeds: int,
    examples: int,
    trained: int,
    spread: float = PRIOR_SEED_SPREAD,
    example_variance: float = PRIOR_EXAMPLE_VARIANCE,
) -> Components:
    """Returns the error of a difference of two arms that train as it may be expected before anything is measured, where
    all seeds train on the same rows.

    Args:
        seeds: of each arm.
        examples: test examples, the same for all seeds.
        trained: number of arms that train, and so tell together how much seeds differ; taken as alike.
        spread: standard deviation of the difference between seeds.
        example_variance: its variance between examples.
    """
    by_others = ALIKE * (trained - 2) ** 2 / trained * (seeds - 1) if trained > 2 else 0.0
    by_example = example_variance / examples
    return Components(0.0, seeds, spread**2 / seeds, by_example, examples - 1, prior_freedom=by_others)


def prior_seeds(difference: float, arms: int, examples: int) -> tuple[int | None, int | None]:
    """Computes how many seeds of each arm find a difference with probability `POWER`, where nothing is known of how
    seeds differ but `PRIOR_QUARTILES`: for the lesser and for the greater of these.

    Args:
        difference: the true one, above 0.
        arms: number of arms that are compared, all pairs of them; all of them train.
        examples: test examples, the same for all seeds.

    Returns:
        Both numbers, `SEEDS_REQUIRED` at the least; None for more than `MOST_SEEDS`, or where the examples are too few
        for any.
    """

    def needed(spread: float, variance: float) -> int | None:
        def finds(seeds: int) -> bool:
            return smallest_difference(prior_components(seeds, examples, arms, spread, variance), arms) <= difference

        if not finds(MOST_SEEDS):
            return None
        return bisect.bisect_left(range(MOST_SEEDS + 1), True, lo=SEEDS_REQUIRED, key=finds)

    less, more = (needed(*pair) for pair in PRIOR_QUARTILES)
    return less, more


def smallest_difference(parts: Components, arms: int, looks: Looks | None = None, look: int = 0) -> float:
    """Computes the smallest true difference of two arms that is found with probability `POWER`.

    Args:
        parts: the error of the difference, with what other pairs tell of it.
        arms: number of arms that are compared, all pairs of them.
        looks: of a race.
        look: at which of them (1, 2, …).
    """
    from scipy.special import ndtri

    error = (1 - LEVEL) / max(arms * (arms - 1) // 2, 1)
    nominal = looks.nominal(error, look) if looks is not None else error
    return parts.half_width(1 - nominal) + float(ndtri(POWER)) * math.sqrt(parts.variance)


def typical(parts: Sequence[Components]) -> Components | None:
    """Returns the median error of the differences of some pairs; None where none is known."""
    known = [part for part in parts if part.by_seed is not None and part.known and not part.constant]
    if not known:
        return None
    return Components(
        0.0,
        round(median(part.seeds for part in known)),
        median(part.by_seed or 0.0 for part in known),
        median(part.by_example or 0.0 for part in known),
        round(median(part.example_freedom for part in known)),
        prior_freedom=median(part.prior_freedom for part in known),
        pool_share=max(part.pool_share for part in known),
    )
