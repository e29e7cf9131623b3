"""`tuneoff init`: from a data file to a study file that loads."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tuneoff import registry
from tuneoff.cli.commands.init import scalar
from tuneoff.cli.data_inspection import inspect_data
from tuneoff.cli.main import main
from tuneoff.errors import DataError
from tuneoff.planning import loading


def write_rows(path: Path, header: str = "review,stars", rows: int = 40, extra: str = "") -> Path:
    lines = [f"this is text number {i} of them,{'good' if i % 4 else 'bad'}" for i in range(rows)]
    path.write_text("\n".join([header, *lines]) + "\n" + extra, encoding="utf-8")
    return path


FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_executor: FakeExecutor) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuneoff.study.study.early.refuse_study", lambda *_, **__: None)  # small data are fine
    monkeypatch.setattr("tuneoff.sources.fingerprint", lambda *_: "")  # no model is fetched for its checksum


def test_study_file_loads_and_says_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("reviews.csv"), "review,label")
    assert main(["init", "reviews.csv"]) == 0
    study = loading.load("reviews.study.yaml")
    assert study.task.data.train.source == "reviews.csv"
    assert study.task.options == {"text": "review", "label": "label"}
    assert list(study.methods) == sorted(study.methods, key=lambda n: (registry.methods()[n].trains, n))
    assert set(study.methods) == {"majority", "head", "lora", "full"}
    written = Path("reviews.study.yaml").read_text(encoding="utf-8")
    assert all(f"  # {name}: " in written for name in ("ia3", "bitfit", "prompt_tuning", "adapter"))
    shown = capsys.readouterr().out
    assert "40 rows; columns: review, label" in shown
    assert "2 classes: good (30), bad (10)" in shown
    assert "# " + "2 classes: good (30), bad (10)" in Path("reviews.study.yaml").read_text().replace("#   ", "# ")


def test_one_row_and_one_class_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.csv").write_text("text,label\nhello,a\n", encoding="utf-8")
    assert main(["init", "one.csv"]) == 0
    shown = capsys.readouterr().out
    assert "1 row; columns: text, label" in shown
    assert "1 class: a (1)" in shown


def test_columns_with_odd_names_are_guessed_from_what_they_hold() -> None:
    write_rows(Path("odd.csv"), "was gesagt: wurde,yes")
    assert main(["init", "odd.csv"]) == 0
    assert loading.load("odd.study.yaml").task.options == {"text": "was gesagt: wurde", "label": "yes"}


def test_columns_may_be_named() -> None:
    Path("two.jsonl").write_text(
        "".join(
            json.dumps({"text": "a b c d", "title": f"word {i} here", "label": i % 2, "kind": i % 3}) + "\n"
            for i in range(30)
        )
    )
    assert main(["init", "two.jsonl", "--text", "title", "--label", "kind"]) == 0
    assert loading.load("two.study.yaml").task.options == {"text": "title", "label": "kind"}


@pytest.mark.parametrize(
    ("names", "flags"),
    [
        (("premise", "hypothesis", "label"), []),
        (("sentence1", "sentence2", "relation"), []),
        (("one", "other", "label"), ["--text", "one", "--text-pair", "other"]),
    ],
)
def test_two_texts_and_a_class_make_a_study_of_pairs(
    names: tuple[str, str, str], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("pairs.csv", dict(zip(names, (TEXTS, OTHERS, KINDS), strict=True)))
    assert main(["init", "pairs.csv", *flags]) == 0
    study = loading.load("pairs.study.yaml")
    assert study.task.name == "classification"
    assert study.task.options == dict(zip(("text", "text_pair", "label"), names, strict=True))
    assert "words per pair of texts: median 14" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "flags"), [(("text", "label"), []), (("body", "score"), []), (("body", "age"), ["--value", "age"])]
)
def test_a_text_and_numbers_make_a_study_of_regression(
    names: tuple[str, str], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("numbers.csv", {names[0]: TEXTS, names[1]: [str(i / 4) for i in range(40)]})
    assert main(["init", "numbers.csv", *flags]) == 0
    study = loading.load("numbers.study.yaml")
    assert (study.task.name, study.model.source) == ("regression", "minilm")
    assert study.task.options == {"text": names[0], "value": names[1]}
    assert {"mean", "median", "lora", "full"} <= set(study.methods)
    assert "numbers: from 0 to 9.75, median 4.875" in capsys.readouterr().out


def write_pairs(path: Path, source: str, target: str, rows: int = 40) -> Path:
    lines = [
        json.dumps({"id": f"r{i}", source: f"a long text of many words {i} " * 30, target: f"in short it is {i}"})
        for i in range(rows)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("columns", "guessed"),
    [(("article", "highlights"), "from the names"), (("langer Text", "kurz"), "from what the columns hold")],
)
def test_two_texts_make_a_study_that_writes(
    columns: tuple[str, str], guessed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(Path("news.jsonl"), *columns)
    assert main(["init", "news.jsonl"]) == 0
    study = loading.load("news.study.yaml")
    assert (study.task.name, study.model.source) == ("generation", "smollm2-135m")
    assert study.task.options == {
        "source": columns[0],
        "target": columns[1],
        "template": "{source}\n\nAnswer: ",
        "max_target_length": 16,
    }
    assert set(study.methods) == {"lead", "zero_shot", "lora", "full"}
    shown = capsys.readouterr().out
    assert f"guessed {guessed}" in shown
    assert "words per target: median 5" in shown
    assert "classes" not in shown


def test_a_length_that_cuts_most_texts_says_so() -> None:
    write_rows(Path("short.csv"), "review,label")
    assert main(["init", "short.csv"]) == 0
    assert "an estimate that keeps 95 % of the texts whole" in Path("short.study.yaml").read_text(encoding="utf-8")
    lines = [f"{'word ' * 1000}{i},{'good' if i % 2 else 'bad'}" for i in range(40)]
    Path("long.csv").write_text("\n".join(["review,label", *lines]) + "\n", encoding="utf-8")
    assert main(["init", "long.csv"]) == 0
    written = Path("long.study.yaml").read_text(encoding="utf-8")
    assert "max_length: 512" in written
    assert "texts beyond are cut; 95 % of them would be whole at about 1,401 (1.4 tokens a word)" in written
    assert "keeps 95 %" not in written


def test_columns_that_are_named_say_which_task_it_is() -> None:
    write_pairs(Path("news.jsonl"), "text", "label")
    assert main(["init", "news.jsonl", "--source", "label", "--target", "text", "--model", "gpt2"]) == 0
    study = loading.load("news.study.yaml")
    assert (study.task.name, study.model.source) == ("generation", "gpt2")
    assert (study.task.options["source"], study.task.options["target"]) == ("label", "text")


def test_a_class_is_looked_for_before_a_text_to_write() -> None:
    rows = [f"is it number {i} or not,{'yes it surely is' if i % 4 else 'no it is not'}" for i in range(40)]
    Path("answers.csv").write_text("\n".join(["question,answer", *rows]) + "\n", encoding="utf-8")
    assert main(["init", "answers.csv"]) == 0
    study = loading.load("answers.study.yaml")
    assert (study.task.name, study.task.options) == ("classification", {"text": "question", "label": "answer"})


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rows.csv", "--text", "reviw"], "did you mean 'review'"),
        (["nosuch.csv"], "nosuch.csv"),
        (["study.yaml"], "--data FILE"),
        (["study.yaml", "--data", "rows.csv", "--out", "b.yaml"], "two study files"),
        (["rows.csv", "--data", "rows.csv"], "two data files"),
        (["numbers.csv"], "Set --text and --label or --text and --value or --source"),
        (["numbers.csv", "--target", "b"], "Set --source."),
        (["rows.csv", "--text", "review", "--target", "stars"], "belong to different tasks"),
        (["empty.csv"], "empty.csv"),
    ],
)
def test_bad_input_is_one_error_and_no_file(
    arguments: list[str], hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(Path("rows.csv"))
    Path("numbers.csv").write_text("a,b\n" + "".join(f"{i},{i + 1}\n" for i in range(50)))
    Path("empty.csv").write_text("text,label\n")
    assert main(["init", *arguments]) == 2
    assert hint in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


def write_table(name: str, columns: dict[str, list[str]]) -> Path:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return Path(name)


TEXTS = [f"this is text number {i} of them" for i in range(40)]
OTHERS = [f"and another one is number {i} here" for i in range(40)]
KINDS = [("sport", "news", "art")[i % 3] for i in range(40)]
LANGUAGES = ["en" if i % 2 else "de" for i in range(40)]
FLAGS = [str(i % 2) for i in range(40)]


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"text": TEXTS, "genre": ["a|b", "a", "b", "b|a|c"] * 10}, "genre"),
        ({"text": TEXTS, "labels": ["['a', 'b']", "[]", "['b']", "['c']"] * 10, "language": LANGUAGES}, "labels"),
        ({"body": TEXTS, "toxic": FLAGS, "rude": FLAGS[::-1], "sad": FLAGS}, ("toxic", "rude", "sad")),
    ],
)
def test_several_labels_a_row_make_a_study_of_multi_label(
    columns: dict[str, list[str]], label: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    write_table("labels.csv", columns)
    assert main(["init", "labels.csv"]) == 0
    study = loading.load("labels.study.yaml")
    assert (study.task.name, study.model.source) == ("multi_label", "minilm")
    assert registry.tasks()["multi_label"](study.task.options).options.label == label
    assert {"label_set", "label_prior", "lora", "full"} <= set(study.methods)
    assert "3 classes: " in capsys.readouterr().out


def test_words_and_tags_make_a_study_of_token_classification(capsys: pytest.CaptureFixture[str]) -> None:
    Path("ner.conll").write_text("Ann\tB-per\nmet\tO\nBob\tB-per\n\nshe\tO\nwon\tO\n\n" * 20, encoding="utf-8")
    rows = [{"text": f"Ann met {i}", "entities": [{"start": 0, "end": 3, "label": "per"}]} for i in range(40)]
    Path("spans.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for file, options in (
        ("ner.conll", {"text": "tokens", "tags": "tags"}),
        ("spans.jsonl", {"text": "text", "tags": "entities"}),
    ):
        assert main(["init", file]) == 0
        study = loading.load(f"{Path(file).stem}.study.yaml")
        assert (study.task.name, study.model.source) == ("token_classification", "minilm")
        assert study.task.options == options
        assert {"majority_tag", "entity_dictionary", "lora", "full"} <= set(study.methods)
        assert "2 classes: " in capsys.readouterr().out


LABELS = [["oil"], ["oil", "trade"], []]


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        (lambda i: LABELS[i % 3][:1], "labels", "1 class: oil (27)"),
        (lambda i: ["oil"], "labels", "a run will refuse this data: all 40 training rows have the same labels"),
        (lambda i: [f"a rather long name of {one}" for one in LABELS[i % 3]], "labels", "2 classes: "),
        (lambda i: LABELS[i % 3] * 2, "labels", "2 classes: "),
        (
            lambda i: [i % 2, 0, 1],
            "labels",
            "refuse this data: column 'labels' of rows.jsonl (train) holds vectors of 0",
        ),
        (lambda i: {"oil": i % 2, "trade": i % 3 == 0}, ["labels.oil", "labels.trade"], "2 classes: labels.oil (20)"),
    ],
    ids=["one label", "always the same", "long names", "twice", "a vector of 0 and 1", "an object of 0 and 1"],
)
def test_a_column_that_is_called_labels_may_hold_any(
    labels: Any, options: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"a few words and {i}", "labels": labels(i)} for i in range(40)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["init", "rows.jsonl"]) == 0
    study = loading.load("rows.study.yaml")
    assert (study.task.name, study.task.options["label"]) == ("multi_label", options)
    assert told in capsys.readouterr().out


def test_several_columns_may_be_named_with_commas(capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"text": TEXTS, "kind": KINDS, "rude": FLAGS[::-1], "sad": FLAGS}
    write_table("rows.csv", columns)
    assert main(["init", "rows.csv"]) == 2
    assert "If a row may have several of them, name all: --label rude,sad." in capsys.readouterr().err
    assert main(["init", "rows.csv", "--label", "rude, sad"]) == 0
    study = loading.load("rows.study.yaml")
    assert (study.task.name, study.task.options["label"]) == ("multi_label", ["rude", "sad"])
    assert main(["init", "rows.csv", "--label", "sad,sad", "--force"]) == 0
    assert loading.load("rows.study.yaml").task.options["label"] == "sad"
    assert main(["init", "rows.csv", "--label", "rude,sda", "--force"]) == 2
    assert "no column 'sda' (did you mean 'sad'?)" in capsys.readouterr().err
    assert main(["init", "rows.csv", "--value", "rude,sad", "--force"]) == 2
    assert "--value: no task reads several columns there" in capsys.readouterr().err


def test_two_texts_may_be_named_where_a_row_has_several_labels() -> None:
    labels = ["['a', 'b']", "[]", "['b']", "['c']"] * 10
    write_table("rows.csv", {"one": TEXTS, "other": OTHERS, "labels": labels})
    assert main(["init", "rows.csv", "--text", "one,other"]) == 0
    study = loading.load("rows.study.yaml")
    assert study.task.options == {"text": "one", "text_pair": "other", "label": "labels"}


def test_a_column_of_numbers_that_are_all_missing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("rows.csv", {"text": TEXTS, "value": [""] * 40})
    assert main(["init", "rows.csv", "--value", "value"]) == 0
    assert "a run will refuse this data: 40 of 40 rows of rows.csv (train) have no value" in capsys.readouterr().out


def test_labels_are_found_beside_a_column_that_tells_of_them() -> None:
    labels = ["['a', 'b']", "[]", "['b']", "['c']"] * 10
    write_table("rows.csv", {"text": TEXTS, "labels": labels, "labels.source": LANGUAGES})
    assert main(["init", "rows.csv"]) == 0
    study = loading.load("rows.study.yaml")
    assert (study.task.name, study.task.options["label"]) == ("multi_label", "labels")


def test_flags_with_an_empty_cell_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    write_table("rows.csv", {"text": TEXTS, "rude": FLAGS[::-1], "sad": ["", *FLAGS[1:]]})
    assert main(["init", "rows.csv"]) == 0
    assert loading.load("rows.study.yaml").task.name == "multi_label"
    assert "write 0 where the row has not that label" in capsys.readouterr().out


def test_a_broken_row_among_words_and_tags_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"tokens": ["Ann", "met", str(i)], "ner_tags": ["B-per", "O", "O"][: 2 if i == 4 else 3]} for i in range(40)
    ]
    Path("ner.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["init", "ner.jsonl"]) == 2
    assert "ner.jsonl line 5: 3 words and 2 tags" in capsys.readouterr().err


def test_tags_with_spaces_between_are_no_class() -> None:
    tags = [("B-per O O", "O O B-per")[i % 2] for i in range(40)]
    write_table("rows.csv", {"sentence": [f"Ann met {i}" for i in range(40)], "tags": tags})
    assert main(["init", "rows.csv"]) == 0
    study = loading.load("rows.study.yaml")
    assert (study.task.name, study.task.options) == ("token_classification", {"text": "sentence", "tags": "tags"})


@pytest.mark.parametrize(
    ("columns", "role", "told"),
    [
        ({"body": TEXTS, "language": LANGUAGES}, "label", "tells of a text where it comes from"),
        ({"body": TEXTS, "mood": LANGUAGES, "matter": KINDS}, "label", "mood, matter could all be the class"),
        ({"text": TEXTS, "sentiment": LANGUAGES, "topic": KINDS}, "label", "topic, sentiment could all be the class"),
        ({"one": TEXTS, "other": OTHERS, "label": KINDS}, "text", "for pairs of texts the second with --text-pair"),
        ({"text": TEXTS, "comment": OTHERS, "label": FLAGS}, "text", "text, comment all hold texts"),
        ({"text": TEXTS, "kind": KINDS, "rude": FLAGS[::-1], "sad": FLAGS}, "label", "could all be the class"),
        (
            {"text": TEXTS, "kind": [str(i % 10 / 4) for i in range(40)], "sort": KINDS},
            "label",
            "To predict numbers (regression), name theirs with --value, as kind",
        ),
        ({"context": TEXTS, "question": OTHERS, "answer": [t[8:] for t in OTHERS]}, "source", "all hold texts"),
        ({"de": TEXTS, "en": OTHERS}, "source", "hold texts of like length; which is put in?"),
        ({"text": TEXTS, "user_id": [str(i % 5) for i in range(40)]}, "label", "where it comes from"),
    ],
)
def test_what_is_not_known_is_refused_with_the_way_out_and_asked_on_a_terminal(
    columns: dict[str, list[str]],
    role: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table("rows.csv", columns)
    assert main(["init", "rows.csv"]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert f"--{role}" in shown
    assert not Path("rows.study.yaml").exists()

    def answer(_: str, **options: Any) -> str:
        return next(name for name in reversed(columns) if name in options["type"].choices)

    monkeypatch.setattr("tuneoff.cli.commands.init._is_asked", lambda: True)
    monkeypatch.setattr("click.prompt", answer)
    assert main(["init", "rows.csv"]) == 0
    assert Path("rows.study.yaml").exists()


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"language": LANGUAGES, "body": TEXTS, "kind": KINDS}, {"text": "body", "label": "kind"}),
        ({"text": TEXTS, "label": KINDS, "language": LANGUAGES, "id": FLAGS}, {"text": "text", "label": "label"}),
        ({"title": OTHERS, "text": TEXTS, "label": KINDS}, {"text": "text", "label": "label"}),
        ({"text": TEXTS, "label": FLAGS, "is_long": FLAGS}, {"text": "text", "label": "label"}),
    ],
)
def test_what_is_known_is_not_asked(columns: dict[str, list[str]], options: dict[str, str]) -> None:
    write_table("rows.csv", columns)
    assert main(["init", "rows.csv"]) == 0
    assert loading.load("rows.study.yaml").task.options == options


def test_it_ends_with_the_forecast(fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.csv"), "text,label")
    assert main(["init", "rows.csv"]) == 0
    shown = capsys.readouterr().out
    assert "4 arms × 2 seeds = 8 trials; forecast: about " in shown
    assert {profile for _, profile, _ in fake_executor.forecasting.asked} == {False}
    assert main(["init", "rows.csv", "--force", "--no-forecast"]) == 0
    assert "forecast" not in capsys.readouterr().out
    assert main(["init", "rows.csv", "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["columns"], found["study"]) == ({"text": "text", "label": "label"}, "rows.study.yaml")
    assert found["forecast"]["arms"].keys() == {"majority", "head", "lora", "full"}


def test_what_published_rules_propose_stands_in_the_file_and_can_be_taken_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(Path("rows.csv"), "text,label")
    assert main(["init", "rows.csv"]) == 0
    assert "proposed, and not measured: see the end of rows.study.yaml" in capsys.readouterr().out
    written = Path("rows.study.yaml").read_text(encoding="utf-8")
    assert "lora-proposed" not in loading.load("rows.study.yaml").methods
    assert "by rule all-linear (Biderman et al. 2024" in written
    Path("taken.yaml").write_text(written.replace("# lora-proposed:", "lora-proposed:"), encoding="utf-8")
    arms = loading.load("taken.yaml").methods
    assert (arms["lora-proposed"].options, arms["lora"].options) == ({"targets": "all-linear"}, {})
    assert main(["init", "rows.csv", "--force", "--no-forecast", "--json"]) == 0
    proposed = json.loads(capsys.readouterr().out)["proposed"]
    assert [value["rule"] for value in proposed["values"]] == ["all-linear"]
    assert proposed["check"]["methods"] == ["lora", "lora-proposed"]
    assert "the rank of lora, because nothing of it was counted" in proposed["not_covered"]


def test_study_file_first_and_data_as_an_option() -> None:
    write_rows(Path("rows.csv"))
    assert main(["init", "mine.yaml", "--data", "rows.csv"]) == 0
    assert loading.load("mine.yaml").name == "rows"


def test_nothing_is_written_over_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("rows.csv"))
    Path("rows.study.yaml").write_text("mine")
    assert main(["init", "rows.csv"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("rows.study.yaml").read_text() == "mine"
    assert main(["init", "rows.csv", "--force"]) == 0
    assert loading.load("rows.study.yaml").methods


def test_odd_file_names_give_a_study_name_and_a_quoted_path(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("my: reviews #1.csv"))
    assert main(["init", "my: reviews #1.csv"]) == 0
    study = loading.load("my-reviews-1.study.yaml")
    assert (study.name, study.task.data.train.source) == ("my-reviews-1", "my: reviews #1.csv")


def test_what_a_run_would_refuse_is_told() -> None:
    write_rows(Path("gap.csv"), extra="no label here,\n")
    seen = inspect_data(Path("gap.csv"))
    assert any("have no label" in concern for concern in seen.concerns)
    write_rows(Path("rare.csv"), extra="one more,strange\n")
    assert any("fewer than 5 rows: strange" in concern for concern in inspect_data(Path("rare.csv")).concerns)


@pytest.mark.parametrize(("words", "length"), [(1, 32), (40, 64), (90, 128), (5000, 512)])
def test_length_is_estimated_from_the_words(words: int, length: int) -> None:
    Path("long.csv").write_text("text,label\n" + "".join(f"{'w ' * words},{i % 2}\n" for i in range(20)))
    assert inspect_data(Path("long.csv")).max_length == length


@pytest.mark.parametrize(
    "value", ["plain", "no", "true", "null", "1e-4", "12", "a: b", "#x", "it's", 'say "x"', "./a/b.csv", "~", "é", "-"]
)
def test_text_stays_text_in_yaml(value: str) -> None:
    assert loading.read_yaml(f"key: {scalar(value)}    # comment")[0] == {"key": value}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "a b c", "label": {"name": "x", "id": 0}}, ["label.name or label.id could be meant", "--label"]),
        ({"messages": [{"role": "user", "content": "a"}]}, ["no message of the assistant"]),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]},
            ["message of 'tool'", "docs/unsupported.md"],
        ),
        (
            {"prompt": "a b c", "chosen": "d e f", "rejected": "g h i"},
            ["chosen and rejected answers", "docs/unsupported.md"],
        ),
        ({"image": {"bytes": None, "path": "a.png"}, "n": 1}, ["holds pictures", "docs/unsupported.md"]),
    ],
)
def test_columns_that_no_task_can_take_are_refused(
    row: dict[str, object], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data.jsonl").write_text((json.dumps(row) + "\n") * 20, encoding="utf-8")
    assert main(["init", "data.jsonl"]) != 0
    shown = capsys.readouterr().err
    for part in said:
        assert part in shown
    assert not Path("data.study.yaml").exists()


def test_labels_that_look_alike_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("reviews.csv"), "review,label", extra="one more of them,Good\n")
    assert main(["init", "reviews.csv"]) == 0
    assert "look alike" in capsys.readouterr().out


def test_scripts_without_spaces_are_counted_by_letters(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"文章": f"我爱北京天安门{i}。" * 20, "摘要": f"我爱北京天安门{i}。"} for i in range(40)]
    Path("zh.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert main(["init", "zh.jsonl"]) == 0
    study = loading.load("zh.study.yaml")
    assert study.task.options["source"] == "文章"
    assert study.task.options["max_target_length"] >= 10
    assert study.protocol.max_length >= 200


def test_a_data_set_saved_on_disk_gives_its_splits() -> None:
    import datasets

    rows = {"body": [f"this is text number {i}" for i in range(40)], "label": ["good", "bad"] * 20}
    table = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": table, "test": table.select(range(4))}).save_to_disk("saved")
    assert main(["init", "saved"]) == 0
    data = loading.load("saved.study.yaml").task.data
    assert (data.train.source, data.validation, data.test and data.test.source) == ("saved", None, "saved")


@pytest.mark.parametrize(("data", "name"), [("rows.csv.gz", "rows"), ("parts/*.csv", "study")])
def test_compressed_files_and_patterns_are_looked_at(data: str, name: str) -> None:
    Path("parts").mkdir()
    write_rows(Path("parts/a.csv"), "text,label")
    Path("rows.csv.gz").write_bytes(gzip.compress(Path("parts/a.csv").read_bytes()))
    assert main(["init", data]) == 0
    study = loading.load(f"{name}.study.yaml")
    assert (study.name, study.task.data.train.source) == (name, data)


def test_an_item_of_a_list_may_be_named() -> None:
    lines = [{"q": f"text number {i} here", "tags": [{"name": "ab"[i % 2]}]} for i in range(40)]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert main(["init", "a.jsonl", "--text", "q", "--label", "tags.0.name"]) == 0
    assert loading.load("a.study.yaml").task.options == {"text": "q", "label": "tags.0.name"}


def write_lines(name: str, good: Any, broken: Any) -> Path:
    """Writes forty rows of which one, on line 7, is broken."""
    path = Path(name)
    rows = [broken if i == 6 else good(i) for i in range(40)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def _words(i: int) -> dict[str, Any]:
    return {"tokens": ["John", "in", "Rome", f"{i}"], "tags": ["B-PER", "O", "B-LOC", "O"]}


def _entities(i: int) -> dict[str, Any]:
    return {"text": f"John in Rome {i}", "entities": [{"start": 0, "end": 4, "label": "PER"}]}


def _options(i: int) -> dict[str, Any]:
    return {"question": f"what is it {i}?", "choices": ["a cat", "a dog"], "answer": i % 2}


def _emotions(i: int) -> dict[str, Any]:
    return {"text": f"this is text {i}", "emotions": ["joy", "love"][: 1 + i % 2]}


@pytest.mark.parametrize(
    ("good", "broken", "reason"),
    [
        (_words, {"tokens": ["a", "b"], "tags": ["O"]}, "line 7: 2 words and 1 tags"),
        (_words, {"tokens": [], "tags": []}, "line 7: there is no word"),
        (_entities, _entities(6) | {"entities": [{"start": 0, "end": 99, "label": "X"}]}, "line 7: entity 0 to 99"),
        (_entities, _entities(6) | {"entities": [{"start": 3, "end": 1, "label": "X"}]}, "line 7: an entity is"),
        (_options, _options(6) | {"choices": ["a cat"]}, "line 7: column 'choices' holds no two options"),
        (_options, _options(6) | {"choices": ["a cat", None]}, "line 7: column 'choices' holds no two options"),
        (_options, _options(6) | {"choices": None}, "have no choices; the first is rows.jsonl line 7"),
        (_emotions, _emotions(6) | {"emotions": [None]}, "line 7: column 'emotions' holds no labels"),
    ],
)
def test_a_broken_row_makes_no_other_task_of_a_file_and_is_named(good: Any, broken: Any, reason: str) -> None:
    path = write_lines("rows.jsonl", good, broken)
    try:
        refused = " ".join(inspect_data(path).concerns)
    except DataError as error:
        refused = str(error)
    assert reason in refused


def test_messages_written_out_in_a_text_cell_are_a_chat() -> None:
    chats = [
        [{"role": "user", "content": f"who is {i}?"}, {"role": "assistant", "content": f"he, {i}"}] for i in range(20)
    ]
    with Path("chats.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["messages"], *([json.dumps(chat)] for chat in chats)])
    assert inspect_data(Path("chats.csv")).task == "chat"


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (
            {
                "question": {"stem": "what?", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
                "answerKey": "A",
            },
            {"question": "question.stem", "choices": "question.choices", "answer": "answerKey"},
        ),
        (
            {"premise": "it rains", "question": "effect", "choice1": "wet", "choice2": "dry", "label": 0},
            {"question": "question", "context": "premise", "choices": ("choice1", "choice2"), "answer": "label"},
        ),
        (
            {"instruction": "name it", "context": "a cat sat", "response": "the cat"},
            {"instruction": "instruction", "input": "context", "output": "response"},
        ),
    ],
    ids=["ARC", "COPA", "Dolly"],
)
def test_no_text_of_a_known_shape_is_left_out(row: dict[str, Any], columns: dict[str, Any]) -> None:
    Path("rows.jsonl").write_text(f"{json.dumps(row)}\n" * 12, encoding="utf-8")
    assert inspect_data(Path("rows.jsonl")).columns == columns


def test_a_column_that_is_named_like_a_number_and_holds_none_is_told() -> None:
    rows = "".join(f"this is text {i};{i},5\n" for i in range(20))
    Path("scores.csv").write_text(f"text;score\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"column 'score' is named like a value and holds '0,5', which is no number"):
        inspect_data(Path("scores.csv"))
