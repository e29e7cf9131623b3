"""What every tracker promises: it follows a study to its end, quietly and alone.

Nothing is trained: the study is made up and told to the tracker as a run would tell it. Trackers whose packages are not
installed is skipped.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Listener, Progress
from tuneoff.interfaces import Tracker
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Metric, Status, Timing, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.testing.imports import find_imported
from tuneoff.trackers.process import Outlets

STEP = {"kind": "step", "step": 2, "steps": 4, "epoch": 0.5, "epochs": 1, "loss": 1.5, "learning_rate": 1e-3}
SPEED = {"gradient_norm": 2.5, "examples_per_second": 40.0, "elapsed_seconds": 1.0}
EVENTS: list[dict[str, Any]] = [
    {"kind": "phase", "phase": "load"},
    {"kind": "machine", "cpu_percent": 99.0, "resident_bytes": 512 << 20},
    {"kind": "finding", "name": "truncated", "message": "some were cut"},
    {**STEP, **SPEED},
    {"kind": "validation", "step": 2, "metrics": {"accuracy": 0.5, "loss": 1.25}},
    {**STEP, **SPEED, "step": 4, "loss": 0.5, "epoch": 1.0},
    {"kind": "validation", "step": 4, "metrics": {"accuracy": 0.75, "loss": 0.75}},
]
"""What a trial of four steps tells."""
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""An image of one pixel."""


def make_study(root: Path, *labels: str, seeds: int = 1) -> tuple[StudyStore, list[TrialSpec]]:
    """Creates a study's folder with nothing run yet."""
    study = parse(
        {
            "name": "small",
            "model": "minilm",
            "task": {"data": "reuters-r8"},
            "methods": {label: {} for label in labels or ("lora",)},
            "protocol": {"seeds": seeds},
        }
    )
    trials = plan(study)
    return StudyStore.create(root, study, trials), trials


def play(
    store: StudyStore,
    trial: TrialSpec,
    listener: Listener,
    events: Sequence[dict[str, Any]] = EVENTS,
    record: TrialRecord | None = None,
) -> None:
    """Leaves and tells what a trial that runs would leave and tell."""
    place = store.trial(trial.id)
    place.begin_attempt()
    listener(Progress("started", trial))
    for event in events:
        place.append_event(event)
        listener(Progress("event", trial, event=event))
    record = record or completed_record(trial)
    place.write_record(record)
    listener(Progress("ended", trial, record=record))


def completed_record(trial: TrialSpec) -> TrialRecord:
    """Returns the record of a trial that went well."""
    metrics = (
        Metric(name=name, value=0.75, unit=unit, direction=direction, split=split)
        for split in ("test", "validation")
        for name, unit, direction in (("accuracy", "fraction", "higher"), ("loss", "nats", "lower"))
    )
    return TrialRecord(
        spec=trial,
        status=Status.COMPLETED,
        metrics=tuple(metrics),
        primary_metric="accuracy",
        steps=4,
        timing=Timing(train_seconds=1.0, total_seconds=2.0),
    )


def failed_record(trial: TrialSpec) -> TrialRecord:
    """Returns the record of a trial that tells nothing but that it failed."""
    return TrialRecord(spec=trial, status=Status.FAILED, cause="it fell over")


def write_report(store: StudyStore) -> Path:
    """Writes a report that takes no time."""
    store.report_folder.mkdir(exist_ok=True)
    (store.report_folder / "pareto.png").write_bytes(PNG)
    (store.report_folder / "report.json").write_text("{}")
    path = store.report_folder / "report.md"
    path.write_text("# What came of it\n")
    return path


def follow(store: StudyStore, names: Sequence[str], run: Callable[[Listener], None]) -> list[str]:
    """Runs what tells a listener, with trackers; returns what the person who started it was told of failures."""
    messages: list[str] = []
    outlets = Outlets(names, messages.append)
    listener = outlets.follow(lambda _: None)
    with outlets:
        outlets.open(store)
        run(listener)
        outlets.artifacts(lambda: write_report(store))
    return [line for line in messages if not line.startswith("waiting at most")]


def tracked(store: StudyStore, name: str) -> dict[str, Any]:
    """Returns what the study's folder says became of a tracker."""
    body = json.loads((store.root / "trackers.json").read_text(encoding="utf-8"))
    state: dict[str, Any] = body["trackers"][name]
    return state


def skip_without(name: str) -> None:
    """Skips the test where a tracker's package is not installed."""
    tracker = registry.trackers()[name]
    if lacks := tracker.lacks():
        pytest.skip(f"{', '.join(lacks)} is not installed: pip install {tracker.extra}")


class TrackerContract:
    """All that a tracker promises.

    Attributes:
        tracker: the tracker's name, which is its entry point's.
    """

    tracker: ClassVar[str]

    @classmethod
    def names(cls) -> Iterable[str]:
        """Returns the trackers that are tried."""
        return [cls.tracker]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test with every tracker."""
        metafunc.parametrize("name", self.names())

    @pytest.fixture
    def requests(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """Sends whoever asks for anything of the network here; what was asked for."""
        requests: list[str] = []
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
                    requests.append(connection.recv(200).decode("latin-1"))

        thread = threading.Thread(target=serve)
        thread.start()
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            address = f"http://127.0.0.1:{server.getsockname()[1]}"
            monkeypatch.setenv(name, address)
            monkeypatch.setenv(name.upper(), address)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield requests
        over.set()
        thread.join()
        server.close()

    def test_it_says_what_it_is_and_imports_nothing_before_it_starts(self, name: str) -> None:
        tracker = registry.trackers()[name]
        assert issubclass(tracker, Tracker)
        assert tracker.title
        assert tracker.summary.endswith(".")
        assert bool(tracker.requires) == bool(tracker.extra)
        code = f"from tuneoff import registry; t = registry.trackers()[{name!r}]; t(); t.lacks()"
        assert not find_imported(code, tracker.requires)

    def test_it_follows_a_study_to_its_end_without_asking_the_network(
        self, name: str, tmp_path: Path, requests: list[str], monkeypatch: pytest.MonkeyPatch
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
        assert requests == []
        assert [path for path in home.rglob("*") if path.is_file()] == []

    def test_it_continues_runs_that_were_repeated_or_interrupted(self, name: str, tmp_path: Path) -> None:
        skip_without(name)
        store, trials = make_study(tmp_path / "study", seeds=2)

        def interrupt(listener: Listener) -> None:
            play(store, trials[0], listener, record=failed_record(trials[0]))
            listener(Progress("started", trials[1]))
            listener(Progress("event", trials[1], event=EVENTS[3]))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            follow(store, [name], interrupt)
        assert tracked(store, name)["reason"] is None

        def repeat(listener: Listener) -> None:
            for trial in trials:
                play(store, trial, listener)

        assert follow(store, [name], repeat) == []
        assert tracked(store, name)["trials"] == {trials[0].id: 2, trials[1].id: 1}

    def test_it_takes_trials_that_ended_while_it_was_not_there(self, name: str, tmp_path: Path) -> None:
        skip_without(name)
        store, (trial,) = make_study(tmp_path / "study")
        play(store, trial, lambda _: None)
        record = store.trial(trial.id).record()
        assert follow(store, [name], lambda listener: listener(Progress("skipped", trial, record=record))) == []
        body = json.loads((store.root / "trackers.json").read_text())
        assert body["trackers"][name]["trials"] == {trial.id: 1}
