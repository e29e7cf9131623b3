"""`tuneoff doctor`, without asking the network or torch."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cli.commands import doctor
from tuneoff.cli.main import main

TORCH = {"ok": True, "cuda_available": False, "gpus": [], "threads": 2}


@pytest.fixture(autouse=True)
def _nothing_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "_torch", lambda: dict(TORCH))
    monkeypatch.setattr(doctor, "_package_index", lambda: {"ok": True, "message": "answers"})
    monkeypatch.setattr(doctor, "_hub", lambda: {"ok": True, "message": "answers"})
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: None)


def test_report_has_machine_versions_caches_and_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cache/packages").mkdir(parents=True)
    (tmp_path / "cache/packages/file").write_bytes(b"x" * 5000)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["memory_bytes"] > 2**28
    assert found["versions"]["click"]
    assert found["versions"]["torch"]
    cache = next(item for item in found["caches"] if item["name"] == "tuneoff")
    assert (cache["folder"], cache["bytes"], cache["files"]) == (str(tmp_path / "cache"), 5000, 1)
    assert all(item["free_bytes"] > 0 for item in found["disk"])
    assert not [item for item in found["missing"] if item["essential"]]


def test_shown_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for part in ("processor", "transformers", "caches", "free space", "package index", "GPUs for torch"):
        assert part in shown


def test_missing_package_is_essential_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda: {"nosuch-package": ">=1", "click": ">=99"})
    assert main(["doctor", "--json"]) == 1
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert [item["what"].split()[0] for item in missing if item["essential"]] == ["nosuch-package", "click"]
    assert missing[0]["remedy"] == "pip install 'nosuch-package>=1'"
    assert main(["doctor"]) == 1
    assert "essential: nosuch-package is not installed" in capsys.readouterr().out


def test_torch_that_does_not_load_is_essential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_torch", lambda: {"ok": False, "message": "ImportError: libfoo"})
    found = [item for item in doctor.examine()["missing"] if item["essential"]]
    assert "ImportError: libfoo" in found[0]["what"]


def test_silent_network_is_told_with_what_works_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_package_index", lambda: {"ok": False, "message": "no route"})
    monkeypatch.setattr(doctor, "_hub", lambda: {"ok": False, "message": "no route"})
    missing = doctor.examine()["missing"]
    assert "TUNEOFF_WHEELS" in next(item["remedy"] for item in missing if "package index" in item["what"])
    assert "--random-weights" in next(item["remedy"] for item in missing if "hub does not" in item["what"])
    assert not any(item["essential"] for item in missing)


def test_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_nvidia_smi", lambda: ["NVIDIA A100, 81920 MiB, 570.1"])
    assert any("a GPU is there" in item["what"] for item in doctor.examine()["missing"])


@pytest.mark.parametrize(
    ("failure", "ok", "message"),
    [
        (urllib.error.URLError(OSError("no such host")), False, "no such host"),
        (TimeoutError("timed out"), False, "timed out"),
        (urllib.error.HTTPError("http://x", 403, "no", None, None), True, "answers with 403"),  # type: ignore[arg-type]
        (urllib.error.HTTPError("http://x", 503, "no", None, None), False, "answers with 503"),  # type: ignore[arg-type]
    ],
)
def test_hub_that_does_not_answer(failure: Exception, ok: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", fail)
    found = doctor._hub()
    assert (found["ok"], found["message"]) == (ok, message)


def test_hub_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in doctor._hub()["message"]


@pytest.mark.parametrize(("code", "ok", "message"), [(0, True, "answers"), (1, False, "ERROR: no index")])
def test_package_index_is_asked_through_pip(code: int, ok: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    done: subprocess.CompletedProcess[str] = subprocess.CompletedProcess([], code, "", "warning\nERROR: no index\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert doctor._package_index() == {"ok": ok, "message": message}
