"""What trained models keep of what the base model could do, in whole trials."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from generation_helpers import tiny_config
from hub_helpers import StandInHub
from trial_helpers import PAIRS, MakePlace, make_study, news, save_writer, write_csv
from tuneoff.config.data import ModelSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.retention import RetentionSpec
from tuneoff.errors import ContentChanged, DataError, Diverged, StudyError, TuneoffError
from tuneoff.methods.lora import lora_layers
from tuneoff.planning.plan import plan
from tuneoff.records.record import DataInfo, Retention, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial.assembly import load_model
from tuneoff.trial.data.contents import verify_rows
from tuneoff.trial.inference import restore
from tuneoff.trial.inspection import inspect_study
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.retention.held import tokenize_held
from tuneoff.trial.run import run
from tuneoff.trial.training.evaluate import predict

pytest_plugins = ("trial_fixtures", "hub_fixtures")
pytestmark = pytest.mark.usefixtures("one_thread")

WRITING = {"name": "generation", "template": "{source} => ", "max_target_length": 6, "source": "article"}
PROTOCOL = {"learning_rate": 0.02, "epochs": 1, "max_length": 24}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_writer(tmp_path_factory.mktemp("models") / "writer", "gpt2")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", PAIRS, header=("article", "target"))


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prose") / "prose.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text, _ in news(20, 300)), encoding="utf-8")
    return path


def finished(place: TrialStore, scratch: Path | None = None) -> TrialRecord:
    record = run(place, "cpu", time.perf_counter(), scratch=scratch)
    assert record.status.finished
    return record


def retention_of(place: TrialStore, scratch: Path | None = None) -> Retention:
    return finished(place, scratch).retention


def test_a_text_and_a_task_are_scored_before_and_after(
    make_place: MakePlace, writer: Path, pairs: Path, prose: Path
) -> None:
    task = {"name": "generation", "data": str(pairs), "template": "{source}: ", "max_target_length": 4}
    place = make_place(
        "full",
        folder=writer,
        data=pairs,
        task=WRITING,
        protocol=PROTOCOL,
        retention={"held": {"prose": str(prose), "pairs": {"task": {**task, "source": "article"}}}, "rows": 12},
    )
    record = finished(place)
    text, held_task = record.retention.held.values()
    assert (text.metric, text.direction, text.rows) == ("bits_per_byte", "lower", 12)
    assert text.before == pytest.approx(8, abs=2), "a model that knows nothing takes about a byte for a byte"
    assert text.change == pytest.approx(text.after - text.before)
    assert text.change != 0
    assert sum(text.changes) / 12 == pytest.approx(text.change, abs=1e-6)
    assert record.retention.forgetting == text.change
    assert (held_task.metric, held_task.direction) == ("rouge_l", "higher")
    assert held_task.change == pytest.approx(held_task.before - held_task.after)
    assert record.timing.retention_seconds is not None
    assert record.timing.rewind_seconds is None
    assert record.missing["timing.rewind_seconds"] == "the study asks for none (`retention.rewind`)"


def test_training_is_the_same_with_and_without(make_place: MakePlace, writer: Path, pairs: Path, prose: Path) -> None:
    plain, held = (
        finished(make_place("lora", folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, **changes))
        for changes in ({}, {"retention": {"held": str(prose), "rewind": True}})
    )
    assert plain.metrics == held.metrics
    assert plain.kept_files == held.kept_files
    assert plain.retention == Retention()
    assert plain.missing["retention.forgetting"] == "the study has no `retention`"


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_ends_of_a_rewind_are_the_base_model_and_the_trained_one(
    make_place: MakePlace, writer: Path, pairs: Path, prose: Path, method: str
) -> None:
    place = make_place(
        method,
        folder=writer,
        data=pairs,
        task=WRITING,
        protocol=PROTOCOL,
        retention={"held": str(prose), "rewind": [0, 0.5, 1]},
    )
    record = finished(place)
    retention = record.retention
    held, (base, half, whole) = retention.held["prose"], retention.rewind
    assert retention.rewind_metric == "loss"
    assert base.held["prose"] == pytest.approx(held.before, rel=1e-5)
    assert whole.held["prose"] == pytest.approx(held.after, rel=1e-4)
    assert whole.quality == pytest.approx(record.metric("loss", "validation"), rel=1e-4)
    assert half.held["prose"] not in (base.held["prose"], whole.held["prose"])
    assert base.quality > whole.quality, "training lowers the loss"


def test_half_a_lora_is_one_of_half_its_alpha(make_place: MakePlace, writer: Path, pairs: Path, prose: Path) -> None:
    """What interpolated weights give is what scaling the update gives."""
    place = make_place(
        "lora",
        folder=writer,
        data=pairs,
        task=WRITING,
        protocol=PROTOCOL,
        retention={"held": str(prose), "rewind": [0, 0.5, 1], "rows": 10},
    )
    half = retention_of(place).rewind[1]
    _, attached, tokenizer, runner = restore(place, torch.device("cpu"))
    for _, layer in lora_layers(attached.model):
        layer.scaling["default"] *= 0.5
    spec = place.spec()
    assert spec.retention is not None
    (one,) = tokenize_held(spec.retention, spec.protocol, spec.model, tokenizer, attached.model.config)
    predictions = predict(replace(runner, task=one.held.task), one.features, one.held.examples)
    (metric,) = one.held.task.score(predictions, "test")
    assert half.held["prose"] == pytest.approx(metric.value, rel=1e-4)


def test_a_method_that_does_not_merge_says_so(make_place: MakePlace, writer: Path, pairs: Path, prose: Path) -> None:
    place = make_place(
        "prompt_tuning",
        {"tokens": 4},
        folder=writer,
        data=pairs,
        task=WRITING,
        protocol=PROTOCOL,
        retention={"held": str(prose), "rewind": True},
    )
    record = finished(place)
    assert record.retention.held["prose"].change != 0
    assert record.retention.rewind == ()
    assert "prompt_tuning cannot be merged" in record.missing["retention.rewind_metric"]


def test_a_classifier_is_scored_by_the_language_models_own_head(
    make_place: MakePlace, writer: Path, news_csv: Path, prose: Path
) -> None:
    retention = {"held": str(prose), "rewind": [0, 1]}
    full, head = (
        finished(make_place(method, folder=writer, data=news_csv, protocol=PROTOCOL, retention=retention))
        for method in ("full", "head")
    )
    held = full.retention.held["prose"]
    assert held.change != 0
    base, whole = full.retention.rewind
    assert base.held["prose"] == pytest.approx(held.before, rel=1e-5)
    assert whole.held["prose"] == pytest.approx(held.after, rel=1e-4)
    assert head.retention.held["prose"].change == pytest.approx(0, abs=1e-6), "its blocks stay as they were"
    assert head.retention.held["prose"].before == pytest.approx(held.before)


def test_the_base_model_is_scored_once_for_a_run_and_every_trial_pays_for_it(
    make_place: MakePlace,
    writer: Path,
    pairs: Path,
    prose: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads: list[float] = []

    def slowly(*arguments: Any) -> Any:
        loads.append(1.0)
        time.sleep(0.5)
        return load_model(*arguments)

    monkeypatch.setattr("tuneoff.trial.retention.scorer.load_model", slowly)
    records = [
        finished(
            make_place(
                method, folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, seed=seed, retention=str(prose)
            ),
            tmp_path,
        )
        for method, seed in (("lora", 0), ("lora", 1), ("full", 0))
    ]
    assert len(loads) == 1
    assert len({record.retention.held["prose"].before for record in records}) == 1
    assert all((record.timing.retention_seconds or 0) >= 0.5 for record in records)
    assert all((record.timing.total_seconds or 0) >= 0.5 for record in records)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "memory ran out"),
        (Diverged("the model's outputs are not finite"), "the model's outputs are not finite"),
    ],
)
@pytest.mark.parametrize("part", ["scorer.HeldScorer.score_base", "measure.rewind"])
def test_what_cannot_be_scored_loses_no_training(
    make_place: MakePlace,
    writer: Path,
    pairs: Path,
    prose: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    reason: str,
    part: str,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(f"tuneoff.trial.retention.{part}", fail)
    retention = {"held": str(prose), "rewind": True, "rows": 4}
    record = finished(
        make_place("lora", folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, retention=retention)
    )
    assert record.metric("loss", "test") is not None
    assert record.retention.rewind == ()
    assert record.missing["retention.rewind_metric"] == reason
    assert [f.message.endswith(reason) for f in record.findings if f.name == "retention_not_scored"] == [True]
    is_held = part == "measure.rewind"
    assert (record.retention.forgetting is not None) == is_held
    assert record.missing.get("retention.forgetting") == (None if is_held else reason)
    assert (record.timing.rewind_seconds is None) == ("timing.rewind_seconds" in record.missing)


def test_a_fault_of_the_program_is_not_hidden(
    make_place: MakePlace, writer: Path, pairs: Path, prose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("tuneoff.trial.retention.measure.rewind", fail)
    retention = {"held": str(prose), "rewind": True, "rows": 4}
    place = make_place("lora", folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, retention=retention)
    with pytest.raises(RuntimeError, match="a fault"):
        run(place, "cpu", time.perf_counter())


@pytest.mark.parametrize(("text", "what"), [("{broken", "damaged"), ("{}", "empty")])
def test_a_damaged_file_of_shared_scores_is_made_anew(
    make_place: MakePlace, writer: Path, pairs: Path, prose: Path, tmp_path: Path, text: str, what: str
) -> None:
    def place(seed: int) -> TrialStore:
        return make_place(
            "lora", folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, seed=seed, retention=str(prose)
        )

    first = retention_of(place(0), tmp_path)
    (file,) = (tmp_path / "retention").iterdir()
    file.write_text(text, encoding="utf-8")
    assert retention_of(place(1), tmp_path).held["prose"].before == first.held["prose"].before, what


def test_rows_that_changed_since_the_plan_are_noticed(
    make_place: MakePlace, writer: Path, pairs: Path, prose: Path
) -> None:
    place = make_place("lora", folder=writer, data=pairs, task=WRITING, protocol=PROTOCOL, retention=str(prose))
    spec = place.spec()
    other = spec.model_copy(update={"fingerprints": {str(prose): "of other rows"}})
    with pytest.raises(ContentChanged, match=r"prose\.jsonl holds something else"):
        verify_rows(other, DataInfo())


def put_held(hub: StandInHub, version: int) -> dict[str, str]:
    """Puts a text and pairs at the hub; returns their commits."""
    texts = "".join(json.dumps({"text": text}) + "\n" for text, _ in news(12, 100 * version))
    tables: dict[str, bytes | str] = {}
    for split, pairs in (("train", PAIRS[12:]), ("test", PAIRS[version:12])):
        rows = "".join(f"{source},{target}\n" for source, target in pairs)
        tables[f"{split}.csv"] = f"article,target\n{rows}"
    return {
        "prose": hub.put("datasets", "org/prose", {"test.jsonl": texts}),
        "pairs": hub.put("datasets", "org/pairs", tables),
    }


def test_what_is_held_at_the_hub_is_read_at_the_commit_that_the_run_saw(
    hub: StandInHub, writer: Path, pairs: Path, make_place: MakePlace
) -> None:
    seen = put_held(hub, 0)
    task = {"name": "generation", "data": "org/pairs", "template": "{source}: ", "max_target_length": 4}
    held = {"prose": "org/prose", "pairs": {"task": {**task, "source": "article"}}}
    asked: dict[str, Any] = {"task": WRITING, "protocol": PROTOCOL, "retention": {"held": held}}
    study = make_study(writer, pairs, ["lora"], **asked)
    contents = inspect_study(study, plan(study), require_data=True)["contents"]
    assert contents["text commit of held prose"] == seen["prose"]
    assert {contents[f"{role} commit of held pairs"] for role in ("train", "test")} == {seen["pairs"]}
    put_held(hub, 1)
    place = make_place("lora", folder=writer, data=pairs, **asked)
    pinned = TrialStore(place.folder.parent / "pinned" / place.folder.name)
    pinned.write_spec(place.spec().model_copy(update={"contents": contents}))
    first, later = finished(pinned), finished(place)
    for name in held:
        assert first.contents[f"held {name}"] == contents[f"held {name}"]
        assert later.contents[f"held {name}"] != contents[f"held {name}"], "without a run that saw it, the newest"


# --- before training


def refuse(folder: Path, data: Path, retention: Any, methods: Any = ("lora",), **changes: Any) -> StudyError:
    study = make_study(folder, data, list(methods), retention=retention, **changes)
    with pytest.raises(StudyError) as caught:
        inspect_study(study, plan(study), require_data=True)
    return caught.value


def test_an_encoder_is_refused_before_training(bert_folder: Path, news_csv: Path, prose: Path) -> None:
    (problem,) = refuse(bert_folder, news_csv, str(prose), ["lora", "full"]).problems
    assert problem.where == "retention.held.prose"
    assert "a bert model does not foretell a text" in problem.message
    assert "Use a causal language model" in problem.message


def test_too_little_room_is_told_with_the_way_out(writer: Path, pairs: Path, prose: Path) -> None:
    retention = {"held": str(prose), "max_length": 200}
    (problem,) = refuse(writer, pairs, retention, task=WRITING).problems
    assert "is more than the model's 64 positions" in problem.message


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"text": "nowhere.csv"}, "nowhere"),
        ({"text": None, "column": "boody"}, "has no column 'boody'"),
    ],
)
def test_rows_that_cannot_be_read_are_told_before_training(
    writer: Path, pairs: Path, prose: Path, held: dict[str, Any], message: str
) -> None:
    held = {**held, "text": held["text"] or str(prose)}
    study = make_study(writer, pairs, ["lora"], task=WRITING, retention={"held": {"notes": held}})
    with pytest.raises(TuneoffError, match=message) as caught:
        inspect_study(study, plan(study), require_data=True)
    assert "retention, notes" in str(caught.value)


def write_texts(path: Path, *texts: str) -> Path:
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return path


def test_empty_rows_of_a_text_are_left_out(tmp_path: Path) -> None:
    path = write_texts(tmp_path / "lines.jsonl", "", "one", " ", "two", "")
    config = tiny_config("gpt2")
    retention = RetentionSpec.model_validate(str(path))
    (one,) = tokenize_held(retention, Protocol(), ModelSpec(source="tiny"), byte_tokenizer(config), config)
    assert [(e.text, e.index) for e in one.held.examples] == [("one", 0), ("two", 1)]


@pytest.mark.parametrize(("texts", "message"), [(("one", ""), "it has one row"), (("", ""), "2 of 2 rows .* no text")])
def test_too_few_rows_are_told_before_training(
    writer: Path, pairs: Path, tmp_path: Path, texts: tuple[str, ...], message: str
) -> None:
    path = write_texts(tmp_path / "few.jsonl", *texts)
    study = make_study(writer, pairs, ["lora"], task=WRITING, retention=str(path))
    with pytest.raises(DataError, match=f"retention, few: {message}"):
        inspect_study(study, plan(study), require_data=True)


def test_a_study_that_fits_is_let_through(writer: Path, pairs: Path, prose: Path) -> None:
    study = make_study(writer, pairs, ["lora", "prompt_tuning"], task=WRITING, retention=str(prose))
    assert inspect_study(study, plan(study), require_data=True)["trials"]
