"""Checks several numbers of training rows on the rows themselves, before any of them is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tuneoff import registry
from tuneoff.config.spec import StudySpec
from tuneoff.errors import Problem, StudyError
from tuneoff.trial.data.draws import subset
from tuneoff.trial.data.load import load

_WHERE = "protocol.train_rows"


def check_sizes(study: StudySpec, sizes: Sequence[int]) -> None:
    """Checks that there are so many rows, that each number leaves every class a row, and that the rows of each are
    among those of the next. Rows that every seed draws anew (`splits: per_seed`) are never nested.

    Args:
        study: whose rows they are.
        sizes: numbers of training rows, from the smallest.

    Raises:
        StudyError: with every problem.
        SourceError, DataError: if the rows cannot be read or used.
    """
    task = registry.create_task(study.task)
    protocol = study.protocol.model_copy(update={"train_rows": None})
    # What is drawn of all rows, as each trial draws it.
    pool = load(task, study.task, protocol).splits["train"]
    classes = {task.stratum(example) for example in pool}
    problems = [
        Problem(_WHERE, f"{size:,} is more than the {len(pool):,} training rows that there are")
        for size in sizes
        if size > len(pool)
    ]
    if sizes[0] < len(classes):
        message = f"{sizes[0]:,} rows leave out some of the {len(classes):,} classes: take {len(classes):,} or more"
        problems.append(Problem(_WHERE, message))
    draws = [{example.index for example in subset(task, pool, size, protocol.data_seed)} for size in sizes]
    if not problems and protocol.shares("train"):
        problems = [
            Problem(
                _WHERE,
                f"{smaller:,} and {larger:,} are so near to each other that classes in proportion take "
                f"{len(draws[index] - draws[index + 1])} of the rows from the smaller one alone: take sizes that lie "
                "further apart",
            )
            for index, (smaller, larger) in enumerate(pairwise(sizes))
            if draws[index] - draws[index + 1]
        ]
    if problems:
        raise StudyError(problems)
