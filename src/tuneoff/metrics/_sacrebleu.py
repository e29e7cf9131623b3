"""Metrics of the package sacrebleu, as functions of its statistics of each text.

sacrebleu itself computes a corpus's score from sums of these, and resamples them for its own intervals. The members
that give them begin with an underscore; `tests/metrics` holds the scores equal to those of `corpus_score`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs, PooledMetric

PACKAGE, EXTRA = "sacrebleu", "tuneoff[bleu]"


def metric(name: str, kind: str, title: str, summary: str) -> PooledMetric:
    """Returns a metric, from 0 to 100 as sacrebleu gives it.

    Args:
        name: its key.
        kind: sacrebleu's class, with its defaults.
        title, summary: for people.
    """
    scorer = cache(lambda: _scorer(kind))

    def statistics(outputs: Outputs) -> Any:
        return np.array(scorer()._extract_corpus_statistics(list(outputs.outputs), [list(outputs.targets)]))

    def score(sums: NDArray[np.float64]) -> float:
        # Sums over examples are whole numbers.
        return float(scorer()._compute_score_from_stats([round(value) for value in sums.tolist()]).score)

    of_sums: Callable[[Any], float] = score
    return PooledMetric(
        name=name,
        direction="higher",
        unit="points",
        title=title,
        summary=summary,
        produces=("text",),
        needs=PACKAGE,
        extra=EXTRA,
        written=True,
        low=0,
        high=100,
        terms=statistics,
        of_sums=of_sums,
    )


def _scorer(kind: str) -> Any:
    import sacrebleu.metrics

    return getattr(sacrebleu.metrics, kind)()
