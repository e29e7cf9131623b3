"""Trained models in the forms in which they may be deployed: built, loaded and scored as child processes do it."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import MakePlace, Trained, Written, news, save_folder, save_writer, write_csv
from tuneoff.config.deployability import Form
from tuneoff.errors import ExecutorError, StoreError, UnsupportedModel
from tuneoff.records.deployability import FormResult
from tuneoff.store import TrialStore
from tuneoff.trial.deployability.building import build
from tuneoff.trial.deployability.onnx_graph import NEEDED, bound_of
from tuneoff.trial.deployability.scoring import score
from tuneoff.trial.run import run

FORMS_OF_OPTIONS: tuple[Form, ...] = ("as_trained", "plain")

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def copied(place: TrialStore, folder: Path) -> TrialStore:
    """The same trial in a folder that a test may write to."""
    copy = TrialStore(folder / place.folder.name)
    shutil.copytree(place.folder, copy.folder)
    return copy


def measured(place: TrialStore, form: Form, scratch: Path, device: str = "cpu") -> FormResult:
    """One form, built and scored in this process."""
    scratch.mkdir(exist_ok=True)
    return score(place, form, scratch / form, build(place, form, scratch, "cpu"), device)


def outputs(place: TrialStore, result: FormResult) -> list[str]:
    assert result.predictions is not None
    return [row["output"] for row in place.rows_of(result.predictions)]


def largest_difference(place: TrialStore, one: FormResult, other: FormResult) -> float:
    assert one.predictions is not None
    assert other.predictions is not None
    tables = [
        torch.tensor([row["scores"] for row in place.rows_of(info)]).exp()
        for info in (one.predictions, other.predictions)
    ]
    return float((tables[0] - tables[1]).abs().max())


def test_each_form_of_a_classifier_is_scored_on_the_same_rows(trained: Trained, tmp_path: Path) -> None:
    place = copied(trained("lora"), tmp_path)
    record = place.record()
    assert record is not None
    scratch = tmp_path / "scratch"
    forms: tuple[Form, ...] = ("as_trained", "merged", "lora")
    results = {form: measured(place, form, scratch) for form in forms}
    # Its code computes on the CPU, also where a GPU is asked for.
    results["plain"] = measured(place, "plain", scratch, "cuda")
    assert results["plain"].environment is not None
    assert results["plain"].environment.device == "cpu"
    before = results["as_trained"]
    assert [(m.name, m.value) for m in before.metrics] == [
        (m.name, m.value) for m in record.metrics if m.split == "test"
    ]
    for form, result in results.items():
        assert result.works
        assert outputs(place, result) == outputs(place, before), form
        assert largest_difference(place, result, before) < 1e-4, form
        assert {m.name for m in result.metrics} == {m.name for m in before.metrics}
        assert result.inference.latency_examples > 0
        assert result.peak_memory_bytes or "peak_memory_bytes" in result.missing
    sizes = {form: (result.weights_bytes, result.base_bytes) for form, result in results.items()}
    merged_bytes, merged_base = sizes["merged"]
    assert merged_base == 0
    assert merged_bytes is not None
    for form in ("as_trained", "plain", "lora"):
        own, base = sizes[form]
        assert own is not None
        assert base is not None
        assert 0 < own < merged_bytes
        assert base > own


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_packed_weights_are_smaller_and_scored(form: Form, make_place: MakePlace, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    # As wide as a block of weights in 4 bits: bitsandbytes packs no narrower layer.
    folder = save_folder(tmp_path / "bert", "bert", ["x", "y"], hidden_size=64, intermediate_size=128)
    place = make_place("full", folder=folder, protocol={"learning_rate": 0.02, "epochs": 1, "max_steps": 2})
    run(place, "cpu", time.perf_counter())
    whole = measured(place, "merged", tmp_path / "scratch")
    packed = measured(place, form, tmp_path / "scratch")
    assert packed.works
    assert packed.weights_bytes is not None
    assert whole.weights_bytes is not None
    assert packed.weights_bytes < whole.weights_bytes
    assert packed.base_bytes == 0
    assert 0 < largest_difference(place, packed, whole) < 0.5
    assert f"in {8 if form == 'int8' else 4} bits by bitsandbytes" in packed.notes[0]


def test_a_writer_writes_the_same_merged_and_without_tuneoff(written: Written, tmp_path: Path) -> None:
    place = copied(written("lora"), tmp_path)
    scratch = tmp_path / "scratch"
    before = measured(place, "as_trained", scratch)
    for form in ("merged", "plain"):
        result = measured(place, form, scratch)
        assert outputs(place, result) == outputs(place, before)
        assert {"rouge_l", "exact_match"} <= {m.name for m in result.metrics}
        assert result.inference.latency_seconds_median is not None


@pytest.mark.parametrize("scoring", ["head", "likelihood"])
def test_options_are_chosen_the_same_without_tuneoff(
    scoring: str, make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model's folder may be named from the folder that is current; the card's code runs in another.
    monkeypatch.chdir(tmp_path)
    options = [[f"{word}{i}" for word in ("aaaa", "bbb", "ccccc")][: 2 + i % 2] for i in range(24)]
    rows = [{"question": f"{own[i % 2]}?", "choices": own, "answer": i % 2} for i, own in enumerate(options)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    if scoring == "likelihood":
        save_writer(tmp_path / "model", "gpt2")
    place = make_place(
        "lora",
        **({"folder": Path("model")} if scoring == "likelihood" else {}),
        data=tmp_path / "rows.jsonl",
        task={"name": "multiple_choice", "scoring": scoring},
        protocol={"epochs": 1, "max_steps": 1, "max_length": 48, "learning_rate": 0.02},
    )
    run(place, "cpu", time.perf_counter())
    before, plain = (measured(place, form, tmp_path / "scratch") for form in FORMS_OF_OPTIONS)
    assert outputs(place, plain) == outputs(place, before)
    assert before.predictions is not None
    assert plain.predictions is not None
    for one, other in zip(place.rows_of(before.predictions), place.rows_of(plain.predictions), strict=True):
        assert other["scores"] == pytest.approx(one["scores"], abs=1e-3)


def test_onnx_gives_the_same_answers(trained: Trained, written: Written, tmp_path: Path) -> None:
    for name in NEEDED:
        pytest.importorskip(name, reason="needs tuneoff[onnx]")
    place = copied(trained("lora"), tmp_path)
    before, graph = (measured(place, form, tmp_path / "scratch") for form in ("as_trained", "onnx"))
    assert outputs(place, graph) == outputs(place, before)
    assert largest_difference(place, graph, before) < 1e-3
    assert graph.notes[0].startswith("opset ")
    with pytest.raises(StoreError, match="cache of keys and values"):
        build(copied(written("lora"), tmp_path), "onnx", tmp_path / "texts", "cpu")


def test_a_graph_counts_as_the_model_up_to_a_difference() -> None:
    assert [bound_of(difference) for difference in (0.0, 3e-6, 1e-3)] == ["1e-12", "1e-05", "1e-03"]
    for difference in (2e-3, float("nan"), float("inf")):
        with pytest.raises(UnsupportedModel, match="gives other logits"):
            bound_of(difference)


@pytest.mark.parametrize(
    ("method", "form", "reason"),
    [
        ("prompt_tuning", "merged", "cannot be merged"),
        ("prompt_tuning", "int8", "cannot be merged"),
        ("prompt_tuning", "lora", "adds nothing to the weights"),
        ("ia3", "lora", "full rank"),
        ("bitfit", "lora", "no product of two thin matrices"),
        ("lora", "gguf", "no maintained package"),
    ],
)
def test_a_form_that_there_is_none_of_says_why(
    method: str, form: Form, reason: str, trained: Trained, tmp_path: Path
) -> None:
    place = copied(trained(method), tmp_path)
    with pytest.raises(StoreError, match=reason):
        build(place, form, tmp_path, "cpu")


def test_a_missing_package_is_named_with_what_installs_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent: Any = None
    monkeypatch.setitem(sys.modules, "onnx", absent)
    with pytest.raises(ExecutorError, match="package onnx") as caught:
        build(copied(trained("lora"), tmp_path), "onnx", tmp_path / "scratch", "cpu")
    assert "tuneoff[onnx]" in caught.value.hint


def test_test_rows_that_changed_are_refused(make_place: MakePlace, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "rows.csv", news(48))
    place = make_place("head", data=data, protocol={"learning_rate": 0.02, "epochs": 1, "max_steps": 2})
    run(place, "cpu", time.perf_counter())
    write_csv(data, news(48, start=48))
    with pytest.raises(StoreError, match="have changed"):
        measured(place, "as_trained", tmp_path / "scratch")


def test_what_fails_without_tuneoff_is_told_by_its_last_line(trained: Trained, tmp_path: Path) -> None:
    place = copied(trained("lora"), tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    built = build(place, "plain", scratch, "cpu")
    settings = scratch / "plain" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "peft_type": "NOSUCH"}))
    with pytest.raises(ExecutorError, match=r"fails without tuneoff: .*NOSUCH"):
        score(place, "plain", scratch / "plain", built, "cpu")
