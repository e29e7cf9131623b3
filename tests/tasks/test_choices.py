"""Options and answers, in the shapes that files hold them."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows
from tuneoff.tasks._choices import RowOptions, choices_column, option_columns, read_answers, read_options


@pytest.mark.parametrize(
    ("cell", "texts", "labels"),
    [
        (["a", " b "], ("a", "b"), ()),
        ([1, 2.5], ("1", "2.5"), ()),
        ("['a', 'b']", ("a", "b"), ()),
        ('["a", "b"]', ("a", "b"), ()),
        ({"text": ["a", "b"], "label": ["A", "B"]}, ("a", "b"), ("A", "B")),
        ("{'text': ['a', 'b'], 'label': ['1', '2']}", ("a", "b"), ("1", "2")),
        ([{"label": "A", "text": "a"}, {"label": "B", "text": "b"}], ("a", "b"), ("A", "B")),
        ({"A": "a", "B": "b", "E": None}, ("a", "b"), ("A", "B")),
    ],
)
def test_cells_of_every_shape(cell: Any, texts: tuple[str, ...], labels: tuple[str, ...]) -> None:
    assert read_options(cell) == RowOptions(texts, labels)


@pytest.mark.parametrize("cell", [None, "a", 3, [], ["a"], ["a", None], ["a", " "], [["a"], ["b"]], [{"x": 1}], b"ab"])
def test_what_holds_no_options(cell: Any) -> None:
    assert read_options(cell) is None


def answers(cells: list[Any], options: list[RowOptions], reading: str = "auto") -> tuple[list[int], str]:
    return read_answers(Rows({"answer": cells}, "rows.csv"), "answer", options, reading)


THREE = RowOptions(("tea", "milk", "1"))


@pytest.mark.parametrize(
    ("cells", "numbers", "reading"),
    [
        ([0, 2, 1.0], [0, 2, 1], "number"),
        (["0", "1", "1"], [0, 1, 1], "number"),
        ([1, 3, 2], [0, 2, 1], "number_from_1"),
        (["A", "c", "(B)"], [0, 2, 1], "letter"),
        (["A.", "B)", "C"], [0, 1, 2], "letter"),
        (["milk", "1", "tea "], [1, 2, 0], "text"),
    ],
)
def test_answers_name_options_by_number_letter_or_text(cells: list[Any], numbers: list[int], reading: str) -> None:
    assert answers(cells, [THREE] * 3) == (numbers, reading)


def test_labels_of_the_data_go_before_numbers() -> None:
    lettered = RowOptions(("tea", "milk"), ("A", "B"))
    numbered = RowOptions(("tea", "milk"), ("2", "1"))
    assert answers(["A", "1"], [lettered, numbered]) == ([0, 1], "label")


def test_numbers_that_may_count_from_0_or_from_1_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 1: the answer '1' .* may mean option B \(number\) or A") as caught:
        answers([1, 2], [THREE] * 2)
    assert "task.answer_is to number or number_from_1" in caught.value.hint
    assert answers([1, 2], [THREE] * 2, "number_from_1") == ([0, 1], "number_from_1")


def test_a_number_that_is_also_the_text_of_an_option_is_refused() -> None:
    sums = RowOptions(("0", "2", "1"))
    with pytest.raises(DataError, match="may mean option"):
        answers(["0", "1"], [sums] * 2)
    assert answers(["0", "1"], [sums] * 2, "text") == ([0, 2], "text")


@pytest.mark.parametrize("cell", [-1, 3, "D", "coffee", 0.5])
def test_an_answer_that_names_no_option_is_refused_with_its_row(cell: Any) -> None:
    usual = {int: 0, str: "A", float: 0}[type(cell)]
    with pytest.raises(DataError, match=r"row 2: the answer .* is none of the row's 3 options"):
        answers([usual, cell], [THREE] * 2)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["video-id", "startphrase", "ending0", "ending1", "ending2", "label"], ("ending0", "ending1", "ending2")),
        (["question", "choice1", "choice2", "premise"], ("choice1", "choice2")),
        (["goal", "sol1", "sol2"], ("sol1", "sol2")),
        (["question", "opa", "opb", "opc", "opd", "cop"], ("opa", "opb", "opc", "opd")),
        (["context", "answerA", "answerB", "answerC"], ("answerA", "answerB", "answerC")),
        (["question", "Option A", "Option B"], ("Option A", "Option B")),
        (["question", "A", "B", "C", "D", "answer"], ("A", "B", "C", "D")),
        (["choice2", "choice3"], ()),
        (["option1", "label"], ()),
        (["sentence1", "sentence2", "label"], ()),
    ],
)
def test_columns_that_hold_an_option_each(names: list[str], found: tuple[str, ...]) -> None:
    assert option_columns(Rows({name: ["x"] for name in names}, "rows.csv")) == found


def test_a_column_of_options_is_found_by_its_name_and_its_cells() -> None:
    assert choices_column(Rows({"question.choices": [["a", "b"]]}, "rows.csv")) == "question.choices"
    assert choices_column(Rows({"Endings": ["['a', 'b']", None]}, "rows.csv")) == "Endings"
    assert choices_column(Rows({"options": ["a", "b"]}, "rows.csv")) is None
