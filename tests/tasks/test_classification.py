from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from class_score_helpers import class_scores
from tuneoff.errors import DataError
from tuneoff.interfaces import Example, Rows
from tuneoff.records.record import Prediction
from tuneoff.tasks.classification import Classification
from tuneoff.trial.modeling.tokenizer import byte_tokenizer


def table(**columns: list[Any]) -> Rows:
    return Rows(columns, "train.csv", lines=tuple(range(2, 2 + len(next(iter(columns.values()))))))


def examples(task: Classification, rows: Rows, split: str = "train") -> list[Example]:
    return task.examples(rows, task.columns(rows), split)


def of(targets: Sequence[str]) -> list[Example]:
    return [Example(f"text {i}", target, i, f"row {i + 1}") for i, target in enumerate(targets)]


def fitted(*labels: str) -> Classification:
    task = Classification({})
    task.fit({"train": of(labels)})
    return task


# --- columns


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("label", "text"), {"text": "text", "label": "label"}),
        (("id", "Sentence", "Category"), {"text": "Sentence", "label": "Category"}),
        # `text` goes before other names of a text, wherever it stands.
        (("content", "text", "topic"), {"text": "text", "label": "topic"}),
    ],
)
def test_obvious_columns_are_guessed(names: tuple[str, ...], expected: dict[str, str]) -> None:
    assert Classification({}).columns(table(**{name: ["x"] for name in names})) == expected


def test_columns_that_cannot_be_guessed_are_asked_for_by_name() -> None:
    with pytest.raises(DataError, match=r"which column of train.csv holds the text") as caught:
        Classification({}).columns(table(first=["x"], label=["a"]))
    assert "task.text" in caught.value.hint
    assert "first, label" in caught.value.hint


def test_a_misspelt_column_names_the_nearest() -> None:
    rows = table(headline=["x"], section=["a"])
    with pytest.raises(DataError, match=r"no column 'headlin' \(did you mean 'headline'\?\)") as caught:
        Classification({"text": "headlin", "label": "section"}).columns(rows)
    assert "headline, section" in caught.value.hint
    with pytest.raises(DataError, match="did you mean 'section'"):
        Classification({"text": "headline", "label": "sektion"}).columns(rows)


def test_one_column_cannot_be_both() -> None:
    with pytest.raises(DataError, match="the same column, 'label'"):
        Classification({"text": "label"}).columns(table(text=["x"], label=["a"]))


def test_a_later_split_must_have_the_same_columns() -> None:
    with pytest.raises(DataError, match=r"\(test\) has no column 'label' for the label"):
        Classification({}).examples(table(text=["x"]), {"text": "text", "label": "label"}, "test")


# --- labels


def test_labels_as_written_are_the_classes() -> None:
    task = Classification({})
    made = examples(task, table(text=["x", "y", "z"], label=["sport", " world ", 3]))
    assert [e.target for e in made] == ["sport", "world", "3"]
    assert [(e.index, e.place) for e in made] == [
        (0, "train.csv line 2"),
        (1, "train.csv line 3"),
        (2, "train.csv line 4"),
    ]
    task.fit({"train": made})
    # Numbers by size, then names by the alphabet.
    assert task.labels == ("3", "sport", "world")
    assert fitted("10", "9", "-1").labels == ("-1", "9", "10")


@pytest.mark.parametrize("label", [1, "1", 1.0, "pos", True])
def test_declared_labels_take_names_and_their_numbers(label: Any) -> None:
    if label is True:
        with pytest.raises(DataError, match=r"'True' in column 'label' is not in task.labels"):
            examples(Classification({"labels": ["neg", "pos"]}), table(text=["x"], label=[label]))
    else:
        made = examples(Classification({"labels": ["neg", "pos"]}), table(text=["x"], label=[label]))
        assert made[0].target == "pos"


def test_a_name_that_is_a_number_goes_before_the_number() -> None:
    made = examples(Classification({"labels": ["1", "0"]}), table(text=["x", "y"], label=["1", 0]))
    assert [e.target for e in made] == ["1", "0"]


def test_numbers_are_named_by_the_source() -> None:
    rows = Rows({"text": ["x", "y"], "label": [1, 0]}, "org/name", class_names={"label": ("neg", "pos")})
    assert [e.target for e in examples(Classification({}), rows)] == ["pos", "neg"]
    # The study's names go before the source's.
    assert [e.target for e in examples(Classification({"labels": ["bad", "good"]}), rows)] == ["good", "bad"]


def test_hidden_labels_are_refused_with_a_way_out() -> None:
    rows = Rows({"text": ["x", "y"], "label": [1, -1]}, "org/name", class_names={"label": ("neg", "pos")})
    with pytest.raises(DataError, match=r"org/name row 2: label -1 .*\(hidden test labels are often -1\)") as caught:
        examples(Classification({}), rows, "test")
    assert "no other role" in caught.value.hint, "a hint to test on validation's rows would select on test"


def test_a_number_beyond_the_declared_labels_is_refused() -> None:
    with pytest.raises(DataError, match="line 3: label 2 is not among the 2 classes\n") as caught:
        examples(Classification({"labels": ["neg", "pos"]}), table(text=["x", "y"], label=["0", "2"]))
    assert "hidden" not in caught.value.message


def test_a_misspelt_declared_label_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"line 2: label 'posi' .* \(did you mean 'pos'\?\)"):
        examples(Classification({"labels": ["neg", "pos"]}), table(text=["x"], label=["posi"]))


@pytest.mark.parametrize("odd", ["²", "--5", "-", "1" * 5000])
def test_labels_that_only_look_like_numbers_are_names(odd: str) -> None:
    task = Classification({})
    made = examples(task, table(text=["x", "y"], label=[odd, "7"]))
    task.fit({"train": made})
    assert task.labels == ("7", odd)
    with pytest.raises(DataError, match=r"is not in task.labels"):
        examples(Classification({"labels": ["a", "b"]}), table(text=["x"], label=[odd]))


def test_the_same_label_cannot_be_declared_twice() -> None:
    with pytest.raises(ValidationError, match="'pos' stands twice"):
        Classification({"labels": ["pos", "neg", "pos"]})


# --- rows that cannot be used


@pytest.mark.parametrize("blank", [None, "", "  \n", float("nan")])
@pytest.mark.parametrize("role", ["text", "label"])
def test_missing_values_are_counted_and_the_first_is_named(role: str, blank: Any) -> None:
    columns = {"text": ["x", "y", "z", "w"], "label": ["a", "b", "a", "b"]}
    columns[role][1] = columns[role][3] = blank
    with pytest.raises(
        DataError, match=f"^2 of 4 rows of train.csv \\(test\\) have no {role}; the first is train.csv line 3"
    ):
        examples(Classification({}), table(**columns), "test")


def test_no_rows() -> None:
    with pytest.raises(DataError, match=r"\(validation\) has no rows"):
        examples(Classification({}), table(text=[], label=[]), "validation")


def test_numbers_are_text_but_lists_are_not() -> None:
    assert examples(Classification({}), table(text=[12, 1.5], label=["a", "b"]))[0].text == "12"
    with pytest.raises(DataError, match="line 3: column 'text' holds no text"):
        examples(Classification({}), table(text=[12, ["x"]], label=["a", "b"]))


@pytest.mark.parametrize("role", ["text", "label"])
def test_text_that_is_not_unicode_is_refused(role: str) -> None:
    columns = {"text": ["ü😀", "y"], "label": ["ä", "b"]}
    columns[role][1] = "half \ud83d"
    with pytest.raises(DataError, match=f"line 3: column '{role}' holds text that is not valid Unicode"):
        examples(Classification({}), table(**columns))


@pytest.mark.parametrize("options", [{}, {"labels": ["a", "b"]}])
def test_one_class_is_nothing_to_learn(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="all 3 training rows have the same label, 'a'"):
        Classification(options).fit({"train": of("aaa")})


def test_a_label_that_training_never_saw() -> None:
    test = of(["wolrd", "sport", "wolrd", "art"])
    with pytest.raises(DataError) as caught:
        Classification({}).fit({"train": of(["world", "sport"]), "test": test})
    assert "label 'wolrd' stands in test (2 rows, first row 1) but never in train" in caught.value.message
    assert "(did you mean 'world'?), as do 1 more labels" in caught.value.message


def test_a_column_of_ids_is_no_label() -> None:
    with pytest.raises(DataError, match="30 different values in 40 rows; that looks like text or ids"):
        Classification({}).fit({"train": of([str(i % 30) for i in range(40)])})
    # So few rows may well have a class each.
    assert len(fitted("a", "b", "c").labels) == 3


# --- tokens


@pytest.fixture(scope="module")
def bert_bytes() -> Any:
    from transformers import BertConfig

    return byte_tokenizer(BertConfig(vocab_size=400))


@pytest.fixture(scope="module")
def gpt_bytes() -> Any:
    from transformers import GPT2Config

    return byte_tokenizer(GPT2Config(vocab_size=400, bos_token_id=399, eos_token_id=399))


def test_lengths_count_all_tokens_and_ids_are_cut(bert_bytes: Any) -> None:
    task = fitted("a", "b")
    texts = ["x" * 3, "x" * 6, "x" * 7, "x" * 50]
    made = task.encode([Example(text, "b", i, "") for i, text in enumerate(texts)], bert_bytes, 8)
    assert [len(f.input_ids) for f in made] == [5, 8, 8, 8]
    assert [f.length for f in made] == [5, 8, 9, 52]
    assert {f.input_ids[0] for f in made} == {bert_bytes.cls_token_id}
    assert {f.input_ids[-1] for f in made} == {bert_bytes.sep_token_id}
    assert {f.label for f in made} == {1}
    assert task.encode([], bert_bytes, 8) == []


def test_a_length_without_room_for_text_is_refused(bert_bytes: Any, gpt_bytes: Any) -> None:
    task = fitted("a", "b")
    rows = [Example("hello", "a", 0, "")]
    for length in (1, 2):
        with pytest.raises(DataError, match=f"max_length {length} leaves no room for text"):
            task.encode(rows, bert_bytes, length)
    assert len(task.encode(rows, bert_bytes, 3)[0].input_ids) == 3
    assert len(task.encode(rows, gpt_bytes, 1)[0].input_ids) == 1


def test_a_batch_is_padded_to_its_longest(gpt_bytes: Any) -> None:
    task = fitted("a", "b")
    made = task.encode([Example("abc", "a", 0, ""), Example("abcde", "b", 1, "")], gpt_bytes, 8)
    batch = task.collate(made, 17)
    assert batch["input_ids"].shape == (2, 5)
    assert batch["input_ids"][0, 3:].tolist() == [17, 17]
    assert batch["attention_mask"].sum(-1).tolist() == [3, 5]
    assert batch["labels"].tolist() == [0, 1]


# --- scores


def predictions(target: str, output: str) -> list[Prediction]:
    even = (math.log(0.5), math.log(0.5))
    return [
        Prediction(index=i, target=t, output=o, scores=even)
        for i, (t, o) in enumerate(zip(target, output, strict=True))
    ]


def test_the_beginning_of_a_wrongly_answered_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.tasks._labels.KEPT_CHARACTERS", 4)
    monkeypatch.setattr("tuneoff.tasks._labels.WRONG_KEPT", 2)
    task = fitted("a", "b", "c")
    rows = of(["a", "a", "a"])
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 9.0, 0.0]])
    kept = [each.source for each in task.outcome(logits, {}, rows)]
    assert kept == ["", rows[1].text[:4], ""]


def test_outcomes_are_log_probabilities_in_label_order() -> None:
    task = fitted("a", "b", "c")
    logits = torch.tensor([[1.0, 2.0, 0.5], [30.0, 0.0, -30.0]])
    made = task.outcome(logits, {}, of(["c", "a"]))
    assert [(p.index, p.target, p.output) for p in made] == [(0, "c", "b"), (1, "a", "a")]
    total = sum(math.exp(v) for v in (1.0, 2.0, 0.5))
    assert made[0].scores == pytest.approx([v - math.log(total) for v in (1.0, 2.0, 0.5)], abs=1e-6)
    for prediction in made:
        assert sum(math.exp(s) for s in prediction.scores) == pytest.approx(1, abs=1e-5)


def test_scores_by_hand() -> None:
    # target a a a a b b; output a a a b b a: confusion [[3, 1], [1, 1]].
    task = fitted("a", "b")
    metrics = {m.name: m for m in task.score(predictions("aaaabb", "aaabba"), "test")}
    assert metrics["accuracy"].value == pytest.approx(4 / 6)
    assert metrics["macro_f1"].value == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert metrics["mcc"].value == pytest.approx((3 * 1 - 1 * 1) / math.sqrt(4 * 2 * 4 * 2))
    assert metrics["loss"].value == pytest.approx(math.log(2))
    assert {m.split for m in metrics.values()} == {"test"}
    assert {name: m.direction for name, m in metrics.items()} == {m.name: m.direction for m in task.metrics}
    assert [m.unit for m in metrics.values()] == ["fraction", "fraction", "fraction", "nats"]
    assert next(iter(metrics)) == task.primary_metric


def test_scores_of_three_classes_by_hand() -> None:
    # Gorodkin's R_K: confusion [[2, 1, 0], [0, 2, 0], [1, 0, 0]], six examples.
    target, output = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])
    values = class_scores(target, output)
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["macro_f1"] == pytest.approx((4 / 6 + 4 / 5 + 0) / 3)
    covariance = 4 * 6 - (3 * 3 + 2 * 3 + 1 * 0)
    assert values["mcc"] == pytest.approx(covariance / math.sqrt((36 - 18) * (36 - 14)))


@pytest.mark.parametrize(
    ("target", "output", "expected"),
    [
        ([0, 1, 2], [0, 1, 2], (1.0, 1.0, 1.0)),
        ([0, 1], [1, 0], (0.0, 0.0, -1.0)),
        # One class predicted throughout: no correlation to speak of.
        ([0, 0, 0, 1], [0, 0, 0, 0], (0.75, (6 / 7) / 2, 0.0)),
        # One class occurs: classes that neither occur nor are predicted have no F1.
        ([1, 1], [1, 1], (1.0, 1.0, 0.0)),
    ],
)
def test_degenerate_scores(target: list[int], output: list[int], expected: tuple[float, float, float]) -> None:
    values = class_scores(np.array(target), np.array(output))
    assert (values["accuracy"], values["macro_f1"], values["mcc"]) == pytest.approx(expected)


def test_the_loss_is_the_sum_over_the_batch_and_agrees_with_the_score() -> None:
    task = fitted("a", "b", "c")
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    rows = of(["a", "c", "b", "b", "a"])
    batch = {"labels": torch.tensor([0, 2, 1, 1, 0])}
    loss = {m.name: m.value for m in task.score(task.outcome(logits, {}, rows), "validation")}["loss"]
    assert float(task.loss(logits, batch)) / 5 == pytest.approx(loss, abs=1e-5)
    # Reduced precision is widened before the logarithm.
    assert task.loss(logits.bfloat16(), batch).dtype == torch.float32


# --- labels that look alike


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sport", "sport"),
        ("caf\u00e9", "cafe\u0301"),
        ("world news", "world  news"),
        ("sport", "sp\u200bort"),
        ("ABC", "ＡＢＣ"),
        ("1", "1.0"),
        ("STRASSE", "straße"),
    ],
)
def test_labels_that_look_alike_are_noted_and_stay_classes_of_their_own(one: str, other: str) -> None:
    task = fitted(one, other, one, "something else")
    assert len(task.labels) == 3
    (finding,) = task.findings()
    assert finding.name == "similar_labels"
    assert f"{one!r} (2 rows)" in finding.message
    assert f"{other!r} (1 rows)" in finding.message


def test_spaces_around_labels_are_noted() -> None:
    task = Classification({})
    made = examples(task, table(text=["x", "y", "z"], label=["sport", " sport", "world"]))
    task.fit({"train": made})
    assert [(f.name, f.message[:8]) for f in task.findings()] == [("spaced_labels", "1 labels")]
    assert fitted("sport", "world", "a", "b").findings() == ()
