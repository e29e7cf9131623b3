"""Which trials and forms are measured, what is kept of failures, and what is not measured twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deployability_helpers import broken, form_result, keep
from forecast_helpers import ForecastExecutor
from record_helpers import Level, World, build_store, small_study
from running_helpers import OneExecutor
from tuneoff.config.deployability import FORMS
from tuneoff.errors import OutOfMemory, StoreError, StudyError
from tuneoff.records.record import Status, TrialRecord
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.95, 30.0), "lora": Level(0.945, 8.0)}
BUILT = {"weights_bytes": 10, "base_bytes": 0}


@dataclass
class Measuring(ForecastExecutor):
    """Answers as the children do that build and score forms.

    Attributes:
        store: the study's folder.
        fail: form -> what building it raises.
        asked: trial's label, seed and form of each that was built.
    """

    store: StudyStore = field(default_factory=lambda: StudyStore(Path()))
    fail: dict[str, Exception] = field(default_factory=dict)
    asked: list[tuple[str, int, str]] = field(default_factory=list)

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        place, form = self.store.trial(Path(payload["folder"]).name), payload["form"]
        record = place.record()
        assert record is not None
        assert Path(payload["scratch"]).is_dir()
        if verb == "build_form":
            self.asked.append((record.spec.label, record.spec.seed, form))
            if form in self.fail:
                raise self.fail[form]
            return BUILT
        assert (verb, payload["built"]) == ("score_form", BUILT)
        return form_result(self.store, record, form).model_dump(mode="json")


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    store = build_store(tmp_path / "s", small_study(*LEVELS, seeds=2), World(levels=LEVELS))
    for record in store.records():
        if record.spec.learning_rate is not None:
            store.trial(record.spec.id).weights.mkdir()
    return store


@pytest.fixture
def executor(store: StudyStore) -> Any:
    fake = Measuring(store=store)
    with OneExecutor(fake).registered():
        yield fake


def labels_of(executor: Measuring) -> list[tuple[str, int]]:
    return list(dict.fromkeys((label, seed) for label, seed, _ in executor.asked))


def test_the_recommended_arm_is_measured_at_every_seed_in_every_form(store: StudyStore, executor: Measuring) -> None:
    (arm,) = Study.open(store.root).measure_deployability()
    assert arm.method == Study.open(store.root).recommend().answer == "lora"
    assert executor.asked == [("lora", seed, form) for seed in (0, 1) for form in FORMS]
    assert [form.form for form in arm.forms] == list(FORMS)
    assert all(form.works for form in arm.forms)
    assert [path.name for path in store.root.glob("trials/*/.forms*")] == []


def test_arms_and_forms_can_be_named(store: StudyStore, executor: Measuring) -> None:
    Study.open(store.root).measure_deployability(["full", "full"], forms=["merged"])
    assert executor.asked == [("full", seed, form) for seed in (0, 1) for form in ("as_trained", "merged")]
    executor.asked.clear()
    measured = Study.open(store.root).measure_deployability(every=True, forms=["as_trained"])
    assert labels_of(executor) == [("lora", 0), ("lora", 1)]
    assert [arm.method for arm in measured] == ["full", "lora"]


def test_a_failing_form_is_a_row_and_the_others_go_on(store: StudyStore, executor: Measuring) -> None:
    executor.fail = {
        "merged": StoreError("it cannot be merged", hint="Export it as it is."),
        "int8": OutOfMemory("gone"),
    }
    told: list[tuple[str, bool | None]] = []

    def hear(record: TrialRecord, form: str, result: Any) -> None:
        told.append((form, None if result is None else result.works))

    (arm,) = Study.open(store.root).measure_deployability(forms=["merged", "plain", "int8"], listener=hear)
    assert [(form.form, form.works) for form in arm.forms] == [
        ("as_trained", True),
        ("merged", False),
        ("plain", True),
        ("int8", False),
    ]
    merged = arm.form("merged")
    assert merged is not None
    assert merged.reason == "it cannot be merged (Export it as it is)"
    assert told[2:4] == [("merged", None), ("merged", False)]


def test_what_works_is_not_measured_twice_and_what_failed_is_tried_again(
    store: StudyStore, executor: Measuring
) -> None:
    study, (record, *_) = Study.open(store.root), [r for r in store.records() if r.spec.label == "lora"]
    keep(store, record, [form_result(store, record, "as_trained"), broken("merged", "out of memory")])
    study.measure_deployability(forms=["merged"])
    assert executor.asked == [("lora", 0, "merged"), ("lora", 1, "as_trained"), ("lora", 1, "merged")]
    executor.asked.clear()
    study.measure_deployability(forms=["merged"])
    assert executor.asked == []
    study.measure_deployability(forms=["merged"], again=True)
    assert len(executor.asked) == 4


def test_a_form_whose_predictions_are_not_those_of_its_result_is_measured_anew(
    store: StudyStore, executor: Measuring
) -> None:
    study = Study.open(store.root)
    study.measure_deployability(forms=["merged"])
    executor.asked.clear()
    (first, _) = [record for record in store.records() if record.spec.label == "lora"]
    # As where an interrupt comes between the two.
    (store.trial(first.spec.id).folder / "predictions-test-merged.jsonl").write_text("{}\n")
    (arm,) = study.measure_deployability(forms=["merged"])
    assert executor.asked == [("lora", 0, "merged")]
    assert arm.problems == ()


@pytest.mark.parametrize("change", [{"weights": {"other": "0" * 64}}, {"trial": "full-s0-0123456789"}])
def test_results_of_other_weights_or_unreadable_ones_are_measured_anew(
    change: dict[str, Any], store: StudyStore, executor: Measuring
) -> None:
    for record in store.records():
        if record.spec.label == "lora":
            keep(store, record, [form_result(store, record, "as_trained")], **change)
    (arm,) = Study.open(store.root).measure_deployability(forms=["as_trained"])
    assert len(executor.asked) == 2
    assert arm.problems == ()


def test_an_interrupt_keeps_what_is_measured(store: StudyStore, executor: Measuring) -> None:
    heard: list[str] = []

    def stop(record: TrialRecord, form: str, result: Any) -> None:
        heard.append(form)
        if form == "merged" and result is None:
            raise KeyboardInterrupt

    study = Study.open(store.root)
    with pytest.raises(KeyboardInterrupt):
        study.measure_deployability(listener=stop)
    executor.asked.clear()
    study.measure_deployability(forms=["merged"])
    assert executor.asked[0] == ("lora", 0, "merged")


@pytest.mark.parametrize(
    ("arms", "forms", "kind", "message", "hint"),
    [
        (["lorra"], None, StudyError, "no arm 'lorra' (did you mean 'lora')", "Arms that train: full, lora"),
        (["majority"], None, StudyError, "majority trains nothing", "Arms that train: full, lora"),
        (None, ["onx"], StudyError, "no form 'onx' (did you mean 'onnx')", ""),
    ],
)
def test_bad_input_is_told_and_starts_nothing(
    arms: Sequence[str] | None,
    forms: Sequence[str] | None,
    kind: type[Exception],
    message: str,
    hint: str,
    store: StudyStore,
    executor: Measuring,
) -> None:
    with pytest.raises(kind) as caught:
        Study.open(store.root).measure_deployability(arms or (), forms=forms)
    assert message in str(caught.value).replace("?", "")
    assert hint in getattr(caught.value, "hint", "")
    assert executor.asked == []


def test_a_study_without_kept_weights_says_how_to_keep_them(store: StudyStore, executor: Measuring) -> None:
    (_, last) = [record for record in store.records() if record.spec.label == "lora"]
    store.trial(last.spec.id).weights.rmdir()
    with pytest.raises(StoreError, match="kept no weights") as caught:
        Study.open(store.root).measure_deployability()
    assert "execution.keep_weights=true" in caught.value.hint
    assert executor.asked == []


def test_a_study_in_which_nothing_was_trained_has_nothing_to_measure(tmp_path: Path, executor: Measuring) -> None:
    fail = {("lora", seed): Status.FAILED for seed in (0, 1)}
    store = build_store(tmp_path / "none", small_study("majority", "lora"), World(levels=LEVELS, fail=fail))
    with pytest.raises(StoreError, match="no arm that trains is completed"):
        Study.open(store.root).measure_deployability()
    with pytest.raises(StoreError, match="no trial of lora is completed"):
        Study.open(store.root).measure_deployability(["lora"])


def test_a_folder_that_a_run_writes_to_is_left_alone(store: StudyStore, executor: Measuring) -> None:
    with store.lock(), pytest.raises(StoreError, match="run"):
        Study.open(store.root).measure_deployability()
    assert executor.asked == []


KEY: Callable[..., Any] = lambda **changes: {  # noqa: E731
    "model": "minilm",
    "task": {"data": "reuters-r8"},
    "methods": ["majority", "lora"],
    **changes,
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"deployability": ["merged", "onx"]}, "no form 'onx'"),
        ({"deployability": 7}, "expected true, or a list of forms"),
        ({"deployability": True, "execution": {"keep_weights": False}}, "leave execution.keep_weights at true"),
        ({"deployability": True, "methods": ["majority"]}, "no arm trains"),
    ],
)
def test_a_study_key_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        Study(KEY(**changes))
    assert message in str(caught.value)


def test_the_study_key_names_forms_and_is_no_part_of_what_is_trained() -> None:
    plain, asked = Study(KEY()), Study(KEY(deployability=["onnx", "merged"]))
    assert asked.spec.deployability == ("as_trained", "merged", "onnx")
    assert Study(KEY(deployability=True)).spec.deployability == FORMS
    assert Study(KEY(deployability=False)).spec.deployability == ()
    assert [trial.id for trial in plain.plan()] == [trial.id for trial in asked.plan()]
    assert plain.default_folder == asked.default_folder
