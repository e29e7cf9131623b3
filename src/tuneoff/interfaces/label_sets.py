"""Sets of labels as targets and predictions hold them: as text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache


def write_labels(labels: Iterable[str]) -> str:
    """Returns a set of labels as text: a JSON list in alphabetical order."""
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


@lru_cache(maxsize=100_000)
def read_labels(text: str) -> frozenset[str]:
    """Returns the labels of such a text."""
    return frozenset(json.loads(text))
