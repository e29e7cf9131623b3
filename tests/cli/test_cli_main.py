"""The command as a whole: help, spelling, exit codes, errors."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

from tuneoff import __main__ as entry
from tuneoff.cli import main as main_module
from tuneoff.cli import printing
from tuneoff.cli.exit_codes import EXIT_CODES
from tuneoff.cli.main import COMMANDS, cli, main
from tuneoff.errors import StudyError
from tuneoff.study.study import Study

pytest_plugins = ("cli_fixtures",)


def context() -> click.Context:
    return click.Context(cli, info_name="tuneoff")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lines_that_stand_in_the_table_are_the_commands_own(name: str) -> None:
    command = cli.get_command(context(), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").split("\n\n")[0].replace("\n", " ") == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"tuneoff {name}" in capsys.readouterr().out.partition("Examples:")[2]


@pytest.mark.parametrize("arguments", [["--help"], ["recommend", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        f"import sys; from tuneoff.cli.main import main; main({arguments});"
        "heavy = {'torch', 'transformers', 'peft', 'pydantic', 'rich', 'numpy', 'pandas', 'yaml'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_tells_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out.partition("Exit codes:")[2]
    assert all(f"\n  {code} " in told for code in EXIT_CODES)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cac", "plain,cache"),
        ("run quickstart-s", "plain,quickstart-summarize"),
        ("run quickstart --methods lora,ful", "plain,lora,full"),
        ("run somewhere/", "file,somewhere/"),
        ("export results lora-s1", "plain,lora-s1-"),
    ],
)
def test_shells_complete_names(
    words: str, offered: str, small_study: Path, fake_executor: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    Study(small_study).run("results")
    monkeypatch.setenv("COMP_WORDS", f"tuneoff {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    told = CliRunner().invoke(cli, [], "tuneoff", prog_name="tuneoff", env={"_TUNEOFF_COMPLETE": "bash_complete"})
    assert told.output.startswith(offered)


def test_python_m_tuneoff_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tuneoff", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "tuneoff")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--epoch", "did you mean --epochs?"),
        ("--num_train_epochs", "did you mean --epochs?"),
        ("--learning_rate", "did you mean --learning-rate?"),
        ("--per_device_train_batch_size", "did you mean --batch-size?"),
        ("--dataset", "did you mean --data?"),
        ("--output_dir", "did you mean --out?"),
        ("--seed", "did you mean --seeds?"),
        ("--max-length", "--set protocol.max_length=VALUE"),
        ("--max_seq_len", "--set protocol.max_length=VALUE"),
        ("--train-rows", "--set protocol.train_rows=VALUE"),
        ("--dropout", "--set protocol.dropout=VALUE"),
        ("--bf16", "--set protocol.precision=VALUE"),
        ("--text", "--set task.text=VALUE"),
        ("--test", "--set task.data.test=VALUE"),
        ("--rank", "--set methods.lora.r=VALUE"),
        ("--timeout", "--set execution.timeout_seconds=VALUE"),
        ("--frobnicate", "--help lists the options"),
    ],
)
def test_an_option_that_there_is_not_says_what_to_type(
    typed: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "quickstart", typed, "1"]) == 2
    assert f"No such option: {typed}; " in (shown := capsys.readouterr().err)
    assert told in shown


def test_keys_of_a_study_are_named_only_where_a_study_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "results", "--lr", "1"]) == 2
    assert "--set" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["rnu", "x"], "did you mean 'run'"),
        (["train", "x"], "did you mean 'run'"),
        (["evaluate", "x"], "did you mean 'report'"),
        (["run", "x", "--method", "a"], "--methods"),
        (["run"], "STUDY"),
    ],
)
def test_wrong_usage_says_what_was_meant(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    command = click.Command("doctor", callback=fail)
    monkeypatch.setattr(main_module.LazyGroup, "get_command", lambda *_: command)


def test_error_of_ours_is_a_message_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(StudyError("no such thing", hint="Take another."), monkeypatch)
    assert main(["doctor"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "Error: no such thing\nTake another.\n"
    assert shown.out == ""


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_traceback_when_asked_for(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(StudyError("no such thing"), monkeypatch)
    if how == "variable":
        monkeypatch.setenv("TUNEOFF_TRACEBACK", "1")
    assert main(["--traceback", "doctor"] if how == "flag" else ["doctor"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_traceback_flag_works_after_the_command_too(small_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nosuch", "--traceback"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_unforeseen_error_is_one_line_and_how_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ZeroDivisionError("by zero"), monkeypatch)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().err
    assert "ZeroDivisionError: by zero" in shown
    assert "--traceback" in shown
    assert "Traceback" not in shown


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(KeyboardInterrupt(), monkeypatch)
    assert main(["doctor"]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_an_interrupt_while_loading_is_130_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tuneoff.cli.main", Loading("tuneoff.cli.main"))
    assert entry.main() == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tuneoff", "list", "methods", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_stream_that_cannot_show_a_character_is_no_error(small_study: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "tuneoff", "show", "method", "lora"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_json_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks", "--json"]) == 0
    shown = capsys.readouterr()
    assert "classification" in {item["name"] for item in json.loads(shown.out)}
    assert shown.err == ""


def test_a_table_cut_short_by_its_reader_is_no_failure() -> None:
    """The pipe is closed before anything is written, as by a reader that has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tuneoff", "list", "methods"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_no_failure(closed: int) -> None:
    command = f"exec {closed}>&-; exec '{sys.executable}' -m tuneoff list methods"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.fixture
def full_disk() -> Iterator[int]:
    """A file that takes nothing."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def test_a_disk_that_is_full_is_an_error_with_its_reason(full_disk: int) -> None:
    command = [sys.executable, "-m", "tuneoff", "list", "methods"]
    done = subprocess.run(command, stdout=full_disk, stderr=subprocess.PIPE, text=True)
    assert done.returncode in (1, 2)
    assert done.stderr.strip() == "Error: cannot write the output: No space left on device"


def test_a_stdout_that_cannot_be_written_to_is_as_closed() -> None:
    """Some programs leave a file that is open for reading in its place."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    done = subprocess.run(
        [sys.executable, "-m", "tuneoff", "list", "methods"], stdout=nothing, stderr=subprocess.PIPE, text=True
    )
    os.close(nothing)
    assert (done.returncode, done.stderr) == (0, "")


def test_messages_that_nobody_reads_change_no_exit_code() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tuneoff", "plan", "nosuch"], stdout=subprocess.PIPE, stderr=writer, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "gone"), OSError(errno.EBADF, "closed")])
def test_a_reader_that_has_seen_enough_ends_the_command(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever prints: a command that lays the rest aside succeeded."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(sys, "stdout", Gone())
    for arguments in (["list", "methods"], ["list", "methods", "--json"], ["--help"], ["show", "method", "lora"]):
        assert main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_another_file_is_not_taken_for_stdouts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(BrokenPipeError(errno.EPIPE, "some other pipe"), monkeypatch)
    assert main(["doctor"]) == 1
    assert "some other pipe" in capsys.readouterr().err


def test_the_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    main(["--version"])
    assert (sys.stdout, sys.stderr) == before


def test_commands_print_through_what_makes_text_visible() -> None:
    other = re.compile(r"click\.s?echo\(|\bConsole\(|(?<![\w.])print\((?!json\.dumps)")
    for path in Path(printing.__file__).parent.rglob("*.py"):
        assert path.name == "printing.py" or not other.search(path.read_text(encoding="utf-8")), path.name
