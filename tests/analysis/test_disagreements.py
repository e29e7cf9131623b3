"""Which test examples are shown as those on which methods disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from record_helpers import make_record, small_study
from tuneoff.analysis import disagreements
from tuneoff.analysis.disagreements import find_disagreements, find_hardness
from tuneoff.analysis.examples import FirstPredictions
from tuneoff.planning.plan import plan

ARMS = ("majority", "full", "lora", "head")


def answers(metric: str = "accuracy", **by_arm: list[Any]) -> list[FirstPredictions]:
    """The arms' answers to examples 0, 1, …, whose right answer is `a`; of numbers the example's value."""
    records = {spec.label: make_record(spec) for spec in plan(small_study(*ARMS, seeds=1))}

    def row(index: int, answer: Any) -> dict[str, Any]:
        values = {metric: answer} if isinstance(answer, float) else {}
        output = f"text {answer}" if values else answer
        wrong = output != "a"
        return {
            "index": index,
            "target": "a",
            "output": output,
            "values": values,
            "source": f"t{index}" * wrong,
        }

    return [
        FirstPredictions(label, records[label], {i: row(i, answer) for i, answer in enumerate(given)})
        for label, given in by_arm.items()
    ]


def test_the_most_divided_come_first_and_all_arms_are_shown() -> None:
    found = find_disagreements(answers(majority=["b"] * 4, full=[*"aaab"], lora=[*"abab"], head=[*"abbb"]), "accuracy")
    assert [each.index for each in found] == [1, 2]
    assert [(one.method, one.output, one.right) for one in found[0].outputs] == [
        ("majority", "b", False),
        ("full", "a", True),
        ("lora", "b", False),
        ("head", "b", False),
    ]
    assert (found[0].text, found[0].target) == ("t1", "a")


def test_an_arm_without_training_divides_nobody() -> None:
    assert find_disagreements(answers(majority=["b"], full=["a"], lora=["a"]), "accuracy") == ()


def test_wrong_answers_that_differ_are_a_disagreement_too() -> None:
    found = find_disagreements(answers(full=[*"bb"], lora=[*"bc"]), "accuracy")
    assert [each.index for each in found] == [1]


def test_texts_disagree_by_their_scores() -> None:
    found = find_disagreements(answers("rouge_l", full=[0.5, 0.9, 0.4], lora=[0.4, 0.1, 0.4]), "rouge_l")
    assert [each.index for each in found] == [1, 0]
    assert [(one.value, one.right) for one in found[0].outputs] == [(0.9, None), (0.1, None)]


def test_numbers_whose_metric_is_of_all_examples_together_are_neither_right_nor_wrong() -> None:
    given = answers(full=["0.31"], lora=["0.29"])
    data = given[0].record.data
    assert data is not None
    record = given[0].record.model_copy(update={"data": data.model_copy(update={"labels": ()})})
    numbers = [replace(each, record=record) for each in given]
    assert (len(find_disagreements(given, "rmse")), find_disagreements(numbers, "rmse")) == (1, ())


def test_an_arm_that_saw_another_example_there_is_left_out() -> None:
    given = answers(full=["a"], lora=["b"], head=["b"])
    given[2].rows[0]["target"] = "c"
    (found,) = find_disagreements(given, "accuracy")
    assert [one.method for one in found.outputs] == ["full", "lora"]


def test_there_are_as_many_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given = answers(full=["a"] * 9, lora=["b"] * 9)
    assert len(find_disagreements(given, "accuracy")) == 9
    monkeypatch.setattr(disagreements, "MOST", 5)
    assert len(find_disagreements(given, "accuracy")) == 5
    monkeypatch.setattr(disagreements, "CHARACTERS", 150)
    assert len(find_disagreements(given, "accuracy")) == 2


def test_values_lie_in_ten_equal_steps_each_with_its_lower_edge() -> None:
    values = [step / 10 for step in range(11)]
    hardness = find_hardness(answers("rouge_l", full=values, lora=values), "rouge_l", higher=True)
    assert hardness is not None
    # 1.0 and 0.9 are in the first.
    assert hardness.examples == (2, *[1] * 9)


def test_hardness_is_not_told_where_only_some_examples_have_a_value() -> None:
    given = answers("rouge_l", full=[0.5, "a"], lora=[0.4, "b"])
    assert find_hardness(given, "rouge_l", higher=True) is None
    assert find_hardness(answers("rouge_l", full=["a", 0.5], lora=["b", 0.4]), "rouge_l", higher=True) is None
