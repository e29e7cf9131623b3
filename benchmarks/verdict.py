"""How long an honest verdict takes: equal searches, six seeds, statistics and report, from one command.

MiniLM on SST-2: a baseline and four methods, six search trials and six seeds each, 384 training, 200 validation and
872 test rows, two epochs. With `--peer` the trials that train are also run by the peer's script (`peer_trainer.py`,
in its `default` and `tuned` forms), a process each, as a user would script the same study. Run it alone on the machine.

    python benchmarks/verdict.py --data DIR [--peer] [--out benchmarks/results/verdict.json]

`--data DIR` holds `sst2_train.tsv` and `sst2_test.tsv` (columns `sentence` and `label`).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from peer_data import FORMS, SHAPES, write_models

HERE = Path(__file__).parent
METHODS: tuple[str, ...] = ("head", "last_block", "lora", "full")
SEARCH, SEEDS, BATCH, EPOCHS, MAX_LENGTH = 6, 6, 16, 2, 64
ROWS = {"train": 384, "validation": 200, "test": 872}


def write_rows(data: Path, folder: Path) -> None:
    """Writes the three splits as CSV files."""

    def read(name: str) -> list[tuple[str, str]]:
        with (data / name).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [(row["sentence"], row["label"]) for row in reader]

    train, test = read("sst2_train.tsv"), read("sst2_test.tsv")
    validation_end = ROWS["train"] + ROWS["validation"]
    splits = {"train": train[: ROWS["train"]], "validation": train[ROWS["train"] : validation_end], "test": test}
    for split, rows in splits.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows[: ROWS[split]]])


def run_ours(folder: Path) -> dict[str, Any]:
    """Runs the study from the command line; returns its wall clock, the share of training, and its answer."""
    study = {
        "name": "verdict",
        "model": "minilm",
        "task": {
            "data": {split: str(folder / f"{split}.csv") for split in ROWS},
            "text": "text",
            "label": "label",
        },
        "protocol": {
            "seeds": SEEDS,
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "max_length": MAX_LENGTH,
            "search": {"trials": SEARCH},
        },
        "methods": ["majority", *METHODS],
    }
    path, out = folder / "verdict.yaml", folder / "out"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tuneoff", "run", str(path), "--out", str(out)], check=True)
    seconds = time.perf_counter() - started
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("trials/*/record.json")]
    report = json.loads((out / "report" / "report.json").read_text(encoding="utf-8"))
    arms = {
        entry["method"]: {
            "accuracy": entry["metrics"]["accuracy"]["mean"],
            "ties": entry["ties"],
        }
        for entry in report["methods"]
    }
    return {
        "seconds": seconds,
        "trials": len(records),
        "train_seconds": sum(record["timing"]["train_seconds"] or 0.0 for record in records),
        "trial_seconds": sum(record["timing"]["total_seconds"] or 0.0 for record in records),
        "arms": arms,
        "answer": report["answer"]["text"],
        "environment": next(record["environment"] for record in records),
    }


def run_peer(folder: Path, form: str) -> float:
    """Runs every trial that trains by the peer's script, one process after another; returns the wall clock."""
    shape = SHAPES["minilm"]
    started = time.perf_counter()
    for method in METHODS:
        for seed in range(SEARCH + SEEDS):
            description = {
                "model": str(folder / "minilm"),
                "task": "classification",
                "method": method,
                "form": form,
                # The faster one on texts this short.
                "attention": "eager" if form == "tuned" else "",
                **{split: str(folder / f"{split}.csv") for split in ROWS},
                "text": "text",
                "label": "label",
                "blocks": shape.blocks,
                "head_modules": list(shape.head),
                "lora_targets": list(shape.lora),
                "epochs": EPOCHS,
                "max_steps": None,
                "batch_size": BATCH,
                "evaluation_batch": 64,
                "learning_rate": 1e-3 if method != "full" else 1e-4,
                "warmup_steps": 2,
                "seed": seed,
                "max_length": MAX_LENGTH,
                "latency_examples": 0,
            }
            command = [sys.executable, str(HERE / "peer_trainer.py"), json.dumps(description)]
            subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with sst2_train.tsv and sst2_test.tsv")
    parser.add_argument("--peer", action="store_true", help="run the same trials by the peer's script too")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "verdict.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuneoff-verdict-") as scratch:
        folder = Path(scratch)
        write_rows(arguments.data, folder)
        result: dict[str, Any] = {"ours": run_ours(folder)}
        ours = result["ours"]["seconds"]
        print(f"tuneoff: {ours:.0f} s, {result['ours']['train_seconds'] / ours:.0%} of it training", flush=True)
        if arguments.peer:
            write_models(folder, ["minilm"])
            for form in FORMS:
                result[form] = {"seconds": run_peer(folder, form)}
                seconds = result[form]["seconds"]
                print(f"the peer's script, {form}: {seconds:.0f} s, {seconds / ours:.2f} times ours", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
