from __future__ import annotations

import pytest

from tuneoff import errors
from tuneoff.errors import Problem, StudyError, TuneoffError, by_name, did_you_mean, first_line, listed

TREE = {
    "TuneoffError": "Exception",
    "StudyError": "TuneoffError",
    "SourceError": "TuneoffError",
    "SourceNotFound": "SourceError",
    "SourceUnreachable": "SourceError",
    "ChecksumMismatch": "SourceError",
    "ContentChanged": "SourceError",
    "DataError": "TuneoffError",
    "UnsupportedModel": "TuneoffError",
    "StoreError": "TuneoffError",
    "CorruptRecord": "StoreError",
    "RecordExists": "StoreError",
    "ExecutorError": "TuneoffError",
    "TrialError": "TuneoffError",
    "OutOfMemory": "TrialError",
    "Diverged": "TrialError",
    "Cancelled": "TrialError",
    "EndpointError": "TrialError",
    "CannotTrainTogether": "TrialError",
}


def test_the_tree_of_errors_is_pinned() -> None:
    found = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__base__ is not None
    }
    assert found == TREE


def test_the_drawing_at_the_top_names_every_error() -> None:
    drawing = errors.__doc__ or ""
    assert all(name in drawing for name in TREE)


@pytest.mark.parametrize("name", [name for name in TREE if name != "StudyError"])
def test_a_child_processs_error_is_rebuilt_by_name(name: str) -> None:
    kind = by_name(name)
    rebuilt = kind("what is wrong", "what to do")
    assert kind.__name__ == name
    assert (rebuilt.message, rebuilt.hint) == ("what is wrong", "what to do")


def test_an_unknown_name_gives_the_base() -> None:
    assert by_name("KeyError") is TuneoffError
    assert by_name("StudyError") is TuneoffError, "it takes problems, not a message"


def test_the_hint_stands_on_a_line_of_its_own() -> None:
    assert str(TuneoffError("wrong", "do this")) == "wrong\ndo this"
    assert str(TuneoffError("wrong")) == "wrong"


def test_in_one_line_the_hint_is_a_sentence_of_its_own() -> None:
    assert TuneoffError("wrong", "do this").in_one_line == "wrong. do this"
    assert TuneoffError("It is wrong.", "Do this.").in_one_line == "It is wrong. Do this."
    assert TuneoffError("wrong").in_one_line == "wrong"


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("protocol.epochs", "is too small", 7), "line 7, protocol.epochs: is too small"),
        (Problem("protocol.epochs", "is too small"), "protocol.epochs: is too small"),
        (Problem("", "is not YAML", 7), "line 7: is not YAML"),
        (Problem("", "is empty"), "is empty"),
    ],
)
def test_a_problem_names_its_place(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_one_problem_is_a_line_and_several_are_a_list() -> None:
    first, second = Problem("a", "is wrong", 1), Problem("b", "is wrong too", 2)
    assert str(StudyError([first], origin="x.yaml")) == "x.yaml: line 1, a: is wrong"
    assert str(StudyError([first, second], origin="x.yaml")).splitlines() == [
        "x.yaml has 2 problems:",
        "  - line 1, a: is wrong",
        "  - line 2, b: is wrong too",
    ]
    assert StudyError("one text").problems == (Problem("", "one text"),)


@pytest.mark.parametrize(
    ("word", "known", "answer"),
    [
        ("lorra", ["lora", "full"], " (did you mean 'lora'?)"),
        ("LORA", ["lora"], " (did you mean 'lora'?)"),
        ("text", ["Text", "Category"], " (did you mean 'Text'?)"),
        ("rnu", ["plan", "run"], " (did you mean 'run'?)"),
        ("max_len", ["max_steps", "max_length"], " (did you mean 'max_length'?)"),
        ("lr", ["r", "learning_rate"], " (did you mean 'learning_rate'?)"),
        ("lr", ["rows", "r"], ""),
        ("per-device-train-batch-size", ["seeds", "batch-size"], " (did you mean 'batch-size'?)"),
        ("num_epochs", ["max_steps", "epochs"], " (did you mean 'epochs'?)"),
        ("eps", ["epochs", "max_steps"], ""),
        ("fit", ["init", "list"], ""),
        ("rows", ["test_rows", "train_rows"], ""),
        ("zzz", ["lora", "full"], ""),
        ("lora", [], ""),
    ],
)
def test_did_you_mean(word: str, known: list[str], answer: str) -> None:
    assert did_you_mean(word, known) == answer


def test_of_many_names_the_first_are_listed() -> None:
    assert listed(["text", "label"]) == "text, label"
    assert listed(f"c{number}" for number in range(2500)).endswith("c29, … (2500 in all)")


def test_the_first_line_of_an_error_is_its_type_where_it_says_nothing() -> None:
    assert first_line(ValueError("\none\ntwo")) == "one"
    assert first_line(ValueError("one and more"), 3) == "one"
    assert first_line(KeyboardInterrupt(), 3) == "KeyboardInterrupt"


def test_a_problem_shows_the_beginning_of_what_is_long() -> None:
    long = str(Problem("x" * 20_000, "y" * 20_000, 3))
    assert len(long) < 2_500
    assert long.startswith("line 3, xxx")
    assert "… (20000 characters)" in long


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach https://me:secret@host:8080/x.", "cannot reach https://…@host:8080/x."),
        ("postgres://u:p@db and http://a:b@c", "postgres://…@db and http://…@c"),
        ("https://host/a:b@c hub:org/name a@b:c", "https://host/a:b@c hub:org/name a@b:c"),
        ("https://user@host/x", "https://user@host/x"),
        ("no folder 'https:/me:secret@host'", "no folder 'https:/…@host'"),
    ],
)
def test_an_error_names_no_password(text: str, shown: str) -> None:
    assert errors.without_passwords(text) == shown
    assert str(TuneoffError(text, text)) == f"{shown}\n{shown}"
    assert first_line(ValueError(text)) == shown
