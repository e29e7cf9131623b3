"""The machine, the software and the numerical precision a trial ran with."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneoff.measure.machine import core_count
from tuneoff.records.record import Environment, PrecisionInfo

if TYPE_CHECKING:
    import torch

PACKAGES = ("tuneoff", "torch", "transformers", "peft", "tokenizers", "numpy", "safetensors", "datasets")
"""Packages whose versions are recorded, where they are installed."""

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]

_GIT_TIMEOUT_SECONDS = 2.0

# Full float32 products of this size are off by about 3e-7; TF32 and bf16 by 3e-4 to 3e-3.
_FULL_PRECISION_ERROR = 1e-5


@cache
def source_commit(folder: Path = _PACKAGE_FOLDER) -> str | None:
    """Returns the git commit of tuneoff's source, with '+dirty' where its package has changes; None outside a checkout.

    Installed copies inside somebody else's repository are no checkout: the package's files must be tracked.
    """
    if _run_git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    status = _run_git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", ".")
    if status is None:
        return None
    lines = status.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if commit == "(initial)":
        return None
    return commit + ("+dirty" if any(not line.startswith("#") for line in lines) else "")


def _run_git(folder: Path, *arguments: str) -> str | None:
    """Returns what git prints, or None where it fails, hangs or is not installed."""
    # A git hook that runs this sets GIT_DIR, which would name another repository. The lock is left to others.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return process.stdout


@cache
def versions() -> dict[str, str]:
    """Returns package -> installed version; packages that are not installed are left out."""
    package_versions = {}
    for package in PACKAGES:
        try:
            package_versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return package_versions


@cache
def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's name, as the system gives it."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name" and value.strip():
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def memory_bytes() -> int:
    """Returns the size of the machine's memory in bytes."""
    import psutil

    return int(psutil.virtual_memory().total)


def device_name(device: torch.device | str) -> str:
    """Returns the name of a GPU, or of the processor."""
    if not str(device).startswith("cuda"):
        return processor()
    import torch

    return torch.cuda.get_device_name(device)


def describe(
    device: torch.device | str,
    threads: int,
    commit: str | Callable[[], str | None] | None = source_commit,
    release_memory: bool = False,
    trials_at_once: int = 1,
) -> Environment:
    """Describes the machine and the software now. It is quick: what cannot change is looked up once per process.

    Args:
        device: where the model is.
        threads: threads that one operation uses.
        commit: tuneoff's commit where it is known already (None: known to be none); by default it is looked up.
        release_memory: whether freed memory went back to the system at once.
        trials_at_once: how many trials had the processor at once.
    """
    name = str(device)
    device_memory = None
    if name.startswith("cuda"):
        import torch

        device_memory = int(torch.cuda.get_device_properties(name).total_memory)
    return Environment(
        platform=platform.platform(),
        python=platform.python_version(),
        processor=processor(),
        cores=core_count(),
        memory_bytes=memory_bytes(),
        device=name,
        device_name=device_name(name),
        device_memory_bytes=device_memory,
        threads=threads,
        versions=dict(versions()),
        commit=commit() if callable(commit) else commit,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        release_memory=release_memory,
        trials_at_once=trials_at_once,
    )


def precision(policy: Literal["fp32", "fp32-medium", "bf16"], device: torch.device | str) -> PrecisionInfo:
    """Describes what the policy means here, with the error of a product measured under torch's present settings.

    Call it once the policy is in force: it changes no setting. 'bf16' is measured under autocast, as it trains.
    """
    error = matmul_relative_error(device, autocast=policy == "bf16")
    product_precision = "full float32" if error < _FULL_PRECISION_ERROR else "reduced precision"
    measurement = f"products here are computed in {product_precision} (relative error {error:.0e})"
    if policy == "bf16":
        policy_text = (
            "bfloat16 autocast: trained weights in float32, products, activations and frozen weights in bfloat16"
        )
    elif policy == "fp32-medium":
        policy_text = "float32 weights and activations; products may use the hardware's reduced precision"
    else:
        policy_text = "float32 weights and activations; products in full float32 are asked for"
    return PrecisionInfo(policy=policy, description=f"{policy_text}; {measurement}", matmul_relative_error=error)


def matmul_relative_error(device: torch.device | str, autocast: bool = False, size: int = 256) -> float:
    """Measures the largest error of a (size, size) product of normal numbers, relative to the largest entry in float64.

    It does not change the global random state.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    device_type = torch.device(device).type
    context = torch.autocast(device_type, dtype=torch.bfloat16) if autocast else nullcontext()
    with torch.no_grad(), context:
        product = left.to(device) @ right.to(device)
    return float((product.double().cpu() - exact).abs().max() / exact.abs().max())
