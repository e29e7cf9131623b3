"""Files of rows that try their readers: one `DataError` that names the file, at once."""

from __future__ import annotations

from pathlib import Path

import pyarrow
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
