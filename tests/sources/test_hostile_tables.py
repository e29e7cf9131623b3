"""Files of rows that try their readers: one `DataError` that names the file, at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from tuneoff.config.spec import SourceSpec
from tuneoff.errors import DataError
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


LARGE = pyarrow.table({"text": ["x" * 100_000] * 3_000, "label": ["a"] * 3_000})
EMPTY = pyarrow.table({"text": pyarrow.nulls(3_000_000)})


@pytest.mark.parametrize(
    ("name", "write", "table"),
    [
        ("rows.parquet", pyarrow.parquet.write_table, LARGE),
        ("rows.parquet", pyarrow.parquet.write_table, EMPTY),
        ("rows.feather", partial(pyarrow.feather.write_feather, compression="zstd"), LARGE),
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


def test_a_table_that_repeats_itself_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pyarrow.table({"text": ["the same text"] * 5_000, "label": ["a", "b"] * 2_500})
    pyarrow.parquet.write_table(table, path)
    rows = File().rows(SourceSpec(source=str(path)), "train")
    assert rows.columns == table.to_pydict()
