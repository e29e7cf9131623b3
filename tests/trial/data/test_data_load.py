from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import Rows, news, write_csv
from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.errors import DataError
from tuneoff.interfaces import Example
from tuneoff.interfaces import Rows as TableRows
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.tasks.multi_label import MultiLabel
from tuneoff.trial.data.draws import subset
from tuneoff.trial.data.load import TrialData, load


def examples(targets: str) -> list[Example]:
    return [Example(f"text {i}", target, i, f"row {i}") for i, target in enumerate(targets)]


def load_files(folder: Path, options: dict[str, Any] | None = None, /, **files: Rows) -> TrialData:
    """Loads splits from CSV files with these rows; `options` are the protocol's."""
    data = {name: {"source": str(write_csv(folder / f"{name}.csv", rows))} for name, rows in files.items()}
    return load(Classification({}), TaskSpec.model_validate({"data": data}), Protocol.model_validate(options or {}))


def load_skipping(folder: Path, **files: Rows) -> TrialData:
    """The same for a task that leaves out rows with empty cells."""
    data = {name: {"source": str(write_csv(folder / f"{name}.csv", rows))} for name, rows in files.items()}
    return load(Classification({"missing": "skip"}), TaskSpec.model_validate({"data": data}), Protocol())


def texts(data: TrialData, split: str) -> list[str]:
    return [example.text for example in data.splits[split]]


# --- subsets


def test_a_subset_keeps_proportions_and_every_class() -> None:
    rows = examples("a" * 60 + "b" * 38 + "c" * 2)
    chosen = subset(Classification({}), rows, 10, seed=0)
    assert Counter(e.target for e in chosen) == {"a": 6, "b": 3, "c": 1}
    assert [e.index for e in chosen] == sorted(e.index for e in chosen)


def test_many_rare_classes_do_not_swell_a_subset() -> None:
    rows = examples("a" * 400 + "b" * 100 + "cdefghij" * 2)
    chosen = Counter(e.target for e in subset(Classification({}), rows, 40, seed=0))
    assert sum(chosen.values()) == 40
    assert all(chosen[name] == 1 for name in "cdefghij")
    assert chosen["a"] > 3 * chosen["b"] > 0


def test_fewer_places_than_classes_go_to_the_largest() -> None:
    rows = examples("a" + "b" * 5 + "c" * 3)
    assert Counter(e.target for e in subset(Classification({}), rows, 2, seed=0)) == {"b": 1, "c": 1}


def test_a_subset_depends_on_its_seed_alone() -> None:
    rows = examples("ab" * 50)
    first, again, other = (subset(Classification({}), rows, 20, seed=s) for s in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("limit", [None, 4, 9])
def test_a_limit_that_does_not_bind_changes_nothing(limit: int | None) -> None:
    assert subset(Classification({}), examples("abab"), limit, seed=0) == examples("abab")


# --- splits


def test_test_and_validation_are_cut_from_training_rows(tmp_path: Path) -> None:
    rows = news(90)
    data = load_files(tmp_path, train=rows)
    sizes = {name: info.rows for name, info in data.info.splits.items()}
    assert sizes == {"train": 65, "validation": 7, "test": 18}
    together = [text for split in data.splits for text in texts(data, split)]
    assert sorted(together) == sorted(text for text, _ in rows)
    assert data.info.overlap == {"train/validation": 0, "train/test": 0, "validation/test": 0}
    # Two thirds of the rows are sport, in every split.
    assert data.info.splits["test"].classes == {"sport": 12, "trade": 6}
    assert data.info.splits["validation"].classes == {"sport": 5, "trade": 2}
    for split in data.splits.values():
        assert [example.index for example in split] == list(range(len(split)))


def test_a_class_of_one_row_stays_in_training(tmp_path: Path) -> None:
    data = load_files(tmp_path, train=[*news(30), ("only one", "rare"), ("one", "pair"), ("two", "pair")])
    classes = {name: info.classes for name, info in data.info.splits.items()}
    assert classes["train"]["rare"] == 1
    assert classes["train"]["pair"] >= 1
    assert data.info.labels == ("pair", "rare", "sport", "trade")


def test_splits_follow_the_data_seed_not_the_trial_seed(tmp_path: Path) -> None:
    options = {"train_rows": 30, "validation_rows": 4, "test_rows": 10}
    first = load_files(tmp_path, {**options, "seeds": [0]}, train=news(90))
    again = load_files(tmp_path, {**options, "seeds": [7]}, train=news(90))
    other = load_files(tmp_path, {**options, "data_seed": 1}, train=news(90))
    assert first.splits == again.splits
    assert first.info == again.info
    assert {name: info.rows for name, info in first.info.splits.items()} == {"train": 30, "validation": 4, "test": 10}
    for name in first.splits:
        assert first.info.splits[name].fingerprint != other.info.splits[name].fingerprint


def test_splits_of_their_own_are_taken_as_they_are(tmp_path: Path) -> None:
    parts = {"train": news(20), "validation": news(5, 100), "test": news(6, 200)}
    data = load_files(tmp_path, **parts)
    assert {name: texts(data, name) for name in parts} == {name: [t for t, _ in rows] for name, rows in parts.items()}
    assert data.info.columns == {"text": "text", "label": "label"}
    assert data.findings == ()
    assert data.splits["test"][3].place == f"{tmp_path / 'test.csv'} line 5"


def test_a_fingerprint_tells_order_text_and_label(tmp_path: Path) -> None:
    rows = news(6)

    def fingerprint(test: Rows) -> str:
        return load_files(tmp_path, train=news(20, 50), test=test).info.splits["test"].fingerprint

    changed = [rows[::-1], [(rows[0][0] + "!", rows[0][1]), *rows[1:]], [(rows[0][0], "trade"), *rows[1:]]]
    assert rows[0][1] == "sport"
    assert len({fingerprint(rows), *map(fingerprint, changed)}) == 4
    assert fingerprint(rows) == fingerprint(rows)


# --- duplicates


def with_duplicates() -> dict[str, Rows]:
    """Two training rows stand in test but for case and spaces, one of them twice; one stands in validation."""
    train = [*news(20), ("Oil  PRICE up", "trade"), ("oil price UP", "trade"), ("final whistle", "sport")]
    return {
        "train": [*train, ("first half", "sport")],
        "validation": [*news(4, 100), ("first half", "sport")],
        "test": [*news(4, 200), (" oil price up ", "trade"), ("final whistle", "trade")],
    }


def names(data: TrialData) -> list[str]:
    return [finding.name for finding in data.findings]


def test_duplicates_are_counted_and_warned_of(tmp_path: Path) -> None:
    data = load_files(tmp_path, **with_duplicates())
    assert data.info.overlap == {"train/validation": 1, "train/test": 3, "validation/test": 0}
    assert data.info.overlap_exact == {"train/validation": 1, "train/test": 1, "validation/test": 0}
    assert data.info.overlap_removed == 0
    assert names(data) == ["overlap", "overlap"]
    assert "3 training rows also stand in test" in data.findings[1].message
    assert "protocol.duplicates to remove" in data.findings[1].message
    assert len(data.splits["train"]) == 24


def test_duplicates_are_removed_from_training_alone(tmp_path: Path) -> None:
    data = load_files(tmp_path, {"duplicates": "remove"}, **with_duplicates())
    assert not any(data.info.overlap.values())
    assert data.info.overlap_removed == 4
    assert names(data) == ["overlap_removed"]
    assert texts(data, "train") == [text for text, _ in news(20)]
    assert (len(data.splits["validation"]), len(data.splits["test"])) == (5, 6)


def test_removal_comes_before_the_subset(tmp_path: Path) -> None:
    data = load_files(tmp_path, {"duplicates": "remove", "train_rows": 20}, **with_duplicates())
    assert len(data.splits["train"]) == 20


def test_removing_every_training_row_is_refused(tmp_path: Path) -> None:
    rows = news(6)
    with pytest.raises(DataError, match="every training row also stands in validation or test"):
        load_files(tmp_path, {"duplicates": "remove"}, train=rows, validation=news(4, 50), test=rows)


def test_removing_a_whole_class_is_refused(tmp_path: Path) -> None:
    parts = {"train": [*news(9), ("gone", "rare")], "validation": news(4, 50), "test": [*news(4, 80), ("gone", "rare")]}
    with pytest.raises(DataError, match=r"1 of 3 classes would have no training row left, e.g. 'rare'") as caught:
        load_files(tmp_path, {"duplicates": "remove"}, **parts)
    assert "protocol.duplicates" in caught.value.hint
    assert load_files(tmp_path, **parts).info.overlap["train/test"] == 1


@pytest.mark.parametrize("duplicates", ["warn", "remove", "refuse"])
def test_a_test_split_that_is_validation_too_is_noticed(duplicates: str, tmp_path: Path) -> None:
    both = news(8, 100)

    def loaded() -> TrialData:
        return load_files(tmp_path, {"duplicates": duplicates}, train=news(20), validation=both, test=both)

    if duplicates == "warn":
        data = loaded()
        assert data.info.overlap == {"train/validation": 0, "train/test": 0, "validation/test": 8}
        assert names(data) == ["overlap"]
        assert "8 validation rows also stand in test (of 8; 8 to the letter)" in data.findings[0].message
        assert "chosen on test rows" in data.findings[0].message
        return
    said = {
        "remove": "every validation row also stands in test; removing them leaves none",
        "refuse": "splits share rows, which protocol.duplicates refuses: 8 validation rows also stand in test",
    }
    with pytest.raises(DataError, match=said[duplicates]) as caught:
        loaded()
    assert "as test" not in caught.value.hint


def test_validation_rows_that_stand_in_test_are_removed_and_test_stays_whole(tmp_path: Path) -> None:
    test = news(8, 200)
    shared = [(f" {text.upper()}  ", label) for text, label in test[:3]]
    data = load_files(
        tmp_path, {"duplicates": "remove"}, train=news(20), validation=[*news(4, 100), *shared], test=test
    )
    assert (len(data.splits["validation"]), len(data.splits["test"])) == (4, 8)
    assert (data.info.validation_removed, data.info.overlap_removed) == (3, 0)
    assert data.findings[0].message == "3 validation rows also stood in test and were removed"


@pytest.mark.parametrize(
    "written",
    ["Oil\u00a0price\u3000up", "ＯＩＬ price up", "OIL PRICE UP", "oil price\nup "],
)
def test_one_text_in_two_ways_of_writing_is_a_duplicate(written: str, tmp_path: Path) -> None:
    parts = {"validation": news(4, 100), "test": [*news(4, 200), ("oil price up", "trade")]}
    data = load_files(tmp_path, train=[*news(20), (written, "trade")], **parts)
    assert data.info.overlap["train/test"] == 1
    assert data.info.overlap_exact["train/test"] == 0


def test_accents_written_in_one_character_or_two_are_a_duplicate(tmp_path: Path) -> None:
    parts = {"validation": news(4, 100), "test": [*news(4, 200), ("caf\u00e9 prices", "trade")]}
    data = load_files(tmp_path, train=[*news(20), ("cafe\u0301 prices", "trade"), ("cafe prices", "trade")], **parts)
    assert data.info.overlap["train/test"] == 1


def test_splits_that_share_nothing_are_not_refused(tmp_path: Path) -> None:
    parts = {"train": news(20), "validation": news(5, 100), "test": news(6, 200)}
    assert load_files(tmp_path, {"duplicates": "refuse"}, **parts).findings == ()


# --- tiny data


def test_rows_with_empty_cells_are_left_out_and_counted_where_the_task_says_so(tmp_path: Path) -> None:
    whole = news(30)
    gaps: Rows = [whole[0], ("", "sport"), *whole[1:20], ("a text without a label", " "), *whole[20:]]
    with pytest.raises(DataError, match="have no text") as caught:
        load_files(tmp_path, train=gaps)
    assert "task.missing: skip" in caught.value.hint
    data = load_skipping(tmp_path, train=gaps, test=[*whole[:5], ("", "")])
    assert data.info.skipped == {"train": 2, "test": 1}
    assert "2 of train, 1 of test" in next(f.message for f in data.findings if f.name == "rows_skipped")
    assert sum(split.rows for split in data.info.splits.values()) == 35
    assert load_skipping(tmp_path, train=whole).info.skipped == {}
    with pytest.raises(DataError, match="lacks a value in text, label"):
        load_skipping(tmp_path, train=[("", "sport")] * 9)


def test_every_column_of_labels_counts_as_read(tmp_path: Path) -> None:
    lines = ["text,toxic,insult", *(f"text {i},{i % 2},{i % 3 // 2}" for i in range(30)), "no insult,1,", "no toxic,,1"]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    spec = TaskSpec.model_validate({"data": {"train": {"source": str(tmp_path / "train.csv")}}})
    flags = {"label": ["toxic", "insult"]}
    assert load(MultiLabel({**flags, "missing": "skip"}), spec, Protocol()).info.skipped == {"train": 2}
    with pytest.raises(DataError, match=r"task.group and task.label are the same column, 'insult'"):
        load(MultiLabel({**flags, "group": "insult"}), spec, Protocol())


def test_rows_that_were_kept_are_named_by_their_place_in_the_source(tmp_path: Path) -> None:
    plain = TableRows({"text": ["a", None, "c"]}, "org/name train")
    assert plain.only([0, 2]).only([1]).place(0) == "org/name train row 3"
    lined = TableRows({"text": ["a", None, "c"]}, "x.csv", lines=(2, 3, 5))
    assert lined.only([2]).place(0) == "x.csv line 5"


def test_too_few_rows_to_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 training rows are too few to cut test rows from") as caught:
        load_files(tmp_path, train=[("x", "a"), ("y", "b")])
    assert "task.data.test" in caught.value.hint
    with pytest.raises(DataError, match="2 training rows are too few to cut validation rows from"):
        load_files(tmp_path, train=[("x", "a"), ("y", "b")], test=[("z", "b")])


def test_the_fewest_rows_that_can_be_cut(tmp_path: Path) -> None:
    data = load_files(tmp_path, train=[("v", "a"), ("w", "a"), ("x", "a"), ("y", "b")])
    assert {name: info.rows for name, info in data.info.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    assert data.info.splits["train"].classes == {"a": 1, "b": 1}


def test_fewer_training_rows_than_classes_are_refused(tmp_path: Path) -> None:
    rows = [(f"{name} {i}", name) for name in "abc" for i in range(10)]
    with pytest.raises(DataError, match="1 of 3 classes would have no training row left") as caught:
        load_files(tmp_path, {"train_rows": 2}, train=rows)
    assert "protocol.train_rows to 3" in caught.value.hint
    assert load_files(tmp_path, {"train_rows": 3}, train=rows).info.splits["train"].rows == 3


def test_nothing_but_rows_changes_what_is_recorded(tmp_path: Path) -> None:
    """Budget, batch and learning rate are none of the data's business."""
    options: list[dict[str, Any]] = [{}, {"epochs": 9, "batch_size": 3, "learning_rate": 0.1, "max_length": 7}]
    infos = [load_files(tmp_path, changed, train=news(30)).info for changed in options]
    assert infos[0] == infos[1]


# --- columns that the template names


QUESTIONS = [(f"The {thing} is red and the sky is blue.", f"What colour is the {thing}?") for thing in "abcd"]


def asked(path: Path, *questions: str) -> Path:
    """Rows of four contexts, each with these questions."""
    rows = [(context, f"{question} {own}", "red") for context, own in QUESTIONS for question in questions]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("context", "question", "answer"), *rows])
    return path


def load_questions(train: Path, test: Path, **options: Any) -> TrialData:
    task = {"source": "context", "target": "answer", "template": "{question}\n{source}\n"}
    data = {name: {"source": str(path)} for name, path in (("train", train), ("test", test))}
    spec = TaskSpec.model_validate({"name": "generation", "data": data, **task})
    return load(Generation(spec.options), spec, Protocol.model_validate({"validation_fraction": 0.2, **options}))


def test_one_context_asked_two_things_is_no_duplicate(tmp_path: Path) -> None:
    train, test = asked(tmp_path / "train.csv", "One.", "Two."), asked(tmp_path / "test.csv", "Three.")
    data = load_questions(train, test)
    assert not any(data.info.overlap.values())
    assert "overlap" not in names(data)
    kept = load_questions(train, test, duplicates="remove")
    assert (kept.info.splits["train"].rows, kept.info.overlap_removed) == (6, 0)


def test_one_context_asked_the_same_is_a_duplicate(tmp_path: Path) -> None:
    train, test = asked(tmp_path / "train.csv", "One.", "Two."), asked(tmp_path / "test.csv", "tWO. ")
    data = load_questions(train, test, duplicates="remove")
    assert data.info.overlap_removed > 0
    assert all(example.fields["question"].startswith("One.") for example in data.splits["train"])


def test_a_fingerprint_tells_the_other_columns(tmp_path: Path) -> None:
    train, test = asked(tmp_path / "train.csv", "One."), asked(tmp_path / "test.csv", "Three.")
    first = load_questions(train, test).info.splits
    again = load_questions(asked(train, "Four."), test).info.splits
    assert first["test"].fingerprint == again["test"].fingerprint
    assert first["train"].fingerprint != again["train"].fingerprint


def test_without_such_columns_a_fingerprint_is_what_it_always_was(tmp_path: Path) -> None:
    """Records of earlier versions must still be seen to have had the same data."""
    data = load_files(tmp_path, train=news(20), test=[("goal match 1", "sport"), ("oil price", "trade")])
    as_ever = hashlib.sha256(b"goal match 1\x00sport\x01oil price\x00trade\x01").hexdigest()
    assert data.info.splits["test"].fingerprint == as_ever
