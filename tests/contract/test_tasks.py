"""Every task of the registry keeps a task's promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tuneoff import registry
from tuneoff.interfaces import attention_masks
from tuneoff.testing import TaskContract
from tuneoff.testing.tasks import Prepared

TEXTS = [
    "a goal",
    "the price of oil goes up again",
    "two goals and a match",
    "oil",
    "a team that wins",
    "tariffs on wheat",
]
LABELS = ["sport", "trade"] * 3


class TestClassification(TaskContract):
    task = "classification"
    columns = {"text": TEXTS, "label": LABELS}
    architectures = ("bert", "gpt2", "t5")


class TestClassificationByLikelihood(TaskContract):
    task = "classification"
    options = {"scoring": "likelihood", "words": {"sport": " sport", "trade": " trade"}}
    columns = {"text": TEXTS, "label": LABELS}
    architectures = ("gpt2", "llama")


PAIRS = ["it rains", "wheat", "a match was lost", "the price of oil goes up", "nobody plays", "tariffs"]


class TestClassificationOfPairs(TaskContract):
    task = "classification"
    options = {"text": ["premise", "hypothesis"]}
    columns = {"premise": TEXTS, "hypothesis": PAIRS, "label": LABELS}
    architectures = ("bert", "gpt2", "t5")


class TestClassificationOfPairsByLikelihood(TaskContract):
    task = "classification"
    options = {
        "scoring": "likelihood",
        "template": "{text}|{text_pair}\nLabel:",
        "words": {"sport": " sport", "trade": " trade"},
    }
    columns = {"premise": TEXTS, "hypothesis": ["a", "b", "c", "d", "e", "f"], "label": LABELS}
    architectures = ("gpt2",)


class TestRegression(TaskContract):
    task = "regression"
    columns = {"text": TEXTS, "score": [1, 2.5, "3.0", -4, 1, 2.5]}
    architectures = ("bert", "gpt2", "t5")


SETS = ["sport", "trade|oil", "sport", "oil", "[]", "trade"]


class TestMultiLabel(TaskContract):
    task = "multi_label"
    columns = {"text": TEXTS, "labels": SETS}
    architectures = ("bert", "gpt2", "t5")


class TestMultiLabelInColumns(TaskContract):
    task = "multi_label"
    options = {"label": ["sport", "trade"], "threshold": "per_label"}
    columns = {"text": TEXTS, "sport": [1, 0, 1, 0, 0, 1], "trade": ["no", "yes", "no", "no", "yes", "yes"]}


WORDS = [text.split() for text in TEXTS]
TAGS = [["O", "B-thing", "I-thing", "O", "B-place", "I-thing", "O"][: len(words)] for words in WORDS]


class TestTokenClassification(TaskContract):
    task = "token_classification"
    columns = {"tokens": WORDS, "ner_tags": TAGS}
    architectures = ("bert", "roberta", "gpt2", "llama")


class TestTokenClassificationOfTexts(TaskContract):
    task = "token_classification"
    columns = {"text": TEXTS, "entities": [[{"start": 0, "end": 3, "label": "thing"}]] * 6}


OPTIONS = [["a match", "wheat"], ["oil", "goals", "tea"], ["two", "one"], ["b", "a"], ["wins", "not"], ["x", "y", "zz"]]
ANSWERS = ["A", "C", "B", "A", "B", "C"]


class TestMultipleChoice(TaskContract):
    """By likelihood; a batch holds a row for each option."""

    task = "multiple_choice"
    options = {"template": "{question}: "}
    columns = {"question": TEXTS, "choices": OPTIONS, "answer": ANSWERS}
    architectures: ClassVar[Sequence[str]] = ("gpt2", "llama")

    def test_masks_are_one_on_every_token_that_is_no_padding(self, prepared: Prepared) -> None:
        batch = prepared.task.collate(prepared.features, 0)
        (mask,) = attention_masks(batch)
        assert len(mask) == sum(len(f.choices) for f in prepared.features)
        assert int(mask.sum()) == sum(
            len(choice.ids) + (0 if choice.whole else len(f.input_ids) - 1)
            for f in prepared.features
            for choice in f.choices
        )


class TestMultipleChoiceByLetters(TestMultipleChoice):
    options = {"scored": "letter", "template": "{choices}\n{question}:"}
    columns = {"question": [text[:4] for text in TEXTS], "choices": [["a", "b"]] * 6, "answer": ["A", "B"] * 3}


class TestMultipleChoiceByAHead(TestMultipleChoice):
    options = {"scoring": "head"}
    architectures = ("bert", "gpt2", "t5")

    def test_metrics_are_those_announced_whatever_the_order(self, prepared: Prepared) -> None:
        """A head knows no length to divide by."""
        metrics = prepared.task.score(prepared.predictions(), "test")
        assert [metric.name for metric in metrics] == ["accuracy", "loss"]


class TestMultipleChoiceInColumns(TestMultipleChoice):
    options = {"choices": ["ending0", "ending1"], "template": "{question}: "}
    columns = {
        "startphrase": TEXTS,
        "ending0": [options[0] for options in OPTIONS],
        "ending1": [options[1] for options in OPTIONS],
        "label": [0, 1, 1, 0, 1, 0],
    }
    architectures = ("gpt2",)

    def test_masks_are_one_on_every_token_that_is_no_padding(self, prepared: Prepared) -> None:
        (mask,) = attention_masks(prepared.task.collate(prepared.features, 0))
        assert len(mask) == 2 * len(TEXTS)


class TestGeneration(TaskContract):
    task = "generation"
    options = {"template": "{source}: ", "max_target_length": 6}
    columns = {"article": TEXTS, "summary": ["goal", "oil up", "match", "oil is", "a win", "wheat"]}
    architectures = ("gpt2", "llama", "t5")


class TestInstruction(TaskContract):
    task = "instruction"
    options = {
        "chat_template": "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}|{% endfor %}"
        "{% if add_generation_prompt %}a:{% endif %}",
        "max_target_length": 7,
    }
    columns = {"instruction": TEXTS, "output": ["goal", "oil up", "match", "oil is", "a win", "wheat"]}
    architectures = ("gpt2", "llama")


class TestPackedInstruction(TestInstruction):
    options = {**TestInstruction.options, "packing": True}
    columns = {
        "instruction": [*TEXTS, "oil", "a"],
        "output": ["goal", "oil up", "match", "oil is", "a win", "wheat", "a", "b"],
    }

    def test_masks_are_one_on_every_token_that_is_no_padding(self, prepared: Prepared) -> None:
        """Examples share rows."""
        batch = prepared.task.collate(prepared.features, 0)
        (mask,) = attention_masks(batch)
        assert len(mask) < len(prepared.features)
        assert int(mask.sum()) == sum(len(f.input_ids) + len(f.target_ids) - 1 for f in prepared.features)


class TestChat(TaskContract):
    task = "chat"
    options = TestInstruction.options
    columns = {
        "messages": [
            [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
            for text, answer in zip(TEXTS, TestInstruction.columns["output"], strict=True)
        ]
    }
    architectures = ("gpt2", "llama")


def test_every_task_has_a_suite() -> None:
    assert {suite.task for suite in TaskContract.__subclasses__()} >= set(registry.tasks())
