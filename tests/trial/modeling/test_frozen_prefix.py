"""Frozen first blocks: which arms have them, what is kept of them, and that nothing changes by it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trial_helpers import MakePlace, context_of, news, runner_of, some_features, write_csv
from tuneoff.config.data import ModelSpec
from tuneoff.config.protocol import Protocol
from tuneoff.methods._modules import blocks
from tuneoff.records.record import TrialRecord
from tuneoff.trial.modeling import hidden_states
from tuneoff.trial.modeling.frozen_prefix import FrozenPrefix, find, keys_of
from tuneoff.trial.modeling.hidden_states import HiddenStates
from tuneoff.trial.run import run
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.prefix import reproduces, with_prefix

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def prefix_of(runner: ModelRunner) -> FrozenPrefix | None:
    return find(runner.attached, lambda: runner.logits(some_features()[:1]))


@pytest.mark.parametrize(
    ("method", "depth"),
    [("head", 2), ("last_block", 1), ("lora", 0), ("full", 0), ("bitfit", 0), ("ia3", 0), ("prompt_tuning", 0)],
)
def test_the_prefix_ends_below_the_first_block_that_is_trained(method: str, depth: int) -> None:
    runner, _ = runner_of(method)
    prefix = prefix_of(runner)
    assert (len(prefix.blocks) if prefix else 0) == depth


@pytest.mark.parametrize("architecture", ["albert", "t5", "bart"])
def test_there_is_none_where_a_block_is_used_twice_or_a_decoder_reads_an_encoder(architecture: str) -> None:
    runner, _ = runner_of("head", architecture)
    assert prefix_of(runner) is None


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["head", "last_block"])
def test_a_padded_batch_from_kept_states_gives_the_same(architecture: str, method: str) -> None:
    runner, _ = runner_of(method, architecture)
    prefix = prefix_of(runner)
    assert prefix is not None
    assert reproduces(replace(runner, prefix=prefix), prefix, some_features())


def test_a_model_with_another_order_of_its_dimensions_is_not_trusted() -> None:
    runner, _ = runner_of("head", "xlnet")
    prefix = prefix_of(runner)
    assert prefix is not None
    assert not reproduces(replace(runner, prefix=prefix), prefix, some_features())


def test_a_model_whose_blocks_see_more_than_hidden_states_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = runner_of("last_block")
    prefix = prefix_of(runner)
    assert prefix is not None
    last: Any = blocks(runner.attached.model)[-1]
    forward = last.forward

    def peek(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # As if the block knew how wide the batch is.
        return (
            forward(hidden + hidden.shape[1], *args, **kwargs) if prefix._lookup else forward(hidden, *args, **kwargs)
        )

    monkeypatch.setattr(last, "forward", peek)
    assert not reproduces(replace(runner, prefix=prefix), prefix, some_features())


def test_keys_tell_tokens_and_segments_apart_and_not_padding() -> None:
    ids = torch.tensor([[5, 6, 0], [5, 6, 7], [5, 6, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    plain = keys_of(ids, mask, None)
    assert plain[0] == plain[2] != plain[1]
    assert keys_of(ids[:1, :2], mask[:1, :2], None) == plain[:1]
    segments = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    with_segments = keys_of(ids, mask, segments)
    assert with_segments[0] != with_segments[2]


# --- the store


def states(seed: int, tokens: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(tokens, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_read_is_what_was_written_also_by_another_process(tmp_path: Path, dtype: torch.dtype) -> None:
    store, other = HiddenStates(tmp_path / "a"), HiddenStates(tmp_path / "a")
    written = {b"one": states(1, 3, dtype), b"two": states(2, 5, dtype)}
    store.write(written, seconds=4.0)
    other.refresh()
    for reader in (store, other):
        for key, expected in written.items():
            found = reader.get(key)
            assert found is not None
            assert found.dtype == dtype
            assert torch.equal(found, expected)
    assert other.missing([b"one", b"three"]) == [b"three"]
    assert other.get(b"three") is None
    assert other.seconds([b"one", b"one", b"three"]) == pytest.approx(4.0 * 3 / 8)


def test_a_file_without_its_index_is_not_there_and_a_removed_one_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "1-0.bin").write_bytes(b"torn")
    (folder / "1-0.part").write_text("{", encoding="ascii")
    store = HiddenStates(folder)
    assert store.missing([b"one"]) == [b"one"]
    store.write({b"one": states(1, 3)}, 1.0)
    (data,) = (file for file in folder.glob("*.bin") if file.name != "1-0.bin")
    os.truncate(data, 8)
    assert store.get(b"one") is None
    data.unlink()
    assert HiddenStates(folder).get(b"one") is None


def test_a_runs_folders_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HiddenStates(tmp_path / "a").write({b"one": states(1, 10)}, 1.0)
    monkeypatch.setattr(hidden_states, "LIMIT_BYTES", 10 * 16 + 32)
    store = HiddenStates(tmp_path / "b")
    assert store.has_room(2, 4, torch.float32)
    assert not store.has_room(3, 4, torch.float32)


# --- trials


def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often blocks of a prefix are computed from now on, where what they give may be kept or read."""
    times: Counter[str] = Counter()
    original = FrozenPrefix._forward

    def note(self: FrozenPrefix, forward: Any, *args: Any, **kwargs: Any) -> Any:
        def computed(*inner: Any, **more: Any) -> Any:
            times["computed"] += self.states is not None and (self._capturing or self._lookup is not None)
            return forward(*inner, **more)

        return original(self, computed, *args, **kwargs)

    monkeypatch.setattr(FrozenPrefix, "_forward", note)
    return times


Finished = Callable[..., TrialRecord]


@pytest.fixture
def finished(make_place: MakePlace, tmp_path: Path) -> Finished:
    """Runs a trial in this process; the trials of a test share a folder."""
    rows = write_csv(tmp_path / "rows.csv", news(60))

    def call(method: str, **changes: Any) -> TrialRecord:
        place = make_place(method, data=rows, **changes)
        return run(place, "cpu", time.perf_counter(), scratch=tmp_path)

    return call


@pytest.mark.parametrize("method", ["head", "last_block"])
def test_a_trial_learns_the_same_from_kept_states(method: str, finished: Finished) -> None:
    fast = finished(method)
    plain = finished(method, execution={"engine": "plain"})
    assert fast.timing.prefix_seconds is not None
    assert plain.timing.prefix_seconds is None
    assert fast.gradient_norm is not None
    assert plain.gradient_norm is not None
    # Dropout after the prefix draws other masks; a tiny model has none behind its last frozen block but in the head.
    for one, other in zip(fast.metrics, plain.metrics, strict=True):
        assert one.name == other.name
    assert fast.data is not None
    assert plain.data is not None
    assert fast.data.train_order_fingerprint == plain.data.train_order_fingerprint


@pytest.mark.parametrize("method", ["head", "last_block"])
def test_without_dropout_every_gradient_is_the_same_but_for_rounding(method: str, finished: Finished) -> None:
    fast = finished(method, protocol={"dropout": 0.0})
    plain = finished(method, protocol={"dropout": 0.0}, execution={"engine": "plain"})
    assert fast.gradient_norm is not None
    assert plain.gradient_norm is not None
    assert fast.gradient_norm.per_step == pytest.approx(plain.gradient_norm.per_step, rel=1e-4)
    assert [m.value for m in fast.metrics] == pytest.approx([m.value for m in plain.metrics], rel=1e-4)


def test_later_epochs_and_seeds_compute_nothing_and_are_told_what_it_took(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = passes(monkeypatch)
    first = finished("head", execution={"latency_examples": 0})
    assert times["computed"] > 0
    times.clear()
    second = finished("head", seed=1, execution={"latency_examples": 0})
    assert times["computed"] == 0
    assert first.timing.prefix_seconds is not None
    assert second.timing.prefix_seconds is not None
    assert second.timing.prefix_seconds > 0.2 * first.timing.prefix_seconds
    train_seconds = second.timing.train_seconds
    assert train_seconds is not None
    assert train_seconds >= second.timing.prefix_seconds


def test_without_room_all_is_computed_and_nothing_changes(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = finished("head", protocol={"dropout": 0.0})
    monkeypatch.setattr(hidden_states, "LIMIT_BYTES", 0)
    monkeypatch.setattr(HiddenStates, "missing", lambda self, keys: list(keys))
    monkeypatch.setattr(HiddenStates, "get", lambda self, key: None)
    computed = finished("head", seed=0, protocol={"dropout": 0.0}, execution={"latency_examples": 0})
    assert [m.value for m in computed.metrics] == pytest.approx([m.value for m in kept.metrics], rel=1e-4)


def dropped(module: nn.Module) -> set[str]:
    return {name for name, part in module.named_modules() if isinstance(part, nn.Dropout) and part.training}


def test_a_frozen_prefix_draws_no_dropout_unless_it_is_asked_for() -> None:
    runner, _ = runner_of("last_block")
    quiet = with_prefix(context_of(runner, Protocol()), runner, some_features(), "base")
    quiet.begin_training()
    names = dropped(quiet.attached.module)
    assert names
    assert not any("embeddings" in name or "layer.0" in name for name in names)
    runner, _ = runner_of("last_block")
    loud = with_prefix(context_of(runner, Protocol(frozen_dropout=True)), runner, some_features(), "base")
    loud.begin_training()
    assert {name for name in dropped(loud.attached.module) if "embeddings" in name or "layer.0" in name}


def test_hidden_states_of_models_whose_weights_have_no_name_are_kept_apart(tmp_path: Path) -> None:
    """A series may have several base models of random weights, and one folder for what is kept."""
    folders = set()
    for source in ("tiny", "other", "tiny"):
        runner, _ = runner_of("head")
        context = context_of(runner, Protocol())
        spec = context.spec.model_copy(update={"model": ModelSpec(source=source, random_weights=True)})
        told = with_prefix(replace(context, spec=spec, scratch=tmp_path), runner, some_features(), "None fp32")
        assert told.prefix is not None
        assert told.prefix.states is not None
        folders.add(told.prefix.states.folder)
    assert len(folders) == 2


def test_training_on_kept_states_notes_nothing_of_its_batches(tmp_path: Path) -> None:
    runner, _ = runner_of("head")
    prefix = prefix_of(runner)
    assert prefix is not None
    prefix.states = HiddenStates(tmp_path / "states")
    prefix.fill([lambda: runner.logits(some_features())], tokens=100)
    noted = len(prefix._passed)
    for _ in range(3):
        with prefix.reading():
            runner.logits(some_features())
    assert len(prefix._passed) == noted
