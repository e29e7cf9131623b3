"""Which rows make a batch: every row once an epoch, the same for all methods, with little padding."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trial_helpers import tiny_config
from tuneoff.config.protocol import Protocol
from tuneoff.interfaces import Features, Task, computed_tokens
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.trial.data.batching import (
    RowLength,
    evaluation_batches,
    micro_batches,
    padded_tokens,
    pads_targets_apart,
    row_lengths,
    training_batches,
)

AG_NEWS = Path(__file__).parents[4] / "shared" / "data" / "ag_news_train.csv"
SIZES = (1, 5, 16, 17, 40, 333, 1000)


def protocol(**options: Any) -> Protocol:
    return Protocol.model_validate({"epochs": 1, "batch_size": 16, **options})


def random_lengths(rows: int, seed: int = 0, parts: int = 1) -> list[RowLength]:
    """Lengths like those of short texts: few are long, and many are equal."""
    drawn = np.random.default_rng(seed).lognormal(3.7, 0.4, (rows, parts)).clip(3, 128).astype(int)
    return [tuple(map(int, row)) for row in drawn]


def padding(lengths: Sequence[RowLength], batches: Sequence[Sequence[int]]) -> float:
    """Returns the share of padding in what the batches compute."""
    computed = sum(padded_tokens([lengths[row] for row in batch]) for batch in batches)
    return 1 - sum(map(sum, lengths)) / computed


# --- training


@pytest.mark.parametrize("batching", ["length", "random"])
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("parts", [1, 2])
def test_each_epoch_holds_every_row_once_in_updates_of_one_size(batching: str, rows: int, parts: int) -> None:
    lengths = random_lengths(rows, parts=parts)
    batches = list(training_batches(lengths, protocol(epochs=2, batching=batching), seed=3))
    sizes = [16] * (rows // 16) + [rows % 16] * (rows % 16 > 0)
    assert [len(batch) for batch in batches] == 2 * sizes
    for epoch in (batches[: len(sizes)], batches[len(sizes) :]):
        assert sorted(row for batch in epoch for row in batch) == list(range(rows))


@pytest.mark.parametrize("batching", ["length", "random"])
def test_order_is_a_function_of_lengths_seed_and_epoch_alone(batching: str) -> None:
    lengths = random_lengths(500)
    first = list(training_batches(lengths, protocol(epochs=2, batching=batching), seed=1))
    np.random.seed(99)
    changed = {"learning_rate": 0.5, "gradient_accumulation_steps": 4, "schedule": "cosine", "data_seed": 5}
    assert list(training_batches(lengths, protocol(epochs=2, batching=batching, **changed), seed=1)) == first
    assert list(training_batches(lengths, protocol(epochs=2, batching=batching), seed=2)) != first
    per_epoch = len(first) // 2
    assert first[:per_epoch] != first[per_epoch:]
    # More epochs only add to it.
    longer = training_batches(lengths, protocol(epochs=4, batching=batching), seed=1)
    assert list(islice(longer, len(first))) == first


def test_batches_of_like_length_are_not_sorted_among_themselves() -> None:
    lengths = random_lengths(1600)
    batches = list(training_batches(lengths, protocol(), seed=0))
    longest = [max(lengths[row] for row in batch)[0] for batch in batches]
    halves = np.mean(longest[:50]), np.mean(longest[50:])
    assert abs(halves[0] - halves[1]) < 0.25 * np.mean(longest)
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_rows_meet_other_rows_in_another_epoch() -> None:
    lengths = random_lengths(1600)
    batches = list(training_batches(lengths, protocol(epochs=2), seed=0))
    neighbours = [
        {row: set(batch) - {row} for batch in epoch for row in batch} for epoch in (batches[:100], batches[100:])
    ]
    again = [len(neighbours[0][row] & neighbours[1][row]) for row in range(1600)]
    assert np.mean(again) < 5, "of fifteen"


def test_the_incomplete_batch_comes_last_and_favours_no_length() -> None:
    lengths = [(n,) for n in range(1, 43)]
    last = [list(training_batches(lengths, protocol(batch_size=4), seed))[-1] for seed in range(60)]
    assert {len(batch) for batch in last} == {2}
    assert np.mean([lengths[row][0] for batch in last for row in batch]) == pytest.approx(21.5, abs=5)


def test_random_batches_are_cut_from_the_random_order() -> None:
    order = [int(i) for i in np.random.default_rng([7, 0]).permutation(10)]
    lengths = random_lengths(10)
    batches = list(training_batches(lengths, protocol(batch_size=4, batching="random"), seed=7))
    assert batches == [order[:4], order[4:8], order[8:]]


def test_micro_batches_of_a_batch_are_of_like_length_too() -> None:
    lengths = random_lengths(960)
    accumulated = protocol(batch_size=64, gradient_accumulation_steps=4)
    batches = list(training_batches(lengths, accumulated, seed=0))
    micro = [part for batch in batches for part in micro_batches(batch, 4)]
    assert {len(part) for part in micro} == {16}
    assert padding(lengths, micro) < padding(lengths, batches)


@pytest.mark.parametrize("rows", [1000, 3000])
def test_padding_is_at_most_a_twentieth(rows: int) -> None:
    lengths = random_lengths(rows)
    shares = {
        batching: padding(lengths, list(training_batches(lengths, protocol(batching=batching), seed=0)))
        for batching in ("length", "random")
    }
    assert shares["length"] <= 0.05
    assert shares["random"] >= 0.3


@pytest.mark.skipif(not AG_NEWS.is_file(), reason="needs the AG News rows beside the repository")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_padding_on_ag_news_is_at_most_a_twentieth(seed: int) -> None:
    with AG_NEWS.open(encoding="utf-8", newline="") as file:
        # Words and marks, and the two special tokens: nearly what a tokenizer of subwords makes of them.
        lengths = [(min(128, 2 + len(re.findall(r"\w+|[^\w\s]", row["text"]))),) for row in csv.DictReader(file)]
    assert padding(lengths, list(training_batches(lengths, protocol(), seed))) <= 0.05


def test_targets_that_are_padded_apart_follow_their_inputs() -> None:
    """Many inputs are cut at one length; among those the targets decide."""
    lengths = [(min(n, 100), t) for n, t in random_lengths(3200, parts=2)]
    inputs_alone = [(n,) for n, _ in lengths]
    shares = [
        padding(lengths, list(training_batches(each, protocol(), seed=0)))
        for each in (lengths, inputs_alone, [(0,)] * len(lengths))
    ]
    assert shares[0] < shares[1] < shares[2]


# --- lengths


def features_of(inputs: Sequence[int], targets: Sequence[int]) -> list[Features]:
    return [Features([7] * n, 0, n, target_ids=[8] * t) for n, t in zip(inputs, targets, strict=True)]


@pytest.mark.parametrize(
    ("task", "architecture", "targets", "apart"),
    [
        (Classification({"labels": ["a", "b"]}), "bert", (0, 0, 0), False),
        (Generation({}), "gpt2", (5, 1, 9), False),
        (Generation({}), "t5", (5, 1, 9), True),
    ],
)
def test_padded_tokens_are_those_of_the_tasks_batches(
    task: Task, architecture: str, targets: Sequence[int], apart: bool
) -> None:
    task.model_class(tiny_config(architecture))
    features = features_of((3, 20, 4), targets)
    assert pads_targets_apart(task, features) is apart
    computed = computed_tokens(task.collate(features, 0))
    # A causal model reads all tokens but the last, which is only predicted.
    unread = len(features) if any(targets) and not apart else 0
    assert padded_tokens(row_lengths(features, apart)) == computed + unread


# --- evaluations


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("most_tokens", [1, 300, 2048, None])
def test_evaluations_take_no_more_rows_and_tokens_than_they_may(rows: int, parts: int, most_tokens: int | None) -> None:
    lengths = random_lengths(rows, parts=parts)
    batches = list(evaluation_batches(lengths, 64, most_tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(rows))
    for batch in batches:
        assert 1 <= len(batch) <= 64
        tokens = padded_tokens([lengths[row] for row in batch])
        assert len(batch) == 1 or most_tokens is None or tokens <= most_tokens
    order = [lengths[row] for batch in batches for row in batch]
    assert order == sorted(order, reverse=True), "the longest first"


def test_bounded_evaluations_never_compute_more_at_once_than_unbounded_ones() -> None:
    lengths = random_lengths(700)
    bounded, unbounded = (
        [padded_tokens([lengths[row] for row in batch]) for batch in evaluation_batches(lengths, 64, most)]
        for most in (2048, None)
    )
    assert max(bounded) <= 2048 < max(unbounded)
    assert sum(bounded) <= sum(unbounded)


def test_batches_are_filled() -> None:
    """A batch ends only where one more row would be too many."""
    assert list(evaluation_batches([(5,), (1,), (4,), (2,), (9,)], 3, 10)) == [[4], [0, 2], [3, 1]]
    assert list(evaluation_batches([(5,), (1,), (4,), (2,), (9,)], 3)) == [[4, 0, 2], [3, 1]]
    assert list(evaluation_batches([], 3, 10)) == []
