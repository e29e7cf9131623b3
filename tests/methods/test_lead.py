from __future__ import annotations

import time

import pytest

from tuneoff import registry
from tuneoff.interfaces import Baseline, Example
from tuneoff.methods.lead import sentences
from tuneoff.tasks.generation import Generation

TEXTS = {
    "One. Two! Three?": ["One.", "Two!", "Three?"],
    "It rose 3.5 percent. Then it fell.": ["It rose 3.5 percent.", "Then it fell."],
    "Mr. Smith met Dr. J. R. Brown. They spoke.": ["Mr. Smith met Dr. J. R. Brown.", "They spoke."],
    "The U.S. Senate voted. It passed.": ["The U.S. Senate voted.", "It passed."],
    "Use a mapping, e.g. A to two. Then call it.": ["Use a mapping, e.g. A to two.", "Then call it."],
    'He said "No." She left.': ['He said "No."', "She left."],
    "Wait... What? (Yes.) Fine": ["Wait...", "What?", "(Yes.)", "Fine"],
    "a line\nbroken in two. Next\n\nA heading\n\nEnd": ["a line broken in two.", "Next", "A heading", "End"],
    "see numpy.dot. it is fast": ["see numpy.dot. it is fast"],
    "It cost $5. 40 people came.": ["It cost $5.", "40 people came."],
    "Er kam. Äpfel fielen.": ["Er kam.", "Äpfel fielen."],
    "今日は晴れ。明日は雨。": ["今日は晴れ。", "明日は雨。"],
    "他说：“好。”她走了。": ["他说：“好。”", "她走了。"],
    "кот спит. собака бежит.": ["кот спит.", "собака бежит."],
    "राम घर गया। वह सो गया॥ अंत": ["राम घर गया।", "वह सो गया॥", "अंत"],
    "هل نام؟ نعم. انتهى": ["هل نام؟", "نعم.", "انتهى"],
    "no mark": ["no mark"],
    "  \n ": [],
}


@pytest.mark.parametrize("text", list(TEXTS))
def test_sentences(text: str) -> None:
    assert sentences(text) == TEXTS[text]


def test_the_first_sentences_are_the_answer_and_are_scored() -> None:
    lead = registry.methods()["lead"].create({"sentences": 2})
    assert isinstance(lead, Baseline)
    assert lead.produces == "text"
    task = Generation({})
    texts = ["The cat sat. It slept. It woke.", "Only one sentence"]
    examples = [
        Example(text, target, i, f"row {i}")
        for i, (text, target) in enumerate(zip(texts, ["The cat sat", "nothing"], strict=True))
    ]
    made = lead.predict(task, [], examples)
    assert [p.output for p in made] == ["The cat sat.\nIt slept.", "Only one sentence"]
    assert [p.target for p in made] == ["The cat sat", "nothing"]
    assert made[0].values["rouge_1"] == pytest.approx(2 * 3 / (5 + 3))
    assert made[1].values["rouge_1"] == 0
    assert all(p.loss is None and p.generated_tokens is None for p in made)
    names = {metric.name for metric in task.score(made, "test")}
    assert "rouge_l" in names
    assert "loss" not in names


@pytest.mark.parametrize(
    "text",
    [
        "кот спит дома. собака бежит.",
        "我爱北京天安门。他们在学校里读书。",
        "राम घर गया। वह सो गया।",
        "هل نام القط؟ نعم نام.",
    ],
)
def test_a_first_sentence_that_is_the_target_scores_one_in_every_script(text: str) -> None:
    lead = registry.methods()["lead"].create({"sentences": 1})
    assert isinstance(lead, Baseline)
    task = Generation({})
    example = Example(text, sentences(text)[0], 0, "row 1")
    task.fit({"train": [example]})
    metrics = {metric.name: metric.value for metric in task.score(lead.predict(task, [], [example]), "test")}
    assert metrics == dict.fromkeys(("rouge_l", "rouge_1", "rouge_2", "rouge_lsum", "exact_match", "token_f1"), 1.0)


@pytest.mark.parametrize(
    "text", ["a" * 200_000 + ". B", "." * 200_000, "Mr. " * 50_000], ids=["word", "dots", "titles"]
)
def test_odd_texts_take_no_time(text: str) -> None:
    started = time.perf_counter()
    assert sentences(text)
    assert time.perf_counter() - started < 30, "linear in the length"
