from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff import registry
from tuneoff.config.execution import ExecutorSpec
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StudyError
from tuneoff.interfaces import ExecutorOptions
from tuneoff.planning.loading import load, narrow, override, parse, read_yaml, recipe_names
from tuneoff.planning.plan import plan
from tuneoff.study.budget import raced

pytest_plugins = ("study_fixtures",)

Write = Callable[..., Path]

GOOD = """\
model: minilm
task:
  data: reuters-r8
methods:
  lora: {r: 4}
  full:
protocol:
  seeds: 2
  learning_rate: 1e-4
"""

BAD = """\
modle: minilm
task:
  data: reuters-r8
  txt: body
methods:
  lorra:
  lora:
    rr: 4
    r: no
  slim: {method: lora, r: 0}
protocol:
  epoch: 3
  seeds: 0
"""


def problems(path: Path | str, overrides: Any = ()) -> dict[str, tuple[int | None, str]]:
    """Dotted key -> line and message of every problem found."""
    with pytest.raises(StudyError) as caught:
        load(path, overrides)
    return {problem.where: (problem.line, problem.message) for problem in caught.value.problems}


def test_a_good_file(study_path: Write) -> None:
    study = load(study_path(GOOD, "my topics.yaml"))
    assert study.name == "my-topics", "the file's name, where it gives none"
    assert study.model.source == "minilm"
    assert study.methods["lora"].options == {"r": 4}
    assert study.methods["full"].method == "full"
    assert study.protocol.seeds == (0, 1)
    assert study.protocol.learning_rate == 1e-4


def test_all_problems_at_once_each_with_its_line(study_path: Write) -> None:
    found = problems(study_path(BAD))
    assert {where: line for where, (line, _) in found.items()} == {
        "model": None,
        "modle": 1,
        "task.txt": 4,
        "methods.lorra": 6,
        "methods.lora.rr": 8,
        "methods.lora.r": 9,
        "methods.slim.r": 10,
        "protocol.epoch": 12,
        "protocol.seeds": 13,
    }
    assert found["model"][1] == "is required"
    for where, near in [("modle", "model"), ("task.txt", "text"), ("methods.lorra", "lora"), ("methods.lora.rr", "r")]:
        assert f"did you mean {near!r}?" in found[where][1]
    assert "did you mean 'epochs'?" in found["protocol.epoch"][1]
    assert "not 'no'" in found["methods.lora.r"][1], "`no` is a word in YAML 1.2, not false"


def test_the_message_lists_problems_in_the_files_order(study_path: Write) -> None:
    with pytest.raises(StudyError) as caught:
        load(study_path(BAD))
    lines = [problem.line or 0 for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert "study.yaml has 9 problems:" in str(caught.value)


def test_a_misspelt_task_and_its_missing_data(study_path: Write) -> None:
    found = problems(study_path("model: m\ntask:\n  name: clasification\n  dta: x\nmethods: lora\n"))
    assert "did you mean 'classification'?" in found["task.name"][1]
    assert found["task.data"] == (2, "is required")


def test_a_misspelt_data_key_is_known_by_its_neighbours(study_path: Write) -> None:
    found = problems(study_path("model: m\ntask:\n  dta: x\nmethods: lora\n"))
    assert "did you mean 'data'?" in found["task.dta"][1]


def test_a_misspelt_role_of_the_data(study_path: Write) -> None:
    found = problems(study_path("model: m\ntask:\n  data:\n    train: x\n    tests: y\nmethods: lora\n"))
    assert found["task.data.tests"][0] == 5
    assert "did you mean 'test'?" in found["task.data.tests"][1]


def test_an_option_of_a_published_comparison(study_path: Write) -> None:
    found = problems(study_path(GOOD + "published:\n  citation: someone\n  figures: {lora: {accuracy: high}}\n"))
    assert found["published.figures.lora.accuracy"][0] == 12


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("2.", 2.0),
        ("-3.5e+2", -350.0),
        ("3", 3),
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("2024-01-01", "2024-01-01"),
        ("null", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("[1, 2e-3]", [1, 2e-3]),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    found, _ = read_yaml(f"key: {text}")
    assert found == {"key": value}
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "this one is empty"),
        ("# nothing but a comment\n", "this one is empty"),
        ("- a\n- b\n", "a study file is a mapping"),
        ("just words", "a study file is a mapping"),
        ("model: a\nmodel: b\n", "line 2, model: stands twice (first on line 1)"),
        ("protocol:\n  epochs: 1\n  epochs: 2\n", "line 3, protocol.epochs: stands twice (first on line 2)"),
        ("model: [a\n", "not valid YAML"),
        ("a: b: c\n", "line 1: not valid YAML"),
        ("a: !!python/object:os.system x\n", "line 1, a: the tag '!!python/object:os.system' is not read here"),
        ("a: &here {b: *here}\n", "stands inside what it names"),
        ("a: \x00\n", "not valid YAML"),
        ("1: 2\n" + GOOD, "keys should be strings"),
        ("model: m\ntask: {data: d}\nmethods: [lora, lora]\n", "'lora' stands twice"),
        ("model: m\ntask: {data: d}\nmethods: []\n", "at least 1 item"),
        ("model: m\ntask: {data: d}\nmethods: {lora: 5}\n", "line 3, methods.lora: input should be a mapping, not 5"),
    ],
)
def test_files_that_are_no_study(study_path: Write, text: str, message: str) -> None:
    path = study_path(text)
    with pytest.raises(StudyError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value), "the message names the file"


def test_a_file_in_another_encoding(study_path: Write) -> None:
    with pytest.raises(StudyError, match=r"is not UTF-8 text \(byte 6\)"):
        load(study_path("name: café".encode("latin-1")[:6] + b"\xe9 model: m\n"))


def test_a_byte_order_mark_is_no_part_of_a_key(study_path: Write) -> None:
    assert load(study_path(b"\xef\xbb\xbf" + GOOD.encode())).model.source == "minilm"


def test_names_of_files_and_recipes(study_path: Write, tmp_path: Path) -> None:
    study_path(GOOD, "topics.yaml")
    with pytest.raises(StudyError, match=r"did you mean 'topics.yaml'\?"):
        load(tmp_path / "topic.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(StudyError, match="a folder that holds no study"):
        load(tmp_path / "folder.yaml")
    with pytest.raises(StudyError, match=r"no recipe called 'gpt2-agnews' \(did you mean 'gpt2-ag-news'\?\)") as caught:
        load("gpt2-agnews")
    assert all(name in caught.value.hint for name in recipe_names())


# --- overrides


@pytest.mark.parametrize(
    ("text", "where", "value"),
    [
        ("protocol.epochs=2", "protocol.epochs", 2),
        ("protocol.learning_rate=3e-5", "protocol.learning_rate", 3e-5),
        ("protocol.seeds=[3, 5]", "protocol.seeds", (3, 5)),
        ("protocol.clip_norm=", "protocol.clip_norm", None),
        ("protocol.dropout=0.1", "protocol.dropout", 0.1),
        ("model=gpt2", "model.source", "gpt2"),
        ("model.random_weights=true", "model.random_weights", True),
        ("model.revision=main", "model.revision", "main"),
        ("task.text=body", "task.options.text", "body"),
        ("task.data=other", "task.data.test.source", "other"),
        ("task.data.train=./a=b.csv", "task.data.train.source", "./a=b.csv"),
        ("task.data.train.split=unlabelled", "task.data.train.split", "unlabelled"),
        ("task.data.validation=v.csv", "task.data.validation.source", "v.csv"),
        ("methods.lora.r=64", "methods.lora.options.r", 64),
        ("methods.full.learning_rate=1e-5", "methods.full.learning_rate", 1e-5),
        ("methods.wide={method: lora, r: 32}", "methods.wide.options.r", 32),
        (" protocol.epochs = 2 ", "protocol.epochs", 2),
    ],
)
@pytest.mark.parametrize("methods", ["{lora: {r: 4}, full: {}}", "[lora: {r: 4}, full]"])
def test_an_override(study_path: Write, methods: str, text: str, where: str, value: Any) -> None:
    study = load(study_path(f"model: minilm\ntask: {{data: reuters-r8}}\nmethods: {methods}\n"), [text])
    place: Any = study.model_dump()
    for step in where.split("."):
        place = place[step]
    assert place == value


def test_an_override_below_a_short_form_keeps_what_it_said(study_path: Write) -> None:
    study = load(study_path(GOOD), ["model.revision=main", "task.data.train=mine.csv", "protocol.epochs=9"])
    assert (study.model.source, study.model.revision) == ("minilm", "main")
    assert study.task.data.test is not None
    assert (study.task.data.train.source, study.task.data.test.source) == ("mine.csv", "reuters-r8")
    assert (study.protocol.epochs, study.protocol.seeds) == (9, (0, 1))


def test_a_row_added_to_a_single_method(study_path: Write) -> None:
    path = study_path("model: m\ntask: {data: d}\nmethods: lora\n")
    assert list(load(path, ["methods.full.learning_rate=1e-5"]).methods) == ["lora", "full"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protocol.epochs", "expected dotted.key=value"),
        ("=3", "expected dotted.key=value"),
        ("protocol.epochs=0", "greater than or equal to 1"),
        ("protocol.epoch=3", r"did you mean 'epochs'\?"),
        ("protocol.seeds.first=3", "protocol.seeds is a value"),
        ("protocol.seeds=[1", "not valid YAML"),
        ("methods.lora.rank=3", "unknown key 'rank'"),
        ("methods.lorra.r=3", r"did you mean 'lora'\?"),
    ],
)
def test_an_override_that_cannot_be(study_path: Write, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load(study_path(GOOD), [text])


def test_overrides_leave_the_callers_data_alone() -> None:
    raw = {"model": "m", "task": {"data": "d"}, "methods": ["lora"], "protocol": {"epochs": 1}}
    changed = override(raw, {"protocol.epochs": 2, "methods.lora.r": 4})
    assert changed["protocol"] == {"epochs": 2}
    assert changed["methods"] == {"lora": {"r": 4}}
    assert raw == {"model": "m", "task": {"data": "d"}, "methods": ["lora"], "protocol": {"epochs": 1}}


# --- narrowing


def test_narrow_to_some_rows_seeds_and_random_weights(make_study: Callable[..., StudySpec]) -> None:
    study = make_study(methods={"small": {"method": "lora", "r": 2}, "full": {}})
    less = narrow(study, methods=["full", "small"], seeds=3, random_weights=True)
    assert list(less.methods) == ["full", "small"]
    assert less.methods["small"] == study.methods["small"]
    assert less.protocol.seeds == (0, 1, 2)
    assert less.model.random_weights
    assert narrow(study) is study


def test_narrow_adds_a_method_that_has_no_row(make_study: Callable[..., StudySpec]) -> None:
    assert narrow(make_study(), methods=["bitfit"]).methods["bitfit"].method == "bitfit"
    assert list(narrow(make_study(), methods="lora").methods) == ["lora"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["lorra", "ful"]}, r"2 problems(.|\n)*did you mean 'lora'(.|\n)*did you mean 'full'"),
        ({"methods": []}, "names no method"),
        ({"seeds": 0}, "1 or more"),
    ],
)
def test_narrow_to_what_is_not_there(
    make_study: Callable[..., StudySpec], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        narrow(make_study(), **changes)


def test_a_parsed_study_survives_its_own_dump(make_study: Callable[..., StudySpec]) -> None:
    study = make_study(protocol={"seeds": [3, 1], "learning_rate": 1e-4})
    assert parse(study.model_dump(mode="json")) == study


def test_a_misspelt_metric_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(
        StudyError, match=r"protocol\.select_metric: unknown metric 'acuracy' \(did you mean 'accuracy'"
    ):
        load("quickstart", ["protocol.select_metric=acuracy"])
    assert load("quickstart", ["protocol.select_metric=loss"]).protocol.select_metric == "loss"


SEARCHED = """\
model: minilm
task: {data: reuters-r8}
methods:
  lora:
    r:
      search: [4, 0, x]
    rank: {search: [1, 2]}
    alpha: {search: {low: 0, high: 32}}
  full:
    learning_rate:
      search: [1e-5, -3]
  majority: {learning_rate: {search: [1, 2]}}
protocol:
  search: {trials: 4}
"""


def test_every_candidate_is_checked_by_its_method_where_it_stands(study_path: Write) -> None:
    found = problems(study_path(SEARCHED))
    assert {where: line for where, (line, _) in found.items()} == {
        "methods.lora.r.search.1": 6,
        "methods.lora.r.search.2": 6,
        "methods.lora.rank": 7,
        "methods.lora.alpha.search.low": 8,
        "methods.full.learning_rate.search.1": 11,
        "methods.majority.learning_rate": 12,
    }
    assert "greater than or equal to 1, not 0" in found["methods.lora.r.search.1"][1]
    assert "unknown key 'rank'" in found["methods.lora.rank"][1]
    assert "does not train" in found["methods.majority.learning_rate"][1]


@pytest.mark.parametrize(
    ("old", "new", "where", "line", "message"),
    [
        ("trials: 4", "trails: 4", "protocol.search.trails", 14, "did you mean 'trials'?"),
        ("{trials: 4}", "{seed: 1}", "protocol", 13, "search.seed 1 is one of the study's seeds"),
        ("high: 32", "hgh: 32", "methods.lora.alpha.search.hgh", 8, "did you mean 'high'?"),
        ("low: 0", "low: 64", "methods.lora.alpha.search", 8, "low 64 is not below high 32"),
        ("[4, 0, x]", "[4]", "methods.lora.r.search", 6, "two or more values"),
        ("trials: 4", "trials: 4, prune: halving", "protocol.search.prune", 14, "set protocol.search.max_steps"),
        ("trials: 4", "prune: halving, max_steps: 8", "protocol.search.prune", 14, "takes 2 trials and 20 steps"),
    ],
)
def test_a_search_that_cannot_be(study_path: Write, old: str, new: str, where: str, line: int, message: str) -> None:
    found = problems(study_path(SEARCHED.replace(old, new)))
    assert where in found
    assert found[where][0] == line
    assert message in found[where][1]


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("weight_decay: {search: [0, 0.1]}", "weight_decay is to be searched, but the protocol has no search"),
        ("search: 4, weight_decay: {search: [0, -1]}", "weight_decay cannot be -1"),
        ("search: 4, clip_norm: {search: {low: 0, high: 1}}", "clip_norm cannot be 0"),
        ("search: 4, batch_size: {search: [4, 8.5]}", "batch_size cannot be 8.5"),
        ("search: 4, batch_size: {search: [4.0, 8.0]}", "batch_size cannot be 4.0"),
        ("search: 4, batch_size: {search: {low: 4, high: 8.0}}", "batch_size cannot be 8.0"),
        ("search: 4, batch_size: {search: ['4', '8']}", "batch_size cannot be '4'"),
        ("search: 4, weight_decay: {search: [0, '0.1']}", "weight_decay cannot be '0.1'"),
        ("search: 4, batch_size: {search: [4, 8]}, gradient_accumulation_steps: 8", "is more than 4, the least batch"),
        ("search: 4, batch_size: {search: [4, 8]}, max_steps: 9", "max_steps counts steps"),
        ("search: {max_steps: 9}, batch_size: {search: [4, 8]}", "max_steps counts steps"),
        ("search: {max_steps: 99, prune: halving}, batch_size: {search: [4, 8]}", "max_steps counts steps"),
        ("search: {prune: halving}, train_rows: 999, batch_size: {search: [4, 8]}", "search.prune counts steps"),
        ("search: {per_seed: true}, train_rows: 999, batch_size: {search: [4, 8]}", "search.per_seed counts steps"),
        ("search: [1], weight_decay: {search: [0, 1]}", "protocol.weight_decay"),
        (
            "search: 4, dropout: {search: [0, 0.1]}",
            "protocol.dropout cannot be searched: weight_decay, clip_norm, batch_",
        ),
        ("search: 4, learning_rate: {search: [1e-4, 1e-3]}", "protocol.learning_rate is one rate for all"),
        (
            "search: 4, clip_norm: {search: [1, 1.0]}",
            "protocol.clip_norm.search: a search needs two or more values, no",
        ),
        ("search: 4, clip_norm: {search: {low: 0.1, high: .inf}}", "clip_norm.search: the ends of a range are finite"),
        ("search: {space: 3}", "protocol.search.space: input should be a mapping"),
        ("search: true", "protocol.search: expected a number or a word, not true or false"),
        ("search: many", "protocol.search: expected a number of trials, or a mapping of keys, not 'many'"),
        ("search: {per_seed: -1}", "protocol.search.per_seed: expected true, false, or how many seeds share the steps"),
        (
            "search: {per_seed: 2.5}",
            "protocol.search.per_seed: expected true, false, or how many seeds share the steps",
        ),
    ],
)
def test_a_setting_that_cannot_be_searched_is_refused(study_path: Write, protocol: str, said: str) -> None:
    text = f"model: minilm\ntask: {{data: reuters-r8}}\nmethods: [lora, full]\nprotocol: {{{protocol}}}\n"
    found = problems(study_path(text))
    assert any(said in f"{where}: {message}" for where, (_, message) in found.items()), found


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "r: {search: {low: 4, high: 1e3}}",
            "methods.lora.r.search: of what lies between its ends, input should be a val",
        ),
        ("r: {search: [4, 4.0]}", "methods.lora.r.search: a search needs two or more values, no two alike"),
        (
            "learning_rate: {search: [1e-4, .inf]}",
            "methods.lora.learning_rate.search.1: a learning rate is a number above",
        ),
        (
            "devices: {search: [1, 2]}",
            "methods.lora: devices cannot be searched: learning_rate and the method's options",
        ),
        ("method: {search: [lora, full]}", "methods.lora: method cannot be searched"),
        (
            "weight_decay: {search: [0, 1]}",
            "methods.lora.weight_decay: it is searched for all arms alike: write it as pro",
        ),
    ],
)
def test_what_cannot_be_searched_of_an_arm_is_told_once(study_path: Write, option: str, said: str) -> None:
    text = "model: minilm\ntask: {data: reuters-r8}\nprotocol: {search: 4}\nmethods:\n"
    ((where, (_, message)),) = problems(study_path(f"{text}  lora: {{{option}}}\n")).items()
    assert f"{where}: {message}".startswith(said)


@pytest.mark.parametrize(
    ("search", "arms", "said"),
    [
        ("trials: 4", "[lora]", "and the search has 4: set protocol.search.trials to 5 or more, or leave stop out"),
        ("trials: 2, grow: true", "[lora]", "and the search has 3: set"),
        ("trials: 3, grow: true", "[lora]", ""),
        ("trials: 5", "[lora]", ""),
        ("trials: 8, per_seed: true, max_steps: 400", "[lora]", "the search of a seed has 4: set .*trials to 30 or"),
        ("trials: 30, per_seed: true", "[lora]", ""),
        ("trials: 8", "{lora: {learning_rate: {search: [1e-4, 1e-3]}}}", "no arm has more than 2 configurations: give"),
        ("trials: 8", "{lora: {learning_rate: {search: [1e-4, 1e-3]}}, full: {}}", ""),
    ],
)
def test_a_rule_of_stopping_that_would_stop_nothing_is_refused(
    study_path: Write, search: str, arms: str, said: str
) -> None:
    text = f"model: minilm\ntask: {{data: reuters-r8}}\nmethods: {arms}\n"
    path = study_path(f"{text}protocol: {{search: {{{search}, stop: quartile}}}}\n")
    if not said:
        load(path)
        return
    found = problems(path)
    assert list(found) == ["protocol.search.stop"]
    assert re.search(said, found["protocol.search.stop"][1])


def test_a_search_of_arms_that_do_not_train_is_refused(study_path: Write) -> None:
    text = "model: minilm\ntask: {data: reuters-r8}\nmethods: [majority]\nprotocol: {search: 4}\n"
    assert "no arm trains" in problems(study_path(text))["protocol.search"][1]
    arms = text.replace("[majority]", "[majority, lora]")
    assert load(study_path(arms), methods=["majority"]).protocol.search is not None, "a run of some arms alone"


def test_a_wrong_range_of_a_setting_is_told_where_it_stands(study_path: Write) -> None:
    text = "model: minilm\ntask: {data: reuters-r8}\nmethods: [lora]\nprotocol:\n  search: 4\n"
    found = problems(study_path(text + "  clip_norm:\n    search: {low: 2, hgh: 1}\n"))
    assert found["protocol.clip_norm.search.hgh"][0] == 7
    assert "did you mean 'high'?" in found["protocol.clip_norm.search.hgh"][1]


def test_a_setting_is_searched_for_all_arms_or_named_as_an_option_not_both(study_path: Write) -> None:
    text = "model: minilm\ntask: {data: reuters-r8}\nmethods: [lora, full]\n"
    searched = text + "protocol: {search: 4, learning_rate: 1e-3, weight_decay: {search: [0, 0.01, 0.1]}}\n"
    study = load(study_path(searched))
    assert study.protocol.search is not None
    assert study.protocol.search.space["weight_decay"].choices == (0, 0.01, 0.1)
    assert study.protocol.weight_decay == 0.01, "what is tried first"
    assert parse(study.model_dump(mode="json")) == study


def test_candidates_without_a_search_are_told_once(study_path: Write) -> None:
    text = GOOD.replace("{r: 4}", "{r: {search: [4, 8]}, alpha: {search: [4, 8]}}")
    (message,) = problems(study_path(text)).values()
    assert message[0] == 5
    assert "set protocol.search.trials" in message[1]


def test_one_rate_for_all_contradicts_a_search_of_rates(study_path: Write) -> None:
    searched = GOOD + "  search: 4\n"
    assert "one rate for all" in problems(study_path(searched))["protocol.learning_rate"][1]
    with_rank = searched.replace("{r: 4}", "{r: {search: [4, 8]}}")
    assert load(study_path(with_rank)).protocol.learning_rate == 1e-4
    with_rate = searched.replace("{r: 4}", "{r: {search: [4, 8]}, learning_rate: {search: [1e-4, 1e-3]}}")
    assert "one rate for all" in problems(study_path(with_rate))["methods.lora.learning_rate"][1]


def test_a_search_is_set_from_outside(study_path: Write) -> None:
    path = study_path(GOOD.replace("  learning_rate: 1e-4\n", ""))
    search = load(path, ["protocol.search=3", "protocol.search.trials=5", "protocol.search.grow=true"]).protocol.search
    assert search is not None
    assert (search.trials, search.grow) == (5, True)
    with pytest.raises(StudyError, match=r"--seeds 8: (.|\n)*search\.seed 7 is one of the study's seeds"):
        load(path, ["protocol.search.seed=7"], seeds=8)


@pytest.mark.parametrize("search", ["{trials: 2, per_seed: 1}", "{trials: 2, seed: 10}"])
def test_a_race_and_a_search_that_do_not_go_together_are_refused_however_they_are_asked_for(
    study_path: Write, search: str
) -> None:
    path = study_path(GOOD.replace("  learning_rate: 1e-4\n", "") + f"  search: {search}\n")
    with pytest.raises(StudyError, match=r"per_seed|search\.seed 10 is one of the study's seeds"):
        load(path, seeds="race")
    with pytest.raises(StudyError, match="--budget"):
        raced(load(path))


@pytest.mark.parametrize(
    ("seeds", "raced_seeds"),
    [
        ("[11, 12, 13]", (11, 12, 13, 0, 1, 2, 3, 4)),
        ("[1, 0]", (1, 0, 2, 3, 4, 5, 6, 7)),
        ("3", tuple(range(8))),
        (str(list(range(30, 60))), tuple(range(30, 38))),
    ],
)
def test_a_race_that_is_asked_for_begins_with_the_studys_own_seeds(
    study_path: Write, seeds: str, raced_seeds: tuple[int, ...]
) -> None:
    path = study_path(GOOD.replace("seeds: 2", f"seeds: {seeds}"))
    assert load(path, seeds="race").protocol.seeds[:8] == raced_seeds
    assert raced(load(path)).protocol.seeds[:8] == raced_seeds
    assert len(load(path, seeds="race").protocol.seeds) == 20


def test_seeds_beside_a_race_are_used_or_refused(study_path: Write) -> None:
    def load_seeds(seeds: object) -> tuple[int, ...]:
        return load(study_path(GOOD.replace("seeds: 2", f"seeds: {seeds}\n  race: {{max: 8}}"))).protocol.seeds

    assert load_seeds(list(range(30, 50))) == tuple(range(30, 38)), "no more than the race may use"
    assert load_seeds([0, 1, 2]) == tuple(range(8)), "counted from 0: a number"
    with pytest.raises(StudyError, match="a race of up to 8 seeds, and only 3 seeds"):
        load_seeds([11, 12, 13])


@pytest.mark.parametrize("text", ["executor: local\n", "executor: {name: local}\n", "executor: {}\n", ""])
def test_an_executor_is_a_name_or_keys_and_no_part_of_a_trial(text: str, study_path: Write) -> None:
    study = load(study_path(GOOD + text))
    assert study.executor.name == "local"
    assert [trial.id for trial in plan(study)] == [trial.id for trial in plan(load(study_path(GOOD)))]


@pytest.mark.parametrize(
    ("executor", "where", "message"),
    [
        ("locall", "executor", "unknown executor 'locall' (did you mean 'local'?); known: local"),
        ("{name: local, cores: 3}", "executor.cores", "unknown key 'cores'"),
        ("[local]", "executor", "input should be a mapping"),
        ("{name: 3}", "executor.name", "input should be a valid string"),
    ],
)
def test_a_wrong_executor_is_told_with_its_line(executor: str, where: str, message: str, study_path: Write) -> None:
    found = problems(study_path(GOOD + f"executor: {executor}\n"))
    assert found[where][0] == 10
    assert found[where][1].startswith(message)


class Elsewhere:
    """An executor with an option, of which nothing is made."""

    class Options(ExecutorOptions):
        place: str = "here"


def test_another_executor_drops_options_and_the_same_one_keeps_them(study_path: Write) -> None:
    path = study_path(GOOD + "executor: {name: elsewhere, place: there}\n")
    with registry.executors().registered("elsewhere", Elsewhere):
        assert load(path, executor="local").executor == ExecutorSpec()
        assert load(path, executor="elsewhere").executor.options == {"place": "there"}
        assert load(path, {"executor.place": "hither"}).executor.options == {"place": "hither"}
    with pytest.raises(StudyError, match="unknown executor 'elsewhere'"):
        load(path)
    with registry.executors().registered("elsewhere", Elsewhere):
        moved = load(study_path(GOOD), {"executor.place": "yonder"}, executor="elsewhere")
        assert moved.executor == ExecutorSpec(name="elsewhere", options={"place": "yonder"})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metrics": ["kapa"]}, "did you mean 'kappa'"),
        ({"metrics": ["bleu"]}, "bleu scores a text"),
        ({"metrics": ["accuracy"]}, "stands twice"),
        ({"metrics": ["kappa", "kappa"]}, "stands twice"),
        ({"primary_metric": "kappa"}, r"for task\.metrics: \[kappa\]"),
        ({"metrics": ["exact:nothing"]}, "exact:json.FIELD"),
    ],
)
def test_metrics_that_cannot_be_added_are_problems(options: dict[str, Any], says: str) -> None:
    body = {"model": "minilm", "task": {"data": "reuters-r8", **options}, "methods": ["head"]}
    with pytest.raises(StudyError, match=says):
        parse(body)


def test_a_study_adds_metrics_and_compares_by_one() -> None:
    options = {"metrics": ["kappa", "auc"], "primary_metric": "kappa"}
    body = {"model": "minilm", "task": {"data": "reuters-r8"}, "methods": ["head"]}
    plain = parse(body)
    study = parse({**body, "task": {"data": "reuters-r8", **options}})
    task = registry.create_task(study.task)
    assert (task.main_metric, task.selects(None), task.selects("auc")) == ("kappa", "kappa", "auc")
    assert [metric.name for metric in task.all_metrics][-2:] == ["kappa", "auc"]
    assert plan(study)[0].id != plan(plain)[0].id
    assert "metrics" not in plan(plain)[0].task.options, "ids stay as they were"
