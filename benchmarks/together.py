"""How much faster trials train together over one frozen base model than one after the other.

LoRA (or another method) on MiniLM's architecture (random weights; the arithmetic is the same), dropout as pretrained
(on a GPU none, where PyTorch draws it), texts of unlike lengths made here. K seeds train for some steps one after the
other, then at once; both take turns over rounds, and models are loaded outside the clock. Printed is the seconds of the
first divided by those of the second: smallest, median and greatest of the rounds.

    python benchmarks/together.py [--device cuda] [--method lora] [--together 4] [--rounds 3] [--steps 20]
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import Diverged
from tuneoff.measure import environment
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.store import TrialStore
from tuneoff.trial.distributed.context import ALONE
from tuneoff.trial.modeling.precision import choose_device
from tuneoff.trial.run import begin, prepare
from tuneoff.trial.training.stacked_model import share_frozen
from tuneoff.trial.training.together import Member, check_together, train_together
from tuneoff.trial.training.trainer import Trainer

BATCH, LENGTH = 16, 64


def write_rows(path: Path, rows: int) -> None:
    """Texts of two classes and of unlike lengths."""
    chance = random.Random(0)
    words = ("goal", "match", "team", "score", "oil", "price", "export", "tariff")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows):
            text = " ".join(chance.choice(words) for _ in range(chance.randint(LENGTH // 8, LENGTH)))
            writer.writerow((f"{text} {number}", ("sport", "trade")[number % 2]))


def trials_of(folder: Path, method: str, seeds: int, steps: int, on_gpu: bool) -> list[TrialSpec]:
    """The trials of one arm."""
    write_rows(folder / "rows.csv", 2 * BATCH * steps)
    protocol = {"seeds": seeds, "epochs": 1, "max_steps": steps, "batch_size": BATCH, "max_length": LENGTH}
    study = {
        "name": "together",
        "model": {"source": "minilm", "random_weights": True},
        "task": {"data": str(folder / "rows.csv")},
        # At one model for all: random weights are drawn by the seed.
        "protocol": {**protocol, **({"dropout": 0.0} if on_gpu else {})},
        "methods": [method],
    }
    return plan(parse(study))


def fail(error: Diverged) -> None:
    raise error


def score_nothing(step: int) -> dict[str, float]:
    return {}


def make_trainers(stack: ExitStack, folder: Path, trials: list[TrialSpec], device: str) -> list[Trainer]:
    """Trainings that are ready to begin, of one base model."""
    trainers: list[Trainer] = []
    for trial in trials:
        place = TrialStore(folder / trial.id)
        place.write_spec(trial)
        begun = stack.enter_context(begin(place, device, time.perf_counter(), None, ALONE, None))
        prepared = prepare(begun)
        trained = prepared.trial
        if trainers:
            lead = dict(trainers[0].runner.attached.module.named_parameters())
            with torch.no_grad():
                for name, parameter in trained.runner.attached.module.named_parameters():
                    if not parameter.requires_grad:
                        parameter.copy_(lead[name])
            share_frozen(trained.runner, trainers[0].runner)
        trainers.append(Trainer(begun.context, trained.runner, trained.method, trained.features["train"]))
    return trainers


def wait(device: str) -> float:
    """Waits for the device; returns the time."""
    if choose_device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def one_after_the_other(trainers: list[Trainer], device: str) -> float:
    started = wait(device)
    for trainer in trainers:
        trainer.train_until(lambda step: False)
    return wait(device) - started


def at_once(trainers: list[Trainer], device: str) -> float:
    check_together(*trainers[:2])
    members = [Member(trainer, score_nothing, fail) for trainer in trainers]
    started = wait(device)
    train_together(members)
    return wait(device) - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--method", default="lora")
    parser.add_argument("--together", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    ratios, seconds = [], []
    for number in range(arguments.rounds + 1):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            trials = trials_of(folder, arguments.method, arguments.together, arguments.steps, device.type == "cuda")
            separate = one_after_the_other(make_trainers(stack, folder, trials, arguments.device), arguments.device)
            together = at_once(make_trainers(stack, folder, trials, arguments.device), arguments.device)
        if number:  # the first round warms up
            ratios.append(separate / together)
            seconds.append((separate, together))
            print(f"round {number}: {separate:.2f} s one after the other, {together:.2f} s at once", flush=True)
    print(
        f"{arguments.method}, {arguments.together} trials on {device}: {min(ratios):.2f} / "
        f"{statistics.median(ratios):.2f} / {max(ratios):.2f} times as fast at once (smallest, median, greatest)"
    )
    if arguments.out:
        machine = environment.describe(str(device), torch.get_num_threads()).model_dump(mode="json")
        settings = {key: value for key, value in vars(arguments).items() if key not in ("out", "device")}
        result = {**settings, "ratios": ratios, "seconds": seconds, "environment": machine}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
