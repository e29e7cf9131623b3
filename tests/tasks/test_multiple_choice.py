"""Multiple choice: rows of every known shape, and scores that equal plain transformers'."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from generation_helpers import tiny_config
from tuneoff import registry
from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Attached, Baseline, Example, Rows
from tuneoff.tasks.multiple_choice import CONTINUED, LETTERED, QUESTION, MultipleChoice
from tuneoff.testing.models import random_model, shape
from tuneoff.testing.settings import single_thread
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

QUESTIONS = ["Who wins?", "What rains on the field?", "Where?"]
CHOICES = [["the team", "a goal"], ["tea", "cats and dogs", "it"], ["here", "on the other side of the town"]]
TABLE: dict[str, list[Any]] = {"question": QUESTIONS, "choices": CHOICES, "answer": ["B", "C", "A"]}


def rows(columns: dict[str, list[Any]], **changes: Any) -> Rows:
    return Rows({**columns, **changes}, "rows.csv")


def read(task: MultipleChoice, table: Rows, split: str = "train") -> list[Example]:
    return task.examples(table, task.columns(table), split)


ENDINGS = {"ending0": ["sits", "runs"], "ending1": ["flies", "sings"]}

SHAPES: dict[str, tuple[dict[str, list[Any]], dict[str, Any]]] = {
    "hellaswag": (
        {"ind": [1, 2], "ctx": ["a man", "it"], "endings": [["sits", "runs"], ["flies", "sings"]], "label": ["0", "1"]},
        {"question": "ctx", "choices": "endings", "answer": "label"},
    ),
    "swag": (
        {"startphrase": ["a man", "it"], "sent1": ["a", "b"], **ENDINGS, "label": [0, 1]},
        {"question": "startphrase", "choices": ("ending0", "ending1"), "answer": "label"},
    ),
    "arc": (
        {
            "id": ["x", "y"],
            "question": ["a man", "it"],
            "choices": [{"text": ["sits", "runs"], "label": [*labels]} for labels in ("AB", "12")],
            "answerKey": ["A", "2"],
        },
        {"question": "question", "choices": "choices", "answer": "answerKey"},
    ),
    "mmlu": (
        {"question": ["a man", "it"], "subject": ["x", "x"], "choices": [["sits", "runs"]] * 2, "answer": [0, 1]},
        {"question": "question", "choices": "choices", "answer": "answer"},
    ),
    "commonsense": (
        {
            "question.stem": ["a man", "it"],
            "question.choices": [[{"label": "A", "text": "sits"}, {"label": "B", "text": "runs"}]] * 2,
            "answerKey": ["A", "B"],
        },
        {"question": "question.stem", "choices": "question.choices", "answer": "answerKey"},
    ),
    "race": (
        {
            "article": ["long", "text"],
            "question": ["a man", "it"],
            "options": [["sits", "runs"]] * 2,
            "answer": [*"AB"],
        },
        {"question": "question", "context": "article", "choices": "options", "answer": "answer"},
    ),
    "piqa": (
        {"goal": ["a man", "it"], "sol1": ["sits", "a"], "sol2": ["b", "runs"], "label": [0, 1]},
        {"question": "goal", "choices": ("sol1", "sol2"), "answer": "label"},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_known_shapes_are_recognised_and_read(name: str) -> None:
    columns, options = SHAPES[name]
    table = rows(columns)
    assert MultipleChoice({}).recognise(table) == options
    for task in (MultipleChoice(options), MultipleChoice({})):
        examples = read(task, table)
        assert [example.target for example in examples] == ["A", "B"]
        assert examples[0].choices[0] == "sits"
        assert "a man" in examples[0].input_text
        assert "\nA. sits\nB. " in examples[0].input_text


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a b c", "d e f"], "label": ["x", "y"]},
        {"text": ["a b c", "d e f"], "labels": [["x", "y"], ["y", "x"]], "label": [0, 1]},
        {"question": ["who", "what"], "answer": ["he", "it"]},
        {"question": ["who", "what"], "choice1": ["a", "b"], "choice2": ["c", "d"], "answer": ["he", "it"]},
        {"tokens": [["a", "b"], ["c", "d"]], "tags": [["O", "O"], ["O", "B"]]},
    ],
)
def test_other_shapes_are_not(columns: dict[str, list[Any]]) -> None:
    assert MultipleChoice({}).recognise(rows(columns)) == {}


def test_rows_may_have_different_numbers_of_options() -> None:
    task = MultipleChoice({})
    examples = read(task, rows(TABLE))
    assert [len(example.choices) for example in examples] == [2, 3, 2]
    (finding,) = task.findings()
    assert finding.message == "answers are read as letters (task.answer_is); rows by options: 2 with 2, 1 with 3"


def test_the_last_columns_of_options_may_be_empty_and_no_others() -> None:
    columns: dict[str, list[Any]] = {"question": ["a", "b"], "A": ["x", "x"], "B": ["y", "y"], "C": [None, "z"]}
    examples = read(MultipleChoice({}), rows(columns, answer=["A", "C"]))
    assert [example.choices for example in examples] == [("x", "y"), ("x", "y", "z")]
    assert dict(MultipleChoice({"choices": [*"ABC"]}).columns_read({"choices": "A"})) == {"choices": "B"}
    with pytest.raises(DataError, match="row 1: option B is empty, and a later one is not"):
        read(MultipleChoice({}), rows({**columns, "B": [" ", "y"], "C": ["z", "z"]}, answer=["A", "C"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": ["B", "D", "A"]}, "row 2: the answer 'D' .* none of the row's 3 options"),
        ({"choices": [["a"], *CHOICES[1:]]}, "row 1: column 'choices' holds no two options"),
        ({"choices": [["a", None], *CHOICES[1:]]}, "row 1: column 'choices' holds no two options"),
        ({"choices": [*CHOICES[:2], []]}, "row 3|have no choices"),
        ({"choices": [["a", "a"], *CHOICES[1:]]}, "row 1: the right option, 'a', stands twice"),
        ({"question": ["a", "", "b"]}, "1 of 3 rows .* have no question"),
        ({"answer": ["B", None, "A"]}, "1 of 3 rows .* have no answer"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(changes: dict[str, Any], message: str) -> None:
    task = MultipleChoice({"choices": "choices"})
    with pytest.raises(DataError, match=message):
        read(task, rows(TABLE, **changes))


def test_wrong_options_that_are_the_same_are_told() -> None:
    task = MultipleChoice({})
    read(task, rows(TABLE, choices=[*CHOICES[:1], ["it", "it", "tea"], CHOICES[2]]))
    assert [finding.name for finding in task.findings()] == ["answers", "repeated_options"]


def test_how_answers_are_read_is_settled_once() -> None:
    task = MultipleChoice({})
    read(task, rows(TABLE, answer=[1, 0, 1]))
    assert task.fitted_options["answer_is"] == "number"
    assert [e.target for e in read(task, rows(TABLE, answer=[1, 1, 1]), "test")] == ["B", "B", "B"]
    again = MultipleChoice(dict(task.fitted_options))
    assert [e.target for e in read(again, rows(TABLE, answer=[1, 1, 1]), "test")] == ["B", "B", "B"]


@pytest.mark.parametrize(
    ("questions", "options", "template"),
    [
        (QUESTIONS, {}, QUESTION),
        (["a man", "it is", "who?"], {}, CONTINUED),
        (QUESTIONS, {"scored": "letter"}, LETTERED),
        (QUESTIONS, {"template": "{question}!"}, "{question}!"),
    ],
)
def test_the_prompt_suits_questions_and_beginnings(
    questions: list[str], options: dict[str, Any], template: str
) -> None:
    task = MultipleChoice(options)
    read(task, rows(TABLE, question=questions))
    assert task.fitted_options["template"] == template


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"template": "no question"}, "hold {question} once"),
        ({"template": "{question}{question}"}, "hold {question} once"),
        ({"choices": ["a"]}, "two or more"),
        ({"scoring": "head", "template": "{question}"}, "scoring: likelihood"),
        ({"scored": "letter", "template": "{question}"}, "needs {choices}"),
        ({"normalise": "words"}, "byte"),
        ({"template": "{question}", "context": "story"}, r"put {context} into it"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MultipleChoice(options)


def test_columns_of_a_template_are_checked() -> None:
    with pytest.raises(DataError, match="names 'subject'"):
        MultipleChoice({"template": "{subject} {question}"}).columns(rows(TABLE))
    with pytest.raises(DataError, match="the column of the answers"):
        MultipleChoice({"template": "{answer} {question}"}).columns(rows(TABLE))
    with pytest.raises(DataError, match=r"holds \{context\}"):
        MultipleChoice({"template": "{context} {question}"}).columns(rows(TABLE))


# --- scores


def settled(options: dict[str, Any], architecture: str = "gpt2", **changes: Any) -> tuple[Any, list[Example], Any, Any]:
    task = MultipleChoice(options)
    examples = read(task, rows(TABLE, **changes))
    config = tiny_config(architecture)
    return task, examples, random_model(config, task, 0.3).requires_grad_(False), byte_tokenizer(config)


@pytest.mark.parametrize("normalise", ["byte", "token", "sum"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_scores_are_plain_log_likelihoods_normalised_as_stated(normalise: str, architecture: str) -> None:
    with single_thread():
        task, examples, model, tokenizer = settled({"normalise": normalise, "template": "{question} "}, architecture)
        features = task.encode(examples, tokenizer, 80)
        batch = task.collate(features, 0)
        logits = task.forward(Attached(model, model), batch)
        predictions = task.outcome(logits, batch, examples)
        for example, prediction, row in zip(examples, predictions, logits, strict=True):
            sums, sizes = [], []
            for choice in example.choices:
                before = tokenizer(example.text, add_special_tokens=False)["input_ids"]
                own = tokenizer(f" {choice}", add_special_tokens=False)["input_ids"]
                ids = [*tokenizer(example.text)["input_ids"][: len(before) + 5], *own]
                found = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
                sums.append(sum(float(found[len(ids) - len(own) + i - 1, t]) for i, t in enumerate(own)))
                sizes.append({"byte": len(choice.encode()), "token": len(own), "sum": 1}[normalise])
            mean = sum(sizes) / len(sizes)
            scores = torch.tensor([total / size * mean for total, size in zip(sums, sizes, strict=True)])
            assert row[: len(scores)].tolist() == pytest.approx(scores.tolist(), rel=1e-4)
            assert prediction.scores == pytest.approx(scores.log_softmax(-1).tolist(), abs=1e-4)
            assert prediction.output == "ABC"[int(scores.argmax())]
            by_byte = [total / len(c.encode()) for total, c in zip(sums, example.choices, strict=True)]
            rules = {"accuracy_sum": sums, "accuracy_byte": by_byte}
            expected = {name: float("ABC"[own.index(max(own))] == example.target) for name, own in rules.items()}
            assert prediction.values == expected
        loss = task.loss(logits, batch)
        targets = [-p.scores["ABC".index(p.target)] for p in predictions]
        assert float(loss) == pytest.approx(sum(targets), rel=1e-4)
        assert task.score(predictions, "test")[-1].value == pytest.approx(sum(targets) / 3, rel=1e-4)


def test_only_the_question_is_cut() -> None:
    task, examples, _, tokenizer = settled({"template": "Q: {question}\nA: "})
    whole = task.encode(examples, tokenizer, 80)
    cut = task.encode(examples, tokenizer, 40)
    assert [f.truncated for f in whole] == [False, False, False]
    assert [f.truncated for f in cut] == [False, True, True]
    assert [c.ids for f in cut for c in f.choices] == [c.ids for f in whole for c in f.choices]
    assert max(len(f.input_ids) + len(c.ids) - 1 for f in cut for c in f.choices) == 40
    with pytest.raises(DataError, match=r"row 3: .* leaves no room for text: the prompt takes \d+ tokens .* option 29"):
        task.encode(examples, tokenizer, 33)


def test_letters_are_scored_after_options_that_the_prompt_shows() -> None:
    task, examples, _, tokenizer = settled({"scored": "letter"})
    features = task.encode(examples, tokenizer, 120)
    text = tokenizer.decode(features[1].input_ids)
    assert text.endswith("What rains on the field?\nA. tea\nB. cats and dogs\nC. it\nAnswer:")
    assert [tokenizer.decode(choice.ids) for choice in features[1].choices] == [" A", " B", " C"]


def test_solved_examples_stand_before_the_question() -> None:
    task, examples, _, tokenizer = settled({})
    features = task.encode(examples[:1], tokenizer, 120, examples[1:])
    text = tokenizer.decode(features[0].input_ids)
    assert "Question: What rains on the field?\nAnswer: it\n\nQuestion: Where?\nAnswer: here\n\nQuestion: Who" in text


def test_a_context_comes_before_its_question() -> None:
    contexts = ["It is a long story.", "b", "c"]
    task, examples, _, tokenizer = settled({}, context=contexts)
    text = tokenizer.decode(task.encode(examples, tokenizer, 120)[0].input_ids)
    assert text.endswith("It is a long story.\nQuestion: Who wins?\nAnswer:")
    head = MultipleChoice({"scoring": "head"})
    features = head.encode(read(head, rows(TABLE, context=contexts)), tokenizer, 120)
    assert tokenizer.decode(features[0].choices[1].ids).strip("\0") == "It is a long story.\nWho wins?\na goal"


def test_a_context_that_the_template_does_not_show_is_no_part_of_the_prompt() -> None:
    contexts = ["It is a long story.", "b", "c"]
    task, examples, _, tokenizer = settled({"template": "Q: {question}\nA:"}, context=contexts)
    text = tokenizer.decode(task.encode(examples, tokenizer, 120)[0].input_ids)
    assert text.endswith("Q: Who wins?\nA:")
    assert "story" not in text
    shown, examples, _, _ = settled({"template": "{context} Q: {question}\nA:"}, context=contexts)
    text = tokenizer.decode(shown.encode(examples, tokenizer, 120)[0].input_ids)
    assert text.endswith("It is a long story. Q: Who wins?\nA:")


def test_an_option_without_tokens_is_refused_with_its_row() -> None:
    task, examples, _, tokenizer = settled({})

    class Dropping:
        """Knows no word of the last option."""

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __call__(self, *texts: Any, **options: Any) -> Any:
            encoded = tokenizer(*texts, **options)
            if texts == ([" here", " on the other side of the town"],):
                encoded["input_ids"] = [encoded["input_ids"][0], []]
            return encoded

    with pytest.raises(DataError, match=r"row 3: .* no token of the option 'on the other side"):
        task.encode(examples, Dropping(), 120)


def test_an_encoder_is_refused_by_likelihood_and_reads_pairs_by_a_head() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("bert", vocab_size=300, **shape("bert", 64))
    with pytest.raises(UnsupportedModel, match="a bert model cannot tell how likely") as caught:
        MultipleChoice({}).model_class(config)
    assert "task.scoring: head" in caught.value.hint
    task = MultipleChoice({"scoring": "head"})
    examples = read(task, rows(TABLE))
    model, tokenizer = random_model(config, task, 0.2).requires_grad_(False), byte_tokenizer(config)
    features = task.encode(examples, tokenizer, 64)
    batch = task.collate(features, 0)
    logits = task.forward(Attached(model, model), batch)
    for example, own, row in zip(examples, features, logits, strict=True):
        plain = []
        for choice, text in zip(own.choices, example.choices, strict=True):
            whole = tokenizer.decode(choice.ids)
            assert whole.index(example.text) < whole.rindex(text)
            segments = torch.tensor([choice.segments or [0] * len(choice.ids)])
            plain.append(float(model(input_ids=torch.tensor([choice.ids]), token_type_ids=segments).logits[0, 0]))
        assert row[: len(plain)].tolist() == pytest.approx(plain, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"), [("majority_position", ["B", "B", "B"]), ("longest_option", ["A", "B", "B"])]
)
def test_baselines_choose_without_a_model(method: str, expected: list[str]) -> None:
    task = MultipleChoice({})
    examples = read(task, rows(TABLE, answer=["B", "B", "A"]))
    baseline = registry.methods()[method].create({})
    assert isinstance(baseline, Baseline)
    predictions = baseline.predict(task, examples, examples)
    assert [prediction.output for prediction in predictions] == expected
    names = [metric.name for metric in task.score(predictions, "test")]
    assert names == (["accuracy", "loss"] if method == "majority_position" else ["accuracy"])
    if method == "majority_position":
        assert predictions[1].scores == pytest.approx([math.log(2 / 6), math.log(3 / 6), math.log(1 / 6)], abs=1e-5)
