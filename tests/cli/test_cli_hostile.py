"""Names and files that no command can use: one sentence and status 2, no fault, no wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuneoff.cli.main import main

LONG = "x" * 5000
FAULT = "This is a fault in tuneoff"


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", LONG],
        ["run", f"{LONG}.yaml"],
        ["plan", f"{LONG}/study.yaml"],
        ["report", LONG],
        ["recommend", LONG],
        ["compare", LONG, "other"],
        ["init", f"{LONG}.csv"],
        ["export", LONG, "trial", "out"],
        ["import", "peft-benchmark", LONG, "--out", "out"],
        ["run", "quickstart", "--set", f"model={LONG}"],
        ["run", "quickstart", "--out", LONG],
        ["run", "quickstart", "--seeds", "99999999999"],
        ["run", "quickstart", "--search", "99999999999"],
        ["plan", "quickstart", "--gpu-memory", f"{'9' * 400}GB"],
    ],
    ids=lambda arguments: " ".join(word[:12] for word in arguments),
)
def test_what_is_too_long_or_too_large(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("Error: ") == 1
    assert FAULT not in told
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_words_that_are_not_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", os.fsdecode(b"caf\xe9.csv")]) == 2
    assert r"caf\udce9.csv holds bytes that are not UTF-8 text" in capsys.readouterr().err


def test_pipes_and_devices_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("study.yaml")
    os.mkfifo("rows.csv")
    Path("zero.csv").symlink_to("/dev/zero")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    os.mkfifo("model/tokenizer.json")
    Path("good.yaml").write_text("model: ./model\ntask: {data: rows.csv}\nmethods: [majority]\n")
    for arguments, message in (
        (["run", "study.yaml"], "study.yaml is a named pipe, not a file"),
        (["run", "/dev/zero"], "/dev/zero is a device, not a file"),
        (["init", "rows.csv"], "rows.csv is a named pipe, not a file"),
        (["init", "zero.csv"], "zero.csv is a device, not a file"),
        (["plan", "good.yaml"], "rows.csv is a named pipe, not a file"),
        (["plan", "good.yaml", "--set", "task.data=/dev/null"], "/dev/null is a device, not a file"),
        (["plan", "quickstart", "--set", "model=./model"], "./model holds tokenizer.json, which is a named pipe"),
    ):
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert message in told
        assert FAULT not in told
