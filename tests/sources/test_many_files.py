"""Compressed files, Arrow and Feather, patterns and lists of files, data sets saved on disk, and paths into cells."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from tuneoff import registry
from tuneoff.config.data import SourceSpec, TaskSpec
from tuneoff.errors import DataError, SourceNotFound
from tuneoff.interfaces import Rows
from tuneoff.sources import _packed, fingerprint, local_bytes, read_rows, splits

TEXT = '{"text": "one, two", "label": "0"}\n{"text": "three", "label": null}\n'
COLUMNS = {"text": ["one, two", "three"], "label": ["0", None]}
TABLE = pyarrow.table(COLUMNS)


def _zstd(data: bytes) -> bytes:
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}


def _read(source: Any, split: str = "train", wanted: tuple[str, ...] = ()) -> Rows:
    return read_rows(registry.sources(), SourceSpec.model_validate(source), split, wanted)


# --- compressed files, Arrow and Feather


@pytest.mark.parametrize("ending", PACKERS)
def test_a_compressed_file_is_read_as_what_it_holds(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.jsonl{ending}").write_bytes(PACKERS[ending](TEXT.encode()))
    (tmp_path / f"a.CSV{ending.upper()}").write_bytes(PACKERS[ending](b'text,label\n"one, two",0\nthree,\n'))
    assert _read(str(tmp_path / f"a.jsonl{ending}")).columns == COLUMNS
    rows = _read(str(tmp_path / f"a.CSV{ending.upper()}"))
    assert rows.columns == COLUMNS
    assert rows.place(1).endswith("line 3")


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packed, "ALWAYS_BYTES", 2**20)
    path = tmp_path / f"bomb.csv{ending}"
    path.write_bytes(PACKERS[ending](b"text,label\n" + b"a" * 8 * 2**20))
    with pytest.raises(DataError, match="unpacks to more than") as caught:
        _read(str(path))
    assert "bomb.csv" in caught.value.message
    monkeypatch.setattr(_packed, "ALWAYS_BYTES", 2**24)
    with pytest.raises(DataError, match="has 1 columns"):
        _read(str(path))


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("damage", ["cut", "plain", "empty"])
def test_a_damaged_compressed_file_is_one_error(tmp_path: Path, ending: str, damage: str) -> None:
    whole = PACKERS[ending](TEXT.encode() * 50)
    content = {"cut": whole[: len(whole) // 2], "plain": TEXT.encode(), "empty": b""}[damage]
    (tmp_path / f"a.jsonl{ending}").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jsonl"):
        _read(str(tmp_path / f"a.jsonl{ending}"))


def _write_stream(path: Path) -> None:
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)


def _write_file(path: Path) -> None:
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.arrow", _write_stream),
        ("b.arrow", _write_file),
        ("a.feather", lambda path: pyarrow.feather.write_feather(TABLE, str(path))),
        ("a.parquet", lambda path: pyarrow.parquet.write_table(TABLE, path)),
    ],
)
def test_arrow_in_all_its_formats(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert _read(str(tmp_path / name)).columns == COLUMNS
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    assert _read(str(tmp_path / f"{name}.gz")).columns == COLUMNS


@pytest.mark.parametrize("name", ["a.arrow", "a.feather", "a.arrow.gz"])
@pytest.mark.parametrize("content", [b"", b"text,label\na,b\n"])
def test_what_is_no_arrow_file_is_one_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=name):
        _read(str(tmp_path / name))


# --- several files


def _write_two(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": "one", "label": "x"}\n')
    (folder / "b.jsonl").write_text('\n{"text": "two", "label": "y", "more": 1}\n')


def test_a_pattern_reads_its_files_in_order_and_keeps_places_and_checksums(tmp_path: Path) -> None:
    _write_two(tmp_path)
    rows = _read(str(tmp_path / "*.jsonl"))
    assert rows.columns == {"text": ["one", "two"], "label": ["x", "y"], "more": [None, 1]}
    assert rows.place(1) == f"{tmp_path / 'b.jsonl'} line 2"
    assert rows.only([1]).place(0) == rows.place(1)
    assert list(rows.files) == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    assert all(fingerprint(registry.sources(), name) == checksum for name, checksum in rows.files.items())


def test_the_fingerprint_of_a_pattern_follows_every_file(tmp_path: Path) -> None:
    _write_two(tmp_path)
    pattern = str(tmp_path / "*.jsonl")
    before = fingerprint(registry.sources(), pattern)
    assert local_bytes(registry.sources(), pattern) == sum(path.stat().st_size for path in tmp_path.iterdir())
    (tmp_path / "c.jsonl").write_text('{"text": "three", "label": "x"}\n')
    assert fingerprint(registry.sources(), pattern) != before
    (tmp_path / "c.jsonl").unlink()
    assert fingerprint(registry.sources(), pattern) == before
    (tmp_path / "b.jsonl").write_text('{"text": "other", "label": "y"}\n')
    assert fingerprint(registry.sources(), pattern) != before


def test_a_pattern_of_nothing_and_a_split_of_files_are_refused(tmp_path: Path) -> None:
    _write_two(tmp_path)
    with pytest.raises(SourceNotFound, match=r"nothing has such a name"):
        _read(str(tmp_path / "*.csv"))
    with pytest.raises(SourceNotFound, match="has no split"):
        _read({"source": str(tmp_path / "*.jsonl"), "split": "train"})


def test_a_list_of_files_is_one_split(tmp_path: Path) -> None:
    _write_two(tmp_path)
    names = [str(tmp_path / "b.jsonl"), str(tmp_path / "a.jsonl")]
    for source in (names, {"source": names}):
        rows = _read(source)
        assert rows.columns["text"] == ["two", "one"]
        assert rows.place(0) == f"{names[0]} line 2"
    task = TaskSpec.model_validate({"data": {"train": names, "test": names[0]}})
    assert task.data.references == tuple(names)
    assert TaskSpec.model_validate({"data": names}).data.test is None
    with pytest.raises(ValueError, match="an empty list of files"):
        SourceSpec.model_validate([])
    with pytest.raises(SourceNotFound, match=r"gone\.jsonl"):
        _read([names[0], str(tmp_path / "gone.jsonl")])


def test_columns_are_read_by_other_names(tmp_path: Path) -> None:
    _write_two(tmp_path)
    name = str(tmp_path / "a.jsonl")
    assert _read({"source": name, "rename": {"text": "query"}}).columns == {"query": ["one"], "label": ["x"]}
    with pytest.raises(DataError, match="no column 'txt' to rename"):
        _read({"source": name, "rename": {"txt": "query"}})
    with pytest.raises(DataError, match="would be called 'label'"):
        _read({"source": name, "rename": {"text": "label"}})


# --- folders of save_to_disk


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    tables = {
        "train": datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 1]}, features=features),
        "test": datasets.Dataset.from_dict({"text": ["d"], "label": [-1]}, features=features),
    }
    datasets.DatasetDict(tables).save_to_disk(str(tmp_path / "both"))
    tables["train"].select([2, 0]).save_to_disk(str(tmp_path / "one"), num_shards=2)
    return tmp_path


def test_a_saved_data_set_has_its_splits_and_classes(saved: Path) -> None:
    both = str(saved / "both")
    rows = _read(both)
    assert rows.columns == {"text": ["a", "b", "c"], "label": [0, 1, 1]}
    assert rows.class_names == {"label": ("no", "yes")}
    assert _read(both, "test").columns == {"text": ["d"], "label": [None]}
    assert _read({"source": both, "split": "test"}).columns["text"] == ["d"]
    assert splits(registry.sources(), both) == ("train", "test")
    assert all(name.startswith(both) and len(checksum) == 64 for name, checksum in rows.files.items())
    with pytest.raises(SourceNotFound, match="no split 'validation'") as caught:
        _read(both, "validation")
    assert "train, test" in caught.value.hint


def test_a_saved_data_set_names_the_classes_in_its_lists(tmp_path: Path) -> None:
    import datasets

    tags = datasets.Sequence(datasets.ClassLabel(names=["O", "B-x"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    table = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[0, 1]]}, features=features)
    table.save_to_disk(str(tmp_path / "saved"))
    table.to_parquet(str(tmp_path / "rows.parquet"))
    for name in ("saved", "rows.parquet"):
        assert _read(str(tmp_path / name)).class_names == {"ner_tags": ("O", "B-x")}


def test_a_single_saved_table_serves_any_role(saved: Path) -> None:
    one = str(saved / "one")
    assert _read(one).columns["text"] == _read(one, "test").columns["text"] == ["c", "a"]
    assert splits(registry.sources(), one) == ()
    with pytest.raises(SourceNotFound, match="no split 'test'"):
        _read({"source": one, "split": "test"})


def test_the_fingerprint_of_a_saved_data_set_follows_its_rows(saved: Path) -> None:
    both = str(saved / "both")
    before = fingerprint(registry.sources(), both)
    assert local_bytes(registry.sources(), both)
    assert fingerprint(registry.sources(), both) == before
    shard = next((saved / "both" / "test").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    assert fingerprint(registry.sources(), both) != before


@pytest.mark.parametrize("damage", ["missing", "elsewhere", "no json", "no splits", "cut"])
def test_a_damaged_saved_data_set_is_one_error(saved: Path, damage: str) -> None:
    folder = saved / "both"
    state, shard = folder / "train" / "state.json", next((folder / "train").glob("*.arrow"))
    if damage == "missing":
        shard.unlink()
    elif damage == "elsewhere":
        body = json.loads(state.read_text())
        body["_data_files"] = [{"filename": "../test/data-00000-of-00001.arrow"}]
        state.write_text(json.dumps(body))
    elif damage == "no json":
        state.write_text("{")
    elif damage == "no splits":
        (folder / "dataset_dict.json").write_text('{"splits": ["../elsewhere"]}')
    else:
        shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(DataError, match="both"):
        _read(str(folder))


# --- parts of objects and of lists


def test_paths_lead_into_objects_and_lists(tmp_path: Path) -> None:
    cells = [
        {"q": "a", "answers": {"text": ["x", "y"], "start": [1, 2]}, "turns": [{"role": "user", "content": "hi"}]},
        {"q": "b", "answers": {"text": ["z"], "start": []}, "turns": [{"role": "user", "content": "ho"}]},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, cells)))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(cells), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        wanted = ("answers.text.0", "answers.text.-1", "turns.0.content", "answers.start.1", "answers.text.7", "no.0")
        columns = _read(str(tmp_path / name), wanted=wanted).columns
        assert columns["answers.text"] == [["x", "y"], ["z"]]
        assert columns["answers.text.0"] == ["x", "z"]
        assert columns["answers.text.-1"] == ["y", "z"]
        assert columns["turns.0.content"] == ["hi", "ho"]
        assert columns["answers.start.1"] == [2, None]
        assert "answers.text.7" not in columns
        assert "no.0" not in columns
