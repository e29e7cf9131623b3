"""The hub: what it answers, and what happens when it does not answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.errors import DataError, SourceError, SourceNotFound, SourceUnreachable
from tuneoff.sources import ModelFiles, Rows, find, find_model, read_rows
from tuneoff.spec import ModelSpec, SourceSpec

datasets = pytest.importorskip("datasets")
huggingface_hub = pytest.importorskip("huggingface_hub")


class FakeHub:
    """Answers in place of `HfApi` and `load_dataset`; either may be an exception."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.info: Any = SimpleNamespace(siblings=[], sha="c" * 40)
        self.table: Any = None
        self.asked: list[tuple[str, Any]] = []
        self.offline: list[bool] = []
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(datasets, "load_dataset", self._load)

    def _answer(self, name: str, revision: str | None, timeout: float) -> Any:
        assert timeout <= 10
        self.asked.append((name, revision))
        if isinstance(self.info, Exception):
            raise self.info
        return self.info

    dataset_info = model_info = _answer

    def holds(self, *names: str) -> None:
        self.info.siblings = [SimpleNamespace(rfilename=name) for name in names]

    def _load(self, path: str, **arguments: Any) -> Any:
        assert arguments.get("trust_remote_code") is not True
        self.offline.append(datasets.config.HF_HUB_OFFLINE)
        if isinstance(self.table, Exception):
            raise self.table
        return self.table(arguments) if callable(self.table) else self.table


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(monkeypatch)


def _http_error(kind: str, status: int) -> Exception:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    error: Exception = getattr(huggingface_hub.errors, kind)("no", response=response)
    return error


def _rows(**changes: Any) -> Rows:
    return read_rows(SourceSpec(source="org/data", **changes), "train")


def test_only_ids_of_the_form_org_slash_name_are_the_hubs() -> None:
    assert type(find("openai-community/gpt2")[0]).__name__ == "Hub"
    assert find("hub:gpt2")[1] == "gpt2"
    with pytest.raises(SourceNotFound):
        find("gpt2")


def test_rows_keep_their_values_and_class_names(hub: FakeHub) -> None:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["neg", "pos"]),
            "n": datasets.Value("int64"),
        }
    )
    hub.table = datasets.Dataset.from_dict({"text": ["a", "b", None], "label": [1, 0, -1], "n": [-1, 2, 3]}, features)
    rows = _rows()
    assert rows.columns == {"text": ["a", "b", None], "label": [1, 0, None], "n": [-1, 2, 3]}
    assert rows.class_names == {"label": ("neg", "pos")}
    assert rows.place(0) == "org/data train row 1"


def test_rows_of_a_real_builder(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\none,0\ntwo,1\n")
    real = datasets.load.load_dataset
    files = {"train": str(tmp_path / "a.csv")}
    hub.table = lambda given: real("csv", data_files=files, split=given["split"], cache_dir=str(tmp_path / "cache"))
    assert _rows().columns == {"text": ["one", "two"], "label": [0, 1]}
    with pytest.raises(SourceNotFound, match=r"no split 'trian' \(did you mean 'train'\?\)") as caught:
        _rows(split="trian")
    assert "It has train." in caught.value.hint


def test_split_configuration_and_revision_are_passed_on(hub: FakeHub) -> None:
    given: list[dict[str, Any]] = []

    def table(arguments: dict[str, Any]) -> Any:
        given.append(arguments)
        return datasets.Dataset.from_dict({"text": ["a"]})

    hub.table = table
    _rows(split="dev", config="3.0.0", revision="v1")
    assert given == [{"name": "3.0.0", "split": "dev", "revision": "v1"}]
    assert hub.asked == [("org/data", "v1")]


@pytest.mark.parametrize(
    ("error", "kind", "says", "hint"),
    [
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['1.0', '2.0']"),
            SourceNotFound,
            "several configurations",
            "one of: 1.0, 2.0",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            SourceNotFound,
            "remote code",
            "refs/",
        ),
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist"),
            SourceNotFound,
            "doesn't exist",
            "needs no hub",
        ),
        (ConnectionError("Couldn't reach"), SourceUnreachable, "Couldn't reach", "task.data.train=FILE.csv"),
        (OSError(28, "No space left on device"), SourceError, "the disk is full", "HF_HOME"),
        (KeyError("odd"), SourceError, "KeyError: 'odd'", ""),
    ],
)
def test_what_goes_wrong_while_loading(
    hub: FakeHub, error: Exception, kind: type[SourceError], says: str, hint: str
) -> None:
    hub.table = error
    with pytest.raises(kind, match=says) as caught:
        _rows()
    assert hint in caught.value.hint


def test_an_unknown_configuration_names_the_nearest(hub: FakeHub) -> None:
    hub.table = ValueError("BuilderConfig 'sst' not found. Available: ['sst2', 'cola']")
    with pytest.raises(SourceNotFound, match=r"no configuration 'sst' \(did you mean 'sst2'\?\)"):
        _rows(config="sst")


def test_no_rows(hub: FakeHub) -> None:
    hub.table = datasets.Dataset.from_dict({"text": []})
    with pytest.raises(DataError, match="has no rows"):
        _rows()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (_http_error("RepositoryNotFoundError", 404), "there is no dataset 'org/data'"),
        (_http_error("GatedRepoError", 403), "there is no dataset 'org/data'"),
        (_http_error("RevisionNotFoundError", 404), "has no revision 'v9'"),
        (_http_error("HfHubHTTPError", 401), "the hub refuses"),
    ],
)
def test_what_the_hub_refuses_is_not_found(hub: FakeHub, error: Exception, says: str) -> None:
    hub.info = error
    with pytest.raises(SourceNotFound, match=says):
        _rows(revision="v9")
    assert hub.offline == []


def test_without_the_hub_its_cache_is_asked_and_switches_are_put_back(hub: FakeHub) -> None:
    hub.info = ConnectionError("nobody there")
    hub.table = datasets.Dataset.from_dict({"text": ["a"]})
    before = datasets.config.HF_HUB_OFFLINE
    assert len(_rows()) == 1
    assert hub.offline == [True]
    assert before == datasets.config.HF_HUB_OFFLINE
    hub.table = ConnectionError("not in the cache")
    with pytest.raises(SourceUnreachable, match="nobody there"):
        _rows()
    hub.info = _http_error("HfHubHTTPError", 503)
    with pytest.raises(SourceUnreachable, match="HTTP 503"):
        _rows()


def test_without_the_hub_a_pinned_revision_is_not_guessed(hub: FakeHub) -> None:
    hub.info = ConnectionError("nobody there")
    hub.table = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(SourceUnreachable, match="at revision v1"):
        _rows(revision="v1")


def test_an_error_that_is_no_network_error_is_not_hidden(hub: FakeHub) -> None:
    hub.info = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        _rows()


def test_models_are_pinned_to_the_commit_found(hub: FakeHub) -> None:
    hub.holds("config.json", "model.safetensors", "pytorch_model.bin")
    assert find_model(ModelSpec(source="org/model")) == ModelFiles("org/model", "c" * 40)
    hub.holds("config.json", "model.safetensors.index.json", "model-00001-of-00001.safetensors")
    assert find_model(ModelSpec(source="org/model", revision="v1")).revision == "c" * 40
    assert hub.asked[-1] == ("org/model", "v1")
    hub.holds("tiny.gguf")
    assert find_model(ModelSpec(source="org/model")).gguf_file == "tiny.gguf"
    hub.holds("config.json")
    assert find_model(ModelSpec(source="org/model", random_weights=True)).gguf_file is None


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("config.json", "pytorch_model.bin"), r"only as pytorch_model\.bin"),
        (("config.json",), "holds no weights"),
        (("a.gguf", "b.gguf"), "2 GGUF files"),
    ],
)
def test_models_without_safetensors(hub: FakeHub, names: tuple[str, ...], says: str) -> None:
    hub.holds(*names)
    with pytest.raises(SourceNotFound, match=says):
        find_model(ModelSpec(source="org/model"))


def test_without_the_hub_a_model_in_its_cache_is_used(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.info = ConnectionError("nobody there")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({}))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(config))
    with pytest.raises(SourceUnreachable, match="its cache here does not hold it") as caught:
        find_model(ModelSpec(source="org/model"))
    assert "minilm" in caught.value.hint
    assert "--random-weights" in caught.value.hint
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_model(ModelSpec(source="org/model")) == ModelFiles(str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(SourceUnreachable):
        find_model(ModelSpec(source="org/model"))


def test_a_hub_that_cannot_be_reached_fails_fast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real libraries, sent to a port where nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: huggingface_hub.hf_api.HfApi("http://127.0.0.1:9"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    start = time.monotonic()
    with pytest.raises(SourceUnreachable):
        _rows()
    with pytest.raises(SourceUnreachable):
        find_model(ModelSpec(source="org/model-that-is-in-no-cache"))
    assert time.monotonic() - start < 60, "it gave up at once"
