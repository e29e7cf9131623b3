"""A real SLURM of one node on this machine, for tests: everything on the loopback, in a folder of its own."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

START_SECONDS = 60.0
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "runuser")
CONFIGURATION = """
ClusterName=tuneoff
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
ReturnToService=2
MailProg=/bin/true
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
"""Jobs of the partition `low` are requeued when one of `high` wants the node's two cores."""


def slurm_missing() -> str:
    """Returns why no job can be submitted to SLURM here; empty where one can, or could once it is started."""
    if shutil.which("sbatch") is None:
        return "SLURM is not installed (Debian: slurm-wlm)"
    if _answers():
        return ""
    missing = [name for name in PROGRAMS if _find(name) is None]
    if missing:
        return f"SLURM does not run and cannot be started: {', '.join(missing)} is not installed"
    return "" if os.geteuid() == 0 else "SLURM does not run, and only root can start it"


@functools.cache
def start_slurm() -> None:
    """Starts a cluster unless one answers, for as long as this process runs; `SLURM_CONF` names it."""
    if _answers():
        return
    folder = Path(tempfile.mkdtemp(prefix="tuneoff-slurm-"))
    # The way to munge's socket must be open to all, and its own folders to no other.
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    atexit.register(_end, folder)
    _start_munge(folder / "munge")
    text = CONFIGURATION.format(host=socket.gethostname().partition(".")[0], ports=_free_ports(), folder=folder)
    (folder / "slurm.conf").write_text(text, encoding="utf-8")
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    for name in ("slurmctld", "slurmd"):
        subprocess.run([str(_find(name))], check=True)
        _wait((folder / f"{name}.pid").exists, f"{name} does not start")
    _wait(_is_idle, "the node does not come up")


def slurm_environment() -> dict[str, str]:
    """Returns what the commands of SLURM need in the environment of another process."""
    return {"SLURM_CONF": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}


def _start_munge(folder: Path) -> None:
    """Starts munge, by which the parts of SLURM trust one another, with a key of its own."""
    folder.mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    for path in (folder, folder / "key"):
        shutil.chown(path, "munge", "munge")
    names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "key-file": "key", "seed-file": "seed"}
    flags = [f"--{flag}={folder / name}" for flag, name in names.items()]
    subprocess.run(["runuser", "-u", "munge", "--", str(_find("munged")), *flags], check=True)


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def _answers() -> bool:
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False)
    return done.returncode == 0


def _is_idle() -> bool:
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, check=False)
    return "idle" in done.stdout.split()


def _wait(condition: Callable[[], bool], problem: str) -> None:
    limit = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < limit, problem
        time.sleep(0.2)


def _free_ports() -> list[int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in (first, second)]


def _end(folder: Path) -> None:
    for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
        with suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int((folder / name).read_text(encoding="ascii")))
            process.terminate()
            psutil.wait_procs([process], timeout=10)
    shutil.rmtree(folder, ignore_errors=True)
