"""What tests of trackers share beside the contract's: trackers that record or misbehave, and full records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record_helpers import make_record
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Listener
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore
from tuneoff.testing import trackers
from tuneoff.testing.trackers import EVENTS

DOUBLES = '''
"""Trackers for tests: one writes down each call, one goes wrong in the way that TROUBLE names, as `raise:log`."""

import json
import os
import subprocess
import sys
import time

from tuneoff.interfaces import Tracker


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


def announce(folder: Path, module: str, text: str, names: Mapping[str, str]) -> None:
    """Writes a module, and entry points that make its attributes trackers: name -> attribute."""
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{attribute}\n" for name, attribute in names.items())
    (about / "entry_points.txt").write_text(f"[tuneoff.trackers]\n{points}")


def play(
    store: StudyStore,
    trial: TrialSpec,
    listener: Listener,
    events: Sequence[dict[str, Any]] = EVENTS,
    record: TrialRecord | None = None,
) -> None:
    """Plays a trial; where no record is given, its record has every figure that there is."""
    trackers.play(store, trial, listener, events, record or make_record(trial))


def calls(store: StudyStore, name: str = "recorder") -> list[dict[str, Any]]:
    """What the recording tracker wrote down."""
    lines = (store.trackers.folder(name) / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_back(script: str, *arguments: str | Path) -> Any:
    """What a script prints as JSON; a process of its own, because a tracker's package changes the one it is in."""
    environment = {**os.environ, "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
