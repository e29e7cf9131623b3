"""Files of rows that try their readers: one `DataError` that names the file, at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.feather
import pyarrow.parquet
import pytest

from tuneoff import registry
from tuneoff.config.data import SourceSpec
from tuneoff.errors import DataError
from tuneoff.sources import read_rows
from tuneoff.sources._packed import table_bytes
from tuneoff.sources.file import File

ROW = '{"text": "a", "label": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deep.jsonl", "[" * 100_000, "is not JSON|nested too deeply"),
        ("deep.jsonl", f'{ROW}{{"text": {"[" * 9000}{"]" * 9000}}}', "line 2 holds JSON that is nested too deeply"),
        ("deep.json", f"[{'[' * 9000}", "nested too deeply"),
        ("digits.jsonl", f'{ROW}{{"text": "a", "label": {"9" * 5000}}}', "line 2 .* a whole number of too many digits"),
        ("digits.json", f'[{{"label": {"9" * 5000}}}]', "a whole number of too many digits"),
    ],
)
def test_json_that_python_cannot_take(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        File().rows(SourceSpec(source=str(path)), "train")


def test_a_value_of_parquet_beyond_pythons_range(tmp_path: Path) -> None:
    path = tmp_path / "late.parquet"
    late = pyarrow.array([2**62], type=pyarrow.timestamp("us"))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "when": late}), path)
    with pytest.raises(DataError, match="column 'when' holds a value that cannot be read"):
        File().rows(SourceSpec(source=str(path)), "train")


def test_a_header_of_many_columns_that_repeats_one(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"c{number}" for number in range(30_000)]
    path.write_text(f"{','.join([*names, 'c7'])}\n{',' * 30_000}\n")
    with pytest.raises(DataError, match="names column 'c7' more than once"):
        File().rows(SourceSpec(source=str(path)), "train")


def write_stream(table: pyarrow.Table, path: Path) -> None:
    with pyarrow.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


LARGE = pyarrow.table({"text": ["x" * 100_000] * 3_000, "label": ["a"] * 3_000})
ONCE = pyarrow.table({"text": LARGE["text"][:400].dictionary_encode()})
RUNS = pyarrow.table({"text": pyarrow.compute.run_end_encode(LARGE["text"][:400])})
LISTS = pyarrow.table({"text": pyarrow.FixedSizeListArray.from_arrays(ONCE["text"].combine_chunks(), 1)})
EMPTY = pyarrow.table({"text": pyarrow.nulls(3_000_000)})


@pytest.mark.parametrize(
    ("name", "write", "table"),
    [
        ("rows.parquet", pyarrow.parquet.write_table, LARGE),
        ("rows.parquet", pyarrow.parquet.write_table, EMPTY),
        ("rows.feather", partial(pyarrow.feather.write_feather, compression="zstd"), LARGE),
        ("rows.parquet", pyarrow.parquet.write_table, ONCE),
        ("rows.feather", pyarrow.feather.write_feather, ONCE),
        ("rows.arrow", write_stream, ONCE),
        ("rows.arrow", write_stream, RUNS),
        ("rows.arrow", write_stream, LISTS),
    ],
)
def test_a_small_table_that_fills_the_memory_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[..., None], table: pyarrow.Table
) -> None:
    path = tmp_path / name
    write(table, path)
    assert path.stat().st_size < 200_000, "three hundred megabytes, or three million rows, in a small file"
    monkeypatch.setattr("tuneoff.sources._tables.ALWAYS_TABLE_BYTES", 4 * 2**20)
    with pytest.raises(DataError, match=rf"{name} unpacks to more than \d+ MiB, [\d,]+ times"):
        File().rows(SourceSpec(source=str(path)), "train")


def test_each_cell_of_values_written_once_counts_by_its_own() -> None:
    once = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0, 0, 1, None]), pyarrow.array(["x" * 1000, "y"]))
    runs = pyarrow.RunEndEncodedArray.from_arrays([3, 10], ["x" * 100, "y"])
    views = pyarrow.array(["x" * 100, None, "y"], type=pyarrow.string_view())
    lists = pyarrow.ListViewArray.from_arrays([0, 0, 1], [2, 2, 1], pyarrow.array(["x" * 100, "y"]))
    for array, count in ((once, 2001), (once[1:3], 1001), (runs, 307), (runs[2:6], 103), (views, 101), (lists, 203)):
        assert table_bytes(pyarrow.table({"a": array})) == count


def test_a_saved_data_set_that_fills_the_memory_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    datasets.Dataset(ONCE[:1]).save_to_disk(str(tmp_path / "saved"))
    write_stream(ONCE, next((tmp_path / "saved").glob("*.arrow")))
    monkeypatch.setattr("tuneoff.sources._saved.ALWAYS_TABLE_BYTES", 4 * 2**20)
    with pytest.raises(DataError, match=r"saved unpacks to more than \d+ MiB"):
        File().rows(SourceSpec(source=str(tmp_path / "saved")), "train")


@pytest.mark.parametrize("line", ['{{"k{}": 1}}', '{{"text": {{"k{}": {{"k": 1}}}}}}'])
def test_objects_of_a_key_each_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    keys = 2_500 if line.startswith('{{"k') else 30
    (tmp_path / "rows.jsonl").write_text("\n".join(line.format(i % keys) for i in range(2_500)))
    monkeypatch.setattr("tuneoff.sources._packed.ALWAYS_TABLE_BYTES", 2**10)
    monkeypatch.setattr("tuneoff.sources._packed.MOST_TIMES", 10)
    with pytest.raises(DataError, match=r"rows.jsonl has objects of so many different keys"):
        read_rows(registry.sources(), SourceSpec(source=str(tmp_path / "rows.jsonl")), "train")


def test_a_table_that_repeats_itself_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"text": ["the same text"] * 5_000, "label": ["a", "b"] * 2_500})
    pyarrow.parquet.write_table(table, path)
    rows = File().rows(SourceSpec(source=str(path)), "train")
    assert rows.columns == table.to_pydict()
