"""Whole runs that are watched: no socket, no pickle, no file elsewhere, no secret in what they leave or print."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_helpers import Failure, answering
from running_helpers import Ended, Tiny

pytest_plugins = ("running_fixtures",)
pytestmark = pytest.mark.slow

Command = Callable[..., Ended]
AUDIT = '''
"""Notes what audit events tell of this process and its children: sockets, pickles, files that are written."""
import json
import os
import sys

_LOG = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_WATCHED = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}


def _callers():
    frame, files = sys._getframe(2), []
    while frame is not None and len(files) < 12:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return files


def _hear(event, arguments):
    if event in _WATCHED or event == "pickle.find_class":
        what = [*map(str, arguments), *_callers()]
    elif event in _CHANGES:
        # A folder that is open stands for the one that a name is relative to.
        what = [os.path.abspath(os.fsdecode(one)) for one in arguments if isinstance(one, (str, bytes))]
        if any(isinstance(one, int) and one > 2 for one in arguments[1:]) and event in {"os.remove", "os.rmdir"}:
            return
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
        what = [os.path.abspath(os.fsdecode(arguments[0]))]
    else:
        return
    os.write(_LOG, (json.dumps([event, *what]) + chr(10)).encode())


sys.addaudithook(_hear)
'''
CANARY = "canary-5f0c2ab91e"
SECRETS = {
    "HF_TOKEN": f"hf_{CANARY}",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{CANARY}",
    "WANDB_API_KEY": CANARY * 2,
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_SESSION_TOKEN": CANARY,
    "OPENAI_API_KEY": f"sk-{CANARY}",
    "MLFLOW_TRACKING_PASSWORD": CANARY,
    "RAY_AUTH_TOKEN": CANARY,
    "SLURM_JWT": CANARY,
    "GITHUB_TOKEN": CANARY,
    "DATABASE_URL": f"postgres://user:{CANARY}@db/x",
    "HTTPS_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "HTTP_PROXY": f"http://user:{CANARY}@127.0.0.1:9",
    "PIP_INDEX_URL": f"http://user:{CANARY}@127.0.0.1:9/simple",
    "HF_ENDPOINT": f"http://user:{CANARY}@127.0.0.1:9",
}


def _study(tiny: Tiny, folder: Path, **changes: Any) -> Path:
    raw = tiny.study(("majority", "lora"), max_steps=4) | changes
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def _hashes(out: Path) -> dict[str, Any]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("trials/*/record.json"))]
    assert all(record["status"] == "completed" for record in records)
    return {record["spec"]["id"]: record["predictions"]["test"]["sha256"] for record in records}


def _use(command: Command, tiny: Tiny, study: Path) -> list[Ended]:
    """A study from its file to a trained model in use."""
    return [
        command("init", tiny.train, "--model", tiny.model, "--out", "made.yaml"),
        command("run", study, "--out", "out"),
        command("report", "out", "--latex"),
        command("recommend", "out"),
        command("watch", "out", "--once"),
        command("export", "out", "lora", "exported"),
        command("predict", "out", "lora", tiny.test, "--out", "predicted.csv"),
    ]


def test_a_run_opens_no_socket_no_pickle_and_writes_nowhere_else(
    command: Command, child_environment: dict[str, str], tiny: Tiny, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("site", "home", "temporary", "matplotlib")}
    for folder in folders.values():
        folder.mkdir()
    (folders["site"] / "sitecustomize.py").write_text(AUDIT)
    log = tmp_path / "audit.jsonl"
    watched = {
        "PYTHONPATH": f"{folders['site']}:{child_environment['PYTHONPATH']}",
        "AUDIT_LOG": str(log),
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "MPLCONFIGDIR": str(folders["matplotlib"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    before = set(tiny.root.rglob("*"))
    for ended in _use(lambda *words: command(*words, environment=watched), tiny, _study(tiny, tmp_path)):
        assert ended.code == 0, ended.err
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    counts = {kind: sum(event[0].startswith(kind) for event in events) for kind in ("socket", "pickle", "open", "os.")}
    print(f"audit events: {counts}")
    assert counts["open"] > 50, "what is written is seen"
    assert [event for event in events if event[0].startswith("socket")] == []
    # The process that counts memory is asked by a pipe of its parent; matplotlib and others copy their own objects.
    foreign = [
        event
        for event in events
        if event[0] == "pickle.find_class" and not any("estimate/process.py" in name for name in event[3:])
    ]
    assert foreign == []
    # Linux resets a peak of memory by a file; PyTorch makes an empty folder for kernels that it never compiles.
    allowed = [str(tmp_path), str(tiny.root / "cache"), str(tiny.root / "hub")]
    allowed += ["/dev/", "/proc/self/", "/tmp/torchinductor_"]
    written = {path for event in events if event[0] == "open" or event[0].startswith("os.") for path in event[1:]}
    assert [path for path in sorted(written) if not path.startswith(tuple(allowed))] == []
    assert set(tiny.root.rglob("*")) - before <= {*(tiny.root / "cache").rglob("*"), *(tiny.root / "hub").rglob("*")}
    assert list(folders["temporary"].iterdir()) == [], "what is temporary is removed"
    assert [path for path in folders["home"].rglob("*") if path.is_file()] == []


def _without_network() -> list[str]:
    """Returns how a command is run without a network; empty where that cannot be."""
    for words in (["unshare", "-n"], ["unshare", "-rn"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ):
            return words
    return []


def test_a_run_without_any_network_gives_the_same(
    command: Command, child_environment: dict[str, str], tiny: Tiny, tmp_path: Path
) -> None:
    if not (words := _without_network()):
        pytest.skip("no network namespace can be made here (unshare -n)")
    study = _study(tiny, tmp_path)

    def isolated(*arguments: str | Path) -> Ended:
        # Without HF_HUB_OFFLINE: there is nothing that it would keep from being asked.
        environment = {key: value for key, value in child_environment.items() if key != "HF_HUB_OFFLINE"}
        done = subprocess.run(
            [*words, sys.executable, "-m", "tuneoff", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    for ended in _use(isolated, tiny, study):
        assert ended.code == 0, ended.err
    assert command("run", study, "--out", "connected").code == 0
    assert _hashes(tmp_path / "out") == _hashes(tmp_path / "connected")


ENDPOINT = {"url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "OPENAI_API_KEY"}
FAILURES: dict[str, dict[str, Any]] = {
    "model of the hub": {"model": "nobody/nothing"},
    "rows of the hub": {"task": {"data": "nobody/nothing"}},
    "package": {"model": "minilm"},
    "address for rows": {"task": {"data": {"train": f"https://user:{CANARY}@127.0.0.1:9/rows.csv"}}},
    "address for a model": {"model": f"https://user:{CANARY}@127.0.0.1:9/model"},
    "method": {"methods": {"faulty": {"how": "raise"}}},
    "memory": {"methods": {"faulty": {"how": "memory"}}},
    "tracker": {"trackers": ["nothing"]},
    "ray": {"executor": {"name": "ray", "address": f"ray://user:{CANARY}@127.0.0.1:9"}},
    "a key in place of its variable's name": {"methods": {"endpoint": {**ENDPOINT, "api_key_env": f"sk-{CANARY}"}}},
    "a key in an address": {"methods": {"endpoint": {**ENDPOINT, "url": f"http://user:{CANARY}@127.0.0.1:9/v1"}}},
    "an endpoint that is not there": {"methods": {"endpoint": {**ENDPOINT, "tries": 1}}},
}


def test_secrets_are_in_nothing_that_is_left_or_printed(command: Command, tiny: Tiny, tmp_path: Path) -> None:
    secrets = {**SECRETS, "HF_HUB_OFFLINE": "", "HF_HOME": str(tmp_path / "hub"), "TUNEOFF_WHEELS": ""}
    secrets |= {"TUNEOFF_CACHE": str(tmp_path / "cache")}

    def told(*words: str | Path, code: int | None = None) -> Ended:
        ended = command(*words, environment=secrets)
        assert code is None or ended.code == code, ended.err
        assert CANARY not in ended.out + ended.err, words
        return ended

    for ended in _use(told, tiny, _study(tiny, tmp_path)):
        assert ended.code == 0, ended.err
    with answering(lambda prompt: f"sk-{CANARY}") as server:
        # A server that repeats the key in every answer.
        server.failures = [Failure(500, {"error": {"message": f"the key sk-{CANARY}"}})]
        asked = {**ENDPOINT, "url": server.url}
        folder = tmp_path / "endpoint"
        folder.mkdir()
        told("run", _study(tiny, folder, methods={"endpoint": asked}), "--out", folder / "out", code=0)
        told("report", folder / "out", code=0)
        assert set(server.keys) == {f"Bearer sk-{CANARY}"}
    told("doctor")
    told("cache")
    for number, (kind, changes) in enumerate(FAILURES.items()):
        folder = tmp_path / f"study-{number}"
        folder.mkdir()
        study = _study(tiny, folder, **changes)
        ended = told("run", study, "--out", folder / "out", "--traceback", "--no-profile")
        assert ended.code in {1, 2}, (kind, ended.err)
        told("report", folder / "out", "--traceback")
        study.unlink()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    found = [path for path in files if CANARY.encode() in path.read_bytes()]
    print(f"{len(FAILURES)} failures and a whole run; {len(files)} files searched, {len(found)} with a secret")
    assert found == []
