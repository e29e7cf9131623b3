"""The shipped suites find the faults that they are there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tuneoff import registry, testing
from tuneoff.errors import SourceNotFound
from tuneoff.interfaces import ModelFiles, Rows, Source, Task
from tuneoff.methods.full import Full
from tuneoff.tasks.classification import Classification
from tuneoff.testing import MethodContract, SourceContract, TaskContract, TrackerContract
from tuneoff.testing.imports import find_imported
from tuneoff.testing.methods import Case
from tuneoff.testing.settings import Setting

pytest_plugins = ("tracker_fixtures",)

CASE = Case("faulty", {}, Setting("class", "bert"))


def test_the_suites_are_offered_by_name() -> None:
    assert dir(testing) == testing.__all__ == sorted(testing.__all__)
    assert all(getattr(testing, name).__name__ == name for name in testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'ExecutorsContract'"):
        _ = testing.ExecutorsContract


def test_what_a_new_process_imports_is_found() -> None:
    assert find_imported("import json", ("torch", "json")) == ["json"]


def test_the_suites_of_sources_and_trackers_need_no_torch() -> None:
    assert not find_imported("import tuneoff.testing as t; t.SourceContract, t.TrackerContract")


class LeavesWeights(Full):
    def load(self, attached: Any, folder: Path) -> None:
        """Loads nothing."""


class MovesOthers(Full):
    def attach(self, model: Any, task: Any) -> Any:
        attached = super().attach(model, task)
        next(iter(model.parameters())).requires_grad_(False)
        return attached

    def parameter_groups(self, attached: Any, weight_decay: float) -> Any:
        with torch.no_grad():
            next(iter(attached.model.parameters())).add_(1)
        return super().parameter_groups(attached, weight_decay)


class DrawsAnew(Full):
    def attach(self, model: Any, task: Any) -> Any:
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.device.type != "meta":
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return super().attach(model, task)


class MergesNothing(Full):
    def merge(self, attached: Any) -> Any:
        return Setting("class", "bert").model()


class SaysNothing(Full):
    paper = ""


Check = Callable[[MethodContract, Path], None]


@pytest.mark.parametrize(
    ("method", "check"),
    [
        (LeavesWeights, lambda s, p: s.test_what_is_saved_gives_the_same_logits_in_a_fresh_model(CASE, p)),
        (MovesOthers, lambda s, p: s.test_training_changes_only_what_is_declared(CASE)),
        (DrawsAnew, lambda s, p: s.test_two_attachments_at_one_seed_train_alike(CASE)),
        (MergesNothing, lambda s, p: s.test_merging_keeps_the_logits(CASE)),
        (SaysNothing, lambda s, p: s.test_it_says_what_it_is("faulty")),
        (Full, lambda s, p: s.test_refusals_say_why_and_what_to_do(("faulty", CASE.setting))),
    ],
)
def test_a_faulty_method_fails(
    method: type[Full], check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Suite(MethodContract):
        refuses = {"class-*": "is no model"}

    monkeypatch.setattr(registry, "methods", lambda: {"faulty": method})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Suite(), tmp_path)


class MeanLoss(Classification):
    def loss(self, logits: Any, batch: Any) -> Any:
        return super().loss(logits, batch) / len(logits)


class ReadsPadding(Classification):
    def collate(self, features: Any, pad_token_id: int) -> Any:
        batch = super().collate(features, pad_token_id)
        return {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}


class TakesEmptyCells(Classification):
    def examples(self, rows: Any, columns: Any, split: str) -> Any:
        full = {name: [value or "x" for value in values] for name, values in rows.columns.items()}
        return super().examples(replace(rows, columns=full), columns, split)


class WrongDirection(Classification):
    metrics = (replace(Classification.metrics[0], direction="lower"), *Classification.metrics[1:])


class ForgetsAMetric(Classification):
    def score(self, predictions: Any, split: str) -> Any:
        return super().score(predictions, split)[:-1]


@pytest.mark.parametrize(
    ("task", "check"),
    [
        (MeanLoss, lambda s, prepared: s.test_the_loss_is_a_sum_over_examples_that_can_be_learned(prepared)),
        (ReadsPadding, lambda s, prepared: s.test_padding_and_neighbours_never_move_logits(prepared, 0)),
        (ReadsPadding, lambda s, prepared: s.test_masks_are_one_on_every_token_that_is_no_padding(prepared)),
        (TakesEmptyCells, lambda s, prepared: s.test_an_empty_cell_is_refused_with_its_place(None)),
        (ForgetsAMetric, lambda s, prepared: s.test_metrics_are_those_announced_whatever_the_order(prepared)),
        (WrongDirection, lambda s, prepared: s.test_nothing_scores_better_than_what_is_all_right(prepared)),
    ],
)
def test_a_faulty_task_fails(
    task: type[Task], check: Callable[[TaskContract, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Suite(TaskContract):
        columns = {"text": ["a", "three words here", "two words", "b"], "label": ["x", "y", "x", "y"]}

    Suite.task = "faulty"
    monkeypatch.setattr(registry, "tasks", lambda: {"faulty": task})
    suite = Suite()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(suite, suite.prepare("bert"))


class Drifting(Source):
    """Rows that are others at every reading, of columns that do not fit."""

    title, summary, priority = "Drifting", "Never the same.", 1
    reads = 0

    def claims(self, reference: str) -> bool:
        return reference.startswith("./")

    def rows(self, spec: Any, split: str) -> Rows:
        Drifting.reads += 1
        return Rows({"text": [f"reading {Drifting.reads}"]}, "drifting")

    def model(self, spec: Any) -> ModelFiles:
        raise SourceNotFound("there is none")


@pytest.mark.parametrize(
    "check",
    [
        lambda s: s.test_rows_are_a_table_and_the_same_every_time(Drifting(), "x"),
        lambda s: s.test_what_is_not_there_is_refused_by_name(Drifting(), "no-such-thing"),
        lambda s: s.test_rows_are_no_model(Drifting(), "x"),
        lambda s: s.test_it_takes_no_reference_that_is_another_sources("./rows.csv"),
        lambda s: s.test_a_model_is_a_folder_that_transformers_reads(Drifting(), str(Path(__file__).parent)),
    ],
)
def test_a_faulty_source_fails(check: Callable[[SourceContract], None], monkeypatch: pytest.MonkeyPatch) -> None:
    class Suite(SourceContract):
        source = "faulty"

    sources = dict(registry.sources())
    monkeypatch.setattr(registry, "sources", lambda: {**sources, "faulty": Drifting})
    with pytest.raises((AssertionError, SourceNotFound, pytest.fail.Exception)):
        check(Suite())


@pytest.mark.usefixtures("doubles", "no_outlets")
def test_a_faulty_tracker_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE", "raise:end_trial")
    with pytest.raises(AssertionError):
        TrackerContract().test_it_takes_trials_that_ended_while_it_was_not_there("troublemaker", tmp_path)
