"""Rows and model folders on this machine."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import DataError, SourceError, SourceNotFound
from tuneoff.interfaces import ModelFiles, Rows
from tuneoff.sources import find, find_model, fingerprint, read_rows
from tuneoff.testing import SourceContract

Content = str | bytes


def _write(folder: Path, name: str, content: Content) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def _read(folder: Path, name: str, content: Content) -> Rows:
    return read_rows(registry.sources(), SourceSpec(source=_write(folder, name, content)), "train")


def _data_error(folder: Path, name: str, content: Content) -> DataError:
    with pytest.raises(DataError) as caught:
        _read(folder, name, content)
    assert name in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",0\nthree,\n'),
        ("a.csv", 'text;label\n"one, two";0\nthree;\n'),
        ("a.csv", 'text,label\r\n"one, two",0\r\nthree,\r\n'),
        ("a.csv", b"\xef\xbb\xbf" + b'text,label\n"one, two",0\n\nthree,\n\n'),
        ("a.csv", "text\tlabel\none, two\t0\nthree\t\n"),
        ("a.tsv", 'text\tlabel\n"one, two"\t0\nthree\t\n'),
        ("a.tsv", "text\tlabel\rone, two\t0\rthree\t\r"),
        ("a.tab", "text\tlabel\none, two\t0\nthree\t\n"),
        ("a.jsonl", '{"text": "one, two", "label": "0"}\n\n{"text": "three"}\n'),
        ("a.json", '{"text": "one, two", "label": "0"}\n{"label": null, "text": "three"}'),
        ("a.json", '[{"text": "one, two", "label": "0"},\n {"text": "three", "label": ""}]'),
    ],
)
def test_the_same_table_in_every_text_format(tmp_path: Path, name: str, content: Content) -> None:
    rows = _read(tmp_path, name, content)
    assert rows.columns == {"text": ["one, two", "three"], "label": ["0", None]}
    assert rows.origin.endswith(name)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "declaration", "mark"),
    [
        ("a.csv", "sep=;", ";"),
        ("a.csv", "SEP=|", "|"),
        ("a.csv", '"sep=,"', ","),
        ("a.csv", "\ufeffsep=;", ";"),
        ("a.tsv", "sep=\t", "\t"),
        ("a.tsv", "sep=;", ";"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_first_line_may_declare_the_delimiter(
    name: str, declaration: str, mark: str, end: str, quoted: bool, tmp_path: Path
) -> None:
    text = '"one"' if quoted else "one"
    rows = _read(tmp_path, name, end.join([declaration, f"text{mark}label", f"{text}{mark}a", f"two{mark}b", ""]))
    assert rows.columns == {"text": ["one", "two"], "label": ["a", "b"]}
    assert rows.lines == (3, 4)


def test_a_column_whose_name_only_begins_like_a_declaration_is_a_column(tmp_path: Path) -> None:
    assert list(_read(tmp_path, "a.csv", "sep=;x,label\none,a\n").columns) == ["sep=;x", "label"]


def test_lines_are_those_of_the_file_even_after_cells_of_many_lines_and_blank_lines(tmp_path: Path) -> None:
    rows = _read(tmp_path, "a.csv", 'text,label\n"one\ntwo",a\n\nthree,b\n')
    assert rows.columns["text"] == ["one\ntwo", "three"]
    assert rows.lines == (2, 5)
    assert rows.place(1).endswith("a.csv line 5")
    assert _read(tmp_path, "b.jsonl", '{"x": 1}\n\n{"x": 2}').lines == (1, 3)
    assert _read(tmp_path, "c.tsv", "x\ty\n\na\tb").lines == (3,)


def test_tsv_whose_quotes_are_letters(tmp_path: Path) -> None:
    content = 'sentence\tlabel\n"open quote\t1\nit \'s 5" long\t0\n" another\t1\n'
    rows = _read(tmp_path, "sst.tsv", content)
    assert rows.columns["sentence"] == ['"open quote', "it 's 5\" long", '" another']
    assert rows.columns["label"] == ["1", "0", "1"]
    kept = _read(tmp_path, "letters.tsv", 'sentence\tlabel\n"Foo" bar\t1\n')
    assert kept.columns["sentence"] == ['"Foo" bar']


def test_tsv_with_proper_quotes_keeps_cells_of_many_lines(tmp_path: Path) -> None:
    rows = _read(tmp_path, "a.tsv", 'text\tlabel\n"one\ntwo\tthree ""four"""\tx\nfive\ty\n')
    assert rows.columns["text"] == ['one\ntwo\tthree "four"', "five"]


def test_orange_headers_are_skipped_and_counted_in_line_numbers(tmp_path: Path) -> None:
    for blank in ("\n", "\t\n", ""):
        rows = _read(tmp_path, "o.tab", f"Category\tText\nd\tstring\nclass\t\n{blank}earn\tone\nacq\ttwo\n")
        assert rows.columns == {"Category": ["earn", "acq"], "Text": ["one", "two"]}
        assert rows.lines[0] == (5 if blank else 4)
    listed = _read(tmp_path, "v.tab", "y\tText\nneg pos\tstring\nclass\tmeta\nneg\tone\n")
    assert listed.columns == {"y": ["neg"], "Text": ["one"]}


def test_a_plain_tab_file_loses_no_rows(tmp_path: Path) -> None:
    rows = _read(tmp_path, "plain.tab", "label\ttext\nd\tfirst row\nc\tsecond row\n")
    assert rows.columns["label"] == ["d", "c"]


def test_json_and_parquet_keep_types(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = _read(tmp_path, "a.jsonl", '{"text": "a", "label": 0, "score": NaN}\n{"text": "", "label": true, "x": [1]}')
    assert rows.columns == {"text": ["a", None], "label": [0, True], "score": [None, None], "x": [None, [1]]}
    path = tmp_path / "a.parquet"
    features = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {}}}}
    table = pyarrow.table({"text": ["a", None], "label": [1, 0], "weight": [0.5, float("nan")]})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)
    rows = read_rows(registry.sources(), SourceSpec(source=str(path)), "train")
    assert rows.columns == {"text": ["a", None], "label": [1, 0], "weight": [0.5, None]}
    assert rows.class_names == {"label": ("neg", "pos")}
    classes = {"names": ["O", "B-x"], "_type": "ClassLabel"}
    lists = {"tags": {"feature": classes, "_type": "Sequence"}, "text": {"feature": {}}, "old": [classes]}
    table = pyarrow.table({"text": [["a"]], "tags": [[1]], "old": [[0]]})
    metadata = {"huggingface": json.dumps({"info": {"features": lists}})}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "lists.parquet")
    listed = read_rows(registry.sources(), SourceSpec(source=str(tmp_path / "lists.parquet")), "train")
    assert listed.class_names == {"tags": ("O", "B-x"), "old": ("O", "B-x")}
    assert rows.lines == ()
    assert rows.place(1).endswith("a.parquet row 2")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "\n\n", "is empty"),
        ("a.jsonl", " \n", "is empty"),
        ("a.json", "[]", "has no rows"),
        ("a.csv", "text,label\n", "has a header (text, label) but no rows"),
        ("a.tab", "text\tlabel\nstring\td\n\tclass\n", "but no rows"),
        ("a.csv", "text,text\na,b\n", "'text' more than once"),
        ("a.csv", "text,label\na,b\nc\nd,e\n", "line 3 has 1 columns, the header has 2"),
        ("a.csv", "text,label\na,b,c\nd,e,f\n", "line 2 has 3 columns, the header has 2; 2 rows differ"),
        ("a.csv", 'text,label\na,b\n"open,c\nd,e\n', "line 3: unexpected end"),
        ("a.tsv", 'text\tlabel\n"a\tb\nd\n', "line 3 has 1 columns"),
        ("a.jsonl", '{"text": 1}\n{"text": \n', "line 2 is not JSON"),
        ("a.json", '[{"text": 1},\n{"text": ]', "line 2 is not JSON"),
        ("a.jsonl", '{"text": 1}\n[1, 2]\n', "line 2 is not a JSON object but list"),
        ("a.json", '[{"text": 1}, "x"]', "row 2 is not a JSON object but str"),
        ("a.jsonl", "{}\n", "without a single key"),
        ("a.parquet", "not parquet", "is not a Parquet file"),
        ("a.xlsx", "x", "files ending in '.xlsx' cannot be read"),
        ("rows", "x", "without an ending"),
        ("a.csv", b"\xff\xfet\x00e\x00", "is UTF-16"),
    ],
)
def test_what_cannot_be_read_is_one_error_that_says_where(
    tmp_path: Path, name: str, content: Content, says: str
) -> None:
    assert says in _data_error(tmp_path, name, content).message


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_undecodable_bytes_are_named_by_line_and_offset(tmp_path: Path, mark: bytes) -> None:
    content = mark + b"text,label\none,a\ncaf\xe9,b\n"
    error = _data_error(tmp_path, "latin.csv", content)
    assert f"line 3: byte 0xe9 (offset {content.index(0xE9)})" in error.message
    assert "UTF-8" in error.hint


def test_a_cell_longer_than_the_csv_modules_own_limit(tmp_path: Path) -> None:
    text = "word " * 40_000
    assert _read(tmp_path, "long.csv", f'text,label\n"{text}",a\n').columns["text"] == [text]


def test_an_unnamed_column_gets_a_name(tmp_path: Path) -> None:
    assert list(_read(tmp_path, "index.csv", ",text\n0,a\n").columns) == ["column_1", "text"]


@pytest.mark.parametrize("reference", ["./x", "../x", "~/x", "/x/y", "a/b/c", "rows.csv", "org/rows.TSV", "m.gguf"])
def test_what_looks_like_a_path_is_a_file_though_it_is_missing(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nothing lies beside it
    source, rest = find(registry.sources(), reference)
    assert (type(source).__name__, rest) == ("File", reference)
    with pytest.raises(SourceNotFound, match="no file"):
        source.rows(SourceSpec(source=rest), "train")


def test_a_hub_id_is_a_file_only_where_that_path_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert type(find(registry.sources(), "org/name")[0]).__name__ == "Hub"
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert type(find(registry.sources(), "org/name")[0]).__name__ == "File"
    assert type(find(registry.sources(), "hub:org/name")[0]).__name__ == "Hub"


@pytest.mark.parametrize("reference", ["x" * 3000, "~nobody-of-that-name/x.csv", "a\0b.csv"])
def test_what_no_system_could_open_is_not_found(reference: str) -> None:
    with pytest.raises((SourceNotFound, DataError)):
        read_rows(registry.sources(), SourceSpec(source=reference), "train")


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    _write(tmp_path, "train.csv", "text\na\n")
    with pytest.raises(SourceNotFound, match=r"did you mean 'train.csv'\?"):
        read_rows(registry.sources(), SourceSpec(source=str(tmp_path / "trian.csv")), "train")
    with pytest.raises(SourceNotFound, match="there is no folder"):
        read_rows(registry.sources(), SourceSpec(source=str(tmp_path / "no" / "train.csv")), "train")


def test_a_folder_of_rows_lists_what_it_holds(tmp_path: Path) -> None:
    _write(tmp_path, "train.csv", "text\na\n")
    with pytest.raises(SourceNotFound, match="is a folder") as caught:
        read_rows(registry.sources(), SourceSpec(source=str(tmp_path)), "train")
    assert "train.csv" in caught.value.hint


def test_a_file_has_no_splits_or_revisions(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "text\na\n")
    changes: dict[str, Any]
    for changes in ({"split": "test"}, {"config": "x"}, {"revision": "main"}):
        with pytest.raises(SourceNotFound, match=f"has no {next(iter(changes))}"):
            read_rows(registry.sources(), SourceSpec(source=path, **changes), "train")


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "text\na\n")
    before = fingerprint(registry.sources(), path)
    assert (
        fingerprint(
            registry.sources(),
            f"file:{_write(tmp_path, 'copy.csv', 'text' + chr(10) + 'a' + chr(10))}",
        )
        == before
    )
    _write(tmp_path, "a.csv", "text\nb\n")
    assert fingerprint(registry.sources(), path) != before
    with pytest.raises(SourceNotFound):
        fingerprint(registry.sources(), str(tmp_path / "gone.csv"))


def _model_folder(folder: Path, *names: str) -> str:
    folder.mkdir(exist_ok=True)
    contents = {".json": b"{}", ".gguf": b"GGUF\x03", ".safetensors": SAFETENSORS}
    for name in names:
        (folder / name).write_bytes(contents.get(Path(name).suffix, name.encode()))
    return str(folder)


def _header(name: str) -> bytes:
    """A whole safetensors file that holds one empty tensor of that name."""
    header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    return len(header).to_bytes(8, "little") + header


SAFETENSORS = _header("tensor")


def _find(path: str, **changes: Any) -> ModelFiles:
    return find_model(registry.sources(), ModelSpec(source=path, **changes))


def test_model_folders(tmp_path: Path) -> None:
    whole = _model_folder(tmp_path / "whole", "config.json", "model.safetensors", "pytorch_model.bin")
    assert _find(whole) == ModelFiles(whole)
    gguf = _model_folder(tmp_path / "gguf", "tiny.gguf")
    assert _find(gguf) == _find(f"{gguf}/tiny.gguf") == ModelFiles(gguf, gguf_file="tiny.gguf")
    bare = _model_folder(tmp_path / "bare", "config.json")
    assert _find(bare, random_weights=True) == ModelFiles(bare)


def test_sharded_model_folders_must_be_whole(tmp_path: Path) -> None:
    path = _model_folder(tmp_path / "m", "config.json", "a.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceNotFound, match=r"lacks 1 of 2 weight files, first b\.safetensors"):
        _find(path)
    (tmp_path / "m" / "b.safetensors").write_bytes(SAFETENSORS)
    assert _find(path) == ModelFiles(path)
    (tmp_path / "m" / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(SourceError, match="is not an index"):
        _find(path)


@pytest.mark.parametrize(
    ("shard", "says"),
    [
        ("pytorch_model.bin", "not a safetensors file"),
        ("model.safetensors.bin", "not a safetensors file"),
        (7, "not a safetensors file"),
        ("../outside.safetensors", "outside the model's folder"),
        ("inner/../../outside.safetensors", "outside the model's folder"),
        ("{tmp}/outside.safetensors", "outside the model's folder"),
        ("linked.safetensors", r"a link to .*outside\.safetensors, outside the model's folder"),
    ],
)
def test_an_index_names_safetensors_of_its_own_folder_alone(tmp_path: Path, shard: Any, says: str) -> None:
    path = _model_folder(tmp_path / "m", "config.json", "a.safetensors", "pytorch_model.bin")
    _model_folder(tmp_path, "outside.safetensors")
    (tmp_path / "m" / "linked.safetensors").symlink_to(tmp_path / "outside.safetensors")
    named = shard.format(tmp=tmp_path) if isinstance(shard, str) else shard
    index = {"weight_map": {"x": "a.safetensors", "y": named}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=says):
        _find(path)


def test_shards_that_the_hubs_cache_links_to_its_own_blobs_are_its_own(tmp_path: Path) -> None:
    home = tmp_path / "models--org--name"
    folder = home / "snapshots" / ("c" * 40)
    (home / "blobs").mkdir(parents=True)
    folder.mkdir(parents=True)
    _model_folder(folder, "config.json")
    (home / "blobs" / "f00").write_bytes(SAFETENSORS)
    (folder / "a.safetensors").symlink_to(Path("../../blobs/f00"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}))
    assert _find(str(folder)) == ModelFiles(str(folder))


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def _pickled(kind: str, trace: Path) -> bytes:
    if kind == "torch":
        import torch

        file = io.BytesIO()
        torch.save({"x": Bomb(trace)}, file)
        return file.getvalue()
    if kind == "numpy":
        file = io.BytesIO()
        np.save(file, np.array([Bomb(trace)], dtype=object), allow_pickle=True)
        return file.getvalue()
    return pickle.dumps(Bomb(trace), protocol=int(kind))


@pytest.mark.parametrize(
    ("kind", "is_"),
    [("2", "a pickle"), ("4", "a pickle"), ("0", "something else"), ("torch", "zip"), ("numpy", "NumPy")],
)
@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "a.safetensors",
        "tiny.gguf",
        "pytorch_model.bin",
        "model.pt",
        "x.ckpt",
        "flax_model.msgpack",
    ],
)
def test_a_pickle_is_not_opened_as_weights_whatever_it_is_called(
    tmp_path: Path, kind: str, is_: str, name: str
) -> None:
    trace = tmp_path / "trace"
    names = () if name == "tiny.gguf" else ("config.json",)
    path = _model_folder(tmp_path / "m", *names)
    (tmp_path / "m" / name).write_bytes(_pickled(kind, trace))
    if name == "a.safetensors":
        index = {"weight_map": {"x": name}}
        (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(index))
    named = name.endswith((".safetensors", ".gguf"))
    with pytest.raises(SourceError, match=f"is not .*: it is .*{is_}" if named else "a pickle can run code"):
        _find(path)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["2", "4", "torch", "numpy"])
@pytest.mark.parametrize(
    "name",
    [
        "rows.pkl",
        "rows.pickle",
        "rows.npy",
        "rows.npz",
        "rows.pt",
        "rows.joblib",
        "rows.csv",
        "rows.jsonl",
        "rows.json",
        "rows.tsv",
        "rows.tab",
        "rows.parquet",
    ],
)
def test_a_pickle_is_not_opened_as_rows_whatever_it_is_called(tmp_path: Path, kind: str, name: str) -> None:
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(_pickled(kind, trace))
    with pytest.raises(DataError):
        read_rows(registry.sources(), SourceSpec(source=str(tmp_path / name)), "train")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (SAFETENSORS[:-4], "damaged or cut short"),
        (SAFETENSORS + b"more", "damaged or cut short"),
    ],
)
def test_weights_that_are_not_whole_are_refused_at_once(tmp_path: Path, content: bytes, says: str) -> None:
    path = _model_folder(tmp_path / "m", "config.json")
    (tmp_path / "m" / "model.safetensors").write_bytes(content)
    with pytest.raises(SourceError, match=says):
        _find(path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("config.json", "pytorch_model.bin"), "a pickle can run code"),
        (("config.json", "model.pt"), "a pickle can run code"),
        (("config.json",), "no weights"),
        (("config.json", "training_args.bin"), "no weights"),
        (("adapter_config.json", "adapter_model.safetensors"), "a trained adapter"),
        (("config.json", "model.safetensors", "adapter_config.json", "adapter_model.bin"), "a trained adapter"),
        (("notes.txt",), "no config.json"),
        (("a.gguf", "b.gguf"), "2 GGUF files"),
    ],
)
def test_folders_that_hold_no_base_model(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    with pytest.raises(SourceNotFound, match=says):
        _find(_model_folder(tmp_path / "m", *names))


def test_a_file_or_a_revision_where_a_model_folder_is_meant(tmp_path: Path) -> None:
    path = _model_folder(tmp_path / "m", "config.json", "model.safetensors")
    with pytest.raises(SourceNotFound, match="a base model is a folder"):
        _find(f"{path}/model.safetensors")
    with pytest.raises(SourceNotFound, match="never opens one"):
        _find(_model_folder(tmp_path, "pytorch_model.bin") + "/pytorch_model.bin")
    with pytest.raises(SourceNotFound, match="has no revision"):
        _find(path, revision="main")
    with pytest.raises(SourceNotFound, match="did you mean"):
        _find(f"{tmp_path}/mm")


def test_the_fingerprint_of_a_model_folder_follows_weights_and_configuration(tmp_path: Path) -> None:
    path = _model_folder(tmp_path / "m", "config.json", "model.safetensors")
    before = fingerprint(registry.sources(), path)
    (tmp_path / "m" / "README.md").write_text("not part of the model")
    assert fingerprint(registry.sources(), path) == before
    (tmp_path / "m" / "model.safetensors").write_bytes(_header("other"))
    changed = fingerprint(registry.sources(), path)
    (tmp_path / "m" / "config.json").write_text('{"a": 1}')
    assert len({before, changed, fingerprint(registry.sources(), path)}) == 3


class TestFile(SourceContract):
    source = "file"

    @pytest.fixture
    def reference(self, tmp_path: Path) -> str:
        return _write(tmp_path, "rows.csv", "text,label\none,a\ntwo,b\n")

    @pytest.fixture
    def unknown(self) -> str:
        return "./no-such-file.csv"

    @pytest.fixture
    def model_reference(self, tmp_path: Path) -> str:
        folder = tmp_path / "model"
        folder.mkdir()
        _write(folder, "config.json", "{}")
        _write(folder, "model.safetensors", (2).to_bytes(8, "little") + b"{}")
        return str(folder)
