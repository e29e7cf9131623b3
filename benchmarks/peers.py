"""How long fine-tuning takes here beside Hugging Face `Trainer` and PEFT, and what it scores: the same runs in turns.

Every run is a process of its own, as a user starts it: ours by `tuneoff run STUDY`, the peer's by the script beside
this one (`peer_trainer.py`), in two forms. `default` is what the libraries do untold: float32, batches padded to their
longest text. `tuned` is what a careful user sets: bfloat16, batches of like length, fused AdamW, and the faster of the
attentions that are offered (found out in a model's first round). All have the same rows, updates, batch size, dropout
and warm-up, and a round's number is its seed. Variants take turns, in another order every round.

    python benchmarks/peers.py [--minutes 25] [--rounds 3] [--data DIR] [--page docs/speed.md]
    python benchmarks/peers.py --only minilm-lora,study-frozen --rounds 1
    python benchmarks/peers.py --studies

It prints and keeps, per cell: real tokens (padding not counted) per second of training and how many times the peer's
that is, with the spread over rounds; whole processes; peak memory above what the process held after its imports; the
share of the machine's own speed of matrix products, measured in the same round; the seconds of every phase; scores.
Cells named `study-…` are whole studies: ours from the command line, and the peer's as a script would do them, a process
for each trial; of each method one process is run and counted as often as the study has trials of it.

Run it alone on the machine. The cells that tell most come first and are repeated first; with `--minutes` no cell is
begun that is not expected to end in time. Results are written after every round of a cell: what is interrupted loses
that round alone. `--data DIR` takes `ag_news_*.csv` and `cnn_dailymail_*.jsonl` from there; without it news stories of
Reuters (a package) are classified and summed up by their first words. `--page FILE` writes the tables into a page.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from peer_data import FORMS, SHAPES, STUDIES, files_of, write_models, write_rows
from peer_tables import describe, summarise, write_page

HERE = Path(__file__).parent
EPOCHS, WARM_UP_STEPS = 1, 2
MAX_LENGTH = {"classification": 128, "generation": 512}
TARGET_LENGTH = 100
ATTENTIONS = ("eager", "sdpa")

METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 1e-4},
    "lora": {"r": 8, "alpha": 16, "learning_rate": 1e-3},
    "ia3": {"learning_rate": 5e-3},
    "bitfit": {"learning_rate": 1e-3},
    "prompt_tuning": {"tokens": 10, "learning_rate": 1e-2},
    "last_block": {"learning_rate": 1e-3},
    "head": {"learning_rate": 1e-2},
}
PASSES = {"full": 3, "lora": 2, "ia3": 2, "bitfit": 2, "prompt_tuning": 2}
"""Products with every weight of the blocks that a step needs: forward, for the activations' gradient, for the weights'
gradient. The others train a part of the blocks."""
CORE = ("minilm-lora", "roberta-base-lora", "study-frozen", "gpt2-lora", "minilm-full")
"""The cells that tell most."""
REST = (
    "study-quickstart",
    *(f"minilm-{method}" for method in ("last_block", "ia3", "head", "bitfit", "prompt_tuning")),
    "smollm2-135m-lora",
    "roberta-base-full",
    "gpt2-prompt_tuning",
    "roberta-base-head",
    "gpt2-full",
)
CELLS = (*CORE, *REST)
EXPECTED_SECONDS = {"minilm": 60, "roberta-base": 120, "gpt2": 180, "smollm2": 180, "study": 240}
"""Of a round, by the beginning of the cell's name, until its first round is measured: on two cores."""


@dataclass
class Bench:
    """What the cells of one call share.

    Attributes:
        folder: scratch, with the base models.
        data: folder of data files; None: Reuters.
        rows: training rows of a run; None: each model's own.
        weights: model -> weights in its blocks.
        attention: model -> the faster attention of the tuned form, where it is known.
    """

    folder: Path
    data: Path | None
    rows: int | None
    weights: dict[str, int] = field(default_factory=dict)
    attention: dict[str, str] = field(default_factory=dict)

    def model(self, name: str) -> Path:
        """Returns a base model's folder, written when it is first asked for."""
        if name not in self.weights:
            self.weights |= write_models(self.folder, [name])
        return self.folder / name

    def files(self, task: str, counts: dict[str, int]) -> dict[str, str]:
        """Returns split -> its file, with so many rows."""
        place = self.folder / f"rows-{'-'.join(map(str, counts.values()))}"
        return files_of(place if place.exists() else write_rows(place, self.data, counts), task)


# --- runs


def run_study(folder: Path, name: str, study: dict[str, Any]) -> tuple[float, list[dict[str, Any]]]:
    """Runs a study from the command line; returns its seconds and its records."""
    path, place = folder / f"{name}.yaml", folder / name
    path.write_text(yaml.safe_dump({"name": name, **study}), encoding="utf-8")
    command = [sys.executable, "-m", "tuneoff", "run", str(path), "--out", str(place)]
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if finished.returncode:
        raise SystemExit(f"{name}: tuneoff run failed\n{finished.stderr[-3000:]}")
    return seconds, [json.loads(path.read_text(encoding="utf-8")) for path in place.glob("trials/*/record.json")]


def options_of(model: str, method: str) -> dict[str, Any]:
    """Returns a method's options in our study file."""
    targets = {"targets": list(SHAPES[model].lora)} if method == "lora" else {}
    return {**METHODS[method], **targets}


def run_ours(bench: Bench, model: str, method: str, counts: dict[str, int], seed: int) -> dict[str, Any]:
    """Runs a study of one trial; returns the same figures as the peer's script prints."""
    shape = SHAPES[model]
    written = {
        "source": "source",
        "target": "target",
        "template": "{source}",
        "max_target_length": TARGET_LENGTH,
        "long_targets": "cut",
    }
    columns = {"text": "text", "label": "label"} if shape.task == "classification" else written
    total, (record,) = run_study(
        bench.folder,
        f"ours-{model}-{method}-{seed}",
        {
            "model": str(bench.model(model)),
            "task": {"name": shape.task, "data": bench.files(shape.task, counts), **columns},
            "protocol": {
                "seeds": [seed],
                "epochs": EPOCHS,
                "batch_size": shape.batch_size,
                "evaluation_batch_size": shape.evaluation_batch,
                "max_length": MAX_LENGTH[shape.task],
                "warmup_steps": WARM_UP_STEPS,
                **({"select_metric": "loss"} if shape.task == "generation" else {}),
            },
            # An example's latency is here that of a whole text, and the peer's script times no writing.
            "execution": {"latency_examples": 24 if shape.task == "classification" else 1},
            "methods": {method: options_of(model, method)},
        },
    )
    timing, throughput = record["timing"], record["throughput"]
    phases = ("train", "prefix", "load", "tokenize", "preflight", "validation", "test")
    seconds = {phase: timing[f"{phase}_seconds"] or 0.0 for phase in phases}
    scores = {metric["name"]: metric["value"] for metric in record["metrics"] if metric["split"] == "test"}
    return {
        "seconds": {
            **seconds,
            "train": seconds["train"] - seconds["prefix"],
            "latency": timing["inference_seconds"] or 0.0,
            "trial": timing["total_seconds"],
            "total": total,
        },
        "steps": record["steps"],
        "real_tokens": round(throughput["tokens_per_second"] * timing["train_seconds"]),
        "padding_share": throughput["padding_share"],
        "peak_over_base_bytes": record["memory"]["peak_over_base_bytes"],
        "score": scores["accuracy" if shape.task == "classification" else "loss"],
        "contended": record["noise"]["contended"],
        "precision": record["precision"]["policy"],
        "environment": record["environment"],
    }


def run_peer(bench: Bench, model: str, method: str, form: str, files: dict[str, str], **more: Any) -> dict[str, Any]:
    """Runs the peer's script in a process of its own."""
    shape = SHAPES[model.removesuffix("-still")]
    description = {
        "model": str(bench.model(model)),
        "task": shape.task,
        "method": method,
        "form": form,
        "attention": "",
        **files,
        "text": "text",
        "label": "label",
        "source": "source",
        "target": "target",
        "blocks": shape.blocks,
        "head_modules": list(shape.head),
        "lora_targets": list(shape.lora),
        "epochs": EPOCHS,
        "max_steps": None,
        "batch_size": shape.batch_size,
        "evaluation_batch": shape.evaluation_batch,
        "learning_rate": METHODS[method]["learning_rate"],
        "warmup_steps": WARM_UP_STEPS,
        "seed": 0,
        "max_length": MAX_LENGTH[shape.task],
        "max_target": TARGET_LENGTH,
        "latency_examples": 24 if shape.task == "classification" else 2,
        **more,
    }
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, str(HERE / "peer_trainer.py"), json.dumps(description)], capture_output=True, text=True
    )
    total = time.perf_counter() - started
    line = next((line for line in finished.stdout.splitlines() if line.startswith("PEER ")), None)
    if line is None:
        raise SystemExit(f"{model}-{method}: the peer's script failed\n{finished.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(line.removeprefix("PEER "))
    result["seconds"]["total"] = total
    result["padding_share"] = 1 - result["real_tokens"] / result["computed_tokens"]
    result["attention"] = description["attention"]
    return result


def speed(result: dict[str, Any]) -> float:
    """Returns real tokens per second of training; ours counts the frozen blocks that it computes before."""
    seconds = result["seconds"]["train"] + result["seconds"].get("prefix", 0.0)
    return float(result["real_tokens"] / seconds)


# --- cells


def training_round(bench: Bench, cell: str, number: int) -> dict[str, Any]:
    """Runs all variants of a model and method once, in turns."""
    model, _, method = cell.rpartition("-")
    task, rows = SHAPES[model].task, bench.rows or SHAPES[model].rows
    counts = {"train": rows, "validation": max(4, rows // 4), "test": max(4, rows // 4)}
    files = bench.files(task, counts)
    bench.model(model)

    def peer(form: str, attention: str) -> Callable[[], dict[str, Any]]:
        return lambda: run_peer(bench, model, method, form, files, attention=attention, seed=number)

    attentions = [bench.attention[model]] if model in bench.attention else ATTENTIONS
    variants: dict[str, Callable[[], dict[str, Any]]] = {
        "ours": lambda: run_ours(bench, model, method, counts, number),
        "default": peer("default", ""),
        **{attention: peer("tuned", attention) for attention in attentions},
    }
    turn = number % len(variants)
    order = [*variants][turn:] + [*variants][:turn]
    results = {name: variants[name]() for name in order}
    tuned = max((results.pop(attention) for attention in attentions), key=speed)
    bench.attention[model] = tuned["attention"]
    results["tuned"] = tuned
    if len({result["steps"] for result in results.values()}) > 1:
        raise SystemExit(f"{cell}: the sides differ in updates: { ({n: r['steps'] for n, r in results.items()}) }")
    gflops = matrix_speed()
    peak = gflops["fp32" if results["ours"]["precision"].startswith("fp32") else "bf16"]
    passes = PASSES.get(method)
    share = passes and passes * 2e-9 * bench.weights[model] * speed(results["ours"]) / peak
    return {**results, "matrix_gflops": gflops, "share_of_matrix_speed": share}


def study_round(bench: Bench, cell: str, number: int) -> dict[str, Any]:
    """Does a whole study once: ours from the command line, and of the peer's processes one of each kind."""
    study = STUDIES[cell]
    rows = {split: min(count, bench.rows or count) for split, count in study.rows.items()}
    files = bench.files("classification", rows)
    seconds, records = run_study(
        bench.folder,
        f"{cell}-{number}",
        {
            "model": str(bench.model("minilm")),
            "task": {"data": files, "text": "text", "label": "label"},
            "protocol": {
                "epochs": study.epochs,
                "batch_size": study.batch_size,
                "max_length": study.max_length,
                **study.ours,
            },
            "methods": {"majority": {}, **{method: options_of("minilm", method) for method in study.methods}},
        },
    )
    result: dict[str, Any] = {
        "ours": {
            "seconds": seconds,
            "train_seconds": sum(record["timing"]["train_seconds"] or 0.0 for record in records),
            "trials": len(records),
            "environment": next(record["environment"] for record in records if record["precision"]),
        }
    }
    for form in FORMS:
        attention = bench.attention.get("minilm", "eager") if form == "tuned" else ""
        runs = {
            method: run_peer(
                bench,
                study.model,
                method,
                form,
                files,
                attention=attention,
                epochs=study.epochs,
                batch_size=study.batch_size,
                evaluation_batch=64,
                max_length=study.max_length,
            )["seconds"]["total"]
            for method in study.methods
        }
        result[form] = {
            "seconds": study.trials * sum(runs.values()),
            "seconds_of_one": runs,
            "trials_of_each": study.trials,
        }
    return result


def matrix_speed(seconds: float = 0.4) -> dict[str, float]:
    """Measures the speed of large matrix products, in GFLOP/s: the ceiling of what training can reach here."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    speeds = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        torch.mm(left, right)[0, 0].item()
        best, until = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(left, right)[0, 0].item()
            best = max(best, 2 * size**3 / (time.perf_counter() - started) / 1e9)
        speeds[name] = best
    return speeds


def schedule(chosen: Sequence[str], rounds: int) -> Iterator[tuple[str, int]]:
    """Yields cells with the numbers of their rounds: the core twice, all others once, then further rounds of all."""
    core, rest = [c for c in chosen if c in CORE], [c for c in chosen if c not in CORE]
    for number in range(min(2, rounds)):
        yield from ((cell, number) for cell in core)
    yield from ((cell, 0) for cell in rest)
    for number in range(1, rounds):
        yield from ((cell, number + 1) for cell in core if number + 1 < rounds)
        yield from ((cell, number) for cell in rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing that would not end within these")
    parser.add_argument("--rounds", type=int, default=3, help="of each cell, at most")
    parser.add_argument(
        "--rows", type=int, default=None, help="training rows of a run (of a study: at most); unset: each model's own"
    )
    parser.add_argument("--only", default="", help=f"cells, with commas between them, of {', '.join(CELLS)}")
    parser.add_argument("--studies", action="store_true", help="whole studies alone")
    parser.add_argument("--data", type=Path, default=None, help="folder with AG News and CNN/DailyMail files")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    parser.add_argument("--page", type=Path, default=None, help="write the tables of the results into this page, too")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else [*(STUDIES if arguments.studies else CELLS)]
    if unknown := [name for name in chosen if name not in CELLS]:
        raise SystemExit(f"no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    if arguments.page is not None and not arguments.page.exists():
        raise SystemExit(f"no page {arguments.page}")
    began, done, took = time.monotonic(), {}, {}  # type: ignore[var-annotated]
    body: dict[str, Any] = {"data": "AG News and CNN/DailyMail" if arguments.data else "Reuters", "left_out": {}}
    with tempfile.TemporaryDirectory(prefix="tuneoff-peers-") as scratch:
        bench = Bench(Path(scratch), arguments.data, arguments.rows)
        for cell, number in schedule(chosen, arguments.rounds):
            left = 60 * arguments.minutes - (time.monotonic() - began)
            expected = next(s for name, s in EXPECTED_SECONDS.items() if cell.startswith(name))
            if left < took.get(cell, expected):
                body["left_out"][f"{cell}, round {number + 1}"] = "no time was left"
                continue
            started = time.monotonic()
            result = (study_round if cell in STUDIES else training_round)(bench, cell, number)
            took[cell] = time.monotonic() - started
            body["environment"] = result["ours"].pop("environment")
            done.setdefault(cell, []).append(result)
            print(f"{describe(cell, done[cell])}  [{took[cell]:.0f} s]", flush=True)
            body["cells"] = [summarise(name, rounds) for name, rounds in done.items()]
            body["minutes"] = (time.monotonic() - began) / 60
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    if arguments.page is not None and done:
        write_page(body, arguments.page, arguments.out)


if __name__ == "__main__":
    main()
