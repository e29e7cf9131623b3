"""Whether plans come true: forecasts of memory and training time against trials that were really run, on the CPU.

A grid of every method x batch sizes 4 to 32 x lengths 64 to 512 x models from tiny to 135M parameters (random weights;
the arithmetic is the same), classes and texts. It is far too large to be run whole, so cells are drawn from it by a
seed, methods and models in turn, until the minutes are used up. Each cell is forecast and then run by the same executor
as any study. A step of the largest cells takes a minute: those are run for fewer steps and judged by their memory
alone, or left out; both are listed.

    python benchmarks/forecast.py [--minutes 11] [--seed 0] [--methods lora,full] [--models tiny] [--out FILE]
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.errors import TuneoffError
from tuneoff.executors.local import LocalExecutor
from tuneoff.measure import environment
from tuneoff.measure.machine import core_count
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.records.record import Status
from tuneoff.store import StudyStore
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

BATCHES = (4, 8, 16, 32)
LENGTHS = (64, 128, 256, 512)
TARGET = 24
"""Tokens of a text to write."""
STEPS, FEW_STEPS = 12, 3
"""Optimizer steps of a trial, and of one that is judged by its memory alone."""
CELL_SECONDS = 45.0
"""No cell is to train longer."""
OPERATIONS_PER_SECOND = 1.5e11
"""Of the order of what a training step reaches on two cores; only decides what is run."""
HOPELESS = 5
"""Cells that fail one after the other before no more are tried."""
BARS = {"memory_median": 0.05, "memory_worst": 0.15, "time_median": 0.15}


@dataclass(frozen=True)
class Model:
    """A base model of the grid.

    Attributes:
        architecture: transformers' name.
        weights: parameters that every token meets.
        sizes: of a model that is made here; None for one that ships with the package.
    """

    architecture: str
    weights: float
    sizes: dict[str, Any] | None = None


SMALL = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
MODELS = {
    "tiny": Model("bert", 0.3e6, {**SMALL, "vocab_size": 512, "max_position_embeddings": 640}),
    "tiny-decoder": Model("llama", 0.3e6, {**SMALL, "vocab_size": 512, "max_position_embeddings": 640}),
    "minilm": Model("bert", 10.6e6),
    "smollm2-135m": Model("llama", 134.5e6),
}
UNFIT = {("prefix_tuning", "bert"), ("bitfit", "llama")}


@dataclass(frozen=True)
class Cell:
    """One trial of the grid."""

    model: str
    task: str
    method: str
    batch: int
    length: int

    @property
    def seconds(self) -> float:
        """About what its steps take, all of full width."""
        return STEPS * 6 * MODELS[self.model].weights * self.batch * self.length / OPERATIONS_PER_SECOND

    @property
    def steps(self) -> int:
        """Steps to run; 0 where even few would take too long."""
        if self.seconds <= CELL_SECONDS:
            return STEPS
        return FEW_STEPS if self.seconds * FEW_STEPS / STEPS <= CELL_SECONDS else 0


def grid(methods: list[str], models: list[str]) -> list[Cell]:
    """Every cell that there can be."""
    cells = []
    for model, method, batch, length in itertools.product(models, methods, BATCHES, LENGTHS):
        decoder = MODELS[model].architecture == "llama"
        virtual = registry.methods()[method].create({}).virtual_tokens
        if (method, MODELS[model].architecture) in UNFIT or (model == "minilm" and length + virtual > 512):
            # MiniLM has 512 positions.
            continue
        cells.append(Cell(model, "classification", method, batch, length))
        if decoder and method != "head":
            cells.append(Cell(model, "generation", method, batch, length))
    return cells


def drawn(cells: list[Cell], seed: int) -> list[Cell]:
    """All cells in an order in which methods and models take turns."""
    chance = random.Random(seed)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in chance.sample(cells, len(cells)):
        groups.setdefault((cell.method, cell.model), []).append(cell)
    methods = sorted({cell.method for cell in cells})
    models = sorted({cell.model for cell in cells})
    made: list[Cell] = []
    for number in range(len(cells)):
        for shift, method in enumerate(methods):
            group = groups.get((method, models[(number + shift) % len(models)]), [])
            if group:
                made.append(group.pop())
    return made


def write_rows(path: Path, cell: Cell, rows: int) -> None:
    """Texts of many lengths, a part of them longer than the protocol keeps; a letter is a token."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for number in range(rows):
            size = max(8, min(2 * cell.length, round(chance.lognormvariate(0, 0.5) * 0.6 * cell.length)))
            text = "".join(chance.choice("etaoin shrdlu") for _ in range(size)) + str(number)
            target = "".join(chance.choice("abcde") for _ in range(chance.randint(4, TARGET - 2)))
            writer.writerow((text, ("left", "right")[number % 2] if cell.task == "classification" else target))


def study_of(cell: Cell, folder: Path) -> dict[str, Any]:
    """The study of a cell, its data and perhaps its model written into the folder."""
    write_rows(folder / "train.csv", cell, cell.batch * cell.steps)
    write_rows(folder / "test.csv", cell, 16)
    model: dict[str, Any] = {"source": cell.model, "random_weights": True}
    if MODELS[cell.model].sizes is not None:
        from transformers import AutoConfig

        config = AutoConfig.for_model(MODELS[cell.model].architecture, **MODELS[cell.model].sizes or {})
        config.save_pretrained(folder / "model")
        byte_tokenizer(config).save_pretrained(folder / "model")
        model["source"] = str(folder / "model")
    data = {role: str(folder / file) for role, file in (("train", "train.csv"), ("test", "test.csv"))}
    task: dict[str, Any] = {"name": cell.task, "data": {**data, "validation": str(folder / "test.csv")}}
    if cell.task == "generation":
        task |= {"source": "text", "target": "label", "max_target_length": TARGET}
    return {
        "name": "forecast",
        "model": model,
        "task": task,
        "protocol": {
            "seeds": 1,
            "epochs": 1,
            "batch_size": cell.batch,
            "max_length": cell.length,
            "evaluation_batch_size": 16,
        },
        "execution": {"latency_examples": 2, "keep_weights": False},
        "methods": [cell.method],
    }


def measure(cell: Cell, executor: LocalExecutor, folder: Path) -> dict[str, Any]:
    """Forecast and record of one cell."""
    study = parse(study_of(cell, folder))
    trials = plan(study)
    arm: dict[str, Any] = {**asdict(cell), "steps": cell.steps}
    forecast = executor.profile(trials[0])
    store = StudyStore.create(folder / "study", study, trials)
    executor.run(store, trials, lambda progress: None)
    (record,) = store.records()
    if record.status is not Status.COMPLETED:
        return {**arm, "failed": record.cause}
    arm |= {
        "forecast_seconds": forecast.forecast_seconds,
        "predicted_peak_bytes": forecast.peak_memory_bytes,
        "measured_peak_bytes": record.memory.peak_memory_bytes,
        "predicted_train_seconds": forecast.train_seconds,
        "measured_train_seconds": record.timing.train_seconds,
        "predicted_trial_seconds": forecast.trial_seconds,
        "measured_trial_seconds": record.timing.total_seconds,
        "profiled_shapes": len(forecast.profiled_steps),
        "contended": record.noise.contended,
        "missing": forecast.missing,
    }
    arm["memory_error"] = _error(arm, "peak_bytes")
    arm["time_error"] = _error(arm, "train_seconds") if cell.steps == STEPS else None
    return arm


def _error(arm: dict[str, Any], figure: str) -> float | None:
    """Of a prediction, relative to what was measured; None where one is missing."""
    predicted, measured = arm[f"predicted_{figure}"], arm[f"measured_{figure}"]
    return None if predicted is None or not measured else predicted / measured - 1


def summary(arms: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and worst of the absolute errors, and whether they are within the bars."""
    memory = [abs(arm["memory_error"]) for arm in arms if arm.get("memory_error") is not None]
    times = [abs(arm["time_error"]) for arm in arms if arm.get("time_error") is not None]
    figures: dict[str, Any] = {"cells": len(arms), "failed": sum("failed" in arm for arm in arms)}
    if memory:
        figures |= {"memory_median": statistics.median(memory), "memory_worst": max(memory)}
    if times:
        figures |= {"time_median": statistics.median(times), "time_worst": max(times), "timed": len(times)}
    figures["within_bars"] = {
        name: figures.get(name) is not None and figures[name] <= bar for name, bar in BARS.items()
    }
    return figures


def line(arm: dict[str, Any]) -> str:
    """An arm of the table."""
    name = f"{arm['model']:13} {arm['task']:14} {arm['method']:14} {arm['batch']:3} x {arm['length']:3}"
    if "failed" in arm:
        return f"{name}  failed: {arm['failed'][:80]}"
    parts = []
    for figure, scale, unit in (("peak_bytes", 2**20, "MiB"), ("train_seconds", 1, "s")):
        predicted, measured = arm[f"predicted_{figure}"], arm[f"measured_{figure}"]
        error = arm["memory_error" if unit == "MiB" else "time_error"]
        told = f"{error:+7.1%}" if error is not None else "      -"
        first = f"{predicted / scale:9,.1f}" if predicted is not None else "        -"
        parts.append(f"{first} / {measured / scale:9,.1f} {unit} {told}")
    return f"{name}  {'   '.join(parts)}" + ("  contended" if arm["contended"] else "")


def main() -> None:
    trained = [name for name in registry.methods() if registry.methods()[name].trains]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=11.0, help="no cell begins that would end later")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of cells")
    parser.add_argument("--methods", default=",".join(trained))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cells", type=int, default=None, help="at most so many")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "forecast.json")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    cells = grid(arguments.methods.split(","), arguments.models.split(","))
    arms: list[dict[str, Any]] = []
    left_out = [asdict(cell) for cell in cells if not cell.steps]
    print(f"{'':46}   memory: predicted / measured         training: predicted / measured", flush=True)
    with LocalExecutor("cpu") as executor:
        for cell in drawn([cell for cell in cells if cell.steps], arguments.seed):
            expected = 12 + 1.3 * cell.seconds * cell.steps / STEPS
            if time.monotonic() + expected > end or len(arms) == arguments.cells:
                if time.monotonic() + 15 > end or len(arms) == arguments.cells:
                    break
                continue
            with tempfile.TemporaryDirectory(prefix="tuneoff-forecast-") as folder:
                try:
                    arm = measure(cell, executor, Path(folder))
                except TuneoffError as error:
                    arm = {**asdict(cell), "steps": cell.steps, "failed": error.message}
            arms.append(arm)
            print(line(arm), flush=True)
            if len(arms) >= HOPELESS and all("failed" in arm for arm in arms[-HOPELESS:]):
                print(f"{HOPELESS} cells in an arm failed", flush=True)
                break
    figures = summary(arms)
    print(json.dumps(figures, indent=1))
    machine = environment.describe("cpu", core_count()).model_dump(mode="json")
    result = {
        "bars": BARS,
        "summary": figures,
        "seed": arguments.seed,
        "minutes": arguments.minutes,
        "grid": len(cells),
        "arms": arms,
        "left_out": left_out,
        "environment": machine,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
