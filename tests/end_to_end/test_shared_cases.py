"""Small files that failed once are read or refused rightly, where they lie beside the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff import registry
from tuneoff.cli.data_inspection import inspect_data
from tuneoff.config.data import SourceSpec
from tuneoff.errors import DataError
from tuneoff.interfaces import Baseline
from tuneoff.sources import read_rows

CASES = Path(__file__).parents[3] / "shared" / "cases"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no small cases beside the repository")


@needs_cases
@pytest.mark.parametrize(
    ("name", "task", "columns"),
    [
        ("chat_messages.jsonl", "chat", {"messages": "messages"}),
        ("excel_sep_line.csv", "classification", {"text": "text", "label": "label"}),
        ("labels_lists.jsonl", "multi_label", {"text": "text", "label": "labels"}),
        ("targets_russian.jsonl", "generation", {"source": "article", "target": "summary"}),
    ],
)
def test_files_that_failed_are_recognised_and_read(name: str, task: str, columns: dict[str, str]) -> None:
    overview = inspect_data(CASES / name)
    assert (overview.task, overview.columns) == (task, columns)
    rows = read_rows(registry.sources(), SourceSpec(source=str(CASES / name)), "train")
    plugin = registry.tasks()[task](dict(columns))
    examples = plugin.examples(rows, plugin.columns(rows), "train")
    plugin.fit({"train": examples})
    assert len(examples) == len(rows)


@needs_cases
@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("labels_lists.jsonl", {"text": "text", "label": "labels"}, "several classes a row", "multi_label"),
        ("labels_dicts.jsonl", {"text": "text", "label": "label"}, "holds objects", "label.name"),
        ("chat_messages.jsonl", {}, "holds chats", "The task chat reads them"),
    ],
)
def test_files_that_failed_are_refused_by_other_tasks(
    name: str, options: dict[str, str], message: str, hint: str
) -> None:
    rows = read_rows(registry.sources(), SourceSpec(source=str(CASES / name)), "train")
    task = registry.tasks()["classification"](dict(options))
    with pytest.raises(DataError, match=message) as caught:
        task.examples(rows, task.columns(rows), "train")
    assert hint in caught.value.hint


@needs_cases
def test_first_sentences_of_other_alphabets_are_found() -> None:
    rows = read_rows(registry.sources(), SourceSpec(source=str(CASES / "targets_russian.jsonl")), "test")
    task = registry.tasks()["generation"]({})
    examples = task.examples(rows, task.columns(rows), "test")
    task.fit({"train": examples})
    lead = registry.methods()["lead"].create({"sentences": 1})
    assert isinstance(lead, Baseline)
    for prediction in lead.predict(task, examples, examples):
        assert set(prediction.values.values()) == {1.0}


@needs_cases
def test_init_names_the_part_of_an_object_that_could_be_the_label() -> None:
    with pytest.raises(DataError, match="holds objects") as caught:
        inspect_data(CASES / "labels_dicts.jsonl")
    assert "label.name" in caught.value.hint
    overview = inspect_data(CASES / "labels_dicts.jsonl", label="label.name")
    assert (overview.task, overview.columns["label"]) == ("classification", "label.name")
