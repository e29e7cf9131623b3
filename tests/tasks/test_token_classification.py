"""Token classification: words and tags of any shape, entities scored as seqeval does, pieces of words aligned."""

from __future__ import annotations

import random
from time import process_time
from typing import Any

import pytest
import torch

from tuneoff import registry
from tuneoff.errors import DataError
from tuneoff.interfaces import Attached, Baseline, Entity, Example, Prediction, Rows, read_entities
from tuneoff.tasks.token_classification import TokenClassification
from tuneoff.testing.models import random_model, shape
from tuneoff.trial.modeling.tokenizer import byte_tokenizer


def read(text: Any, tags: Any, options: dict[str, Any] | None = None, **rows: Any) -> Example:
    task = TokenClassification(options or {})
    table = Rows({"text": [text], "tags": [tags]}, "rows.jsonl", **rows)
    return task.examples(table, task.columns(table), "train")[0]


def words(example: Example) -> list[str]:
    return [example.text[start:end] for start, end in example.words]


def score(targets: list[str], outputs: list[str]) -> dict[str, float]:
    pairs = enumerate(zip(targets, outputs, strict=True))
    predictions = [Prediction(index=i, target=target, output=output) for i, (target, output) in pairs]
    return {metric.name: metric.value for metric in TokenClassification({}).score(predictions, "test")}


# --- rows


@pytest.mark.parametrize(
    ("text", "tags", "expected", "target"),
    [
        (["Ann", "met", "Bob"], ["B-per", "O", "B-per"], ["Ann", "met", "Bob"], "B-per O B-per"),
        ("['Ann', 'met']", "['B-per', 'O']", ["Ann", "met"], "B-per O"),
        ("Ann met  Bob", "B-per O O", ["Ann", "met", "Bob"], "B-per O O"),
        (["New York", "won"], ["B-loc", "O"], ["New\u00a0York", "won"], "B-loc O"),
        (["a", "b", "c"], [{"start": 1, "end": 3, "label": "x"}], ["a", "b", "c"], "O B-x I-x"),
        ("Ann, of Rome.", [[0, 3, "per"], [8, 12, "loc"]], ["Ann", ",", "of", "Rome", "."], "B-per O O B-loc O"),
        ("我在北京", [{"start": 2, "end": 4, "type": "loc"}], ["我", "在", "北", "京"], "O O B-loc I-loc"),
        ("nothing here", [], ["nothing", "here"], "O O"),
    ],
)
def test_words_and_tags_are_read(text: Any, tags: Any, expected: list[str], target: str) -> None:
    example = read(text, tags)
    assert words(example) == expected
    assert example.target == target


@pytest.mark.parametrize(
    ("text", "tags"), [(["half \ud800", "b"], ["O", "O"]), (["a", "b"], ["O", "\ud800"]), ("['\\ud800', 'b']", "O O")]
)
def test_text_that_is_no_unicode_is_refused_with_its_row(text: Any, tags: Any) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl row 1 holds text that is not valid Unicode"):
        read(text, tags)


def test_numbers_of_tags_are_named_by_the_source_and_by_the_options() -> None:
    assert read(["a", "b"], [1, 0], class_names={"tags": ("O", "B-x")}).target == "B-x O"
    assert read(["a", "b"], [1, 0], {"labels": ["O", "B-y"]}).target == "B-y O"


@pytest.mark.parametrize(
    ("text", "tags", "said"),
    [
        (["a", "b"], ["O"], "2 words and 1 tags"),
        (["a", " "], ["O", "O"], "word 2 is empty"),
        ([], [], "there is no word"),
        ("a b", [{"start": 1, "label": "x"}], "without whole numbers start < end and a label"),
        ("a b", [{"start": 0, "end": float("inf"), "label": "x"}], "without whole numbers start < end and a label"),
        ("a b", [{"start": 0.5, "end": 2, "label": "x"}], "without whole numbers start < end and a label"),
        ("a b", [{"start": 0, "end": 9, "label": "x"}], "holds no word of the text's 3 characters"),
        (["a"], [{"start": 0, "end": 2, "label": "x"}], "ends after the last of 1 words"),
        (["a"], ["B x"], "must be one word"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_place(text: Any, tags: Any, said: str) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl row 1") as caught:
        read(text, tags)
    assert said in caught.value.message


def test_entities_within_words_are_widened_and_told() -> None:
    task = TokenClassification({})
    rows = Rows({"text": ["redshift and blue"] * 2, "tags": [[[0, 3, "c"]], []]}, "rows.jsonl")
    examples = task.examples(rows, task.columns(rows), "train")
    task.fit({"train": examples})
    assert examples[0].target == "B-c O O"
    assert [finding.name for finding in task.findings()] == ["widened_entities"]


def test_a_kind_that_training_lacks_is_refused_and_another_prefix_is_not() -> None:
    task, train = TokenClassification({}), [read(["a", "b"], ["B-x", "O"])]
    task.fit({"train": train, "test": [read(["a", "b"], ["B-x", "I-x"])]})
    assert task.labels == ("O", "B-x", "I-x")
    with pytest.raises(DataError, match="'B-y' stands in test"):
        task.fit({"train": train, "test": [read(["a"], ["B-y"])]})
    with pytest.raises(DataError, match="nothing to learn"):
        task.fit({"train": [read(["a"], ["O"])]})


def test_parts_of_speech_are_compared_by_the_accuracy_of_words() -> None:
    task = TokenClassification({})
    task.fit({"train": [read(["a", "b"], ["DET", "NOUN"])]})
    assert task.tested_metric == "word_accuracy"
    assert score(["DET NOUN"], ["DET DET"])["word_accuracy"] == 0.5


@pytest.mark.parametrize("tags", [["DET", "NOUN"], ["O", "B-x"]])
def test_the_metric_that_a_study_names_compares_methods(tags: list[str]) -> None:
    task = TokenClassification({"primary_metric": "macro_entity_f1"})
    task.fit({"train": [read(["a", "b"], tags)]})
    assert task.tested_metric == "macro_entity_f1"


def test_tags_that_the_options_do_not_name_are_refused_with_their_row() -> None:
    task = TokenClassification({"labels": ["O", "B-PER"]})
    rows = Rows({"text": [["a", "b"], ["c", "d"]], "tags": [["O", "B-PER"], ["O", "B-LOC"]]}, "rows.jsonl")
    with pytest.raises(DataError, match=r"rows\.jsonl row 2: tag 'B-LOC' is not in task\.labels") as caught:
        task.fit({"train": task.examples(rows, task.columns(rows), "train")})
    assert "O, B-PER" in caught.value.hint


@pytest.mark.parametrize(
    ("tags", "labels", "said"),
    [
        ([0, 1], None, "a number without a name"),
        ("0 1", None, "a number without a name"),
        ([0, -100], ["O", "B-x"], "tag -100 is not among the 2 tags"),
        ([0, 2], ["O", "B-x"], "tag 2 is not among the 2 tags"),
    ],
)
def test_numbers_of_no_tag_are_refused(tags: Any, labels: list[str] | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(["a", "b"], tags, {"labels": labels} if labels else {})


def test_a_text_to_predict_is_split_as_texts_were_in_training() -> None:
    for text, tags, at, count in (
        ("Ann, of Rome.", "B-x O O", "spaces", 3),
        ("Ann, of Rome.", [[0, 3, "x"]], "signs", 5),
        (["Ann,", "of"], ["B-x", "O"], "signs", 5),
    ):
        task = TokenClassification({})
        rows = Rows({"text": [text], "tags": [tags]}, "rows.jsonl")
        task.fit({"train": task.examples(rows, task.columns(rows), "train")})
        assert task.fitted_options == {"split_words": at}
        assert len(words(read("Ann, of Rome.", "[]", dict(task.fitted_options)))) == count


def test_a_rare_kind_comes_into_every_split_or_is_told() -> None:
    task = TokenClassification({})
    train = [read(["a", "b"], ["B-x", "O"])] * 9 + [read(["a", "b"], ["B-x", "B-y"])] * 2
    task.fit({"train": [*train, read(["a"], ["O"])]})
    assert [task.stratum(example) for example in (train[0], train[-1], read(["a"], ["O"]))] == ["x", "y", ""]
    task.refit(train)
    assert task.findings() == ()
    task.refit(train[:9])
    (finding,) = task.findings()
    assert finding.name == "unlearned_tags"
    assert "B-y" in finding.message


# --- entities


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-a I-a O I-b I-a", [("a", 0, 2), ("b", 3, 4), ("a", 4, 5)]),
        ("B-a B-a I-a E-a I-a", [("a", 0, 1), ("a", 1, 4), ("a", 4, 5)]),
        ("S-a U-a B-b L-b", [("a", 0, 1), ("a", 1, 2), ("b", 2, 4)]),
        ("per per O loc", [("per", 0, 2), ("loc", 3, 4)]),
    ],
)
def test_entities_are_read_in_every_scheme(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert read_entities(tags) == tuple(Entity(*entity) for entity in expected)


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, (0.797498045348, 0.793157076205, 0.801886792453, 0.797191319067)),
        (1, (0.822269807281, 0.819345661451, 0.825214899713, 0.819826895006)),
        (2, (0.808823529412, 0.804093567251, 0.813609467456, 0.808579144163)),
    ],
)
def test_scores_equal_those_of_seqeval(seed: int, expected: tuple[float, ...]) -> None:
    """What seqeval 1.2.2 gives: f1_score, precision_score, recall_score, f1_score(average="macro")."""
    rng = random.Random(seed)
    tags = ["O", "O", "O", "B-a", "I-a", "B-b", "I-b", "E-b", "S-a"]
    targets = [[rng.choice(tags) for _ in range(rng.randrange(3, 20))] for _ in range(100)]
    outputs = [[tag if rng.random() < 0.8 else rng.choice(tags) for tag in row] for row in targets]
    found = score([" ".join(row) for row in targets], [" ".join(row) for row in outputs])
    names = ("entity_f1", "precision", "recall", "macro_entity_f1")
    assert [found[name] for name in names] == pytest.approx(expected, abs=1e-9)


# --- tokens


@pytest.mark.parametrize(("architecture", "position"), [("bert", 0), ("gpt2", -1)])
def test_a_word_is_read_at_its_first_token_and_by_a_decoder_at_its_last(architecture: str, position: int) -> None:
    from transformers import AutoConfig

    task = TokenClassification({})
    examples = [read(["ab", "c"], ["B-x", "O"]), read(["d", "ef", "gh"], ["O", "O", "B-x"])]
    task.fit({"train": examples})
    config = AutoConfig.for_model(architecture, vocab_size=300, max_position_embeddings=64, **shape(architecture, 64))
    model = random_model(config, task, 0.2).eval()
    features = task.encode(examples, byte_tokenizer(config), 32)
    batch = task.collate(features, 0)
    with torch.no_grad():
        logits = task.forward(Attached(model, model), batch)
        alone = model(torch.tensor([list(features[1].input_ids)])).logits[0]
    places = [features[1].words[4 * i + 1 : 4 * i + 3][position] for i in range(3)]
    assert len(logits) == 5 == task.loss_terms(features)
    torch.testing.assert_close(logits[2:], alone[places], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_code_of_a_card_gives_the_same_tags(architecture: str) -> None:
    from transformers import AutoConfig

    task = TokenClassification({})
    texts = [["ab", "c"], ["d", "ef", "gh", "ü"], ["x"] * 30, ["g h", "i j k"]]
    examples = [read(text, ["B-x", *["O"] * (len(text) - 1)]) for text in texts]
    task.fit({"train": examples})
    config = AutoConfig.for_model(architecture, vocab_size=300, max_position_embeddings=64, **shape(architecture, 64))
    model, tokenizer = random_model(config, task, 0.4).eval(), byte_tokenizer(config)
    names: dict[str, Any] = {"torch": torch, "model": model, "tokenizer": tokenizer}
    exec("\n".join(task.plain_code(model, tokenizer, {"text": "text", "tags": "tags"}, 24)), names)
    batch = task.collate(task.encode(examples, tokenizer, 24), 0)
    with torch.no_grad():
        found = task.outcome(task.forward(Attached(model, model), batch), batch, examples)
        assert [names["predict"](text) for text in texts] == [p.output.split() for p in found]
        assert len(names["predict"]("Ann, of Rome.")) == 5
        spaced = TokenClassification({**task.fitted_options, "split_words": "spaces"})
        exec("\n".join(spaced.plain_code(model, tokenizer, {"text": "text", "tags": "tags"}, 24)), names)
        assert len(names["predict"]("Ann, of Rome.")) == 3
    assert len({tag for p in found for tag in p.output.split()}) == 2


def test_tags_stand_at_their_words_where_the_tokenizer_drops_one_before() -> None:
    from tokenizers import normalizers
    from transformers import AutoConfig

    task = TokenClassification({})
    examples = [read(["\u200b", "Paris", "is"], ["O", "B-loc", "O"])]
    task.fit({"train": examples})
    config = AutoConfig.for_model("bert", vocab_size=300, max_position_embeddings=64, **shape("bert", 64))
    tokenizer = byte_tokenizer(config)
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    features = task.encode(examples, tokenizer, 32)
    batch = task.collate(features, 0)
    assert batch["labels"].tolist() == [1, 0]
    (found,) = task.outcome(torch.eye(2)[[1, 0]] * 9, batch, examples)
    assert found.output == "O B-loc O"
    assert [entity["text"] for entity in task.describe(found, examples[0])["entities"]] == ["Paris"]


def test_the_time_to_find_words_and_entities_is_linear_in_the_length() -> None:
    from transformers import AutoConfig

    tokenizer = byte_tokenizer(AutoConfig.for_model("bert", vocab_size=300))

    def seconds(count: int) -> float:
        text = " ".join(["word"] * count)
        entities = [{"start": 5 * i, "end": 5 * i + 4, "label": "x"} for i in range(count)]
        started = process_time()
        example = read(text, entities)
        task = TokenClassification({"labels": ["O", "B-x"]})
        (features,) = task.encode([example], tokenizer, 10 * count)
        assert len(features.words) == 4 * count
        return process_time() - started

    seconds(10)
    assert seconds(4_000) < 10 * min(seconds(1_000) for _ in range(3)), "four times the words"


def test_words_beyond_the_longest_input_get_no_tag_and_no_loss() -> None:
    from transformers import AutoConfig

    task = TokenClassification({})
    examples = [read(["abc"] * 9, ["B-x"] * 8 + ["O"])]
    task.fit({"train": examples})
    config = AutoConfig.for_model("bert", vocab_size=300, max_position_embeddings=64, **shape("bert", 64))
    features = task.encode(examples, byte_tokenizer(config), 12)
    kept = len(features[0].words) // 4
    assert features[0].truncated
    assert 0 < kept < 9
    logits = torch.eye(2)[[1] * kept] * 9
    (found,) = task.outcome(logits, task.collate(features, 0), examples)
    assert found.output == " ".join(["B-x"] * kept + ["O"] * (9 - kept))
    assert found.target_tokens == kept


# --- baselines


@pytest.mark.parametrize(
    ("method", "expected"),
    [("majority_tag", ["O O O", "O O"]), ("entity_dictionary", ["B-loc I-loc O", "O O"])],
)
def test_baselines_give_every_word_a_tag(method: str, expected: list[str]) -> None:
    task = TokenClassification({})
    train = [
        read(["in", "New", "York"], ["O", "B-loc", "I-loc"]),
        read(["the", "Who"], ["B-org", "I-org"]),
        read(["who", "is", "the", "who"], ["O", "O", "O", "O"]),
        read(["the", "who", "the", "who"], ["O", "O", "O", "O"]),
    ]
    task.fit({"train": train})
    baseline = registry.methods()[method].create({})
    assert isinstance(baseline, Baseline)
    found = baseline.predict(task, train, [read(["new", "york", "is"], ["O"] * 3), read(["the", "who"], ["O"] * 2)])
    assert [p.output for p in found] == expected
