"""The devices and cores that a trial's process is given, where several trials run at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from tuneoff.trial.distributed.context import threads_each
from tuneoff.trial.modeling.precision import choose_device

VISIBLE = "CUDA_VISIBLE_DEVICES"


def list_gpus(wanted: str) -> list[dict[str, Any]]:
    """Lists the GPUs that trials may use, each with its `name` for CUDA_VISIBLE_DEVICES and its `memory_bytes`; none
    where they run on the CPU.

    Raises:
        ExecutorError: if a GPU is asked for and there is none.
    """
    if choose_device(wanted).type != "cuda":
        return []
    count = torch.cuda.device_count()
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()] or map(str, range(count))
    sizes = [torch.cuda.get_device_properties(number).total_memory for number in range(count)]
    return [{"name": name, "memory_bytes": size} for name, size in zip(names, sizes, strict=False)]


def confine(payload: Mapping[str, Any]) -> None:
    """Confines this process, which has used neither yet, to the GPUs and cores of its request; none are named where it
    may use all."""
    if payload.get("gpus"):
        os.environ[VISIBLE] = ",".join(payload["gpus"])
    if payload.get("cores"):
        os.sched_setaffinity(0, payload["cores"])
        torch.set_num_threads(threads_each(1))
        # The tokenizers' threads.
        os.environ["RAYON_NUM_THREADS"] = str(len(payload["cores"]))
