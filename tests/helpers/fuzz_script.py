"""Studies that were changed at random: each is used, or refused by one clear error.

`python fuzz_script.py WHAT FOLDER SEED COUNT` prints as JSON how often it was tried and what became of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from forecast_helpers import arm_forecast
from fuzz_helpers import changed_bytes, changed_document, changed_json
from peft_helpers import usual
from record_helpers import World, build_store, small_study
from tuneoff.cli.main import main as tuneoff
from tuneoff.config.data import SourceSpec
from tuneoff.errors import TuneoffError
from tuneoff.planning.loading import load
from tuneoff.planning.plan import plan
from tuneoff.records.forecast import StudyForecast

SECONDS = 60
"""How long one case may take; it then counts as hanging."""
LONGEST = 8_000
"""Characters of the longest error: what is wrong is found in it."""
USABLE = {0, 2, 3}
"""Exit codes of a command that did what it should, or refused."""
STUDY = """
name: fuzz
description: a study
model: {source: minilm}
task:
  name: classification
  data: {train: rows.csv, test: {source: more.csv}}
  text: text
  label: label
protocol:
  seeds: [0, 1]
  epochs: 2
  batch_size: 8
  learning_rate: 1e-3
  validation_fraction: 0.2
  search: {trials: 4, sampler: random, prune: halving, max_steps: 20}
execution: {engine: fast, timeout_seconds: 60, together: 2, retry_out_of_memory: true}
executor: {name: slurm, partition: gpu, setup: [module load cuda], time_margin: 2}
devices: 1
trackers: [tensorboard]
margin: 0.01
methods:
  majority: {}
  small lora: {method: lora, r: 4, learning_rate: 1e-4}
  searched: {method: lora, r: {search: [4, 8]}}
  ia3: {}
published: {citation: Somebody 2024, figures: {ia3: {accuracy_percent: 90.0}}, notes: [a note]}
"""


class Hang(BaseException):
    """A case takes too long."""


class Fault(Exception):
    """A case ended in a fault of tuneoff."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raises `Hang` where what is done takes too long."""

    def end(*_: Any) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


class Outside:
    """Notes what is opened though it lies outside: where hostile paths lead."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).endswith("passwd"):
            self.opened.append(str(arguments[0]))


def command(*arguments: str) -> str:
    """Runs a command; returns whether it was used or refused.

    Raises:
        Fault: if it ends in anything else.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = tuneoff([*arguments, "--traceback"])
    text = err.getvalue()
    if (
        code not in USABLE
        or "This is a fault in tuneoff" in text
        or (code == 2 and len(re.findall("^Error: ", text, re.MULTILINE)) != 1)
    ):
        raise Fault(f"{arguments[0]}: exit code {code}: {text[-3000:]}")
    return "refused" if code == 2 else "used"


# --- each kind: what is changed, and what is done with it


def study_files(folder: Path, draw: random.Random) -> Iterator[Callable[[], str]]:
    """Study files: loaded and planned."""
    (folder / "rows.csv").write_text("text,label\na,b\nc,d\n")
    (folder / "more.csv").write_text("text,label\na,b\nc,d\n")
    os.chdir(folder)
    path, raw = folder / "study.yaml", yaml.safe_load(STUDY)

    def use() -> str:
        plan(load(path))
        return "used"

    while True:
        if draw.random() < 0.4:
            path.write_bytes(changed_bytes(STUDY.encode(), draw))
        else:
            text = yaml.safe_dump(changed_document(raw, draw), allow_unicode=draw.random() < 0.5)
            path.write_bytes(text.encode("utf-8", "surrogatepass"))
        yield use


def folders(folder: Path, draw: random.Random) -> Iterator[Callable[[], str]]:
    """Files of a study's folder: read by the commands that read such folders."""
    study = small_study("majority", "head", "lora", search={"trials": 2})
    store = build_store(folder / "study", study, World(test_rows=12))
    store.write_forecast(StudyForecast(arms={"lora": arm_forecast("lora")}, total_seconds=60.0, disk_bytes=1 << 20))
    trial = store.trial(store.trial_ids()[0])
    for step in range(4):
        trial.append_event({"kind": "step", "step": step, "loss": 0.5})
    trial.log_path.write_text("it ran\n")
    trial.write_tracker_failures({"tensorboard": "no room"})
    files = {path: path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()}
    other = build_store(folder / "other", small_study("majority", "head", seeds=3), World(test_rows=12))
    root, elsewhere = str(store.root), str(other.root)
    weighted = sorted(files, key=lambda path: path.name not in {"study.json", "search.json", "forecast.json"})
    before = sorted(folder.iterdir())
    while True:
        path = draw.choice(weighted[:3]) if draw.random() < 0.4 else draw.choice(weighted)
        for other_path, data in files.items():
            if not other_path.is_file() or other_path.read_bytes() != data:
                other_path.parent.mkdir(parents=True, exist_ok=True)
                other_path.write_bytes(data)
        change = changed_json if path.suffix in {".json", ".jsonl"} else changed_bytes
        path.write_bytes(change(files[path], draw))
        words = draw.choice(
            (
                ("recommend", root),
                ("recommend", root, "--json", "--max-memory", "2GB"),
                ("watch", root, "--once"),
                ("report", root, "--json"),
                ("compare", root, elsewhere),
                ("merge", str(folder / "whole"), root),
            )
        )

        def use(words: tuple[str, ...] = words) -> str:
            try:
                return command(*words)
            finally:
                shutil.rmtree(folder / "whole", ignore_errors=True)
                if sorted(folder.iterdir()) != before:
                    raise Fault(f"{words[0]} wrote outside: {sorted(folder.iterdir())}")

        yield use


def checkpoints(folder: Path, draw: random.Random) -> Iterator[Callable[[], str]]:
    """Checkpoints: verified, and read as a training reads them before it continues."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from tuneoff.checksums import content_hash
    from tuneoff.store.checkpoints import MANIFEST, Checkpoints
    from tuneoff.trial.training.resume import STATE, _read_state, _stored_tensors

    places = Checkpoints(folder / "checkpoints")

    def write(into: Path) -> None:
        save_file({"weights/a": torch.zeros(3, 4), "exp_avg/a": torch.ones(3, 4)}, into / "tensors-0001.safetensors")
        (into / STATE).write_text(_training_state())

    places.save(write, {"trial": "x"}, 3)
    (checkpoint,) = places.newest_first()
    files = {path: path.read_bytes() for path in checkpoint.folder.iterdir()}

    def use() -> str:
        places.newest_step()
        try:
            checkpoint.verify()
            checkpoint.manifest()
            _read_state(checkpoint)
            _stored_tensors(checkpoint.folder)
        except (OSError, TuneoffError, SafetensorError):  # as `TrialCheckpointer` takes them
            return "refused"
        return "used"

    while True:
        for path, data in files.items():
            path.write_bytes(data)
        path = draw.choice(sorted(files))
        change = changed_bytes if path.suffix == ".safetensors" else changed_json
        path.write_bytes(change(files[path], draw))
        if path.name != MANIFEST:
            # The manifest says so, as an attacker's would.
            import hashlib

            manifest = json.loads(files[checkpoint.folder / MANIFEST])
            manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
            body = {key: value for key, value in manifest.items() if key != "sha256"}
            (checkpoint.folder / MANIFEST).write_text(json.dumps({"sha256": content_hash(body), **body}))
        yield use


def _training_state() -> str:
    """The state of a training of two steps."""
    import torch

    from tuneoff.measure.utilisation import PhaseSums
    from tuneoff.records.record import CurvePoint, PhaseMemory
    from tuneoff.trial.phases import PhasesState
    from tuneoff.trial.randomness import RandomState
    from tuneoff.trial.training.progress import ProgressState
    from tuneoff.trial.training.resume import RankState, TrainingState
    from tuneoff.trial.training.selection import SelectionState

    point = CurvePoint(
        step=2, epoch=1.0, train_seconds=1.0, learning_rate=0.1, train_loss=0.5, validation={"loss": 0.4}
    )
    progress = ProgressState(
        step=2,
        tokens=20,
        computed_tokens=24,
        curve=(point,),
        gradient_norms=(1.0, 0.9),
        step_seconds=(0.1, 0.1),
        first_steps_seconds=0.2,
        cpu_seconds=0.2,
        joules=None,
        since_validation=(),
        elapsed_seconds=1.0,
    )
    phases = PhasesState(seconds={"train": 1.0}, peaks={"train": PhaseMemory(resident_bytes=1)}, sums=PhaseSums())
    rank = RankState(progress=progress, phases=phases, random=RandomState.of(torch.device("cpu")))
    return TrainingState(
        ranks=(rank,),
        selection=SelectionState(metrics=(), chosen={}, best=(0.5, 0.4), last_step=2, kept_step=None),
        schedule={"last_epoch": 2},
        learning_rates=(0.1,),
        total_seconds=2.0,
        resumed=0,
        attempt=1,
        events_bytes=0,
    ).model_dump_json(indent=1)


def rows(folder: Path, draw: random.Random) -> Iterator[Callable[[], str]]:
    """Files of rows: read."""
    import pyarrow
    import pyarrow.parquet

    from tuneoff.sources.file import File

    table = {"text": [f"word {at}" for at in range(40)], "label": ["a", "b"] * 20, "score": [0.5] * 40}
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "rows.parquet")
    lines = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "rows.json").write_text(json.dumps(lines))
    for name, mark in (("rows.csv", ","), ("rows.tsv", "\t"), ("rows.tab", "\t")):
        text = "".join(mark.join(map(str, row)) + "\n" for row in [table.keys(), *zip(*table.values(), strict=True)])
        (folder / name).write_text(text)
    files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    while True:
        path = draw.choice(list(files))
        change = changed_json if path.suffix in {".json", ".jsonl"} else changed_bytes
        path.write_bytes(change(files[path], draw))

        def use(path: Path = path) -> str:
            File().rows(SourceSpec(source=str(path)), "train")
            return "used"

        yield use


def imports(folder: Path, draw: random.Random) -> Iterator[Callable[[], str]]:
    """Result files of another suite: imported."""
    files = {path: path.read_bytes() for path in sorted(usual(folder / "in").iterdir())}
    while True:
        for path, data in files.items():
            path.write_bytes(data)
        path = draw.choice(list(files))
        path.write_bytes(changed_json(files[path], draw))

        def use() -> str:
            try:
                return command("import", "peft-benchmark", str(folder / "in"), "--out", str(folder / "out"))
            finally:
                shutil.rmtree(folder / "out", ignore_errors=True)

        yield use


KINDS: dict[str, Callable[[Path, random.Random], Iterator[Callable[[], str]]]] = {
    "study_files": study_files,
    "folders": folders,
    "checkpoints": checkpoints,
    "rows": rows,
    "imports": imports,
}


def main(what: str, folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Tries so many cases of a kind; returns the counts, and the first faults."""
    folder.mkdir(parents=True)
    logging.disable()
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter(tried=0, used=0, refused=0, faults=0, hung=0)
    faults: dict[str, str] = {}
    outside = Outside()
    cases = KINDS[what](folder, random.Random(f"{what} {seed}"))
    for number in range(count):
        case = next(cases)
        counts["tried"] += 1
        try:
            with limited():
                counts[case()] += 1
        except TuneoffError as error:
            counts["refused"] += 1
            if not error.message.strip() or len(str(error)) > LONGEST:
                counts["faults"] += 1
                faults.setdefault("words", f"case {number}: {len(str(error))} characters: {str(error)[:600]}")
        except Hang:
            counts["hung"] += 1
            faults.setdefault("hung", f"case {number}: {traceback.format_exc()[-1500:]}")
        except Exception as error:
            counts["faults"] += 1
            is_told = isinstance(error, Fault)
            key = str(error)[-200:] if is_told else f"{type(error).__name__}: {error}"[:200]
            faults.setdefault(key, f"case {number}: {error if is_told else traceback.format_exc()[-2500:]}")
    return {
        **counts,
        "outside": len(outside.opened),
        "first": [*sorted(set(outside.opened))[:5], *faults.values()][:20],
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
