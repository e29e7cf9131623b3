"""Small result files in the public schema of PEFT's method comparison, made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODEL = "some-org/Base-1B"


def result(
    experiment: str = "lora/base-1b-rank8",
    accuracy: float = 0.48,
    *,
    peak: int = 20 * 2**30,
    stored: int = 30_000_000,
    step_seconds: float = 31.5,
    trained: int = 9_000_000,
    adapter: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """One run that came to its end: four validations and the test. `settings` go to the train config."""
    validations = [
        {
            "step": 250 * (at + 1),
            "valid accuracy": 0.3 + 0.04 * at,
            "train loss": 0.9 - 0.1 * at,
            "train samples": 1000 * (at + 1),
            "train time": step_seconds,
            "eval time": 10.0,
        }
        for at in range(4)
    ]
    end = {
        "step": 1000,
        "test accuracy": accuracy,
        "train loss": 0.6,
        "train samples": 4000,
        "train total tokens": 840_000,
        "forgetting": 0.02,
    }
    config = {
        "model_id": MODEL,
        "dtype": "bfloat16",
        "max_seq_length": 768,
        "batch_size": 4,
        "batch_size_eval": 50,
        "max_steps": 1000,
        "seed": 0,
        "grad_norm_clip": 1.0,
        "optimizer_type": "AdamW",
        "optimizer_kwargs": {"lr": 1e-4, "weight_decay": 0.1},
        "lr_scheduler": "cosine",
        "use_amp": False,
        **settings,
    }
    full = experiment.startswith("full")
    return {
        "run_info": {
            "created_at": "2025-06-19T16:55:20+00:00",
            "total_time": 400.0,
            "experiment_name": experiment,
            "train_config": config,
            "peft_config": None if full else (adapter or {"peft_type": "LORA", "r": 8, "revision": None}),
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": peak // 2,
            "accelerator_memory_max": peak,
            "train_time": 300.0,
            "file_size": stored,
            "num_trainable_params": trained,
            "num_total_params": 1_000_000_000,
            "status": "success",
            "metrics": [*validations, end],
        },
        "meta_info": {
            "model_info": {"sha": "13afe512"},
            "dataset_info": {"gsm8k": {"sha": "e53f0488"}},
            "package_info": {"torch-version": "2.7.1", "transformers-version": "4.52.4", "peft-version": "0.15.2"},
            "system_info": {"system": "Linux", "accelerator": "NVIDIA L40S"},
        },
    }


def write(folder: Path, **files: Any) -> Path:
    """Writes each as NAME.json; text as it stands, anything else as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        text = body if isinstance(body, str) else json.dumps(body)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


def usual(folder: Path) -> Path:
    """Three methods of one suite."""
    return write(
        folder,
        lora=result(),
        full=result(
            "full-finetuning/base-1b-lr_1e-5",
            0.50,
            peak=34 * 2**30,
            stored=2_000_000_000,
            trained=1_000_000_000,
            step_seconds=90.0,
        ),
        ia3=result("ia3/base-1b-default", 0.40, peak=19 * 2**30, stored=1_000_000, trained=200_000, step_seconds=28.0),
    )
