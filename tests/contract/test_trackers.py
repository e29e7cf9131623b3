"""What every tracker must do, a third party's included: follow a study to its end, quietly and alone.

Those whose packages are not installed are skipped.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker_tools import EVENTS, failed_record, follow, make_study, play, skip_without, tracked
from tuneoff import registry
from tuneoff.executors.base import Listener, Progress
from tuneoff.trackers.base import Tracker

pytest_plugins = ("tracker_fixtures",)
pytestmark = pytest.mark.usefixtures("doubles", "no_outlets")

NAMES = [*registry.trackers(), "recorder"]
every_tracker = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whoever asks for anything of the network asks here; what was asked for."""
    asked: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(1)
                asked.append(connection.recv(200).decode("latin-1"))

    thread = threading.Thread(target=serve)
    thread.start()
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.upper(), address)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield asked
    over.set()
    thread.join()
    server.close()


@every_tracker
def test_it_says_what_it_is_and_imports_nothing_before_it_starts(name: str) -> None:
    tracker = registry.trackers()[name]
    assert issubclass(tracker, Tracker)
    assert tracker.title
    assert tracker.summary.endswith(".")
    assert bool(tracker.requires) == bool(tracker.extra)
    code = (
        f"import sys; from tuneoff import registry; t = registry.trackers()[{name!r}]; t(); t.lacks(); "
        "print([m for m in t.requires if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@every_tracker
def test_it_follows_a_study_to_its_end_without_asking_the_network(
    name: str, tmp_path: Path, network: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name)
    # Nothing may be needed of, or left in, the person's home.
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(home)
    store, trials = make_study(tmp_path / "a study", "majority", "lora", seeds=2)

    def run(listener: Listener) -> None:
        for trial in trials[:3]:
            play(store, trial, listener)
        play(store, trials[3], listener, events=EVENTS[:4], record=failed_record(trials[3]))

    assert follow(store, [name], run) == []
    expected = {"state": "finished", "reason": None, "trials": {trial.id: 1 for trial in trials}}
    assert tracked(store, name) == expected
    assert network == []
    left = [path for path in home.rglob("*") if path.is_file()]
    assert left == []


@every_tracker
def test_it_continues_runs_that_were_repeated_or_interrupted(name: str, tmp_path: Path) -> None:
    skip_without(name)
    store, trials = make_study(tmp_path / "study", seeds=2)

    def broken_off(listener: Listener) -> None:
        play(store, trials[0], listener, record=failed_record(trials[0]))
        listener(Progress("started", trials[1]))
        listener(Progress("event", trials[1], event=EVENTS[3]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(store, [name], broken_off)
    assert tracked(store, name)["reason"] is None

    def again(listener: Listener) -> None:
        for trial in trials:
            play(store, trial, listener)

    assert follow(store, [name], again) == []
    assert tracked(store, name)["trials"] == {trials[0].id: 2, trials[1].id: 1}


@every_tracker
def test_it_takes_trials_that_ended_while_it_was_not_there(name: str, tmp_path: Path) -> None:
    skip_without(name)
    store, (trial,) = make_study(tmp_path / "study")
    play(store, trial, lambda _: None)
    record = store.trial(trial.id).record()
    assert follow(store, [name], lambda listener: listener(Progress("skipped", trial, record=record))) == []
    body = json.loads((store.root / "trackers.json").read_text())
    assert body["trackers"][name]["trials"] == {trial.id: 1}
