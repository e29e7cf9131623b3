"""Base models of the hub in trials: what is refused before its weights are fetched, and what a record tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub_helpers import StandInHub, go_offline
from trial_helpers import MakePlace, make_study, news, write_csv
from tuneoff import sources
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceUnreachable, UnsupportedModel
from tuneoff.planning.plan import plan
from tuneoff.records.upgrades import upgraded_record
from tuneoff.store import TrialStore
from tuneoff.tasks.classification import Classification
from tuneoff.trial.export import export
from tuneoff.trial.inference import predict
from tuneoff.trial.inspection import inspect_study
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.load import Loaded
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures", "hub_fixtures")
pytestmark = pytest.mark.usefixtures("one_thread")

TASK = Classification({"labels": ["a", "b"]})


def _files(folder: Path) -> dict[str, bytes | str]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _load(source: str) -> Loaded:
    return trial_model.load(ModelSpec(source=source), TASK, seed=0, dropout=None, attention="eager")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "clip"}, "put together of several"),
        ({"model_type": "ours", "auto_map": {"AutoConfig": "code.Config"}}, "remote code is never run"),
        ({"model_type": "bert", "transformers_weights": "other.safetensors"}, "names other weights"),
        ({"model_type": "bert", "num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_what_is_refused_is_refused_before_its_weights_are_fetched(
    hub: StandInHub, bert_folder: Path, config: dict[str, object], says: str
) -> None:
    code = {"code.py": "raise SystemExit('remote code was run')"}
    hub.put("models", "org/model", {**_files(bert_folder), **code, "config.json": json.dumps(config)})
    with pytest.raises(UnsupportedModel) as caught:
        trial_model.fetch(ModelSpec(source="org/model"))
    assert says in str(caught.value)
    assert "config.json" in hub.fetched("org/model")
    assert not {"model.safetensors", "code.py"} & set(hub.fetched("org/model"))


def test_a_model_of_the_hub_is_the_folder_that_it_was_made_from(hub: StandInHub, bert_folder: Path) -> None:
    commit = hub.put("models", "org/model", _files(bert_folder))
    ours, folder = _load("org/model"), _load(str(bert_folder))
    assert ours.info.checksum == folder.info.checksum, "computed from the weights, not taken from the commit"
    assert ours.info.files == folder.info.files
    assert (ours.info.commit, folder.info.commit) == (commit, None)
    assert ours.model.name_or_path == "org/model"


def test_counting_fetches_no_weights(hub: StandInHub, bert_folder: Path) -> None:
    hub.put("models", "org/model", _files(bert_folder))
    trial_model.build_empty(ModelSpec(source="org/model"), TASK)
    assert "model.safetensors" not in hub.fetched("org/model")


def test_a_trained_trial_is_used_with_the_commit_it_was_trained_on(
    hub: StandInHub, bert_folder: Path, make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_csv(tmp_path / "news.csv", news(24))
    rows = {"train.csv": data.read_text(), "test.csv": write_csv(tmp_path / "test.csv", news(12, 500)).read_text()}
    commits = [hub.put("models", "org/model", _files(bert_folder)), hub.put("datasets", "org/data", rows)]
    place = make_place("lora", folder=Path("org/model"), data=Path("org/data"))
    record = run(place, "cpu", 0.0)
    assert record.cause == ""
    assert record.model is not None
    assert record.data is not None
    assert record.model.commit == commits[0]
    assert record.data.commits == {"train": commits[1], "test": commits[1]}
    hub.put("models", "org/model", {**_files(bert_folder), "model.safetensors": b"the branch has moved on"})
    assert len(predict(place, str(data), "cpu")["predictions"]) == 24
    go_offline(monkeypatch)
    export(place, tmp_path / "exported", merged=False, device="cpu")
    adapter = json.loads((tmp_path / "exported" / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("org/model", commits[0])


@pytest.mark.parametrize("method", ["bitfit", "majority"])
def test_trials_read_the_commits_that_their_run_saw_before_the_first(
    hub: StandInHub, bert_folder: Path, tmp_path: Path, method: str
) -> None:
    table = "text,label\n" + "".join(f"word {number},{'ab'[number % 2]}\n" for number in range(40))
    model = hub.put("models", "org/model", _files(bert_folder))
    data = hub.put("datasets", "org/data", {"train.csv": table, "test.csv": table.replace("word", "other")})
    study = make_study(Path("org/model"), Path("org/data"), [method], protocol={"seeds": 1, "max_steps": 1})
    (spec,) = plan(study)
    seen = inspect_study(study, [spec], require_data=True)["contents"]
    hub.put("models", "org/model", {**_files(bert_folder), "config.json": "moved on"})
    hub.put("datasets", "org/data", {"train.csv": "moved\non\n"})
    place = TrialStore(tmp_path / "trials" / spec.id)
    place.write_spec(spec.model_copy(update={"contents": seen}))
    record = run(place, "cpu", 0.0)
    assert record.spec.model.revision is None, "what was asked for"
    assert record.data is not None
    assert record.data.commits == {"train": data, "test": data}
    assert method == "majority" or (record.model is not None and record.model.commit == model)


def test_a_branch_that_moves_while_rows_are_read_gives_all_roles_one_commit(
    hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneoff.config.data import TaskSpec
    from tuneoff.config.protocol import Protocol
    from tuneoff.trial.data import load as trial_data

    table = "text,label\n" + "".join(f"word {number},{'ab'[number % 2]}\n" for number in range(40))
    first = hub.put("datasets", "org/data", {"train.csv": table, "test.csv": table.replace("word", "other")})
    original = sources.read_rows

    def moving(*arguments: object) -> object:
        rows = original(*arguments)  # type: ignore[arg-type]
        hub.put("datasets", "org/data", {"train.csv": "text,label\nnew,a\n", "test.csv": "text,label\nnew,a\n"})
        return rows

    monkeypatch.setattr("tuneoff.trial.data.load.read_rows", moving)
    task = Classification({})
    data = trial_data.load(task, TaskSpec.model_validate({"data": "org/data"}), Protocol())
    assert data.info.commits == {"train": first, "test": first}
    assert len(data.splits["test"]) == 40


def test_weights_that_are_out_of_reach_stop_a_study_before_its_first_trial(
    hub: StandInHub, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put("models", "org/model", _files(bert_folder))
    trial_model.load_config(ModelSpec(source="org/model"))
    go_offline(monkeypatch)
    with pytest.raises(SourceUnreachable):
        trial_model.fetch(ModelSpec(source="org/model"))


def test_records_of_version_1_kept_the_commit_in_the_place_of_a_checksum() -> None:
    body = upgraded_record({"record_version": 1, "model": {"source": "org/model", "checksum": "commit:abc"}})
    assert body["model"] == {"source": "org/model", "checksum": None, "commit": "abc"}
    assert body["missing"]["model.checksum"]
