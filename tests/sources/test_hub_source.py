"""The hub: the real client libraries against a stand-in on the loopback."""

from __future__ import annotations

import gzip
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest

from hub_helpers import StandInHub, go_offline, send_to
from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import ChecksumMismatch, DataError, SourceError, SourceNotFound, SourceUnreachable
from tuneoff.interfaces import ModelFiles, Rows
from tuneoff.sources import _hub_files, fetch_weights, find, find_model, read_rows
from tuneoff.testing import SourceContract

pytest_plugins = ("hub_fixtures",)


def _safetensors(name: str, size: int = 0) -> bytes:
    header = json.dumps({name: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


MODEL: dict[str, bytes | str] = {
    "config.json": "{}",
    "tokenizer.json": '{"version": "1.0"}',
    "README.md": "about",
    "model.safetensors": _safetensors("a", 100_000),
    "pytorch_model.bin": b"\x80\x02",
    "onnx/model.onnx": b"onnx",
}
TABLE = "text,label\none,a\ntwo,b\n"


def _find(**changes: Any) -> ModelFiles:
    """Finds a model and its weights, as a trial does."""
    spec = ModelSpec(source="org/model", **changes)
    return fetch_weights(registry.sources(), spec, find_model(registry.sources(), spec))


def _rows(split: str = "train", **changes: Any) -> Rows:
    return read_rows(registry.sources(), SourceSpec(source="org/data", **changes), split)


def _names(files: ModelFiles) -> set[str]:
    return {path.name for path in Path(files.path).iterdir()}


@pytest.fixture(params=["HF_HUB_OFFLINE", "down", "failing"])
def away(request: pytest.FixtureRequest, hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the hub away, in every way in which it can be."""

    def take() -> None:
        if request.param == "HF_HUB_OFFLINE":
            go_offline(monkeypatch)
        elif request.param == "down":
            send_to("http://127.0.0.1:9", monkeypatch)
        else:
            hub.failing = 503

    return take


def test_only_ids_of_the_form_org_slash_name_are_the_hubs() -> None:
    assert type(find(registry.sources(), "openai-community/gpt2")[0]).__name__ == "Hub"
    assert find(registry.sources(), "hub:gpt2")[1] == "gpt2"
    with pytest.raises(SourceNotFound):
        find(registry.sources(), "gpt2")


# --- models


def test_a_model_is_fetched_at_the_commit_found_and_its_weights_come_last(hub: StandInHub) -> None:
    commit = hub.put("models", "org/model", MODEL)
    spec = ModelSpec(source="org/model")
    files = find_model(registry.sources(), spec)
    assert (files.commit, files.hub_id, files.gguf_file) == (commit, "org/model", None)
    assert _names(files) == {"config.json", "tokenizer.json"}
    assert fetch_weights(registry.sources(), spec, files).whole
    assert _names(files) == {"config.json", "tokenizer.json", "model.safetensors"}, "and nothing else of the model"


def test_shards_are_fetched_as_their_index_lists_them(hub: StandInHub) -> None:
    index = {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}
    shards: dict[str, bytes | str] = {
        "a.safetensors": _safetensors("a"),
        "b.safetensors": _safetensors("b"),
        "c.safetensors": b"no part of it",
    }
    hub.put("models", "org/model", {"config.json": "{}", "model.safetensors.index.json": json.dumps(index), **shards})
    assert _names(_find()) == {"config.json", "model.safetensors.index.json", "a.safetensors", "b.safetensors"}


def test_one_gguf_file(hub: StandInHub) -> None:
    hub.put("models", "org/model", {"tiny.gguf": b"GGUF\x03", "README.md": ""})
    files = _find()
    assert files.gguf_file == "tiny.gguf"
    assert _names(files) == {"tiny.gguf"}


def test_random_weights_need_a_configuration_alone(hub: StandInHub, away: Callable[[], None]) -> None:
    hub.put("models", "org/model", {"config.json": "{}", "pytorch_model.bin": b"\x80"})
    files = find_model(registry.sources(), ModelSpec(source="org/model", random_weights=True))
    assert _names(files) == {"config.json"}
    away()
    assert find_model(registry.sources(), ModelSpec(source="org/model", random_weights=True)) == files


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("config.json", "pytorch_model.bin"), r"only as pytorch_model\.bin"),
        (("config.json", "tf_model.h5"), r"only as tf_model\.h5"),
        (("config.json",), "no weights"),
        (("a.gguf", "b.gguf"), "2 GGUF files"),
        (("config.json", "adapter_config.json", "adapter_model.safetensors"), "a trained adapter"),
        (("README.md",), r"no config\.json"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_anything_is_fetched(
    hub: StandInHub, names: tuple[str, ...], says: str
) -> None:
    hub.put("models", "org/model", dict.fromkeys(names, "{}"))
    with pytest.raises(SourceNotFound, match=says):
        _find()
    assert hub.fetched("org/model") == []


@pytest.mark.parametrize("shard", ["pytorch_model.bin", "../../other/weights.safetensors", "/etc/weights.safetensors"])
def test_an_index_cannot_name_what_is_not_the_models(hub: StandInHub, shard: str) -> None:
    index = json.dumps({"weight_map": {"a": shard}})
    files: dict[str, bytes | str] = {"config.json": "{}", "model.safetensors.index.json": index}
    hub.put("models", "org/model", files)
    with pytest.raises(SourceError, match="names"):
        _find()
    assert set(hub.fetched("org/model")) == {"config.json", "model.safetensors.index.json"}


def test_a_pickle_under_another_name_is_not_opened(hub: StandInHub) -> None:
    hub.put("models", "org/model", {**MODEL, "model.safetensors": b"\x80\x04."})
    with pytest.raises(SourceError, match="is a pickle"):
        _find()


# --- without the hub


def test_what_was_fetched_is_found_again_without_the_hub(hub: StandInHub, away: Callable[[], None]) -> None:
    hub.put("models", "org/model", MODEL)
    hub.put("datasets", "org/data", {"train.csv": TABLE, "test.csv": TABLE})
    files, rows, test = _find(), _rows(), _rows("test")
    away()
    assert _find() == files
    assert (_rows(), _rows("test")) == (rows, test)


def test_what_snapshot_download_fetched_is_found(hub: StandInHub, away: Callable[[], None]) -> None:
    commit = hub.put("models", "org/model", MODEL)
    data = hub.put("datasets", "org/data", {"train.csv": TABLE})
    huggingface_hub.snapshot_download("org/model")
    huggingface_hub.snapshot_download("org/data", repo_type="dataset")
    away()
    assert _find().commit == commit
    assert _rows().commit == data


@pytest.mark.parametrize("pin", ["tag", "commit", "refs/pr/1"])
def test_pinned_revisions_are_told_apart_and_found_again(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch, pin: str
) -> None:
    old = hub.put("models", "org/model", MODEL, "main", "tag", "refs/pr/1")
    new = hub.put("models", "org/model", {**MODEL, "config.json": '{"new": true}'})
    rows = hub.put("datasets", "org/data", {"train.csv": TABLE}, "main", "tag", "refs/pr/1")
    hub.put("datasets", "org/data", {"train.csv": "text,label\nnew,a\n"})
    revision = {"commit": old}.get(pin, pin)
    found = [_find(revision=revision), _find()]
    assert [files.commit for files in found] == [old, new]
    revision_of_rows = {"commit": rows}.get(pin, pin)
    texts = [_rows(revision=revision_of_rows).columns["text"], _rows().columns["text"]]
    assert texts == [["one", "two"], ["new"]]
    go_offline(monkeypatch)
    assert [_find(revision=revision), _find()] == found
    assert [_rows(revision=revision_of_rows).columns["text"], _rows().columns["text"]] == texts
    with pytest.raises(SourceUnreachable, match="at revision v9"):
        _find(revision="v9")
    with pytest.raises(SourceUnreachable, match="at revision v9"):
        _rows(revision="v9")


def test_a_branch_that_moves_is_followed_and_the_last_whole_state_is_kept(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hub.put("models", "org/model", MODEL)
    assert _find().commit == old
    new = hub.put("models", "org/model", {**MODEL, "model.safetensors": _safetensors("b")})
    spec = ModelSpec(source="org/model")
    files = find_model(registry.sources(), spec)
    assert files.commit == new
    send_to("http://127.0.0.1:9", monkeypatch)
    assert _find().commit == old, "the weights of the new one are not here"
    send_to(hub.url, monkeypatch)
    fetch_weights(registry.sources(), spec, files)
    go_offline(monkeypatch)
    assert _find().commit == new


def test_what_was_never_fetched_is_one_error_that_says_what_would_work(
    hub: StandInHub, away: Callable[[], None]
) -> None:
    hub.put("models", "org/model", MODEL)
    away()
    with pytest.raises(SourceUnreachable, match="its cache here does not hold it") as caught:
        _find()
    assert "minilm" in caught.value.hint
    assert "--random-weights" in caught.value.hint
    with pytest.raises(SourceUnreachable) as caught:
        _rows()
    assert "task.data.train=FILE.csv" in caught.value.hint


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors"])
def test_a_cache_that_is_not_whole_is_said(hub: StandInHub, away: Callable[[], None], gone: str) -> None:
    hub.put("models", "org/model", MODEL)
    (Path(_find().path) / gone).unlink()
    away()
    with pytest.raises(SourceUnreachable, match=f"does not hold it .{gone} is missing"):
        _find()


def test_a_commit_in_the_cache_without_a_reference_is_named(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.put("models", "org/model", MODEL)
    _find(revision=commit)
    go_offline(monkeypatch)
    with pytest.raises(SourceUnreachable) as caught:
        _find()
    assert commit in caught.value.hint
    assert _find(revision=commit).commit == commit


def test_a_cache_that_may_only_be_read_is_enough(hub: StandInHub, hub_cache: Path, away: Callable[[], None]) -> None:
    hub.put("models", "org/model", MODEL)
    files = _find()
    kept = hub_cache / "models--org--model" / "refs"
    (kept / "main").write_text("0" * 40)
    kept.chmod(0o500)
    try:
        assert _find() == files
    finally:
        kept.chmod(0o700)


# --- what the hub refuses


@pytest.mark.parametrize("kind", ["models", "datasets"])
@pytest.mark.parametrize("token", [None, "hf_x"])
def test_what_is_gated_says_so(hub: StandInHub, monkeypatch: pytest.MonkeyPatch, kind: str, token: str | None) -> None:
    files = MODEL if kind == "models" else {"train.csv": TABLE, "README.md": ""}
    hub.put(kind, "org/model" if kind == "models" else "org/data", files)
    next(iter(hub.repositories.values())).gated = True
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: token)
    with pytest.raises(SourceNotFound, match=f"is gated: .*HTTP {403 if token else 401}") as caught:
        (_find if kind == "models" else _rows)()
    assert "hf auth login" in caught.value.hint
    assert f"{hub.url}/" in caught.value.hint


@pytest.mark.parametrize("status", [401, 403])
def test_what_is_refused_outright_says_so(hub: StandInHub, status: int) -> None:
    hub.failing = status
    for look in (_find, _rows):
        with pytest.raises(SourceNotFound, match=r"there is no|the hub refuses") as caught:
            look()
        assert "hf auth login" in caught.value.hint


def test_what_is_missing_says_what_is(hub: StandInHub) -> None:
    with pytest.raises(SourceNotFound, match="there is no model 'org/model'"):
        _find()
    with pytest.raises(SourceNotFound, match="there is no dataset 'org/data'"):
        _rows()
    hub.put("models", "org/model", MODEL)
    hub.put("datasets", "org/data", {"train.csv": TABLE})
    with pytest.raises(SourceNotFound, match="has no revision 'v9'"):
        _find(revision="v9")
    with pytest.raises(SourceNotFound, match="has no revision 'v9'"):
        _rows(revision="v9")


@pytest.mark.parametrize("look", [_find, _rows])
def test_a_hub_that_was_asked_too_often_is_asked_again_when_it_says(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch, look: Callable[[], Any]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(_hub_files, "sleep", waits.append)
    hub.put("models", "org/model", MODEL)
    hub.put("datasets", "org/data", {"train.csv": TABLE})
    hub.limited = 2
    assert look()
    assert waits == [1.0, 1.0]
    hub.limited = 100
    found = look()
    assert found, "what is in the cache"


@pytest.mark.parametrize("look", [_find, _rows])
def test_a_hub_that_goes_on_refusing_is_one_error(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch, look: Callable[[], Any]
) -> None:
    monkeypatch.setattr(_hub_files, "sleep", lambda _: None)
    hub.limited = 100
    with pytest.raises(SourceUnreachable, match="asked too often, HTTP 429"):
        look()


def test_something_else_that_answers_is_not_taken_for_the_hub(hub: StandInHub) -> None:
    hub.failing = 200
    with pytest.raises(SourceUnreachable, match="does not answer"):
        _find()


# --- transfers


def test_a_transfer_that_breaks_off_is_gone_on_with(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.put("models", "org/model", MODEL)
    hub.breaking = 1
    files = _find()
    assert hub.resumed == 1
    assert (Path(files.path) / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


def test_a_transfer_that_keeps_breaking_off_is_one_error_and_a_later_run_heals_it(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    hub.put("models", "org/model", MODEL)
    hub.breaking = 1000
    with pytest.raises(SourceUnreachable, match="could not be fetched whole") as caught:
        _find()
    assert "Run it again" in caught.value.hint
    hub.breaking = 0
    assert (Path(_find().path) / "model.safetensors").read_bytes() == MODEL["model.safetensors"]


@pytest.mark.parametrize(
    ("error", "says"),
    [(OSError(28, "No space left on device"), "the disk is full"), (PermissionError(13, "no"), "cannot be written")],
)
def test_a_cache_that_takes_no_more_is_one_error(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch, error: OSError, says: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("a thread failed") from error

    hub.put("models", "org/model", MODEL)
    monkeypatch.setattr(huggingface_hub.HfApi, "snapshot_download", refuse)
    with pytest.raises(SourceError, match=says) as caught:
        _find()
    assert "HF_HOME" in caught.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_of_the_cache_that_was_changed_is_refused(hub: StandInHub, name: str) -> None:
    hub.put("models", "org/model", MODEL)
    place = Path(_find().path) / name
    data = place.read_bytes()
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ChecksumMismatch, match=f"{name} in the hub's cache is not what the hub gave") as caught:
        _find()
    place.resolve().unlink()
    assert str(place.resolve()) in caught.value.hint
    assert (Path(_find().path) / name).read_bytes() == data


def test_rows_of_the_cache_that_were_changed_are_refused(hub: StandInHub) -> None:
    hub.put("datasets", "org/data", {"train.csv": TABLE})
    _rows()
    (place,) = Path(huggingface_hub.constants.HF_HUB_CACHE).glob("datasets--org--data/snapshots/*/train.csv")
    place.write_text(TABLE.replace("one", "won"))
    with pytest.raises(ChecksumMismatch, match=r"train\.csv"):
        _rows()


# --- rows


def _card(**head: Any) -> str:
    return f"---\n{json.dumps(head)}\n---\n"


def _config(name: str, **splits: str) -> dict[str, Any]:
    return {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}


def test_rows_keep_their_values_and_class_names(hub: StandInHub) -> None:
    features = [
        {"name": "text", "dtype": "string"},
        {"name": "label", "dtype": {"class_label": {"names": {"0": "neg", "1": "pos"}}}},
        {"name": "n", "dtype": "int64"},
    ]
    lines = [{"text": "a", "label": 1, "n": -1}, {"text": "b", "label": 0, "n": 2}, {"text": None, "label": -1, "n": 3}]
    card = _card(dataset_info={"features": features})
    hub.put("datasets", "org/data", {"README.md": card, "train.jsonl": "".join(json.dumps(x) + "\n" for x in lines)})
    rows = _rows()
    assert rows.columns == {"text": ["a", "b", None], "label": [1, 0, None], "n": [-1, 2, 3]}
    assert rows.class_names == {"label": ("neg", "pos")}
    assert rows.place(0) == "org/data train row 1"


def test_splits_and_parts_of_them(hub: StandInHub) -> None:
    hub.put("datasets", "org/data", {"train.csv": "text\na\nb\nc\n", "test.csv": "text\nd\n"})
    assert _rows().columns == {"text": ["a", "b", "c"]}
    assert _rows("test").columns == {"text": ["d"]}
    assert _rows(split="train[:2]").columns == {"text": ["a", "b"]}
    assert _rows(split="train[1:]+test").columns == {"text": ["b", "c", "d"]}
    assert _rows(split="train[-1:]").columns == {"text": ["c"]}
    with pytest.raises(SourceNotFound, match=r"no split 'trian' \(did you mean 'train'\?\)") as caught:
        _rows(split="trian")
    assert "It has train, test." in caught.value.hint
    with pytest.raises(SourceNotFound, match="no split 'validation'") as caught:
        _rows("validation")
    assert "leave task.data.validation out" in caught.value.hint


def test_a_small_file_that_fills_the_memory_is_read_no_further(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tuneoff.sources._packed.ALWAYS_TABLE_BYTES", 2**20)
    # One line of it is larger than the memory of many machines, were it not refused before it is read.
    line = gzip.compress(b"text\n" + b"x" * (80 * 2**20))
    hub.put("datasets", "org/line", {"train.csv.gz": line})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train.csv", b"text\n" + b"x\n" * (40 * 2**20))
    hub.put("datasets", "org/archive", {"train.zip": archive.getvalue()})
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x" * 10_000] * 20_000}), tmp_path / "rows.parquet")
    hub.put("datasets", "org/table", {"train.parquet": (tmp_path / "rows.parquet").read_bytes()})
    for name in ("line", "archive", "table"):
        with pytest.raises(DataError, match=rf"org/{name}.* unpacks to more than"):
            read_rows(registry.sources(), SourceSpec(source=f"org/{name}"), "train")


def test_only_the_configuration_that_is_wanted_is_fetched_and_read(hub: StandInHub, away: Callable[[], None]) -> None:
    configs = [_config("first", train="first/a.csv"), _config("second", train="second/a.csv", test="second/b.csv")]
    files = {
        "README.md": _card(configs=configs),
        "first/a.csv": "text\nfirst\n",
        "second/a.csv": "text\nsecond\n",
        "second/b.csv": "text\nheld out\n",
    }
    hub.put("datasets", "org/data", files)
    with pytest.raises(SourceNotFound, match="several configurations, and none is named") as caught:
        _rows()
    assert "one of: first, second." in caught.value.hint
    with pytest.raises(SourceNotFound, match=r"no configuration 'secnd' \(did you mean 'second'\?\)"):
        _rows(config="secnd")
    assert _rows(config="second").columns == {"text": ["second"]}
    assert not {path for path in hub.fetched("org/data") if path.startswith("first")}
    away()
    assert _rows(config="second").columns == {"text": ["second"]}
    assert _rows("test", config="second").columns == {"text": ["held out"]}
    with pytest.raises(SourceError):
        _rows(config="first")


def test_a_default_configuration_need_not_be_named(hub: StandInHub) -> None:
    configs = [_config("first", train="a.csv"), {**_config("second", train="b.csv"), "default": True}]
    hub.put("datasets", "org/data", {"README.md": _card(configs=configs), "a.csv": "text\na\n", "b.csv": "text\nb\n"})
    assert _rows().columns == {"text": ["b"]}
    assert _rows(config="first").columns == {"text": ["a"]}


def test_parquet_with_class_names_and_several_files(hub: StandInHub, tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "p"])})
    files: dict[str, bytes | str] = {}
    for number, text in enumerate(["a", "b"]):
        path = tmp_path / "part.parquet"
        datasets.Dataset.from_dict({"text": [text], "label": [number]}, features).to_parquet(str(path))
        files[f"data/train-0000{number}-of-00002.parquet"] = path.read_bytes()
    hub.put("datasets", "org/data", files)
    rows = _rows()
    assert rows.columns == {"text": ["a", "b"], "label": [0, 1]}
    assert rows.class_names == {"label": ("n", "p")}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"data.py": "raise SystemExit", "train.csv": TABLE}, "needs its own code"),
        ({"train.pkl": b"\x80\x04."}, "no files of rows"),
        ({"train.tar": b"x"}, "does not open"),
        ({"train.npy": b"x", "README.md": ""}, "no files of rows"),
        ({"README.md": _card(configs=[_config("default", train="https://example.org/x.csv")])}, "keeps rows elsewhere"),
        ({"README.md": _card(configs=[_config("default", train="/etc/passwd")])}, "keeps rows elsewhere"),
        ({"README.md": _card(configs=[_config("default", train="../x.csv")])}, "keeps rows elsewhere"),
        ({"README.md": _card(configs=[_config("default", train="gone.csv")])}, r"it has no gone\.csv"),
    ],
)
def test_rows_that_will_not_be_read_are_refused_before_they_are_fetched(
    hub: StandInHub, files: dict[str, bytes | str], says: str
) -> None:
    hub.put("datasets", "org/data", files)
    with pytest.raises(SourceError, match=says):
        _rows()
    assert not set(hub.fetched("org/data")) - {"README.md"}


@pytest.mark.parametrize(
    ("content", "says"), [("text\n", "has no rows"), ("", "cannot be read|no rows"), ('{"a": [}\n', "cannot be read")]
)
def test_files_without_rows(hub: StandInHub, content: str, says: str) -> None:
    hub.put("datasets", "org/data", {"train.jsonl" if content.startswith("{") else "train.csv": content})
    with pytest.raises((DataError, SourceError), match=says):
        _rows()


class TestHub(SourceContract):
    source = "hub"

    @pytest.fixture
    def reference(self, hub: StandInHub) -> str:
        hub.put("datasets", "org/data", {"train.csv": TABLE, "test.csv": TABLE})
        return "org/data"

    @pytest.fixture
    def unknown(self, hub: StandInHub) -> str:
        return "org/no-such-thing"

    @pytest.fixture
    def model_reference(self, hub: StandInHub) -> str:
        hub.put("models", "org/model", MODEL)
        return "org/model"


# --- adapters


def test_an_adapter_is_fetched_with_nothing_else_and_found_without_a_network(
    hub: StandInHub, away: Callable[[], None]
) -> None:
    adapter: dict[str, bytes | str] = {
        "adapter_config.json": "{}",
        "adapter_model.safetensors": _safetensors("a", 10),
        "README.md": "about",
        "optimizer.pt": b"\x80\x02",
    }
    commit = hub.put("models", "org/adapter", adapter)
    source, reference = find(registry.sources(), "org/adapter")
    folder = Path(source.adapter(reference))
    assert folder.name == commit
    assert {path.name for path in folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    away()
    assert Path(source.adapter(reference)) == folder


def test_a_model_is_no_adapter_and_a_place_without_adapters_says_so(hub: StandInHub) -> None:
    hub.put("models", "org/model", MODEL)
    source, reference = find(registry.sources(), "org/model")
    with pytest.raises(SourceNotFound, match=r"lacks adapter_config\.json"):
        source.adapter(reference)
    with pytest.raises(SourceNotFound, match="is no adapter"):
        registry.sources()["package"]().adapter("minilm")
