from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trial_helpers import runner_of, some_features
from tuneoff.errors import Diverged
from tuneoff.interfaces import Batch, Example, Features, computed_tokens
from tuneoff.records.record import Prediction
from tuneoff.tasks.generation import Generation
from tuneoff.trial.data.batching import EVALUATION_TOKENS
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.training import evaluate
from tuneoff.trial.training.evaluate import ModelRunner, measure_inference, predict, write

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (3, 20, 5, 12, 7, 5, 31, 4, 9)
EXAMPLES = [Example(f"text {i}", "ab"[i % 2], i, f"row {i}") for i in range(len(SIZES))]


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_predictions_come_in_order_and_do_not_depend_on_the_batch(architecture: str) -> None:
    features = some_features(SIZES)
    runner, _ = runner_of("full", architecture)
    alone = [
        runner.task.outcome(runner.logits([f]), runner.batch([f]), [e])[0]
        for f, e in zip(features, EXAMPLES, strict=True)
    ]
    assert len({p.scores for p in alone}) == len(SIZES)
    for size in (1, 2, 4, 64):
        made = predict(replace(runner, batch_size=size), features, EXAMPLES)
        assert [(p.index, p.target, p.output) for p in made] == [(p.index, p.target, p.output) for p in alone]
        for one, other in zip(made, alone, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=5e-6)


@pytest.mark.parametrize(("architecture", "writes"), [("bert", False), ("gpt2", False), ("gpt2", True), ("t5", True)])
def test_bounded_batches_give_the_same_scores_in_the_same_order(
    architecture: str, writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no batch computes more than the largest did without a bound."""
    features = [replace(f, target_ids=f.input_ids[:3] if writes else ()) for f in some_features(SIZES)]
    runner, _ = runner_of("full", architecture, Generation({}) if writes else None)
    computed: list[int] = []

    class Watching(ModelRunner):
        def batch(self, features: Sequence[Features]) -> Batch:
            batch = super().batch(features)
            computed.append(computed_tokens(batch))
            return batch

    watching = Watching(**{**vars(runner), "batch_size": 4})
    monkeypatch.setitem(EVALUATION_TOKENS, "cpu", 10**6)
    unbounded, most = predict(watching, features, EXAMPLES), max(computed)
    computed.clear()
    monkeypatch.setitem(EVALUATION_TOKENS, "cpu", 40)
    bounded = predict(watching, features, EXAMPLES)
    assert max(computed) <= 40 < most
    assert [(p.index, p.target, p.output) for p in bounded] == [(p.index, p.target, p.output) for p in unbounded]
    for one, other in zip(bounded, unbounded, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=5e-6)
        assert one.loss == pytest.approx(other.loss, abs=5e-5)


def test_dropout_is_off_and_no_gradient_is_kept() -> None:
    features = some_features(SIZES)
    runner, _ = runner_of("full", hidden_dropout_prob=0.5)
    runner.attached.module.train()
    assert predict(runner, features, EXAMPLES) == predict(runner, features, EXAMPLES)
    assert all(parameter.grad is None for parameter in runner.attached.module.parameters())


def test_evaluations_attend_by_their_own_kernel_and_training_by_its_own() -> None:
    features = some_features(SIZES)
    runner, _ = runner_of("full", "llama")
    model: Any = runner.attached.model
    model.config._attn_implementation = "eager"
    seen = []
    model.base_model.register_forward_pre_hook(lambda module, given: seen.append(module.config._attn_implementation))
    fused = replace(runner, attention="sdpa")
    expected, made = predict(runner, features, EXAMPLES), predict(fused, features, EXAMPLES)
    measure_inference(fused, features, 1)
    assert seen[0] == "eager"
    assert set(seen[1:]) == {"sdpa"}
    assert model.config._attn_implementation == "eager"
    for one, other in zip(expected, made, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=5e-6)


def test_outputs_that_are_no_numbers_are_divergence() -> None:
    runner, _ = runner_of("full")
    with torch.no_grad():
        next(iter(runner.attached.model.get_submodule("classifier").parameters())).fill_(torch.nan)
    with pytest.raises(Diverged, match="the model's outputs are not finite") as caught:
        predict(runner, some_features(SIZES), EXAMPLES)
    assert "learning rate" in caught.value.hint


def test_speeds_are_positive_and_say_what_they_were_measured_on() -> None:
    features = some_features(SIZES)
    runner, _ = runner_of("full", batch_size=4)
    speed = measure_inference(runner, features, 5)
    assert speed.latency_examples == 5
    assert speed.batch_size == 4
    assert speed.latency_seconds_median is not None
    assert speed.latency_seconds_p95 is not None
    assert 0 < speed.latency_seconds_median <= speed.latency_seconds_p95
    assert speed.batched_examples_per_second is not None
    assert speed.batched_tokens_per_second is not None
    assert speed.batched_examples_per_second > 0
    # Real tokens of one batch, spread evenly over the split.
    per_example = sum(len(f.input_ids) for f in evaluate.evenly(features, 4)) / 4
    assert speed.batched_tokens_per_second / speed.batched_examples_per_second == pytest.approx(per_example)


def test_more_singles_than_examples_are_all_examples() -> None:
    runner, _ = runner_of("full")
    assert measure_inference(runner, some_features((4,)), 10).latency_examples == 1
    assert measure_inference(runner, some_features((4, 6)), 10).latency_examples == 2


def test_no_single_example_is_timed_where_none_is_wanted() -> None:
    runner, _ = runner_of("full", batch_size=4)
    speed = measure_inference(runner, some_features(SIZES), 0)
    assert (speed.latency_examples, speed.latency_seconds_median, speed.latency_seconds_p95) == (0, None, None)
    assert speed.batched_examples_per_second is not None


@pytest.mark.parametrize(("budget", "timed"), [(0.0, 1), (4.5, 4), (99.0, 8)])
def test_single_examples_are_timed_as_far_as_the_budget_goes(
    budget: float, timed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, _ = runner_of("full", batch_size=4)
    ticks = count()
    monkeypatch.setattr(evaluate, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    assert measure_inference(runner, some_features(SIZES), 8, None, budget).latency_examples == timed


def test_the_first_singles_stand_for_all() -> None:
    features = some_features(range(4, 28))
    sizes = [len(feature.input_ids) for feature in evaluate.latency_examples(features, 24)]
    assert sorted(sizes) == list(range(4, 28))
    assert sizes == [len(feature.input_ids) for feature in evaluate.latency_examples(features, 24)]
    assert 10 < sum(sizes[:6]) / 6 < 21, "not the beginning of the split"


def test_a_budget_is_a_small_share_of_a_trial() -> None:
    assert evaluate.latency_budget(2.0) == 0.5
    assert evaluate.latency_budget(600.0) == 30.0


def test_speeds_of_writing_are_those_of_the_whole_split(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    class TwoSecondsABatch(Generation):
        def generate(self, attached: Any, features: Any, tokenizer: Any, limit: int | None = None) -> list[list[int]]:
            clock[0] += 2.0
            return [[7] * len(feature.input_ids) for feature in features]

    monkeypatch.setattr(evaluate, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    task = TwoSecondsABatch({"template": "{source}"})
    runner, _ = runner_of("full", "gpt2", task, batch_size=2)
    model: Any = runner.attached.model
    runner = replace(runner, tokenizer=byte_tokenizer(model.config))
    sources = ("a", "abcdefgh", "abc", "ab", "abcdef")
    examples = [Example(source, "t", i, f"row {i}") for i, source in enumerate(sources)]
    features = task.encode(examples, runner.tokenizer, 20)
    blank = [Prediction(index=e.index, target=e.target, output="") for e in examples]
    told: list[Any] = []
    predictions, writing = write(runner, features, examples, blank, told.append)
    assert told == [
        {"kind": "writing", "texts": texts, "of": 5, "elapsed_seconds": 1.0 * texts if texts < 5 else 6.0}
        for texts in (2, 4, 5)
    ]
    assert [p.generated_tokens for p in predictions] == [1, 8, 3, 2, 6]
    speed = measure_inference(runner, features, 2, writing)
    # Five texts of 20 tokens in three batches; a single example takes as long as a batch here.
    assert speed.generated_tokens_per_second == pytest.approx(20 / 6)
    assert speed.generated_tokens_mean == pytest.approx(20 / 5)
    assert speed.batched_examples_per_second == pytest.approx(5 / 6)
    assert (speed.latency_examples, speed.latency_seconds_median, speed.latency_seconds_p95) == (2, 2.0, 2.0)
    assert speed.batched_tokens_per_second is None
