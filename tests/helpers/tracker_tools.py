"""What tests of trackers share: made-up studies that run in no time, and trackers that record or misbehave."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from synthetic_records import make_record, small_study
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Listener, Progress
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status, TrialRecord
from tuneoff.registry import trackers
from tuneoff.store import StudyStore
from tuneoff.trackers.process import Outlets

DOUBLES = '''
"""Trackers for tests: one writes down each call, one goes wrong in the way that TROUBLE names, as `raise:log`."""

import json
import os
import subprocess
import sys
import time

from tuneoff.trackers.base import Tracker


class Recorder(Tracker):
    """Writes each call as a line of JSON."""

    title = "Recorder"
    summary = "Writes each call down."

    def put(self, call, **more):
        with self.path.open("a") as file:
            file.write(json.dumps({"call": call, "pid": os.getpid(), **more}) + "\\n")

    def start(self, study, folder):
        self.path = folder / "calls.jsonl"
        print("the recorder starts", flush=True)
        self.put("start", study={**vars(study)}, input=sys.stdin.read())

    def begin_trial(self, trial):
        self.put("begin_trial", trial={**vars(trial)})

    def log(self, trial, step, metrics):
        self.put("log", trial=trial.name, step=step, metrics=dict(metrics))

    def end_trial(self, trial, step, status, metrics, record):
        record = None if record is None else str(record)
        self.put("end_trial", trial=trial.name, step=step, status=status, metrics=dict(metrics), record=record)

    def artifacts(self, files):
        self.put("artifacts", files=[file.name for file in files])

    def finish(self):
        self.put("finish")


class Troublemaker(Recorder):
    title = "Troublemaker"

    def put(self, call, **more):
        super().put(call, **more)
        how, at = os.environ["TROUBLE"].split(":")
        if call != at:
            return
        if how == "raise":
            raise ConnectionError("the network is gone\\nand more")
        if how == "leave":
            sys.exit("enough")
        if how == "die":
            os._exit(3)
        if how == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            super().put("child", child=child.pid)
            raise RuntimeError("a process stays behind")
        time.sleep(600)


class Lacking(Recorder):
    title = "Lacking"
    extra = "'tuneoff[lacking]'"
    requires = ("json", "no_such_package_anywhere")


recorder, troublemaker, lacking = Recorder, Troublemaker, Lacking
'''

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


def announce(folder: Path, module: str, text: str, names: Mapping[str, str]) -> None:
    """Writes a module, and entry points that make its attributes trackers: name -> attribute."""
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{attribute}\n" for name, attribute in names.items())
    (about / "entry_points.txt").write_text(f"[tuneoff.trackers]\n{points}")


def make_study(root: Path, *labels: str, seeds: int = 1) -> tuple[StudyStore, list[TrialSpec]]:
    """A study's folder with nothing run yet."""
    study = small_study(*(labels or ("lora",)), seeds=seeds)
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
    record = record or make_record(trial)
    place.write_record(record)
    listener(Progress("ended", trial, record=record))


def failed_record(trial: TrialSpec) -> TrialRecord:
    """The record of a trial that tells nothing but that it failed."""
    return TrialRecord(spec=trial, status=Status.FAILED, cause="it fell over")


def write_report(store: StudyStore) -> Path:
    """A report that takes no time."""
    store.report_folder.mkdir(exist_ok=True)
    (store.report_folder / "pareto.png").write_bytes(PNG)
    (store.report_folder / "report.json").write_text("{}")
    path = store.report_folder / "report.md"
    path.write_text("# What came of it\n")
    return path


def follow(store: StudyStore, names: Sequence[str], run: Callable[[Listener], None]) -> list[str]:
    """Runs what tells a listener, with trackers; returns what the person who started it was told of failures."""
    said: list[str] = []
    outlets = Outlets(names, said.append)
    listener = outlets.follow(lambda _: None)
    with outlets:
        outlets.open(store)
        run(listener)
        outlets.artifacts(lambda: write_report(store))
    return [line for line in said if not line.startswith("waiting at most")]


def tracked(store: StudyStore, name: str) -> dict[str, Any]:
    """What the study's folder says became of a tracker."""
    body = json.loads((store.root / "trackers.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = body["trackers"][name]
    return found


def calls(store: StudyStore, name: str = "recorder") -> list[dict[str, Any]]:
    """What the recording tracker wrote down."""
    lines = (store.trackers.folder(name) / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def skip_without(name: str) -> None:
    """Skips the test where a tracker's package is not installed."""
    if lacks := trackers()[name].lacks():
        pytest.skip(f"{', '.join(lacks)} is not installed: pip install {trackers()[name].extra}")


def read_back(script: str, *arguments: str | Path) -> Any:
    """What a script prints as JSON; a process of its own, because a tracker's package changes the one it is in."""
    environment = {**os.environ, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
