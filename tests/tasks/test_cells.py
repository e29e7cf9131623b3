"""Cells of other types than text and numbers: refused with a reason and a way out, before anything is trained."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tuneoff import registry
from tuneoff.config.data import SourceSpec
from tuneoff.errors import DataError
from tuneoff.interfaces import Rows, Task
from tuneoff.sources import read_rows
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation

CHAT = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
OTHERS: dict[str, tuple[Any, str]] = {
    "list": ([0, 1], "lists, such as [0, 1]"),
    "empty list": ([], "lists"),
    "tuple": (("a", "b"), "lists"),
    "set": ({"a"}, "lists"),
    "array": (np.array([1, 0]), "lists"),
    "object": ({"name": "sport", "id": 1}, "objects"),
    "bytes": (b"sport", "bytes"),
    "date": (datetime.date(2024, 1, 2), "type date, such as 2024-01-02"),
    "time": (datetime.datetime(2024, 1, 2, 3), "type datetime"),
    "decimal": (decimal.Decimal("1.50"), "type Decimal, such as 1.50"),
    "chat": (CHAT, "chats"),
}


def table(**columns: list[Any]) -> Rows:
    return Rows(columns, "train.jsonl", lines=(1, 2))


def refused(task: Task, rows: Rows) -> DataError:
    with pytest.raises(DataError) as caught:
        task.examples(rows, task.columns(rows), "train")
    return caught.value


@pytest.mark.parametrize(("cell", "said"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("role", ["text", "label", "source", "target", "topic"])
def test_a_cell_that_is_no_text_or_number_is_named_with_a_way_out(role: str, cell: Any, said: str) -> None:
    if role in ("text", "label"):
        rows, task = table(**{"text": ["a", "b"], "label": ["c", "d"], role: ["a", cell]}), Classification({})
        error = refused(task, rows)
    else:
        columns: dict[str, list[Any]] = {"article": ["a", "b"], "summary": ["c", "d"], "topic": ["e", "f"]}
        column = {"source": "article", "target": "summary"}.get(role, role)
        error = refused(Generation({"template": "{topic}: {source}"}), table(**{**columns, column: ["a", cell]}))
    assert error.message.startswith("train.jsonl line 2: column ")
    assert said in error.message
    assert ("holds no text but" in error.message) == (role != "label")
    assert error.hint


def test_lists_of_labels_are_told_to_be_several_classes_a_row() -> None:
    error = refused(Classification({}), table(text=["a", "b"], labels=[[0, 1], [1]]))
    assert "several classes a row" in error.message
    assert "multi_label" in error.hint


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[0, 1]", "lists, such as [0, 1]: several classes"),
        ("['a', 'b']", "several classes"),
        ('["a"]', "several classes"),
        ("[0 1]", "several classes"),
        ("('a', 'b')", "several classes"),
        ("{'name': 'a'}", "objects"),
        ("b'sport'", "bytes"),
        ("['joy' 'anger']", "several classes"),
        ("['joy' ... 'anger']", "cannot be read"),
        ("['joy' 'anger', 'fear']", "cannot be read"),
    ],
)
def test_what_a_table_of_text_writes_out_is_refused_likewise(written: str, said: str) -> None:
    assert said in refused(Classification({}), table(text=["a", "b"], label=["x", written])).message
    task = Classification({"labels": ["x", written]})
    rows = table(text=["a", "b"], label=["x", written])
    assert [e.target for e in task.examples(rows, task.columns(rows), "train")] == ["x", written]


@pytest.mark.parametrize("name", ["[PAD]", "(other)", "[neutral]", "business", "b", "{x}", "(1)", "[", "B'x"])
def test_names_in_brackets_are_names(name: str) -> None:
    rows = table(text=["a", "b"], label=["x", name])
    task = Classification({})
    assert [e.target for e in task.examples(rows, task.columns(rows), "train")] == ["x", name]


def test_parts_of_an_object_are_columns_and_the_plain_ones_are_offered() -> None:
    answer: dict[str, list[Any]] = {
        "answers": [{"text": ["x"], "best": "x", "score": 0.5}],
        "text": ["a"],
        "label": ["c"],
    }
    error = refused(Classification({"label": "answers"}), Rows(answer, "t.jsonl"))
    assert "part that is meant" in error.hint
    error = refused(Classification({"label": "answers"}), Rows({**answer, "answers.best": ["x"]}, "t.jsonl"))
    assert "answers.best could be meant" in error.hint
    assert "answers.text" not in error.hint


def test_a_part_of_an_object_is_used_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a", "label": {"name": "x", "more": {"id": 1}}}\n{"text": "b", "label": null}\n', encoding="utf-8"
    )
    rows = read_rows(registry.sources(), SourceSpec(source=str(path)), "train")
    assert rows.columns["label.name"] == ["x", None]
    assert rows.columns["label.more.id"] == [1, None]
    error = refused(Classification({}), rows)
    assert "label.name could be meant: set task.label to it" in error.hint
    named = Classification({"label": "label.name"})
    assert named.columns(rows) == {"text": "text", "label": "label.name"}


def test_objects_of_many_keys_are_data_and_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    counts = ", ".join(f'"word{i}": {i}' for i in range(50))
    path.write_text(f'{{"text": "a", "counts": {{{counts}}}}}\n', encoding="utf-8")
    assert list(read_rows(registry.sources(), SourceSpec(source=str(path)), "train").columns) == [
        "text",
        "counts",
    ]


@pytest.mark.parametrize("kind", ["binary", "list", "struct", "date", "decimal"])
def test_what_parquet_holds_is_refused_likewise(kind: str, tmp_path: Path) -> None:
    cells = {
        "binary": pa.array([b"a", b"b"]),
        "list": pa.array([[1], [1, 2]]),
        "struct": pa.array([{"id": 1}, {"id": 2}]),
        "date": pa.array([datetime.date(2024, 1, 1)] * 2),
        "decimal": pa.array([decimal.Decimal("1.5")] * 2),
    }[kind]
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"], "label": cells}), path)
    rows = read_rows(registry.sources(), SourceSpec(source=str(path)), "train")
    assert "column 'label' holds" in refused(Classification({}), rows).message


def test_numbers_with_a_fraction_are_amounts_unless_they_are_declared() -> None:
    rows = table(text=["a", "b"], label=[0.5, 1.0])
    error = refused(Classification({}), rows)
    assert "numbers with a fraction, such as 0.5" in error.message
    assert "task.labels" in error.hint
    task = Classification({"labels": ["0.5", "1"]})
    assert [e.target for e in task.examples(rows, task.columns(rows), "train")] == ["0.5", "1"]


@pytest.mark.parametrize("cells", [[1.0, 2.0], [True, False], [np.int64(1), np.int64(2)], [1, 10**400], ["a", 2]])
def test_numbers_without_one_are_names_of_classes(cells: list[Any]) -> None:
    rows = table(text=["a", "b"], label=cells)
    task = Classification({})
    made = task.examples(rows, task.columns(rows), "train")
    assert [e.target for e in made] == [str(int(c) if isinstance(c, float) else c) for c in cells]


def test_a_number_that_is_none_is_a_missing_label() -> None:
    assert "have no label" in refused(Classification({}), table(text=["a", "b"], label=[1.0, float("nan")])).message


@pytest.mark.parametrize(
    ("column", "chat"),
    [("messages", CHAT), ("my chats", [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}])],
)
@pytest.mark.parametrize("task", [Classification, Generation])
def test_chats_are_recognised_and_the_task_named_that_reads_them(task: type[Task], column: str, chat: Any) -> None:
    with pytest.raises(DataError, match="chats") as caught:
        task({}).columns(table(**{column: [chat, chat]}))
    assert "The task chat reads them" in caught.value.hint
