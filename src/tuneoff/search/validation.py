"""Which rows the searches of a study validate on, and when it matters that they are the same at every seed.

The luck of validation rows that all searches share (`search.per_seed` with `splits: fixed`) is the same at every seed,
so no number of seeds lessens it, while the interval that the verdict goes by becomes narrower. `benchmarks/scope.py`
measures from how many seeds on equal methods are called different more often than the level allows.
"""

from __future__ import annotations

from tuneoff.config.spec import StudySpec

MOST_SEEDS = 6
"""Seeds whose searches may share their validation rows, with a verdict of methods on any rows in mind."""


def draws_validation_rows(study: StudySpec) -> bool:
    """Returns whether every seed has validation rows of its own: cut from the training rows anew, or another part of
    their file."""
    has_file = study.task.data.validation is not None
    return study.protocol.splits == "per_seed" and (not has_file or study.protocol.validation_rows is not None)


def searches_each_seed(study: StudySpec) -> bool:
    """Returns whether every final seed has a search of its own."""
    return study.protocol.search is not None and bool(study.protocol.search.per_seed)


def advise_own_rows(study: StudySpec) -> str:
    """Says which keys give every seed's search validation rows of its own, and what for; empty where so few seeds share
    theirs that it hardly matters."""
    seeds = len(study.protocol.seeds)
    if not searches_each_seed(study) or draws_validation_rows(study) or seeds <= MOST_SEEDS:
        return ""
    needed = ["protocol.splits=per_seed"] if study.protocol.splits == "fixed" else []
    # A file of validation rows is otherwise used whole at every seed.
    if study.task.data.validation is not None:
        needed.append("protocol.validation_rows to fewer than its file has")
    return (
        f"All searches validate on the same rows, whose luck {seeds} seeds do not lessen: for a verdict of these "
        f"methods on any rows set {' and '.join(needed)}, so that every seed draws its own (intervals become wider)."
    )
