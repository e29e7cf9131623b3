"""Lists that are written out in a cell of text: as Python, JSON and NumPy write them, of any length."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows
from tuneoff.tasks._literals import MOST_LETTERS, BrokenList, parse_literal
from tuneoff.tasks.multi_label import MultiLabel
from tuneoff.tasks.token_classification import TokenClassification

WORDS = [f"word{i}" for i in range(600)]
PLACES = [{"start": i, "end": i + 1, "label": "x"} for i in range(200)]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("['joy' 'anger']", ["joy", "anger"]),
        (str(np.array(["it's", 'a "b"', "", "c\\d"])), ["it's", 'a "b"', "", "c\\d"]),
        (str(np.array(["joy", "anger"] * 30)), ["joy", "anger"] * 30),
        ("['joy']", ["joy"]),
        ("[5]", [5]),
        ("[01]", "[01]"),
        ("['', 'a']", ["", "a"]),
        ("[['a', ''], ['b']]", [["a", ""], ["b"]]),
        ("[1 0 -1.5]", ["1", "0", "-1.5"]),
        (str(WORDS), WORDS),
        (json.dumps(WORDS), WORDS),
        (str(np.array(WORDS[:999])), WORDS),
        (str([*range(900)]), [*range(900)]),
        (json.dumps(PLACES), PLACES),
        ("[laughs] " * 400 + "[music]", "[laughs] " * 400 + "[music]"),
        ("[...]", "[...]"),
        ("[[a link]] " * 300 + "[[another]]", "[[a link]] " * 300 + "[[another]]"),
        ("[a ... b]", "[a ... b]"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_lists_of_any_writing_and_length_are_read(cell: str, value: Any) -> None:
    assert parse_literal(cell) == value


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("['a' 'b' ... 'y' 'z']", "left out"),
        ("['a' ... 'z']", "left out"),
        ("[0, 1, ..., 8, 9]", "left out"),
        (str(np.arange(5000)), "left out"),
        ("['a' 'b', 'c']", "neither commas nor spaces"),
        ("['it''s', 'a']", "neither commas nor spaces"),
        (str(WORDS).replace("'word7'", "'word7"), "no list"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_lists_that_are_not_whole_or_not_clear_are_no_texts(cell: str, reason: str) -> None:
    value = parse_literal(cell)
    assert isinstance(value, BrokenList)
    assert reason in value.reason


@pytest.mark.parametrize(
    "cell",
    ["[" * 10**5 + "]" * 10**5, "[" + "-" * 10**5 + "1]", "[" + "'" * 10**5 + "]"],
    ids=["nested", "signs", "quotes"],
)
def test_what_would_break_a_parser_breaks_nothing(cell: str) -> None:
    assert isinstance(parse_literal(cell), str | BrokenList)


def test_rows_of_labels_and_words_are_read_from_them_or_refused_with_their_place() -> None:
    labels = MultiLabel({})
    rows = Rows({"text": ["a", "b"], "labels": ["['joy' 'anger']", "['joy' ... 'fear']"]}, "rows.csv")
    (first,) = labels.examples(rows.only([0]), labels.columns(rows), "train")
    assert json.loads(first.target) == ["anger", "joy"]
    with pytest.raises(DataError, match=r"rows\.csv row 2"):
        labels.examples(rows, labels.columns(rows), "train")
    tags = TokenClassification({})
    cells = [str(WORDS), str(["O"] * len(WORDS))]
    rows = Rows({"tokens": [cells[0]] * 2, "tags": [cells[1], "['O' ... 'O']"]}, "rows.csv")
    assert len(cells[0]) > MOST_LETTERS
    (first,) = tags.examples(rows.only([0]), tags.columns(rows), "train")
    assert [first.text[start:end] for start, end in first.words] == WORDS
    with pytest.raises(DataError, match=r"rows\.csv row 2: the list .* cannot be read"):
        tags.examples(rows, tags.columns(rows), "train")
