"""Checksums: of the bytes as they are now, read once where nothing was written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tuneoff import checksums


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for every file that is read."""
    found: list[int] = []
    original = hashlib.file_digest

    def digest(file: Any, name: str) -> Any:
        found.append(1)
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", digest)
    return found


def test_a_file_is_read_once_until_it_is_written(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1.0)
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    assert checksums.sha256(file) == checksums.sha256(file) == hashlib.sha256(b"one").hexdigest()
    assert len(reads) == 1
    file.write_bytes(b"longer")
    assert checksums.sha256(file) == hashlib.sha256(b"longer").hexdigest()


def test_a_file_written_a_moment_ago_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    stamp = None
    for content in (b"one", b"two", b"six"):
        file.write_bytes(content)
        stamp = stamp or file.stat().st_mtime_ns
        os.utime(file, ns=(stamp, stamp))
        assert checksums.sha256(file) == hashlib.sha256(content).hexdigest()


def test_a_new_file_under_an_old_name_is_another_file(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -1.0)
    file, other = tmp_path / "weights", tmp_path / "other"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    first = checksums.sha256(file)
    other.replace(file)
    assert checksums.sha256(file) != first


def test_another_process_of_the_run_need_not_read_a_file_again_until_it_is_written(
    tmp_path: Path, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "SETTLED_SECONDS", -3600.0)
    path = tmp_path / "weights"
    path.write_text("one")
    first = checksums.sha256(path)
    told = json.loads(json.dumps(checksums.remembered()))
    monkeypatch.setattr(checksums, "_DIGESTS", {})
    checksums.remember(told)
    assert (checksums.sha256(path), len(reads)) == (first, 1)
    path.write_text("other")
    assert checksums.sha256(path) != first
