"""Result files of PEFT's method comparison become records: what they tell, and why the rest is missing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from peft_helpers import MODEL, result, usual, write
from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.pareto import cost_draws, find_front, quality_draws
from tuneoff.analysis.decisions.recommend import recommend
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results, gather
from tuneoff.errors import DataError, StoreError
from tuneoff.importers.peft_benchmark import import_folder
from tuneoff.records.record import Status, TrialRecord
from tuneoff.report import build as build_report
from tuneoff.report import write as write_report


def imported(tmp_path: Path, **files: Any) -> Results:
    return gather(import_folder(write(tmp_path / "in", **files), tmp_path / "out").store)


def only(tmp_path: Path, body: dict[str, Any]) -> TrialRecord:
    record: TrialRecord = imported(tmp_path, one=body).records[0]
    return record


def without(body: dict[str, Any], *path: str) -> dict[str, Any]:
    made = copy.deepcopy(body)
    at = made
    for step in path[:-1]:
        at = at[step]
    del at[path[-1]]
    return made


def changed(body: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    made = copy.deepcopy(body)
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def test_what_a_file_tells_is_in_the_record(tmp_path: Path) -> None:
    record = only(tmp_path, result())
    assert record.spec.label == "lora/rank8"  # the base model's name, which all share, is left out
    assert record.spec.method == "lora"
    assert record.spec.options == {"peft_type": "LORA", "r": 8}
    assert (record.spec.learning_rate, record.spec.seed) == (1e-4, 0)
    assert record.status is Status.COMPLETED
    assert (record.metric("accuracy"), record.metric("accuracy", "validation")) == (0.48, 0.42)
    assert (record.metric("forgetting"), record.metric("loss", "train")) == (0.02, 0.6)
    assert (record.memory.peak_memory_bytes, record.memory.kind) == (20 * 2**30, "cuda_reserved")
    assert record.stored_bytes == 30_000_000
    assert record.parameters is not None
    assert (record.parameters.trainable.adapter, record.parameters.total.total) == (9_000_000, 1_000_000_000)
    protocol = record.spec.protocol
    assert (protocol.batch_size, protocol.max_steps, protocol.schedule) == (4, 1000, "cosine")
    assert (protocol.weight_decay, protocol.clip_norm, protocol.precision) == (0.1, 1.0, "bf16")
    assert record.spec.model.revision == "13afe512"


def test_train_time_is_the_steps_alone_not_the_suites_own(tmp_path: Path) -> None:
    timing = only(tmp_path, result()).timing
    assert timing.train_seconds == pytest.approx(4 * 31.5)
    assert (timing.validation_seconds, timing.total_seconds) == (40.0, 400.0)


def test_speed_follows_from_the_steps(tmp_path: Path) -> None:
    throughput = only(tmp_path, result()).throughput
    assert throughput.examples_per_second == pytest.approx(4000 / 126)
    assert throughput.tokens_per_second == pytest.approx(840_000 / 126)


def test_steps_after_the_last_validation_leave_the_train_time_unknown(tmp_path: Path) -> None:
    record = only(tmp_path, result(max_steps=1100))
    assert record.timing.train_seconds is None
    assert record.throughput.examples_per_second is None
    reason = record.missing["timing.train_seconds"]
    assert "the first 1000 steps of 1100 only" in reason
    assert "train_time of 300.0 s also holds the test" in reason


def test_an_older_file_without_durations_and_counts(tmp_path: Path) -> None:
    body = without(without(result(), "train_info", "num_trainable_params"), "train_info", "accelerator_memory_max")
    body["train_info"]["cuda_memory_max"] = 7
    for entry in body["train_info"]["metrics"]:
        entry.pop("train time", None)
        entry.pop("eval time", None)
    record = only(tmp_path, body)
    assert record.memory.peak_memory_bytes == 7
    assert record.parameters is None
    assert record.missing["parameters"] == "the file tells no numbers of parameters"
    assert record.timing.train_seconds is None
    assert "no duration of the steps" in record.missing["timing.train_seconds"]


def test_the_marks_for_missing_figures_are_no_figures(tmp_path: Path) -> None:
    body = changed(result(stored=99_999_999), 0, "train_info", "accelerator_memory_max")
    record = only(tmp_path, body)
    assert (record.stored_bytes, record.memory.peak_memory_bytes) == (None, None)
    assert record.missing["stored_bytes"] == "the suite could not save the weights"
    assert record.missing["memory.peak_memory_bytes"] == "the file tells no peak of memory"


def test_a_number_that_is_none_is_missing(tmp_path: Path) -> None:
    text = json.dumps(result()).replace('"total_time": 400.0', '"total_time": NaN')
    record = imported(tmp_path, one=text).records[0]
    assert record.timing.total_seconds is None
    assert record.missing["timing.total_seconds"] == "the file tells no total_time"


def test_full_fine_tuning_trains_the_base(tmp_path: Path) -> None:
    record = only(tmp_path, result("full-finetuning/base-1b-x", trained=1_000_000_000))
    assert record.spec.label == "full-finetuning/x"
    assert record.parameters is not None
    assert (record.parameters.trainable.base, record.parameters.trainable.adapter) == (1_000_000_000, 0)


@pytest.mark.parametrize(
    ("status", "cause", "expected"),
    [
        ("canceled", "CUDA out of memory. Tried to allocate", Status.OUT_OF_MEMORY),
        ("canceled", "manually canceled", Status.CANCELLED),
        ("canceled", "shape mismatch", Status.FAILED),
        ("failed", "", Status.FAILED),
    ],
)
def test_runs_that_ended_early(tmp_path: Path, status: str, cause: str, expected: Status) -> None:
    body = changed(
        changed(result("ia3/base-1b-default"), status, "train_info", "status"), cause, "run_info", "error_msg"
    )
    body["train_info"]["metrics"] = []
    records = {r.spec.label: r for r in imported(tmp_path, good=result(), bad=body).records}
    assert records["ia3/default"].status is expected
    assert records["ia3/default"].cause == (cause or "the file gives no cause")
    assert records["ia3/default"].metrics == ()


def test_tables_fronts_and_recommendations_run_on_it(tmp_path: Path) -> None:
    store = import_folder(usual(tmp_path / "MetaMathQA" / "results"), tmp_path / "out").store
    body = build_report(store).as_data()
    assert body["study"]["name"] == "peft-MetaMathQA"
    assert body["trials"] == {"planned": 3, "recorded": 3, "completed": 3}
    page = write_report(store, plots=False).read_text()
    assert "Every arm has one seed, which does not show how much seeds differ" in page
    lora = next(entry for entry in body["methods"] if entry["method"] == "lora/rank8")
    assert (lora["metrics"]["accuracy"]["interval_low"], lora["metrics"]["accuracy"]["std"]) == (None, None)
    assert {"figure": "latency_seconds", "reason": "the suite does not measure the speed of the trained model"} in lora[
        "missing"
    ]
    found = gather(store)
    outcomes = Outcomes(found)
    assert found.primary is not None
    said = recommend(found, outcomes, found.primary)
    assert (said.answer, said.arm("lora/rank8").probability) == ("full-finetuning/lr_1e-5", None)
    front = find_front(
        [quality_draws(found, outcomes, found.primary), cost_draws(found, AXES["stored"])], {"quality": "higher"}
    )
    assert len(front.labels) == 3
    assert front.probabilities is None


def test_every_missing_figure_of_a_report_has_a_reason(tmp_path: Path) -> None:
    body = build_report(import_folder(usual(tmp_path / "in"), tmp_path / "out").store).as_data()
    for entry in body["methods"]:
        assert entry["missing"]
        assert all(item["reason"] not in ("", "not recorded") for item in entry["missing"])


def test_runs_that_were_not_made_alike_are_named(tmp_path: Path) -> None:
    other = result("ia3/base-1b-default", batch_size=2)
    other["meta_info"]["system_info"] = {"gpu": "NVIDIA A100"}
    other["meta_info"]["package_info"]["torch-version"] = "2.8.0"
    findings = {f.name: f.message for f in imported(tmp_path, a=result(), b=other).records[0].findings}
    assert "batch_size 4 in 1 run, 2 in ia3/base-1b-default" in findings["different_protocol"]
    assert "NVIDIA A100 in ia3/base-1b-default" in findings["different_hardware"]
    assert "torch 2.7.1 in 1 run, 2.8.0 in ia3/base-1b-default" in findings["different_versions"]
    alike = imported(tmp_path / "alike", a=result(), b=result("ia3/base-1b-default")).records[0]
    assert {finding.name for finding in alike.findings} == {"imported", "one_seed"}


def test_the_newest_run_of_an_experiment_counts(tmp_path: Path) -> None:
    old = changed(result(accuracy=0.1), "2025-06-17T11:28:17+00:00", "run_info", "created_at")
    found = import_folder(write(tmp_path / "in", a_new=result(accuracy=0.4), b_old=old), tmp_path / "out")
    assert (found.results, found.replaced) == (1, ("b_old.json",))
    assert found.store.records()[0].metric("accuracy") == 0.4


def test_several_seeds_of_an_experiment_are_one_row(tmp_path: Path) -> None:
    found = imported(tmp_path, a=result(), b=result(accuracy=0.5, seed=1))
    assert [len(arm.completed) for arm in found.arms] == [2]
    assert "one_seed" not in {finding.name for finding in found.records[0].findings}


WRONG: dict[str, Any] = {
    "torn": '{"run_info": ',
    "list": [1],
    "config": {"r": 8},
    "no_seed": without(result(), "run_info", "train_config", "seed"),
    "bad_rate": changed(result(), "fast", "run_info", "train_config", "optimizer_kwargs", "lr"),
    "bad_status": changed(result(), "done", "train_info", "status"),
    "no_metrics": changed(result(), [], "train_info", "metrics"),
    "no_test": changed(result(), [{"step": 1}], "train_info", "metrics"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "in", good=result(), **{name: WRONG[name]})
    with pytest.raises(DataError, match="1 of 2 files") as error:
        import_folder(folder, tmp_path / "out")
    assert f"- {name}.json: " in error.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_all_wrong_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        import_folder(write(tmp_path / "in", **WRONG), tmp_path / "out")
    assert all(f"{name}.json" in error.value.message for name in WRONG)


def test_several_base_models_need_a_choice(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", a=result(), b=result("lora/other-rank8", model_id="org/other"))
    with pytest.raises(DataError, match="of 2 base models") as error:
        import_folder(folder, tmp_path / "out")
    assert "--model" in error.value.hint
    assert import_folder(folder, tmp_path / "out", MODEL).results == 1
    with pytest.raises(DataError, match="no result is of the model 'org/none'"):
        import_folder(folder, tmp_path / "other", "org/none")


def test_different_tasks_are_not_mixed(tmp_path: Path) -> None:
    image = result("ia3/base-1b-x")
    image["train_info"]["metrics"][-1] = {"step": 1000, "test dino_similarity": 0.7, "train loss": 0.7}
    with pytest.raises(DataError, match=r"accuracy in a.json, dino_similarity in b.json"):
        import_folder(write(tmp_path / "in", a=result(), b=image), tmp_path / "out")
    record = only(tmp_path / "alone", image)
    assert (record.primary_metric, record.metric("dino_similarity")) == ("dino_similarity", 0.7)


def test_a_folder_that_is_there_is_not_written_to(tmp_path: Path) -> None:
    folder = usual(tmp_path / "in")
    import_folder(folder, tmp_path / "out")
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    with pytest.raises(StoreError, match="is there already"):
        import_folder(folder, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before


def test_an_empty_folder_hints_at_the_results_inside(tmp_path: Path) -> None:
    usual(tmp_path / "results")
    with pytest.raises(DataError, match="holds no result file") as error:
        import_folder(tmp_path, tmp_path / "out")
    assert "name that folder" in error.value.hint
    with pytest.raises(DataError, match="is not a folder"):
        import_folder(tmp_path / "nowhere", tmp_path / "out")


def test_a_length_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    record = only(tmp_path, changed(result(), True, "run_info", "train_config", "max_seq_length"))
    untold = only(tmp_path / "untold", without(result(), "run_info", "train_config", "max_seq_length"))
    assert record.spec.protocol == untold.spec.protocol


def test_a_setting_that_no_study_takes_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a study: 1 validation error"):
        imported(tmp_path, one=changed(result(), 2**80, "run_info", "train_config", "seed"))
    assert not (tmp_path / "out").exists()


def test_a_file_without_the_key_of_the_adapter_is_read(tmp_path: Path) -> None:
    assert only(tmp_path, without(result(), "run_info", "peft_config")).spec.options == {}


def test_one_seed_each_has_intervals_and_ties_over_the_test_examples(tmp_path: Path) -> None:
    files = {
        name: result(f"{name}/base-1b-x", right / 1319)
        for name, right in {"lora": 631, "oft": 648, "ia3": 300, "vera": 290}.items()
    }
    body = build_report(import_folder(write(tmp_path / "in", **files), tmp_path / "out").store).as_data()
    scores = {arm["method"]: arm["metrics"]["accuracy"] for arm in body["methods"]}
    assert (scores["lora/x"]["interval_low"], scores["lora/x"]["interval_high"]) == pytest.approx(
        (0.4515, 0.5054), abs=1e-4
    )
    assert scores["lora/x"]["interval_over"] == "examples"
    message = {warning["name"]: warning["message"] for warning in body["warnings"]}["examples_alone"]
    assert message.startswith("Over the 1,319 test examples alone, lora/x cannot be told apart from oft/x by accuracy")
    assert "unpaired tests, Shaffer's correction over 6 pairs; 2 groups in all" in message
    assert "not of seeds" in message
    assert "If differences varied as those of half of the pairs" in message
    assert (
        "the 2 arms of this group alone, run again, would tell oft/x four times in five from lora/x (0.013" in message
    )
    assert "no number of seeds (1,319 test examples are too few)" in message
    assumed = {warning["name"]: warning["message"] for warning in body["warnings"]}["assumed_examples"]
    assert assumed.startswith("The files tell no number of test examples. 1,319 are assumed")
    assert body["answer"]["winner"] is None
    assert set(body["answer"]["open"]) == {"lora/x", "ia3/x", "vera/x"}, "nothing is significant by examples alone"


def test_scores_that_are_no_whole_numbers_of_examples_tell_no_test_size(tmp_path: Path) -> None:
    body = build_report(import_folder(usual(tmp_path / "in"), tmp_path / "out").store).as_data()
    assert all(arm["metrics"]["accuracy"]["interval_low"] is None for arm in body["methods"])
    assert not {"examples_alone", "assumed_examples"} & {warning["name"] for warning in body["warnings"]}


def test_scores_of_none_and_all_tell_no_test_size(tmp_path: Path) -> None:
    files = {name: result(f"{name}/base-1b-x", score) for name, score in {"lora": 1.0, "oft": 0.0}.items()}
    body = build_report(import_folder(write(tmp_path / "in", **files), tmp_path / "out").store).as_data()
    assert all(arm["metrics"]["accuracy"]["interval_low"] is None for arm in body["methods"])
    assert not {"examples_alone", "assumed_examples"} & {warning["name"] for warning in body["warnings"]}
