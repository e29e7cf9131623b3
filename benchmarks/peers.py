"""How long fine-tuning takes here beside Hugging Face `Trainer` and PEFT, the same runs one after another.

Every run is a process of its own, as a user starts it: ours by `tuneoff run STUDY`, the peer's by the script beside
this one (`peer_trainer.py`), in two forms. `default` is what the libraries do untold: float32, batches padded to their
longest text. `tuned` is what a careful user sets: bfloat16, batches of like length, fused AdamW, with each attention
that is offered; the faster one counts. All have the same rows, updates, batch size and dropout. Variants take turns,
in another order every round, so that a drift of the machine's speed meets them all. Run it alone on the machine.

It prints and keeps, per scenario: real tokens (padding not counted) per second of training, and how many times the
peer's that is, with the spread over rounds; peak memory above what the process held after its imports; the share of
the machine's own speed of matrix products, measured in the same run; the seconds of every phase; whole processes.

    python benchmarks/peers.py [--rounds 2] [--only minilm-lora,…] [--rows 640] [--data DIR] [--out FILE]

`--data DIR` takes `ag_news_train.csv`, `ag_news_test.csv` and `cnn_dailymail_*.jsonl` from there; without it news
stories of Reuters (a package) are classified and summed up by their first words.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
BATCH, EVALUATION_BATCH, EPOCHS = 16, 32, 1
MAX_LENGTH, SOURCE_LENGTH, TARGET_LENGTH = 128, 512, 100
PEERS = ("default", "tuned")


@dataclass(frozen=True)
class Shape:
    """A base model of the benchmark.

    Attributes:
        task: what it is trained for.
        blocks: the list of its blocks, for the peer's methods that choose among them.
        head: modules that make the prediction, trained by every method that freezes the rest.
        lora: the projections that LoRA adapts, the same on both sides.
        rates: method -> learning rate; quality is not what is compared here.
    """

    task: str
    blocks: str
    head: tuple[str, ...]
    lora: tuple[str, ...]


SHAPES = {
    "minilm": Shape("classification", "bert.encoder.layer", ("classifier", "bert.pooler"), ("query", "value")),
    "roberta-base": Shape("classification", "roberta.encoder.layer", ("classifier",), ("query", "value")),
    "gpt2": Shape("generation", "transformer.h", ("transformer.ln_f",), ("c_attn",)),
    "smollm2-135m": Shape("generation", "model.layers", ("model.norm",), ("q_proj", "v_proj")),
}
METHODS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 1e-4},
    "lora": {"r": 8, "alpha": 16, "learning_rate": 1e-3},
    "ia3": {"learning_rate": 5e-3},
    "bitfit": {"learning_rate": 1e-3},
    "prompt_tuning": {"tokens": 10, "learning_rate": 1e-2},
    "last_block": {"learning_rate": 1e-3},
    "head": {"learning_rate": 1e-2},
}
SCENARIOS = tuple(
    [f"minilm-{method}" for method in METHODS]
    + ["roberta-base-lora", "roberta-base-full", "roberta-base-head"]
    + ["gpt2-lora", "gpt2-full", "smollm2-135m-lora"]
)


# --- rows and models


def write_models(folder: Path, names: Sequence[str]) -> None:
    """Writes the base models as folders that both sides load: MiniLM's real weights, random ones of the others."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    from tuneoff import registry
    from tuneoff.config.spec import ModelSpec
    from tuneoff.sources import find_model

    torch.manual_seed(0)
    for name in names:
        place = folder / name
        if name == "minilm":
            files = find_model(registry.sources(), ModelSpec(source="minilm"))
            AutoModel.from_pretrained(files.path).save_pretrained(place)
            AutoTokenizer.from_pretrained(files.path).save_pretrained(place)
            continue
        # The tokenizer of SmolLM2, a byte-level one like theirs, has fewer words than their vocabularies.
        files = find_model(registry.sources(), ModelSpec(source="smollm2-135m"))
        tokenizer = AutoTokenizer.from_pretrained(files.path, gguf_file=files.gguf_file)
        tokenizer.pad_token = tokenizer.eos_token
        if name == "smollm2-135m":
            config = AutoConfig.from_pretrained(files.path, gguf_file=files.gguf_file)
        else:
            special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
            config = AutoConfig.for_model("gpt2" if name == "gpt2" else "roberta", **special)
            if name == "roberta-base":
                config.update({"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1})
        config.pad_token_id = tokenizer.pad_token_id
        maker: Any = AutoModelForCausalLM if SHAPES[name].task == "generation" else AutoModel
        maker.from_config(config).save_pretrained(place)
        tokenizer.save_pretrained(place)


def write_rows(folder: Path, data: Path | None, rows: int) -> None:
    """Writes train, validation and test files of both tasks: `rows` for training, a quarter each for the others."""
    counts = {"train": rows, "validation": rows // 4, "test": rows // 4}
    classified, written = read_folder(data, counts) if data is not None else read_package(counts)
    for split, chosen in classified.items():
        with (folder / f"classification-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("text", "label"), *chosen])
    for split, pairs in written.items():
        with (folder / f"generation-{split}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"source": s, "target": t}) + "\n" for s, t in pairs)


Pairs = dict[str, list[tuple[str, str]]]


def read_folder(data: Path, counts: dict[str, int]) -> tuple[Pairs, Pairs]:
    """Reads AG News and CNN/DailyMail from files."""
    with (data / "ag_news_train.csv").open(encoding="utf-8", newline="") as file:
        news = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    with (data / "ag_news_test.csv").open(encoding="utf-8", newline="") as file:
        test = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    train, validation = counts["train"], counts["validation"]
    classified = {
        "train": news[:train],
        "validation": news[train : train + validation],
        "test": test[: counts["test"]],
    }
    written: Pairs = {}
    for split, count in generation_counts(counts).items():
        lines = (data / f"cnn_dailymail_{split}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        written[split] = [(row["article"] + "\n\nTL;DR: ", row["highlights"]) for row in map(json.loads, lines)]
    return classified, written


def read_package(counts: dict[str, int]) -> tuple[Pairs, Pairs]:
    """Reads Reuters stories out of their package; a summary is a story's first twelve words."""
    from tuneoff import registry
    from tuneoff.config.spec import SourceSpec
    from tuneoff.sources import read_rows

    def stories(split: str) -> list[tuple[str, str]]:
        rows = read_rows(registry.sources(), SourceSpec(source="reuters-r8"), split)
        return list(zip(map(str, rows.columns["Text"]), map(str, rows.columns["Category"]), strict=True))

    train, test = stories("train"), stories("test")
    half = counts["train"]
    classified = {
        "train": train[:half],
        "validation": train[half : half + counts["validation"]],
        "test": test[: counts["test"]],
    }
    written = {
        split: [(text, " ".join(text.split()[:12])) for text, _ in classified[split][:count]]
        for split, count in generation_counts(counts).items()
    }
    return classified, written


def generation_counts(counts: dict[str, int]) -> dict[str, int]:
    """Returns how many texts are written about: a tenth, since one takes as long as dozens of classified ones."""
    return {split: max(4, count // 10) for split, count in counts.items()}


# --- runs


def run_ours(scenario: str, folder: Path, number: int) -> dict[str, Any]:
    """Runs a study of one trial from the command line; returns the same figures as the peer's script prints."""
    model, _, method = scenario.rpartition("-")
    task = SHAPES[model].task
    place = folder / f"ours-{scenario}-{number}"
    options = dict(METHODS[method])
    if method == "lora":
        options["targets"] = list(SHAPES[model].lora)
    columns = {"text": "text", "label": "label"} if task == "classification" else generation_columns()
    study = {
        "name": scenario,
        "model": str(folder / model),
        "task": {
            "name": task,
            "data": {split: str(folder / f"{task}{ending(task, split)}") for split in ("train", "validation", "test")},
            **columns,
        },
        "protocol": {
            "seeds": 1,
            "epochs": EPOCHS,
            "batch_size": batch_of(task),
            "evaluation_batch_size": evaluation_of(task),
            "max_length": MAX_LENGTH if task == "classification" else SOURCE_LENGTH,
            "evaluations_per_epoch": 1,
            **({"select_metric": "loss"} if task == "generation" else {}),
        },
        "methods": {method: options},
    }
    path = folder / f"{scenario}-{number}.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-m", "tuneoff", "run", str(path), "--out", str(place)], capture_output=True, text=True
    )
    total = time.perf_counter() - started
    if finished.returncode:
        raise SystemExit(f"{scenario}: tuneoff run failed\n{finished.stderr[-3000:]}")
    (record_path,) = place.glob("trials/*/record.json")
    record = json.loads(record_path.read_text(encoding="utf-8"))
    timing, throughput = record["timing"], record["throughput"]
    train = timing["train_seconds"]
    return {
        "seconds": {
            "train": train,
            "load": timing["load_seconds"],
            "tokenize": timing["tokenize_seconds"],
            "preflight": timing["preflight_seconds"],
            "validation": timing["validation_seconds"],
            "test": timing["test_seconds"],
            "latency": timing["inference_seconds"],
            "trial": timing["total_seconds"],
            "total": total,
        },
        "steps": record["steps"],
        "real_tokens": round(throughput["tokens_per_second"] * train),
        "padding_share": throughput["padding_share"],
        "peak_over_base_bytes": record["memory"]["peak_over_base_bytes"],
        "precision": record["precision"]["policy"] if record.get("precision") else None,
        "contended": record["noise"]["contended"] if record.get("noise") else None,
        "environment": record["environment"],
    }


def run_peer(scenario: str, form: str, attention: str, folder: Path) -> dict[str, Any]:
    """Runs the peer's script in a process of its own."""
    model, _, method = scenario.rpartition("-")
    shape = SHAPES[model]
    description = {
        "model": str(folder / model),
        "task": shape.task,
        "method": method,
        "form": form,
        "attention": attention,
        **{s: str(folder / f"{shape.task}{ending(shape.task, s)}") for s in ("train", "validation", "test")},
        "text": "text",
        "label": "label",
        "source": "source",
        "target": "target",
        "blocks": shape.blocks,
        "head_modules": list(shape.head),
        "lora_targets": list(shape.lora),
        "epochs": EPOCHS,
        "max_steps": None,
        "batch_size": batch_of(shape.task),
        "evaluation_batch": evaluation_of(shape.task),
        "learning_rate": METHODS[method]["learning_rate"],
        "warmup_steps": 2,
        "seed": 0,
        "max_length": MAX_LENGTH if shape.task == "classification" else SOURCE_LENGTH,
        "max_target": TARGET_LENGTH,
        "latency_examples": 24,
    }
    started = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, str(HERE / "peer_trainer.py"), json.dumps(description)], capture_output=True, text=True
    )
    total = time.perf_counter() - started
    line = next((line for line in finished.stdout.splitlines() if line.startswith("PEER ")), None)
    if line is None:
        raise SystemExit(f"{scenario}: the peer's script failed\n{finished.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(line.removeprefix("PEER "))
    result["seconds"]["total"] = total
    result["padding_share"] = 1 - result["real_tokens"] / result["computed_tokens"]
    result["attention"] = attention
    return result


def generation_columns() -> dict[str, Any]:
    return {
        "source": "source",
        "target": "target",
        "template": "{source}",
        "max_target_length": TARGET_LENGTH,
        "long_targets": "cut",
    }


def ending(task: str, split: str) -> str:
    return f"-{split}.csv" if task == "classification" else f"-{split}.jsonl"


def batch_of(task: str) -> int:
    return BATCH if task == "classification" else 4


def evaluation_of(task: str) -> int:
    return EVALUATION_BATCH if task == "classification" else 4


# --- the machine's own speed


def matrix_speed(seconds: float = 0.4) -> dict[str, float]:
    """Measures the speed of large matrix products, in GFLOP/s: the ceiling of what training can reach here."""
    import torch

    speeds = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        left, right = torch.randn(1024, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
        torch.mm(left, right)
        best, until = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(left, right)
            best = max(best, 2 * 1024**3 / (time.perf_counter() - started) / 1e9)
        speeds[name] = best
    return speeds


# --- the table


def speed(result: dict[str, Any]) -> float:
    return float(result["real_tokens"] / result["seconds"]["train"])


def summary(scenario: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Compares the rounds of a scenario: how many times the peer's speed and its time ours is."""
    row: dict[str, Any] = {"scenario": scenario, "rounds": rounds}

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "low": min(values), "high": max(values)}

    for form in PEERS:
        row[f"training_over_{form}"] = spread([speed(r["ours"]) / speed(r[form]) for r in rounds])
        row[f"process_over_{form}"] = spread(
            [r[form]["seconds"]["total"] / r["ours"]["seconds"]["total"] for r in rounds]
        )
        row[f"memory_over_{form}"] = spread(
            [r["ours"]["peak_over_base_bytes"] / r[form]["peak_over_base_bytes"] for r in rounds]
        )
    return row


def told(row: dict[str, Any]) -> str:
    parts = [f"{row['scenario']:20}"]
    for form in PEERS:
        training, process = row[f"training_over_{form}"], row[f"process_over_{form}"]
        memory = row[f"memory_over_{form}"]["median"]
        parts.append(
            f"{form}: training {training['median']:.2f}× [{training['low']:.2f}, {training['high']:.2f}], "
            f"process {process['median']:.2f}×, memory {memory:.2f}×"
        )
    return "  ".join(parts)


def measure(scenario: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Runs all variants of a scenario in turns."""
    model = scenario.rpartition("-")[0]
    offered = ("eager", "sdpa")
    variants: list[tuple[str, Callable[[int], dict[str, Any]]]] = [
        ("ours", lambda number: run_ours(scenario, folder, number)),
        ("default", lambda number: run_peer(scenario, "default", "", folder)),
        *(
            (f"tuned {attention}", lambda number, attention=attention: run_peer(scenario, "tuned", attention, folder))  # type: ignore[misc]
            for attention in offered
        ),
    ]
    assert model in SHAPES
    results = []
    for number in range(rounds):
        turn = number % len(variants)
        found = {name: call(number) for name, call in variants[turn:] + variants[:turn]}
        tuned = max((found.pop(f"tuned {attention}") for attention in offered), key=speed)
        results.append({**found, "tuned": tuned, "matrix_gflops": matrix_speed()})
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=640, help="training rows; a quarter each to validate and test")
    parser.add_argument("--only", default="", help="scenarios, with commas between them")
    parser.add_argument("--data", type=Path, default=None, help="folder with AG News and CNN/DailyMail files")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",") if arguments.only else list(SCENARIOS)
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        raise SystemExit(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    rows, environment = [], None
    with tempfile.TemporaryDirectory(prefix="tuneoff-peers-") as scratch:
        folder = Path(scratch)
        write_rows(folder, arguments.data, arguments.rows)
        write_models(folder, list(dict.fromkeys(name.rpartition("-")[0] for name in chosen)))
        for scenario in chosen:
            rounds = measure(scenario, folder, arguments.rounds)
            for result in rounds:
                environment = result["ours"].pop("environment")
            rows.append(summary(scenario, rounds))
            print(told(rows[-1]), flush=True)
            # After each scenario, so that nothing is lost where a later one is interrupted.
            body = {
                "rows": arguments.rows,
                "data": "AG News and CNN/DailyMail" if arguments.data else "Reuters",
                "batch_size": {"classification": BATCH, "generation": 4},
                "epochs": EPOCHS,
                "scenarios": rows,
                "environment": environment,
            }
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
