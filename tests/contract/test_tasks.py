"""Every task of the registry keeps a task's promises."""

from __future__ import annotations

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
