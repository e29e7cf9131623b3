from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import news, write_csv
from tuneoff import registry
from tuneoff.config.spec import Stopping
from tuneoff.errors import DataError, Diverged, ExecutorError, RecordExists, StoreError, UnsupportedModel
from tuneoff.interfaces import Example
from tuneoff.planning.plan import trial_id
from tuneoff.records.record import RoleCounts, Status, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.tasks.generation import Generation
from tuneoff.trial.inference import restore
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

MakePlace = Callable[..., TrialStore]
CPU = torch.device("cpu")
TRAINED = ("lora", "prompt_tuning", "full")
METRICS = {"accuracy", "macro_f1", "mcc", "loss"}


def finish(place: TrialStore) -> TrialRecord:
    return run(place, "cpu", time.perf_counter(), commit="abc123")


@pytest.fixture(scope="module")
def finished(make_place: MakePlace) -> dict[str, tuple[TrialStore, TrialRecord]]:
    """One finished trial of each kind of method, at seed 0."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    places = {name: make_place(name) for name in ("majority", *TRAINED)}
    done = {name: (place, finish(place)) for name, place in places.items()}
    torch.set_num_threads(threads)
    return done


Finished = dict[str, tuple[TrialStore, TrialRecord]]


def nulls(value: Any, path: str = "") -> Iterator[str]:
    """Dotted names of what is null."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from nulls(item, f"{path}.{key}" if path else key)
    elif value is None:
        yield path


# --- the record


@pytest.mark.parametrize("name", ["majority", *TRAINED])
def test_a_trial_completes_and_its_record_is_what_lies_on_disk(name: str, finished: Finished) -> None:
    place, record = finished[name]
    assert record.status is Status.COMPLETED
    assert place.record() == record
    assert record.spec == place.spec()
    with pytest.raises(RecordExists):
        place.write_record(record)


@pytest.mark.parametrize("name", ["majority", *TRAINED])
def test_quality_is_scored_on_both_splits_and_predictions_are_kept(name: str, finished: Finished) -> None:
    place, record = finished[name]
    for split in ("validation", "test"):
        assert {m.name for m in record.metrics if m.split == split} == METRICS
    assert record.primary_metric == "accuracy"
    kept = place.predictions()
    assert kept is not None
    assert record.data is not None
    assert [p.index for p in kept] == list(range(record.data.splits["test"].rows))
    assert record.metric("accuracy") == sum(p.output == p.target for p in kept) / len(kept)


@pytest.mark.parametrize("name", ["majority", *TRAINED])
def test_every_null_has_a_reason(name: str, finished: Finished) -> None:
    _, record = finished[name]
    places = list(nulls(record.model_dump(mode="json", exclude={"spec", "missing"})))
    for place in places:
        steps = place.split(".")
        reasons = [record.missing.get(".".join(steps[:count])) for count in range(1, len(steps) + 1)]
        assert any(reasons), f"{place} is null without a reason"
    # And no reason is given for what is there. What `utilisation` lacks are empty lists, not nulls.
    known = {".".join(place.split(".")[:count]) for place in places for count in range(1, 5)}
    if record.retention.forgetting is None:
        known.add("retention.forgetting")  # read of what is held, no field of its own
    assert {key for key in record.missing if not key.startswith("utilisation")} <= known


@pytest.mark.parametrize("name", TRAINED)
def test_times_add_up(name: str, finished: Finished) -> None:
    _, record = finished[name]
    timing = record.timing.model_dump()
    assert timing["train_seconds"] == pytest.approx(timing["train_step_seconds"] + timing["data_wait_seconds"])
    assert timing["prefix_seconds"] is None, "no blocks of these are frozen, or nothing is shared by a run"
    apart = {
        "prefix_seconds",
        "start_seconds",
        "train_seconds",
        "total_seconds",
        "first_steps_seconds",
        "first_steps",
        "step_seconds_median",
        "retention_seconds",
        "rewind_seconds",
    }
    assert timing["retention_seconds"] is None, "nothing is held"
    assert timing["rewind_seconds"] is None
    phases = {key: value for key, value in timing.items() if key not in apart}
    assert all(value > 0 for value in phases.values())
    assert sum(phases.values()) <= timing["total_seconds"]
    assert timing["first_steps"] == 3
    assert 0 < timing["first_steps_seconds"] <= timing["train_seconds"]
    later = timing["train_seconds"] - timing["first_steps_seconds"]
    assert 0 < timing["step_seconds_median"] <= later, "one of the seven steps after the first three"


@pytest.mark.parametrize("name", TRAINED)
def test_every_part_of_the_record_is_there(name: str, finished: Finished) -> None:
    place, record = finished[name]
    assert record.memory.kind == "resident"
    assert record.memory.peak_memory_bytes == record.memory.phases["train"].resident_bytes
    assert record.memory.base_bytes is not None
    assert record.memory.peak_memory_bytes is not None
    assert record.memory.peak_over_base_bytes == record.memory.peak_memory_bytes - record.memory.base_bytes
    assert record.memory.phases.keys() >= {"load", "tokenize", "preflight", "train", "validation", "test", "inference"}
    # 34 rows in batches of eight, twice.
    assert record.steps == 10
    assert len(record.gradient_norm.per_step) == 10
    assert record.gradient_norm.mean == pytest.approx(sum(record.gradient_norm.per_step) / 10)
    assert record.gradient_norm.max == max(record.gradient_norm.per_step)
    assert [point.step for point in record.curve] == [5, 10]
    assert record.curve[-1].epoch == 2.0
    assert record.curve[-1].validation.keys() == METRICS
    assert record.data is not None
    assert record.data.examples_trained == 68
    assert record.timing.train_seconds is not None
    assert record.throughput.examples_per_second == pytest.approx(68 / record.timing.train_seconds)
    assert record.throughput.padding_share is not None
    assert 0 < record.throughput.padding_share < 1
    assert 1 <= record.inference.latency_examples <= 3
    assert record.parameters is not None
    assert record.parameters.trainable.head == 32 * 2 + 2
    assert record.stored_bytes is not None
    assert record.stored_bytes == sum(f.stat().st_size for f in place.weights.iterdir() if f.suffix != ".md")
    assert record.model is not None
    assert (record.model.architecture, record.model.dtype) == ("BertForSequenceClassification", "float32")
    assert record.precision is not None
    assert record.precision.policy == "fp32"
    assert record.environment is not None
    assert (record.environment.device, record.environment.commit) == ("cpu", "abc123")


def test_a_baseline_trains_nothing_and_says_so(finished: Finished) -> None:
    place, record = finished["majority"]
    assert record.parameters is not None
    assert record.parameters.total == RoleCounts()
    assert record.timing.train_seconds is None
    assert record.missing["throughput"] == "this method does not train"
    # Baselines that use a model do not train either, and have these.
    for figure in ("inference", "model", "precision", "memory.peak_memory_bytes"):
        assert record.missing[figure] == "this method uses no model"
    assert record.stored_bytes == 0
    assert not place.weights.exists()
    # The largest class's share.
    assert record.metric("accuracy") == 0.7


# --- fairness


def test_all_methods_see_the_same_rows_in_the_same_order(finished: Finished, make_place: MakePlace) -> None:
    data = {name: record.data for name, (_, record) in finished.items()}
    fingerprints = {
        tuple(info.splits[split].fingerprint for split in ("train", "validation", "test"))
        for info in data.values()
        if info is not None
    }
    assert len(fingerprints) == 1
    orders = {info.train_order_fingerprint for name, info in data.items() if info is not None and name in TRAINED}
    assert len(orders) == 1
    other = finish(make_place("lora", seed=1)).data
    assert other is not None
    assert tuple(other.splits[split].fingerprint for split in ("train", "validation", "test")) in fingerprints
    assert other.train_order_fingerprint not in orders


@pytest.mark.parametrize("name", ["lora", "prompt_tuning"])
def test_a_repeated_trial_predicts_the_same_bit_for_bit(name: str, finished: Finished, make_place: MakePlace) -> None:
    _, first = finished[name]
    torch.manual_seed(123)
    again = finish(make_place(name))
    assert again.predictions["test"].sha256 == first.predictions["test"].sha256
    assert again.gradient_norm == first.gradient_norm
    assert again.metrics == first.metrics
    assert finish(make_place(name, seed=1)).predictions["test"].sha256 != first.predictions["test"].sha256


def test_latency_measurements_change_no_result(finished: Finished, make_place: MakePlace) -> None:
    _, first = finished["lora"]
    for wanted in (9, 0):
        again = finish(make_place("lora", execution={"latency_examples": wanted}))
        assert again.predictions["test"].sha256 == first.predictions["test"].sha256
        assert (wanted > 0) <= again.inference.latency_examples <= wanted
    for name in ("latency_seconds_median", "latency_seconds_p95"):
        assert getattr(again.inference, name) is None
        assert again.missing[f"inference.{name}"] == "execution.latency_examples is 0"


@pytest.mark.parametrize("name", ["majority", "lora", "zero_shot"])
def test_a_trial_of_a_later_seed_times_no_inference(
    name: str, finished: Finished, make_place: MakePlace, gpt_folder: Path
) -> None:
    task = {"name": "generation", "source": "text", "target": "label", "max_target_length": 4}
    place = make_place(name, folder=gpt_folder, task=task) if name == "zero_shot" else make_place(name)
    place.write_spec(place.spec().model_copy(update={"times_inference": False}))
    record = finish(place)
    assert record.timing.inference_seconds is None
    assert "inference" not in record.memory.phases
    assert record.inference.latency_seconds_median is None
    test_every_null_has_a_reason(name, {name: (place, record)})
    if name == "lora":
        assert record.metrics == finished[name][1].metrics
        assert record.inference.batched_examples_per_second is None
        reason = "timed at the study's first 3 seeds alone (execution.latency_seeds)"
        assert record.missing["inference.latency_seconds_median"] == reason
    if name == "zero_shot":
        assert record.inference.generated_tokens_per_second is not None


@pytest.mark.parametrize("duplicates", ["warn", "remove"])
@pytest.mark.parametrize("seed", [0, 1])
def test_shown_examples_are_training_rows(
    duplicates: str, seed: int, make_place: MakePlace, gpt_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All splits are cut from one file, most of whose rows stand in it twice."""
    calls: list[tuple[list[Example], list[Example]]] = []
    encode = Generation.encode

    def noted(task: Generation, examples: Any, tokenizer: Any, max_length: int, shown: Any = ()) -> Any:
        calls.append((list(examples), list(shown)))
        return encode(task, examples, tokenizer, max_length, shown)

    monkeypatch.setattr(Generation, "encode", noted)
    rows = [*news(40), *((text.upper(), topic) for text, topic in news(30))]
    place = make_place(
        "few_shot",
        folder=gpt_folder,
        data=write_csv(tmp_path / "rows.csv", rows),
        task={"name": "generation", "source": "text", "target": "label", "max_target_length": 4},
        protocol={"max_length": 12, "duplicates": duplicates},
        seed=seed,
    )
    record = finish(place)
    splits = {len(examples): examples for examples, _ in calls}
    assert record.data is not None
    train, test = (splits[record.data.splits[name].rows] for name in ("train", "test"))
    shown = calls[0][1]
    assert len(shown) == 3
    assert all(given == shown for _, given in calls), "every split is shown the same"
    assert all(example in train and example not in test for example in shown)
    assert (record.data.overlap["train/test"] > 0) == (duplicates == "warn")
    if duplicates == "remove":
        elsewhere = {
            example.text.casefold() for name in splits if splits[name] is not train for example in splits[name]
        }
        assert not elsewhere & {example.text.casefold() for example in shown}


# --- selection


def accuracies(record: TrialRecord) -> list[float]:
    return [point.validation["accuracy"] for point in record.curve]


def test_the_best_checkpoint_is_tested(make_place: MakePlace) -> None:
    """A rate so high that training gets worse after its first steps, so that best and last differ."""
    options = {
        "epochs": 4,
        "evaluations_per_epoch": 2,
        "learning_rate": 0.1,
        "schedule": "constant",
        "select_metric": "loss",
    }
    best_place = make_place("full", protocol=options)
    best, last = finish(best_place), finish(make_place("full", protocol={**options, "select": "last"}))
    losses = [point.validation["loss"] for point in best.curve]
    assert losses == [point.validation["loss"] for point in last.curve]
    chosen = best.curve[losses.index(min(losses))].step
    assert best.selected_step == chosen < last.steps == last.selected_step
    assert best.metric("loss", "validation") == min(losses)
    assert last.metric("loss", "validation") == losses[-1]
    assert best.predictions["test"].sha256 != last.predictions["test"].sha256
    # What was kept is what was tested.
    assert [p.scores for p in predict_again(best_place)] == [p.scores for p in best_place.predictions() or []]


def predict_again(place: TrialStore) -> list[Any]:
    from tuneoff.trial.data import load as trial_data
    from tuneoff.trial.training.evaluate import predict

    spec = place.spec()
    task, _, tokenizer, runner = restore(place, CPU)
    rows = trial_data.load(registry.tasks()["classification"]({}), spec.task, spec.protocol).splits["test"]
    return predict(runner, task.encode(rows, tokenizer, spec.protocol.max_length), rows)


@pytest.mark.parametrize("name", TRAINED)
def test_a_restored_model_predicts_what_was_recorded(name: str, finished: Finished) -> None:
    place, _ = finished[name]
    torch.manual_seed(321)
    assert predict_again(place) == place.predictions()


def test_among_equal_scores_the_lower_loss_is_kept(finished: Finished) -> None:
    _, record = finished["lora"]
    ranked = max(record.curve, key=lambda point: (point.validation["accuracy"], -point.validation["loss"]))
    assert record.selected_step == ranked.step


# --- what is kept


def test_weights_can_be_let_go(make_place: MakePlace) -> None:
    place = make_place("lora", execution={"keep_weights": False})
    record = finish(place)
    assert not place.weights.exists()
    # The size is of what would have to be stored, kept or not.
    assert record.stored_bytes
    with pytest.raises(StoreError, match="kept no weights") as caught:
        restore(place, CPU)
    assert "keep_weights" in caught.value.hint


def test_changed_base_weights_are_noticed(make_place: MakePlace, bert_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert_folder, tmp_path / "base")
    place = make_place("head", folder=folder)
    finish(place)
    weights = load_file(folder / "model.safetensors")
    weights["bert.pooler.dense.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StoreError, match="now holds other weights than trial head-s0"):
        restore(place, CPU)


def test_base_weights_that_the_files_lack_do_not_stand_in_the_way(
    make_place: MakePlace, bert_folder: Path, tmp_path: Path
) -> None:
    """They are drawn the same at every seed and whenever the trial's model is built again."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert_folder, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        del weights[f"bert.pooler.dense.{name}"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    places = [make_place("head", folder=folder, seed=seed) for seed in (0, 1)]
    records = [finish(place) for place in places]
    assert [finding.name for finding in records[0].findings].count("fresh_weights") == 1
    assert records[0].model == records[1].model
    torch.manual_seed(321)
    assert predict_again(places[1]) == places[1].predictions()


# --- findings


def names(record: TrialRecord) -> list[str]:
    return [finding.name for finding in record.findings]


def test_random_weights_are_a_finding_and_an_event(make_place: MakePlace) -> None:
    place = make_place("lora", model={"random_weights": True})
    record = finish(place)
    assert "random_weights" in names(record)
    assert record.model is not None
    assert record.model.random_weights
    assert record.missing["model.checksum"]
    assert "random_weights" in {event.get("name") for event in place.events()[0]}


def test_a_collapse_to_one_class_and_a_floor_not_reached_are_named(finished: Finished) -> None:
    place, record = finished["lora"]
    outputs = {p.output for p in place.predictions() or []}
    assert outputs == {"sport"}
    assert {"collapsed", "below_baseline"} <= set(names(record))
    assert any("every test example is predicted as 'sport'" in f.message for f in record.findings)


def test_training_that_works_has_no_such_finding(make_place: MakePlace) -> None:
    record = finish(make_place("full", protocol={"epochs": 12, "learning_rate": 5e-3, "max_length": 48}))
    assert record.metric("accuracy") == 1.0
    assert not {"collapsed", "below_baseline", "truncated"} & set(names(record))


def test_truncation_is_counted_by_split(finished: Finished) -> None:
    _, record = finished["lora"]
    assert record.data is not None
    long = {split: info.truncated for split, info in record.data.splits.items()}
    texts = [text for text, _ in news(48)]
    assert sum(long.values()) == sum(len(text) + 2 > 24 for text in texts) > 0
    assert max(info.longest_tokens for info in record.data.splits.values()) == max(map(len, texts)) + 2
    assert "truncated" in names(record)


# --- trials that end early


def test_divergence_leaves_no_record(make_place: MakePlace) -> None:
    place = make_place("full", protocol={"learning_rate": 1e30, "clip_norm": None, "warmup_steps": 0})
    with pytest.raises(Diverged):
        finish(place)
    assert place.record() is None


def test_divergence_at_the_very_last_step_is_divergence_too(make_place: MakePlace) -> None:
    """No training loss follows the last step: only the scores can show it."""
    options = {"learning_rate": 1e30, "clip_norm": None, "warmup_steps": 0, "max_steps": 1}
    place = make_place("full", protocol=options)
    with pytest.raises(Diverged, match="not finite"):
        finish(place)
    assert place.record() is None


def test_rows_that_cannot_be_used_stop_it_before_the_model_is_loaded(make_place: MakePlace, tmp_path: Path) -> None:
    place = make_place("lora", data=write_csv(tmp_path / "one.csv", [("x", "a"), ("y", "a")]))
    with pytest.raises(DataError, match="all 2 training rows have the same label"):
        finish(place)


def test_a_prompt_that_leaves_too_few_positions_is_refused(make_place: MakePlace) -> None:
    with pytest.raises(UnsupportedModel, match=r"max_length 60 \+ 20 virtual tokens of prompt_tuning .* 64 positions"):
        finish(make_place("prompt_tuning", protocol={"max_length": 60}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(make_place: MakePlace) -> None:
    with pytest.raises(ExecutorError, match="no CUDA device"):
        run(make_place("lora"), "cuda", time.perf_counter())


# --- trials of a search


@pytest.fixture(scope="module")
def sought(make_place: MakePlace) -> tuple[TrialStore, TrialRecord]:
    """A finished trial of a search, otherwise the one of `finished`."""
    place = make_place("lora")
    place.write_spec(place.spec().model_copy(update={"purpose": "search", "fingerprints": None}))
    return place, finish(place)


def test_a_search_trial_trains_as_any_other_and_scores_validation_alone(
    sought: tuple[TrialStore, TrialRecord], finished: Finished
) -> None:
    place, record = sought
    _, verdict = finished["lora"]
    assert record.status is Status.COMPLETED
    scores = {metric.name: metric.value for metric in record.metrics}
    assert {metric.split for metric in record.metrics} == {"validation"}
    # Two processes may add up in another order.
    assert scores == pytest.approx({m.name: m.value for m in verdict.metrics if m.split == "validation"}, rel=1e-4)
    assert record.gradient_norm.per_step == pytest.approx(verdict.gradient_norm.per_step, rel=1e-4)
    assert (record.selected_step, record.stored_bytes) == (verdict.selected_step, verdict.stored_bytes)
    assert record.data is not None
    assert verdict.data is not None
    assert record.data.splits == verdict.data.splits
    assert not {"test", "inference"} & record.memory.phases.keys()
    assert record.predictions == {}
    assert sorted(path.name for path in place.folder.iterdir()) == ["events.jsonl", "record.json", "trial.json"]
    assert not {"collapsed", "below_baseline"} & set(names(record)), "these speak of the test split"


def test_every_null_of_a_search_trial_has_a_reason(sought: tuple[TrialStore, TrialRecord]) -> None:
    test_every_null_has_a_reason("lora", {"lora": sought})
    assert sought[1].missing["inference"] == "a trial of a search scores validation alone"


def test_a_search_trial_cannot_be_restored(sought: tuple[TrialStore, TrialRecord]) -> None:
    with pytest.raises(StoreError, match="belongs to the search"):
        restore(sought[0], CPU)


# --- rows that belong together


def test_predictions_and_the_record_tell_groups(make_place: MakePlace, tmp_path: Path) -> None:
    rows = [(text, label, str(number // 4)) for number, (text, label) in enumerate(news(60))]
    data = tmp_path / "news.csv"
    data.write_text("\n".join(["text,label,author", *(",".join(row) for row in rows)]))
    for method in ("majority", "head"):
        place = make_place(method, data=data, task={"group": "author"}, protocol={"epochs": 1})
        record = finish(place)
        kept = place.predictions()
        assert kept is not None
        assert record.data is not None
        groups = [prediction.group for prediction in kept]
        assert sorted(set(groups), key=groups.index) == list(range(record.data.groups["test"]))
        assert sum(record.data.groups.values()) == 15


def test_a_trial_that_its_search_stops_ends_at_that_validation_and_keeps_its_score(
    make_place: MakePlace, tmp_path: Path
) -> None:
    planned = make_place("head", protocol={"epochs": 2, "evaluations_per_epoch": 2}).spec()
    records = []
    for bounds in ((0.0, 2.0, 0.0), (0.0, 0.0, 0.0)):
        rule = Stopping(metric="accuracy", direction="higher", bounds=bounds)
        spec = planned.model_copy(update={"stopping": rule, "purpose": "search"})
        spec = spec.model_copy(update={"id": trial_id(spec)})
        place = TrialStore(tmp_path / spec.id)
        place.write_spec(spec)
        records.append(finish(place))
    stopped, whole = records
    assert stopped.status is Status.COMPLETED
    assert [point.step for point in stopped.curve] == [point.step for point in whole.curve[:2]]
    assert stopped.steps == stopped.curve[-1].step < whole.steps
    assert stopped.metric("accuracy", "validation") == max(p.validation["accuracy"] for p in stopped.curve)
    assert stopped.curve == tuple(
        ours.model_copy(update={"train_seconds": theirs.train_seconds})
        for ours, theirs in zip(whole.curve, stopped.curve, strict=False)
    )
