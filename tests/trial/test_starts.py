"""Trainings that start from trained weights, or from a start that is computed from training rows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import MakePlace, make_study, news, write_csv
from tuneoff.errors import ContentChanged, DataError, SourceNotFound, StudyError, UnsupportedModel
from tuneoff.interfaces import Attached, StartRows
from tuneoff.methods._peft import edit_config
from tuneoff.methods.lora import Lora
from tuneoff.planning.plan import plan
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore, TrialStore
from tuneoff.study import starts
from tuneoff.tasks.classification import Classification
from tuneoff.trial import inspection
from tuneoff.trial.export import export
from tuneoff.trial.modeling import start
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

PROTOCOL = {"seeds": [0], "epochs": 1, "learning_rate": 0.02}
Earlier = Callable[..., StudyStore]


def finish(place: TrialStore) -> TrialRecord:
    return run(place, "cpu", time.perf_counter())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of rows that share none: what was trained on before, what is trained on now, and a test."""
    folder = tmp_path_factory.mktemp("rows")
    parts = {"before": (0, 40), "now": (100, 40), "test": (200, 16)}
    return {name: write_csv(folder / f"{name}.csv", news(count, start)) for name, (start, count) in parts.items()}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path, rows: dict[str, Path]) -> StudyStore:
    """A study that has trained LoRA and a head."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = {"train": str(rows["before"]), "test": str(rows["test"])}
    study = make_study(bert_folder, rows["before"], {"lora": {}, "head": {}}, task={"data": data}, protocol=PROTOCOL)
    store = StudyStore.create(tmp_path_factory.mktemp("earlier") / "study", study, plan(study))
    for spec in plan(study):
        finish(store.trial(spec.id))
    torch.set_num_threads(threads)
    return store


@pytest.fixture
def later(tmp_path: Path, bert_folder: Path, rows: dict[str, Path]) -> Callable[..., TrialStore]:
    """A trial ready to run of an arm that continues from what is named."""

    def make(start: str | Path, method: str = "lora", **changes: Any) -> TrialStore:
        data = {"train": str(changes.pop("train", rows["now"])), "test": str(changes.pop("test", rows["test"]))}
        arm = {"method": method, "start_from": str(start), **changes.pop("options", {})}
        protocol = {**PROTOCOL, **changes.pop("protocol", {})}
        study = make_study(bert_folder, rows["now"], {"on": arm}, task={"data": data}, protocol=protocol, **changes)
        study = starts.resolved(study)
        (spec,) = plan(study, starts.fingerprints(study))
        place = TrialStore(tmp_path / spec.id)
        place.write_spec(spec)
        return place

    return make


Later = Callable[..., TrialStore]


def named(store: StudyStore, label: str) -> TrialStore:
    return next(store.trial(r.spec.id) for r in store.records() if r.spec.label == label)


# --- from trained weights


@pytest.mark.parametrize("form", ["study and arm", "trial", "folder of weights", "an adapter from elsewhere"])
def test_training_goes_on_from_what_was_trained(form: str, earlier: StudyStore, later: Later, tmp_path: Path) -> None:
    trial = named(earlier, "lora")
    elsewhere = tmp_path / "adapter"
    shutil.copytree(trial.weights, elsewhere)
    source = {
        "study and arm": f"{earlier.root}:lora",
        "trial": trial.folder,
        "folder of weights": trial.weights,
        "an adapter from elsewhere": elsewhere,
    }[form]
    # A rate at which nothing moves: the scores are those that it started with.
    record = finish(later(source, protocol={"learning_rate": 1e-12}))
    before = trial.record()
    assert before is not None
    assert {m.name: m.value for m in record.metrics if m.split == "test"} == pytest.approx(
        {m.name: m.value for m in before.metrics if m.split == "test"}, rel=1e-5
    )
    assert record.start is not None
    assert set(record.start.files) == {"adapter_config.json", "adapter_model.safetensors", "README.md"} & set(
        record.start.files
    )
    (finding,) = [f for f in record.findings if f.name == "started_from"]
    if form == "an adapter from elsewhere":
        assert record.start.trial is None
        assert record.missing["start.trial"]
        assert "not known" in finding.message
    else:
        assert before.data is not None
        assert (record.start.trial, record.start.study) == (before.spec.id, before.spec.study)
        assert record.start.train_rows == before.data.splits["train"].rows
        assert record.start.train_fingerprint == before.data.splits["train"].fingerprint
        assert record.start.test_rows_seen == 0
        assert before.spec.id in finding.message


def test_a_method_that_keeps_its_own_tensors_goes_on_too(earlier: StudyStore, later: Later) -> None:
    record = finish(later(f"{earlier.root}:head", "head"))
    assert record.start is not None
    assert record.start.label == "head"


def test_what_a_start_had_started_from_is_told_and_its_rows_count(
    earlier: StudyStore, later: Later, rows: dict[str, Path]
) -> None:
    second = later(named(earlier, "lora").folder)
    finish(second)
    third = finish(later(second.folder, train=rows["now"]))
    assert third.start is not None
    assert third.start.earlier == (named(earlier, "lora").folder.name,)
    assert third.start.test_rows_seen == 0
    with pytest.raises(DataError, match="test rows were among the rows"):
        finish(later(second.folder, test=rows["before"], protocol={"duplicates": "refuse"}))


def test_the_card_tells_of_it(earlier: StudyStore, later: Later, tmp_path: Path) -> None:
    place = later(f"{earlier.root}:lora")
    record = finish(place)
    export(place, tmp_path / "exported", merged=False, device="cpu")
    text = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert record.start is not None
    assert f"Training went on from trial `{record.start.trial}`" in text
    assert next(iter(record.start.files.values()))[:16] in text


def test_the_same_weights_elsewhere_are_another_trial_and_without_any_it_is_as_before(
    earlier: StudyStore, later: Later, bert_folder: Path, rows: dict[str, Path]
) -> None:
    place = later(f"{earlier.root}:lora")
    study = make_study(bert_folder, rows["now"], {"plain": {"method": "lora"}, "on": {"method": "lora"}})
    with pytest.raises(StudyError, match="same method and configuration"):
        plan(study)
    arms = {"plain": {"method": "lora"}, "on": {"method": "lora", "start_from": place.spec().start_from}}
    both = make_study(bert_folder, rows["now"], arms)
    ids = {spec.label: spec.id for spec in plan(both, starts.fingerprints(both))}
    alone = make_study(bert_folder, rows["now"], {"plain": {"method": "lora"}})
    assert ids["plain"] == plan(alone)[0].id
    assert ids["on"].split("-")[-1] != ids["plain"].split("-")[-1]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lora", {"r": 4}, "r is 8 there and 4 here"),
        ("lora", {"alpha": 8}, "alpha is 16"),
        ("lora", {"targets": "attention"}, "it lacks"),
        ("lora", {"init": "pissa"}, "makes a start of its own"),
        ("ia3", {}, "the kind of adapter is LORA"),
        ("full", {}, "holds no trained.safetensors"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    method: str, options: dict[str, Any], message: str, earlier: StudyStore, later: Later
) -> None:
    place = later(f"{earlier.root}:lora", method, options=options)
    with pytest.raises(UnsupportedModel, match=message) as caught:
        finish(place)
    assert caught.value.hint
    assert place.record() is None


def test_other_classes_and_other_base_weights_are_refused(
    earlier: StudyStore, later: Later, rows: dict[str, Path], tmp_path: Path
) -> None:
    renamed = write_csv(tmp_path / "renamed.csv", [(text, f"x{label}") for text, label in news(40, 300)])
    with pytest.raises(UnsupportedModel, match="its classes are sport, trade, and here they are xsport, xtrade"):
        finish(later(f"{earlier.root}:lora", train=renamed, test=renamed))
    elsewhere = tmp_path / "adapter"
    shutil.copytree(named(earlier, "lora").weights, elsewhere)
    config = json.loads((elsewhere / "adapter_config.json").read_text())
    (elsewhere / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "org/other"}))
    place = later(elsewhere, model={"source": "org/own"})
    with pytest.raises(UnsupportedModel, match="an adapter of org/other, not of org/own"):
        start.trace(place.spec(), Classification({}), [], None)


def test_test_rows_that_were_trained_on_are_refused_or_told(
    earlier: StudyStore, later: Later, rows: dict[str, Path]
) -> None:
    with pytest.raises(DataError, match=r"on: \d+ of 40 test rows were among the rows"):
        finish(later(f"{earlier.root}:lora", test=rows["before"], protocol={"duplicates": "remove"}))
    record = finish(later(f"{earlier.root}:lora", test=rows["before"]))
    assert record.start is not None
    assert record.start.test_rows_seen
    assert any(finding.name == "start_saw_test" for finding in record.findings)


def test_rows_that_are_gone_are_told(earlier: StudyStore, later: Later, rows: dict[str, Path], tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    rows["before"].rename(kept)
    try:
        record = finish(later(f"{earlier.root}:lora"))
    finally:
        kept.rename(rows["before"])
    assert record.start is not None
    assert record.start.test_rows_seen is None
    assert "not there any more" in next(f.message for f in record.findings if f.name == "started_from")


def test_weights_that_change_or_go_after_planning_are_refused(
    earlier: StudyStore, later: Later, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "adapter"
    shutil.copytree(named(earlier, "lora").weights, elsewhere)
    place = later(elsewhere)
    (elsewhere / "more.txt").write_text("x")
    with pytest.raises(ContentChanged, match="has changed since"):
        finish(place)
    shutil.rmtree(elsewhere)
    with pytest.raises(SourceNotFound, match="holds no trained weights"):
        finish(place)


def test_a_look_before_anything_runs_refuses_the_same(earlier: StudyStore, later: Later, rows: dict[str, Path]) -> None:
    for place, error in (
        (later(f"{earlier.root}:lora", options={"r": 4}), StudyError),
        (later(f"{earlier.root}:lora", test=rows["before"], protocol={"duplicates": "refuse"}), DataError),
    ):
        spec = place.spec()
        study = make_study(
            Path(spec.model.source),
            rows["now"],
            {spec.label: {"method": spec.method, "start_from": spec.start_from, **spec.options}},
            task={"data": spec.task.data.model_dump(mode="json", exclude_none=True)},
            protocol={"duplicates": spec.protocol.duplicates},
        )
        with pytest.raises(error):
            inspection.inspect_study(study, [spec], require_data=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{root}:nothing", r"has no arm 'nothing'; it has lora, head"),
        ("{root}:lorra", r"did you mean 'lora'\?"),
        ("{folder}", "neither a study nor a PEFT adapter"),
        ("/nowhere/at/all", "/nowhere/at/all"),
        ("{folder}:lora", "is no folder of a study"),
        ("x" * 300, "cannot be looked for: File name too long"),
        ("~no-such-user-here/adapter", "cannot be looked for: Could not determine home"),
    ],
)
def test_weights_that_are_not_there_are_one_clear_error(
    text: str, message: str, earlier: StudyStore, bert_folder: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    name = text.format(root=earlier.root, folder=tmp_path)
    study = make_study(bert_folder, rows["now"], {"on": {"method": "lora", "start_from": name}})
    if name == "/nowhere/at/all":
        assert starts.resolved(study) == study  # of a study that was run, whose weights are gone
        with pytest.raises(SourceNotFound, match=message):
            starts.fingerprints(study)
        return
    with pytest.raises(StudyError, match=message) as caught:
        starts.resolved(study)
    assert caught.value.problems[0].where == "methods.on.start_from"


def test_an_adapter_for_base_weights_that_its_start_has_changed_is_refused(
    earlier: StudyStore, later: Later, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "adapter"
    shutil.copytree(named(earlier, "lora").weights, elsewhere)
    edit_config(elsewhere, {"init_lora_weights": "pissa_niter_4"})
    with pytest.raises(UnsupportedModel, match="init_lora_weights is pissa_niter_4 there and another here"):
        finish(later(elsewhere))
    edit_config(elsewhere, {"init_lora_weights": "gaussian"})
    assert finish(later(elsewhere)).start is not None


def test_settings_of_an_adapter_that_are_none_are_one_clear_error(
    earlier: StudyStore, later: Later, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "adapter"
    shutil.copytree(named(earlier, "lora").weights, elsewhere)
    (elsewhere / "adapter_config.json").write_text("[]")
    with pytest.raises(UnsupportedModel, match=r"its adapter_config.json is no JSON object"):
        finish(later(elsewhere))


def test_an_arm_that_trains_nothing_starts_from_nothing(bert_folder: Path, rows: dict[str, Path]) -> None:
    with pytest.raises(StudyError, match="majority does not train"):
        make_study(bert_folder, rows["now"], {"majority": {"start_from": "x"}})


# --- from rows


@pytest.mark.parametrize("init", ["eva", "corda", "lora_ga"])
def test_a_start_from_rows_is_part_of_the_training_time(
    init: str, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Any]] = []
    initialise = Lora.initialise

    def note(self: Lora, attached: Attached, rows: StartRows) -> None:
        seen.append([batch["input_ids"].tolist() for batch in rows.batches])
        assert not attached.module.training
        initialise(self, attached, rows)

    monkeypatch.setattr(Lora, "initialise", note)
    records = [finish(make_place("lora", {"init": init, "r": r}, protocol={"epochs": 1})) for r in (2, 4)]
    timing = records[0].timing
    assert timing.start_seconds is not None
    assert timing.train_step_seconds is not None
    assert timing.data_wait_seconds is not None
    whole = timing.train_step_seconds + timing.data_wait_seconds + timing.start_seconds
    assert timing.train_seconds == pytest.approx(whole)
    assert seen[0] == seen[1], "every arm gets the same rows in the same batches"
    assert sum(map(len, seen[0])) <= 8 * 8
    other = finish(make_place("lora", {"init": init, "r": 2}, seed=1, protocol={"epochs": 1}))
    assert seen[2] != seen[0]
    assert other.status.finished
