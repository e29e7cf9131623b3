"""Which rows searches validate on, and what is said where all seeds share them."""

from __future__ import annotations

from typing import Any

import pytest

from record_helpers import small_study
from tuneoff.config.spec import StudySpec
from tuneoff.search.validation import MOST_SEEDS, advise_own_rows, draws_validation_rows

SEARCH = {"trials": 24, "per_seed": True}


def study(seeds: int = MOST_SEEDS + 1, search: Any = SEARCH, *, file: bool = False, **protocol: Any) -> StudySpec:
    made = small_study("head", "lora", seeds=seeds, search=search)
    data = made.task.data
    task = made.task.model_copy(update={"data": data.model_copy(update={"validation": data.train if file else None})})
    return made.model_copy(update={"task": task, "protocol": made.protocol.model_copy(update=protocol)})


@pytest.mark.parametrize(
    ("file", "protocol", "own"),
    [
        (False, {}, False),
        (False, {"splits": "per_seed"}, True),
        (True, {"splits": "per_seed"}, False),
        (True, {"splits": "per_seed", "validation_rows": 9}, True),
        (True, {"validation_rows": 9}, False),
    ],
)
def test_validation_rows_of_a_file_of_their_own_are_drawn_only_where_they_are_a_part_of_it(
    file: bool, protocol: dict[str, Any], own: bool
) -> None:
    assert draws_validation_rows(study(file=file, **protocol)) is own


@pytest.mark.parametrize(
    ("file", "protocol", "said"),
    [
        (False, {}, "set protocol.splits=per_seed, so that every seed draws its own"),
        (True, {}, "set protocol.splits=per_seed and protocol.validation_rows to fewer than its file has, so that"),
        (True, {"splits": "per_seed"}, "set protocol.validation_rows to fewer than its file has, so that"),
    ],
)
def test_many_seeds_that_search_on_the_same_rows_are_told_what_to_set(
    file: bool, protocol: dict[str, Any], said: str
) -> None:
    advice = advise_own_rows(study(file=file, **protocol))
    assert said in advice
    assert f"whose luck {MOST_SEEDS + 1} seeds do not lessen" in advice


def test_no_advice_where_it_would_change_little_or_nothing() -> None:
    assert advise_own_rows(study(MOST_SEEDS)) == ""
    assert advise_own_rows(study(search=None)) == ""
    assert advise_own_rows(study(search=8)) == "", "one search is one draw, whatever its rows"
    assert advise_own_rows(study(splits="per_seed")) == ""
