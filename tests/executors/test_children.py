"""The two ways to start children: requests answered, signals delivered, nothing left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from running_helpers import SharedExecutor, Tiny, wait_until
from tuneoff.errors import (
    Cancelled,
    DataError,
    ExecutorError,
    OutOfMemory,
    Problem,
    StoreError,
    StudyError,
    TuneoffError,
)
from tuneoff.executors._children import Child, Children, Spawner, WarmParent, last_line, rebuild_error

pytest_plugins = ("running_fixtures",)

Described = dict[str, Any]


def _payload(tmp_path: Path) -> dict[str, Any]:
    """A request that needs no library: the folder holds no trial."""
    return {"folder": str(tmp_path), "device": "cpu", "file": "rows.csv"}


def _ends(children: Children, child: Child, seconds: float = 60) -> None:
    wait_until(lambda: children.wait(child, 0.2), seconds)


@pytest.fixture(scope="module")
def spawner(child_environment: dict[str, str]) -> Iterator[Spawner]:
    made = Spawner(child_environment)
    yield made
    made.close()


@pytest.fixture(params=["warm", "spawned"])
def children(request: pytest.FixtureRequest, executor: SharedExecutor) -> Children:
    """Each way in turn."""
    if request.param == "warm":
        return executor.children
    spawner: Spawner = request.getfixturevalue("spawner")
    return spawner


def test_no_room_for_what_is_temporary_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(ExecutorError, match="cannot make a folder for what is temporary: No such file") as caught:
        Spawner({})
    assert "TMPDIR" in caught.value.hint


def test_a_child_answers_an_error_with_its_kind_and_ends_with_one(executor: SharedExecutor, tmp_path: Path) -> None:
    children = executor.children
    child = children.start("predict", _payload(tmp_path), tmp_path / "log.txt")
    _ends(children, child)
    reply = child.reply()
    assert reply is not None
    assert reply["error"]["type"] == "CorruptRecord"
    assert "trial.json" in reply["error"]["message"]
    assert child.exit == 1
    assert child.pid is not None
    assert "Traceback" in (tmp_path / "log.txt").read_text(), "what a child prints goes to its log"


def test_an_unknown_verb_is_an_error_not_a_death(children: Children, tmp_path: Path) -> None:
    child = children.start("dance", _payload(tmp_path), tmp_path / "log.txt")
    _ends(children, child)
    assert (child.reply() or {})["error"]["message"] == "ValueError: unknown verb 'dance'"
    assert child.exit == 1
    assert last_line(tmp_path / "log.txt") == "ValueError: unknown verb 'dance'"


def test_a_child_that_cannot_write_its_answer_says_so_in_its_log(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.txt"
    request, child = children._request("dance", _payload(tmp_path), log)
    nowhere = {**request, "reply": str(tmp_path / "no such folder" / "reply.json")}
    monkeypatch.setattr(children, "_request", lambda *_: (nowhere, child))
    _ends(children, children.start("dance", _payload(tmp_path), log))
    assert child.exit == 74
    assert "the answer could not be written" in last_line(log)


def test_waiting_gives_up_after_the_time_given(children: Children, tiny: Tiny) -> None:
    child = children.start("inspect", _inspection(tiny))
    assert not children.wait(child, 0.0)
    child.signal(signal.SIGKILL)
    _ends(children, child)
    assert child.exit == -signal.SIGKILL
    assert child.reply() is None


def _inspection(tiny: Tiny) -> dict[str, Any]:
    from tuneoff.study.study import Study

    study = Study(tiny.study())
    trials = [trial.model_dump(mode="json") for trial in study.plan()]
    return {"study": study.spec.model_dump(mode="json"), "trials": trials, "require_data": True, "device": "cpu"}


def test_children_may_run_at_the_same_time_and_end_in_any_order(executor: SharedExecutor, tmp_path: Path) -> None:
    started = [executor.children.start("predict", _payload(tmp_path)) for _ in range(3)]
    for child in reversed(started):
        _ends(executor.children, child)
    assert [child.exit for child in started] == [1, 1, 1]
    assert len({child.pid for child in started}) == 3


def test_a_signal_to_a_child_that_has_not_begun_is_not_lost(tmp_path: Path) -> None:
    child = Child(tmp_path / "reply.json")
    child.signal(signal.SIGKILL)
    sleeper = psutil.Popen(["sleep", "60"])
    child.began(sleeper.pid)
    assert sleeper.wait(timeout=10) == -signal.SIGKILL


def test_a_signal_to_a_child_that_ended_goes_nowhere(tmp_path: Path) -> None:
    child = Child(tmp_path / "reply.json")
    child.began(os.getpid())
    child.exit = 0
    child.signal(signal.SIGKILL)


def test_a_torn_reply_is_no_reply(tmp_path: Path) -> None:
    (tmp_path / "reply.json").write_text('{"result": ')
    assert Child(tmp_path / "reply.json").reply() is None


def test_closing_a_spawner_ends_what_runs(child_environment: dict[str, str], tiny: Tiny) -> None:
    spawner = Spawner(child_environment)
    child = spawner.start("inspect", _inspection(tiny))
    assert child.pid is not None
    spawner.close()
    assert not psutil.pid_exists(child.pid)
    assert not Path(spawner.scratch.name).exists()


def test_closing_a_parent_that_still_starts_does_not_wait_for_it(
    child_environment: dict[str, str], tmp_path: Path
) -> None:
    parent = WarmParent(child_environment)
    parent.start("dance", _payload(tmp_path), tmp_path / "log.txt")
    parent.close()
    assert parent._process.returncode == -signal.SIGTERM, "it was ended, not waited for"


def test_a_parent_that_cannot_start_is_one_clear_error(
    tmp_path: Path, child_environment: dict[str, str], make_broken: Callable[[str], Path]
) -> None:
    broken = make_broken("torch")
    parent = WarmParent({**child_environment, "PYTHONPATH": str(broken)})
    try:
        child = parent.start("predict", _payload(tmp_path))
        with pytest.raises(ExecutorError, match="the process that starts trials died: ImportError: no torch today"):
            _ends(parent, child)
        with pytest.raises(ExecutorError, match="no torch today"):
            parent.start("predict", _payload(tmp_path))
    finally:
        parent.close()


@pytest.fixture
def make_broken(tmp_path: Path) -> Callable[[str], Path]:
    """A folder whose module cannot be imported."""

    def make(name: str) -> Path:
        folder = tmp_path / "broken"
        folder.mkdir()
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name} today')\n")
        return folder

    return make


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ({"type": "DataError", "message": "no arms", "hint": "add some"}, DataError),
        ({"type": "StoreError", "message": "full", "hint": ""}, StoreError),
        ({"type": "OutOfMemory", "message": "out of memory", "hint": ""}, OutOfMemory),
        ({"type": "Cancelled", "message": "stop", "hint": ""}, Cancelled),
        ({"type": "KeyError", "message": "KeyError: 'x'", "hint": ""}, TuneoffError),
    ],
)
def test_an_error_is_rebuilt_as_what_it_was(described: Described, kind: type[TuneoffError]) -> None:
    error = rebuild_error(described)
    assert type(error) is kind
    assert (error.message, error.hint) == (described["message"], described["hint"])


def test_a_studys_problems_survive_the_way() -> None:
    described = {
        "type": "StudyError",
        "message": "unused",
        "hint": "look",
        "problems": [["methods.a", "is wrong", 3], ["methods.b", "too", None]],
    }
    error = rebuild_error(described)
    assert isinstance(error, StudyError)
    assert error.problems == (Problem("methods.a", "is wrong", 3), Problem("methods.b", "too"))
    assert error.hint == "look"


def test_the_last_line_of_a_log_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_bytes(b"first\n\xff last \n\n  \n")
    assert last_line(log).endswith("last")
