"""`task.group`: rows that belong together never fall into different splits."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.errors import DataError
from tuneoff.interfaces import Example, Rows
from tuneoff.records.record import Prediction
from tuneoff.tasks.classification import Classification
from tuneoff.trial.data.groups import group_values, with_groups
from tuneoff.trial.data.load import TrialData, load

Row = tuple[str, str, str]
SPLITS = ("train", "validation", "test")


def rows_of(groups: int, size: int = 4, start: int = 0) -> list[Row]:
    """Rows of two classes: text, label, and the patient that they are of."""
    return [
        (f"report {group}-{row} says this", "ill" if (group + row) % 3 else "well", f"p{group}")
        for group in range(start, start + groups)
        for row in range(size)
    ]


def load_groups(folder: Path, options: Mapping[str, Any] | None = None, /, task: Any = None, **files: Any) -> TrialData:
    """Loads splits from CSV files with these lists of rows; `options` are the protocol's."""
    data = {}
    for name, rows in files.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label", "patient"), *rows])
        data[name] = {"source": str(folder / f"{name}.csv")}
    classification = Classification({"group": "patient", **(task or {})})
    return load(classification, TaskSpec.model_validate({"data": data}), Protocol.model_validate(options or {}))


def groups_of(data: TrialData) -> dict[str, set[str]]:
    return {name: {example.group for example in examples} for name, examples in data.splits.items()}


def test_no_group_is_cut_in_two(tmp_path: Path) -> None:
    data = load_groups(tmp_path, train=rows_of(50))
    groups = groups_of(data)
    assert sum(map(len, groups.values())) == 50
    assert set.union(*groups.values()) == {f"p{number}" for number in range(50)}
    assert data.info.groups == {name: len(groups[name]) for name in SPLITS}


def test_cut_splits_hold_their_share_of_every_class(tmp_path: Path) -> None:
    data = load_groups(tmp_path, {"test_fraction": 0.25}, train=rows_of(80))
    counts = Counter(example.target for example in data.splits["test"])
    whole = Counter(label for _, label, _ in rows_of(80))
    assert all(abs(counts[label] - 0.25 * whole[label]) <= 2 for label in whole)


def test_groups_of_very_unequal_size_are_cut_near_to_the_share(tmp_path: Path) -> None:
    rows = [row for group in range(60) for row in rows_of(1, size=1 + group % 12, start=group)]
    data = load_groups(tmp_path, {"test_fraction": 0.2}, train=rows)
    assert len(data.splits["test"]) == pytest.approx(0.2 * len(rows), abs=6)


def test_the_data_seed_draws_other_groups(tmp_path: Path) -> None:
    first, again, other = (
        groups_of(load_groups(tmp_path, {"data_seed": seed}, train=rows_of(50))) for seed in (0, 0, 1)
    )
    assert first == again
    assert first["test"] != other["test"]


def test_every_class_stays_in_train(tmp_path: Path) -> None:
    rows = [*rows_of(20), ("the only one", "rare", "p99"), ("of its kind", "rare", "p99")]
    for seed in range(5):
        data = load_groups(tmp_path, {"data_seed": seed}, train=rows)
        assert {example.target for example in data.splits["train"]} == {"ill", "well", "rare"}


def test_groups_that_stand_in_two_files_are_refused(tmp_path: Path) -> None:
    files = {"train": rows_of(20), "test": rows_of(5, start=18)}
    for duplicates in ("warn", "refuse"):
        with pytest.raises(DataError, match=r"'patient' \(task.group\) stand in two splits") as caught:
            load_groups(tmp_path, {"duplicates": duplicates, "data_seed": 3}, **files)
        assert "protocol.duplicates to remove" in caught.value.hint


def test_groups_that_stand_in_two_files_are_removed_where_duplicates_are(tmp_path: Path) -> None:
    files = {
        "train": rows_of(20),
        "validation": rows_of(6, start=17),
        "test": [(f"other {text}", label, group) for text, label, group in rows_of(5, start=21)],
    }
    data = load_groups(tmp_path, {"duplicates": "remove"}, **files)
    groups = groups_of(data)
    assert groups["test"] == {f"p{number}" for number in range(21, 26)}, "test stays whole"
    assert groups["validation"] == {f"p{number}" for number in range(17, 21)}
    assert groups["train"] == {f"p{number}" for number in range(17)}
    assert data.info.groups_removed == {"train": 12, "validation": 8}
    assert [finding.name for finding in data.findings].count("groups_removed") == 2


def test_a_group_is_the_same_as_a_number_and_as_text(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(
        "".join(f'{{"text": "t {n}", "label": "ill", "patient": {n}}}\n' for n in (3, 4))
    )
    with (tmp_path / "train.csv").open("w", newline="") as file:
        rows = [(f"text {n}", "ill" if n % 2 else "well", str(n // 2)) for n in range(20)]
        csv.writer(file).writerows([("text", "label", "patient"), *rows])
    files = {name: str(tmp_path / name) for name in ("train.csv", "test.jsonl")}
    spec = TaskSpec.model_validate({"data": {"train": files["train.csv"], "test": files["test.jsonl"]}})
    with pytest.raises(DataError, match=r"train and test share 1.*test and validation share 1"):
        load(Classification({"group": "patient"}), spec, Protocol())


@pytest.mark.parametrize(
    ("task", "files", "said"),
    [
        ({"group": "pateint"}, {"train": rows_of(9)}, "no column 'pateint' .did you mean 'patient'"),
        ({"group": "label"}, {"train": rows_of(9)}, "task.group and task.label are the same column"),
        ({}, {"train": [*rows_of(9), ("a text", "ill", "")]}, "1 of 37 rows of .*train.csv .train. have no group"),
        ({}, {"train": rows_of(1, size=30)}, "30 training rows are of 1 group"),
        ({}, {"train": rows_of(9), "test": rows_of(1, start=10)}, "all 4 test rows are of one group, 'p10'"),
    ],
)
def test_groups_that_cannot_be_used_are_one_clear_error(
    task: dict[str, Any], files: dict[str, list[Row]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        load_groups(tmp_path, task=task, **files)
    assert caught.value.hint


def test_rows_without_a_group_are_left_out_where_the_task_says_so(tmp_path: Path) -> None:
    data = load_groups(tmp_path, task={"missing": "skip"}, train=[*rows_of(30), ("a text", "ill", "")])
    assert data.info.skipped == {"train": 1}


@pytest.mark.parametrize(
    ("rows", "name"), [(rows_of(40), "few_groups"), (rows_of(60, size=1), "groups_of_one"), (rows_of(200), "")]
)
def test_few_groups_are_told_of(rows: list[Row], name: str, tmp_path: Path) -> None:
    found = [finding.name for finding in load_groups(tmp_path, train=rows).findings if "group" in finding.name]
    assert found == ([name] if name else [])


def test_a_group_may_be_a_number_that_no_float_holds() -> None:
    rows = Rows({"patient": [10**400, 7.0, "7"]}, "rows.jsonl")
    assert group_values(rows, "patient", "train") == [str(10**400), "7", "7"]


def test_predictions_are_told_their_groups_by_number() -> None:
    examples = [Example("a", "x", index, "row", group=group) for index, group in enumerate("bacb")]
    predictions = [Prediction(index=e.index, target="x", output="x") for e in examples]
    assert [p.group for p in with_groups(predictions, examples)] == [0, 1, 2, 0]
    without = [Example("a", "x", index, "row") for index in range(4)]
    assert with_groups(predictions, without) == predictions
