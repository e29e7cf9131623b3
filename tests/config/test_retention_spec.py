"""What a study may say of retention, and its short forms."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tuneoff.config.data import SourceSpec
from tuneoff.config.retention import REWIND, RetentionSpec


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("docstrings", ["docstrings"]),
        ("folder/notes.jsonl.gz", ["notes"]),
        (["docstrings", "org/books"], ["docstrings", "books"]),
        ({"held": "docstrings"}, ["docstrings"]),
        ({"held": [{"text": "a.csv", "column": "body"}, "b.csv"]}, ["a", "b"]),
        ({"held": [{"task": {"name": "generation", "data": "sums.csv"}}]}, ["generation"]),
        ({"held": {"prose": {"text": ["a.csv", "b.csv"]}}}, ["prose"]),
    ],
)
def test_short_forms_say_the_same_as_the_whole(value: Any, names: list[str]) -> None:
    retention = RetentionSpec.model_validate(value)
    assert list(retention.held) == names
    assert RetentionSpec.model_validate(retention.model_dump(mode="json")) == retention


def test_a_text_is_a_source_and_a_task_has_its_own_keys() -> None:
    task = {"name": "instruction", "data": "sums.csv", "answer": "sum"}
    retention = RetentionSpec.model_validate({"held": {"prose": "docstrings", "sums": {"task": task}}})
    prose, sums = retention.held.values()
    assert prose.text == SourceSpec(source="docstrings")
    assert sums.task is not None
    assert sums.task.options == {"answer": "sum"}
    assert retention.references == ("docstrings", "sums.csv")


@pytest.mark.parametrize(("value", "expected"), [(True, REWIND), (False, ()), (None, ()), ([0, 0.5, 1], (0, 0.5, 1))])
def test_rewind_is_fractions_or_whether_there_are_the_usual_ones(value: Any, expected: tuple[float, ...]) -> None:
    assert RetentionSpec.model_validate({"held": "docstrings", "rewind": value}).rewind == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"held": {}}, "at least 1"),
        ({"held": {"a": {}}}, "either a text or a task"),
        ({"held": {"a": {"text": "a.csv", "task": {"data": "b.csv"}}}}, "either a text or a task"),
        ({"held": {"a": {"task": {"data": "b.csv"}, "column": "body"}}}, "column is of a text"),
        (["a.csv", "other/a.csv"], "'a' stands twice"),
        ({"held": "a.csv", "rewind": [0.5]}, "two fractions"),
        ({"held": "a.csv", "rewind": [1, 0]}, "ascending"),
        ({"held": "a.csv", "rewind": [0, 2]}, "from 0"),
        ({"held": "a.csv", "rows": 1}, "greater than or equal to 2"),
        ({"held": "a.csv", "row": 1}, "row"),
    ],
)
def test_what_makes_no_sense_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RetentionSpec.model_validate(value)
