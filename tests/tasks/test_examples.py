"""What is kept of an example for people to read."""

from __future__ import annotations

import torch

from tuneoff.interfaces import Example
from tuneoff.tasks.generation import Generation


def test_an_example_of_one_text_is_that_text() -> None:
    assert Example("A text.\nOf two lines.", "a", 0, "row").input_text == "A text.\nOf two lines."


def test_every_column_is_named_and_the_longest_comes_last() -> None:
    """The report cuts what it shows: a question after a long context would never be seen."""
    context, question = "The sky is blue. " * 40, "What colour is the sky?"
    asked = Example(context, "blue", 0, "row", fields={"question": question})
    assert asked.input_text == f"question: {question}\nsource: {context}"
    told = Example(question, "blue", 0, "row", fields={"context": context})
    assert told.input_text == f"source: {question}\ncontext: {context}"


def test_predictions_keep_the_other_columns_too() -> None:
    example = Example("Blue is the sky.", "blue", 0, "row", fields={"question": "What colour?"})
    batch = {"targets": torch.tensor([1, 2]), "target_tokens": torch.tensor([2])}
    (prediction,) = Generation({}).outcome(torch.zeros(2, 5), batch, [example])
    assert prediction.source == "question: What colour?\nsource: Blue is the sky."
