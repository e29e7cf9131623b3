"""How well trials are placed on many devices, and what a run of many recorded trials takes: simulated, none is trained.

Placement: 10,000 trials of mixed length and memory on 100 GPUs through `tuneoff.executors._placement`, with forecasts
that err, trials that fail and devices that drop out. The share is the least makespan that any order could have, over
this one.

Coordinator: folders of made-up records, at several sizes; each step in a process of its own, for its time and its peak
of memory. A step grows at most linearly where ten times the trials take at most ten times as long.

    python benchmarks/scheduling.py [--out benchmarks/results/scheduling.json]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from record_helpers import Level, World, build_store
from tuneoff.cli.live.follow import FolderFollower
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.executors._placement import Device, Need, Placement
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Memory, PhaseMemory, Status, Timing, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

GB = 10**9
DEVICES, DEVICE_BYTES = 100, 80 * GB
ARMS = 100
SIZES = (1_000, 3_000, 10_000)
FORECAST_ERROR = 0.3
"""Standard deviation of the logarithm of a forecast time over the real one."""
FAILED_SHARE = 0.02
"""Share of trials that end early, anywhere in their course, and are not repeated."""
HOURS_BETWEEN_LOSSES = 500.0
"""Mean time until a device drops out; its trials begin anew elsewhere, and it is back after an hour."""
FIGURES = ("seconds", "cpu_seconds", "peak_bytes")
STEPS = ("plan", "start", "watch", "report")


def study_of(trials: int) -> StudySpec:
    """Makes a study of so many trials: `ARMS` arms, or fewer seeds than one of them would need."""
    arms = {f"lora-{number:03d}": {"method": "lora", "r": number + 1} for number in range(ARMS)}
    return parse(
        {
            "name": "many",
            "model": "minilm",
            "task": {"data": "reuters-r8"},
            "methods": arms,
            "protocol": {"seeds": trials // ARMS},
        }
    )


@dataclass
class Course:
    """What really becomes of a trial: its seconds and bytes, and the share after which it fails (1: it does not)."""

    seconds: float
    memory: int
    ends_at: float


@dataclass
class Simulation:
    """One run of all trials.

    Args:
        slots: trials that a device takes at once; more than one share its memory.
        seed: of all that is random.
    """

    slots: int
    seed: int

    def run(self, trials: list[TrialSpec]) -> dict[str, Any]:
        """Places all trials until all have ended; returns figures."""
        draw = random.Random(self.seed)
        courses, needs = self._courses(trials, draw)
        devices = [Device((None,) * self.slots, str(number), DEVICE_BYTES) for number in range(DEVICES)]
        placement = Placement(devices, DEVICE_BYTES, needs)
        began = time.perf_counter()
        waiting, order = placement.ordered(trials), 0
        # (time, tie, kind, number of the placement or of the device)
        events: list[tuple[float, int, str, int]] = []
        for number in range(DEVICES):
            heapq.heappush(events, (draw.expovariate(1 / (3600 * HOURS_BETWEEN_LOSSES)), -number, "lost", number))
        running: dict[int, tuple[TrialSpec, int, float]] = {}
        busy = lost_work = now = 0.0
        down: dict[int, float] = {}
        losses = failures = crowded = 0
        while waiting or running:
            while waiting and (placed := placement.next(waiting)) is not None:
                trial, allocation = placed
                waiting.remove(trial)
                order += 1
                start = max(now, *(down.get(number, 0.0) for number in allocation.devices))
                course = courses[trial.id]
                running[order] = (trial, allocation.devices[0], start)
                heapq.heappush(events, (start + course.seconds * course.ends_at, order, "ended", order))
            now, _, kind, number = heapq.heappop(events)
            if kind == "lost":
                losses += 1
                down[number] = now + 3600.0
                heapq.heappush(
                    events, (now + draw.expovariate(1 / (3600 * HOURS_BETWEEN_LOSSES)), -number, "lost", number)
                )
                for key in [key for key, (_, device, _) in running.items() if device == number]:
                    trial, _, start = running.pop(key)
                    lost_work += max(0.0, now - start)
                    placement.release(trial)
                    waiting.insert(0, trial)
            elif number in running:
                trial, device, start = running.pop(number)
                beside = [other for other, where, _ in running.values() if where == device]
                crowded += sum(courses[other.id].memory for other in (trial, *beside)) > DEVICE_BYTES
                course = courses[trial.id]
                busy += now - start
                failures += course.ends_at < 1
                placement.release(trial)
                placement.note(_record(trial, course))
        capacity = DEVICES * self.slots
        work = busy + lost_work
        longest = max(course.seconds * course.ends_at for course in courses.values())
        memory_bound = sum(c.seconds * c.ends_at * c.memory for c in courses.values()) / (DEVICES * DEVICE_BYTES)
        ideal = max(work / capacity, longest, memory_bound if self.slots > 1 else 0.0)
        return {
            "trials_per_device": self.slots,
            "seed": self.seed,
            "trials": len(trials),
            "devices": DEVICES,
            "makespan_hours": now / 3600,
            "ideal_hours": ideal / 3600,
            "share_of_ideal": ideal / now,
            "failed_trials": failures,
            "lost_devices": losses,
            "lost_hours": lost_work / 3600,
            "over_memory": crowded,
            "placing_seconds": time.perf_counter() - began,
        }

    def _courses(self, trials: list[TrialSpec], draw: random.Random) -> tuple[dict[str, Course], dict[str, Need]]:
        """Draws what trials take, and what forecasts say: arms differ a hundredfold in time, tenfold in memory."""
        arms = {
            label: (
                math.exp(draw.uniform(math.log(60), math.log(6000))),
                math.exp(draw.uniform(math.log(4), math.log(40))),
            )
            for label in dict.fromkeys(trial.label for trial in trials)
        }
        errors = {label: draw.lognormvariate(0, FORECAST_ERROR) for label in arms}
        courses, needs = {}, {}
        for trial in trials:
            seconds, gigabytes = arms[trial.label]
            real = seconds * draw.lognormvariate(0, 0.1)
            ends_at = draw.random() if draw.random() < FAILED_SHARE else 1.0
            courses[trial.id] = Course(real, int(gigabytes * GB), ends_at)
            needs[trial.id] = Need(seconds * errors[trial.label], int(gigabytes * GB * draw.uniform(0.9, 1.1)))
        return courses, needs


def _record(trial: TrialSpec, course: Course) -> TrialRecord:
    """Makes the record of a trial that ended."""
    return TrialRecord.model_construct(
        spec=trial,
        status=Status.COMPLETED if course.ends_at == 1 else Status.FAILED,
        timing=Timing(total_seconds=course.seconds),
        memory=Memory(phases={"train": PhaseMemory(reserved_bytes=course.memory)}),
    )


def take_step(step: str, folder: Path) -> None:
    """Takes one step of a coordinator and prints its seconds and peak of memory."""
    began, cpu_began = time.perf_counter(), time.process_time()
    if step == "plan":
        plan(StudyStore(folder).study())
    elif step == "start":
        # All are finished: what is left is to find that out.
        Study.open(folder).run(folder)
    elif step == "watch":
        follower = FolderFollower(StudyStore(folder))
        follower.poll()
        follower.poll()
    else:
        Study.open(folder).report()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    # Not `getrusage`, whose peak is that of the process before it became this program, too.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    print(json.dumps({"step": step, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak}))


def measure(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Takes every step at every size, several times; returns the least seconds of each."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="tuneoff-scheduling-") as scratch:
        folders = {}
        for size in sizes:
            study = study_of(size)
            levels = {label: Level(0.6 + 0.003 * number) for number, label in enumerate(study.methods)}
            folders[size] = build_store(Path(scratch) / str(size), study, World(levels=levels, test_rows=50)).root
            print(f"made {size} records", flush=True)
        for step in STEPS:
            for size in sizes:
                command = [sys.executable, __file__, "--step", step, "--folder", str(folders[size])]
                answers = []
                for _ in range(rounds):
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    answers.append(json.loads(done.stdout.splitlines()[-1]))
                row = {
                    "step": step,
                    "trials": size,
                    **{name: min(answer[name] for answer in answers) for name in FIGURES},
                }
                rows.append(row)
                times = f"{row['seconds']:8.2f} s, processor {row['cpu_seconds']:8.2f} s"
                print(f"{step:7} {size:6} trials {times}, {row['peak_bytes'] / 2**20:7.0f} MB", flush=True)
    return rows


def growth(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns for each step how its figures grow with the trials, as an exponent: 1 is linear.

    On a busy machine that of `cpu_seconds` is the one to trust.
    """
    exponents = {}
    for step in STEPS:
        first, *_, last = [row for row in rows if row["step"] == step]
        ratio = math.log(last["trials"] / first["trials"])
        exponents[step] = {name: round(math.log(last[name] / first[name]) / ratio, 2) for name in FIGURES}
    return exponents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="recorded trials, with commas between")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="simulated runs of each kind")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scheduling.json")
    arguments = parser.parse_args()
    if arguments.step:
        take_step(arguments.step, arguments.folder)
        return
    sizes = [int(size) for size in arguments.sizes.split(",")]
    trials = plan(study_of(max(sizes)))
    placements = []
    for slots in (1, 2):
        for seed in range(arguments.seeds):
            row = Simulation(slots, seed).run(trials)
            placements.append(row)
            print(
                f"{slots} at once on each of {DEVICES} devices: {row['share_of_ideal']:.1%} of the ideal, "
                f"{row['failed_trials']} failed, {row['lost_devices']} devices lost, over memory {row['over_memory']}, "
                f"placed in {row['placing_seconds']:.1f} s",
                flush=True,
            )
    rows = measure(sizes, arguments.rounds)
    result = {"placement": placements, "coordinator": rows, "growth_exponents": growth(rows)}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["growth_exponents"]))


if __name__ == "__main__":
    main()
