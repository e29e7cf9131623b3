"""What every task promises, from a table of rows to metrics, on a tiny model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tuneoff import registry
from tuneoff.errors import DataError
from tuneoff.interfaces import Attached, Example, Features, Rows, Task, attention_masks
from tuneoff.records.record import Metric, Prediction
from tuneoff.testing.imports import find_imported
from tuneoff.testing.models import random_model, shape
from tuneoff.testing.settings import single_thread
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

MAX_LENGTH = 24
VOCABULARY = 300
END = VOCABULARY - 1
PROMPT = 3
"""Length of the soft prompt that a task is given."""


class Prepared(NamedTuple):
    """A task that knows its rows, with everything it needs for a batch."""

    task: Task
    examples: list[Example]
    features: list[Features]
    model: nn.Module
    tokenizer: Any

    def logits(self, attached: Attached, features: Sequence[Features]) -> torch.Tensor:
        with torch.no_grad():
            return self.task.forward(attached, self.task.collate(features, 0))

    def predictions(self) -> list[Prediction]:
        """Predicts all examples, in one batch, as an evaluation does."""
        task, attached = self.task, Attached(self.model, self.model)
        batch = task.collate(self.features, 0)
        with torch.no_grad():
            predictions = task.outcome(task.forward(attached, batch), batch, self.examples)
            if task.produces != "text":
                return predictions
            texts = task.generate(attached, self.features, self.tokenizer)
        return [
            task.answer(p, example, self.tokenizer.decode(ids, skip_special_tokens=True), len(ids))
            for p, example, ids in zip(predictions, self.examples, texts, strict=True)
        ]

    def right(self) -> list[Prediction]:
        """Returns predictions that are all right."""
        predictions = self.predictions()
        if self.task.produces != "text":
            return [p.model_copy(update={"output": p.target}) for p in predictions]
        pairs = zip(predictions, self.examples, strict=True)
        return [self.task.answer(p, example, example.target, 1) for p, example in pairs]


class TaskContract:
    """All that a task promises.

    Attributes:
        task: the task's name, which is its entry point's.
        options: keys of `task` in a study file.
        columns: a table of four rows or more, column -> values, with texts of several lengths and every class (or
            different numbers) twice.
        architectures: transformers' names of model kinds that the task takes.
    """

    task: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    columns: ClassVar[Mapping[str, Sequence[Any]]]
    architectures: ClassVar[Sequence[str]] = ("bert",)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test that needs a model with every architecture."""
        if "architecture" in metafunc.fixturenames:
            metafunc.parametrize("architecture", self.architectures)

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        with single_thread():
            yield

    def create(self, **options: Any) -> Task:
        return registry.tasks()[self.task]({**self.options, **options})

    @property
    def rows(self) -> Rows:
        return Rows({name: list(values) for name, values in self.columns.items()}, "rows.csv")

    def read(self, task: Task) -> list[Example]:
        return task.examples(self.rows, task.columns(self.rows), "train")

    @pytest.fixture
    def prepared(self, architecture: str) -> Prepared:
        return self.prepare(architecture)

    def prepare(self, architecture: str) -> Prepared:
        """Settles the task on its rows and builds a tiny model for it."""
        from transformers import AutoConfig

        task = self.create()
        examples = self.read(task)
        task.fit({"train": examples})
        sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, **shape(architecture, 64)}
        config = AutoConfig.for_model(architecture, **sizes)
        if config.is_encoder_decoder:
            config.decoder_start_token_id = 0
        elif config.bos_token_id is not None:
            config.bos_token_id = config.eos_token_id = END
        model = random_model(config, task, 0.15)
        tokenizer = byte_tokenizer(config)
        return Prepared(task, examples, task.encode(examples, tokenizer, MAX_LENGTH), model, tokenizer)

    # --- what it is

    def test_it_says_what_it_is(self) -> None:
        task = registry.tasks()[self.task]
        assert task.title
        assert task.summary.endswith(".")
        assert {task.primary_metric, self.create().selects(None)} <= {metric.name for metric in task.metrics}
        assert len({metric.name for metric in task.metrics}) == len(task.metrics), "a metric is declared twice"
        assert {metric.direction for metric in task.metrics} <= {"higher", "lower"}
        assert all(metric.low < metric.high for metric in task.metrics)
        assert {role.name for role in task.roles} <= set(task.Options.model_fields), "a role is an option"
        undescribed = [key for key, field in task.Options.model_fields.items() if not field.description]
        assert not undescribed

    def test_its_options_are_checked_without_torch(self) -> None:
        with pytest.raises(ValidationError):
            self.create(no_such_option=1)
        options = dict(self.options)
        assert not find_imported(f"from tuneoff import registry; registry.tasks()[{self.task!r}]({options!r})")

    # --- rows

    def test_examples_follow_the_rows(self) -> None:
        task, rows = self.create(), self.rows
        columns = task.columns(rows)
        assert set(columns.values()) <= set(rows.columns)
        assert task.target_role in columns or task.roles[-1].optional, "else targets come from what is read"
        examples = self.read(task)
        assert [e.index for e in examples] == list(range(len(rows)))
        assert [e.place for e in examples] == [rows.place(i) for i in range(len(rows))]
        assert all(e.text.strip() and e.target.strip() for e in examples)
        assert self.read(self.create()) == examples

    def test_a_column_that_is_not_there_is_refused(self) -> None:
        task, rows = self.create(), self.rows
        columns = task.columns(rows)
        for column in columns.values():
            fewer = replace(rows, columns={n: values for n, values in rows.columns.items() if n != column})
            with pytest.raises(DataError, match="column"):
                task.examples(fewer, task.columns(fewer), "train")
            with pytest.raises(DataError, match=column):
                task.examples(fewer, columns, "test")

    @pytest.mark.parametrize("empty", [None, "  "])
    def test_an_empty_cell_is_refused_with_its_place(self, empty: Any) -> None:
        task, rows = self.create(), self.rows
        columns = task.columns(rows)
        for column in columns.values():
            values = [*rows.columns[column][:1], empty, *rows.columns[column][2:]]
            holed = replace(rows, columns={**rows.columns, column: values})
            with pytest.raises(DataError) as caught:
                task.examples(holed, columns, "train")
            assert "row 2" in str(caught.value)

    def test_no_rows_are_refused(self) -> None:
        task, rows = self.create(), self.rows
        with pytest.raises(DataError):
            task.examples(rows.only([]), task.columns(rows), "test")

    def test_classes_are_fitted_on_the_training_rows(self) -> None:
        task = self.create()
        examples = self.read(task)
        task.fit({"train": examples})
        assert task.fitted
        if task.produces != "class":
            return
        targets = {example.target for example in examples}
        assert targets <= set(task.labels)
        assert len(task.labels) == len(set(task.labels))
        one = [example for example in examples if example.target == examples[0].target]
        with pytest.raises(DataError):
            self.create().fit({"train": one})
        unseen = [replace(example, target="no such class") for example in examples[:1]]
        with pytest.raises(DataError):
            self.create().fit({"train": examples, "test": unseen})

    # --- tokens and batches

    def test_every_example_has_tokens_within_its_room(self, prepared: Prepared) -> None:
        room = prepared.task.positions(MAX_LENGTH)
        assert len(prepared.features) == len(prepared.examples)
        for features in prepared.features:
            assert 0 < len(features.input_ids) <= room
            assert len(features.target_ids) <= room
            assert 0 <= features.label < max(len(prepared.task.labels), len(features.choices), 1)
        long = [replace(example, text=f"{example.text} " * 20) for example in prepared.examples]
        cut = prepared.task.encode(long, prepared.tokenizer, MAX_LENGTH)
        assert all(features.truncated and len(features.input_ids) <= room for features in cut)

    def test_masks_are_one_on_every_token_that_is_no_padding(self, prepared: Prepared) -> None:
        batch = prepared.task.collate(prepared.features, 0)
        alone = [prepared.task.collate([features], 0) for features in prepared.features]
        assert attention_masks(batch)
        assert all(int(mask.min()) == 1 for single in alone for mask in attention_masks(single))
        for kind, mask in enumerate(attention_masks(batch)):
            assert len(mask) == len(prepared.features)
            lengths = [attention_masks(single)[kind].shape[1] for single in alone]
            assert mask.sum(-1).tolist() == lengths

    def test_the_model_has_the_modules_that_methods_are_told_of(self, prepared: Prepared) -> None:
        task, view = prepared.task, prepared.task.view(prepared.model)
        assert bool(view.head) == task.adds_head
        for name in [*view.head, *([view.output] if view.output else [])]:
            assert list(prepared.model.get_submodule(name).parameters())
        assert view.peft_task_type in {"SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM"}

    # --- logits, loss and predictions

    @pytest.mark.parametrize("virtual_tokens", [0, PROMPT])
    def test_padding_and_neighbours_never_move_logits(self, prepared: Prepared, virtual_tokens: int) -> None:
        attached = Attached(prepared.model, prepared.model)
        if virtual_tokens:
            any_model: Any = prepared.model
            width = any_model.get_input_embeddings().weight.shape[1]
            prompt = torch.randn(virtual_tokens, width, generator=torch.Generator().manual_seed(1))
            attached.soft_prompt = lambda batch: prompt.expand(batch, -1, -1)
            attached.virtual_tokens = virtual_tokens
        together = prepared.logits(attached, prepared.features)
        assert len(together) == prepared.task.loss_terms(prepared.features)
        alone = torch.cat([prepared.logits(attached, [features]) for features in prepared.features])
        torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
        plain = prepared.logits(Attached(prepared.model, prepared.model), prepared.features)
        assert torch.equal(together, plain) == (not virtual_tokens)

    def test_the_loss_is_a_sum_over_examples_that_can_be_learned(self, prepared: Prepared) -> None:
        task, attached = prepared.task, Attached(prepared.model, prepared.model)
        losses = []
        for rows in (prepared.features, *([features] for features in prepared.features)):
            batch = task.collate(rows, 0)
            losses.append(task.loss(task.forward(attached, batch), batch))
        assert losses[0].shape == ()
        assert losses[0].dtype == torch.float32
        assert float(losses[0].detach()) == pytest.approx(sum(float(loss.detach()) for loss in losses[1:]), rel=1e-4)
        losses[0].backward()  # type: ignore[no-untyped-call]
        view = task.view(prepared.model)
        for name in [*view.head, *([view.output] if view.output else [])]:
            gradients = [p.grad for p in prepared.model.get_submodule(name).parameters()]
            assert any(gradient is not None and bool(gradient.any()) for gradient in gradients)

    def test_predictions_come_in_order_one_for_each_example(self, prepared: Prepared) -> None:
        predictions = prepared.predictions()
        assert [p.index for p in predictions] == [e.index for e in prepared.examples]
        assert [p.target for p in predictions] == [e.target for e in prepared.examples]
        if prepared.task.produces == "class":
            assert {p.output for p in predictions} <= set(prepared.task.labels)
            assert {len(p.scores) for p in predictions} == {len(prepared.task.labels)}

    def test_writing_ends_in_its_room_and_does_not_depend_on_neighbours(self, prepared: Prepared) -> None:
        task, attached = prepared.task, Attached(prepared.model, prepared.model)
        if task.produces != "text":
            assert task.target_room is None
            return
        assert task.target_room is not None
        with torch.no_grad():
            together = task.generate(attached, prepared.features, prepared.tokenizer)
            alone = [task.generate(attached, [features], prepared.tokenizer)[0] for features in prepared.features]
            few = task.generate(attached, prepared.features, prepared.tokenizer, limit=2)
        assert together == alone
        assert all(len(ids) <= task.target_room for ids in together)
        assert all(len(ids) <= 2 for ids in few)
        assert not any(prepared.tokenizer.eos_token_id in ids for ids in together)

    # --- metrics

    def test_metrics_are_those_announced_whatever_the_order(self, prepared: Prepared) -> None:
        task, predictions = prepared.task, prepared.predictions()
        metrics = task.score(predictions, "test")
        assert {metric.name for metric in metrics} == {metric.name for metric in task.metrics}
        assert metrics[0].name == task.tested_metric
        for metric in metrics:
            assert metric.direction == task.metric(metric.name).direction
            assert metric.split == "test"
            assert metric.unit
            assert math.isfinite(metric.value)
        again = task.score(predictions[::-1], "test")
        assert _values(again) == pytest.approx(_values(metrics))

    def test_a_metric_that_examples_have_is_their_mean(self, prepared: Prepared) -> None:
        predictions = prepared.predictions()
        values = _values(prepared.task.score(predictions, "test"))
        for name in predictions[0].values:
            if name in values:
                assert values[name] == pytest.approx(sum(p.values[name] for p in predictions) / len(predictions))

    def test_nothing_scores_better_than_what_is_all_right(self, prepared: Prepared) -> None:
        task = prepared.task
        found, best = (_values(task.score(p, "test")) for p in (prepared.predictions(), prepared.right()))
        sign = 1 if task.metric(task.tested_metric).direction == "higher" else -1
        assert sign * best[task.tested_metric] > sign * found[task.tested_metric]


def _values(metrics: Sequence[Metric]) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}
