"""A study file with one list stands for one study of each value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.errors import StudyError
from tuneoff.planning.loading import load, load_series, parse
from tuneoff.planning.plan import plan
from tuneoff.planning.series import SeriesSpec, parse_series

pytest_plugins = ("study_fixtures",)


def study(**changes: Any) -> dict[str, Any]:
    """A study as plain data; keyword arguments replace its top-level keys."""
    raw: dict[str, Any] = {
        "name": "reviews",
        "model": "minilm",
        "task": {"data": {"train": "rows.csv"}, "label": "label"},
        "methods": {"lora": {"r": 4}, "full": {}},
        "protocol": {"seeds": 2},
    }
    return {**raw, **changes}


def sized(*sizes: Any, **protocol: Any) -> dict[str, Any]:
    """A series over numbers of training rows."""
    return study(protocol={"seeds": 2, "train_rows": list(sizes), **protocol})


def sets(*entries: Any) -> dict[str, Any]:
    """A series over data sets."""
    return study(task={"data": list(entries), "text": "text"})


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        parse_series(raw)
    return caught.value.message


def test_sizes_make_a_study_each_from_the_smallest() -> None:
    series = parse_series(sized(1000, 250, 500))
    assert (series.name, series.axis, list(series.members)) == ("reviews", "train_rows", ["250", "500", "1000"])
    assert [member.protocol.train_rows for member in series.members.values()] == [250, 500, 1000]
    assert [member.name for member in series.members.values()] == ["reviews-250", "reviews-500", "reviews-1000"]


def test_a_member_has_the_trials_of_the_study_with_its_value() -> None:
    alone = parse(study(protocol={"seeds": 2, "train_rows": 250}))
    member = parse_series(sized(250, 500)).members["250"]
    assert [trial.id for trial in plan(member)] == [trial.id for trial in plan(alone)]
    assert member.model_copy(update={"name": alone.name}) == alone


def test_models_are_named_by_their_last_part_or_their_own_name() -> None:
    entries = ["minilm", "org/other", {"source": "models/third", "random_weights": True, "name": "mine"}]
    series = parse_series(study(model=entries))
    assert (series.axis, list(series.members)) == ("model", ["minilm", "other", "mine"])
    assert series.values["mine"] == {"source": "models/third", "revision": None, "random_weights": True}


def test_names_take_as_many_parts_as_tell_them_apart() -> None:
    assert list(parse_series(study(model=["one/bert", "two/bert"])).members) == ["one-bert", "two-bert"]
    files = [{"train": "news/train.csv"}, {"train": "mail/train.jsonl.gz"}]
    assert list(parse_series(sets(*files)).members) == ["news-train", "mail-train"]


def test_a_data_set_may_have_keys_of_the_task() -> None:
    series = parse_series(
        sets(
            {"train": "news.csv", "test": "news_test.csv", "label": "topic"},
            {"source": "reuters-r8", "label": "class"},
        )
    )
    assert (series.axis, list(series.members)) == ("data", ["news", "reuters-r8"])
    news, reuters = series.members.values()
    assert news.task.options == {"text": "text", "label": "topic"}
    assert (reuters.task.data.test, reuters.task.options["label"]) == (reuters.task.data.train, "class")


def test_a_list_of_texts_is_one_data_set_of_several_files() -> None:
    spec = parse(study(task={"data": ["a.csv", "b.csv"], "text": "text", "label": "label"}))
    assert spec.task.data.references == ("a.csv", "b.csv")


@pytest.mark.parametrize(
    "raw",
    [
        sized(250, 500),
        study(model=["minilm", {"source": "org/other", "name": "mine"}]),
        sets({"train": "a.csv", "label": "one"}, {"source": "reuters-r8"}, {"train": ["c.csv", "d.csv"], "name": "cd"}),
    ],
)
def test_what_a_series_keeps_of_itself_reads_as_the_same_series(raw: dict[str, Any]) -> None:
    series = parse_series(raw)
    again = parse_series(series.study)
    assert isinstance(again, SeriesSpec)
    assert again == series
    assert again.study == series.study


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (sized(), "protocol.train_rows: an empty list"),
        (sized(250), "protocol.train_rows: a list of one size is no series"),
        (sized(250, 500, 250), "protocol.train_rows.2: the same size twice"),
        (sized(250, None), "protocol.train_rows.1: null is no size"),
        (sized(250, 0), "protocol.train_rows: input should be greater than or equal to 1, not 0"),
        (sized(250, "many"), "not 'many'"),
        (sized(250, True), "not true or false"),
        (sized(250, 500, search={"trials": 2, "train_rows": 400}), "search.train_rows 400 is more than train_rows 250"),
        (study(model=[]), "model: an empty list"),
        (study(model=["minilm", {"source": "minilm"}]), "model.1: the same base model twice"),
        (study(model=["b", {"source": "c", "name": "B"}]), "model.0: another one is called 'b' too"),
        (study(model=["minilm", {"source": "c", "name": "x/y"}]), "model.1: a name is at most 60 letters"),
        (study(model=["minilm", {"source": "c", "colour": 1}]), "model.colour: unknown key 'colour'"),
        (study(model=["minilm", 7]), "model"),
        (sets({"train": "a.csv"}, "b.csv"), "task.data.1: a list of data sets has keys in each"),
        (sets({"train": "a.csv"}, {"text": "body"}), "task.data.train: is required"),
        (sets({"train": "a.csv"}, {"source": "b.csv", "test": "c.csv"}), "task.data.1: `source` stands for all splits"),
        (sets({"train": "a.csv"}, {"train": "b.csv", "tekst": "body"}), "task.tekst: unknown key 'tekst'"),
        (sets({"train": "a.csv"}, {"train": "a.csv"}), "task.data.1: the same data set twice"),
        (sized(250, 500) | {"model": ["minilm", "org/other"]}, "protocol.train_rows and model are lists"),
        (study(), "no list makes this a series"),
    ],
)
def test_a_list_that_is_none_is_refused(raw: dict[str, Any], words: str) -> None:
    assert words in refusal(raw)


def test_what_is_wrong_outside_the_list_is_told_once() -> None:
    message = refusal(sized(250, 500) | {"colour": "red"})
    assert message.count("unknown key") == 1


def test_one_study_refuses_a_list_and_names_the_way_out() -> None:
    with pytest.raises(StudyError, match=r"protocol\.train_rows: a list of sizes is a series") as caught:
        parse(sized(250, 500))
    assert "tuneoff.Series" in caught.value.hint


def test_problems_of_a_file_have_the_lines_of_their_entries(study_path: Callable[..., Path]) -> None:
    path = study_path(
        "model: minilm\nmethods: [full]\ntask:\n  text: text\n  data:\n"
        "    - train: a.csv\n    - train: b.csv\n      labl: topic\n"
    )
    with pytest.raises(StudyError, match=r"line 8, task\.labl: unknown key 'labl'"):
        load_series(path)


def test_overrides_make_and_unmake_a_series(study_path: Callable[..., Path]) -> None:
    path = study_path("model: [minilm, org/other]\nmethods: [full]\ntask: {data: reuters-r8}\n", "bases.yaml")
    assert load_series(path).name == "bases"
    assert load(path, ["model=minilm"]).model.source == "minilm"
    sizes = load_series(path, ["model=minilm", "protocol.train_rows=[10, 20]"])
    assert list(sizes.members) == ["10", "20"]
    with pytest.raises(StudyError, match=r"cannot set model\.revision: model is a list"):
        load_series(path, ["model.revision=main"])
