"""What other libraries test of resuming, asked of ours; docs/reliability.md has the table. Where they compare losses as
printed, samples of weights or values within a tolerance, these compare all of it, bit for bit."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from resume_helpers import EVERY_STEP, PROTOCOL, Killed, die_at, finish, outcome, told
from trial_helpers import PAIRS, MakePlace, news, save_folder, write_csv
from tuneoff.errors import Cancelled
from tuneoff.records.record import Event
from tuneoff.store import TrialStore, checkpoints
from tuneoff.store.checkpoints import Checkpoints, StoredCheckpoint
from tuneoff.trial import interruption
from tuneoff.trial.training import resume
from tuneoff.trial.training.progress import OptimizerStep, TrainingProgress
from tuneoff.trial.training.selection import Selection

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread", "often")

TIMES = ("time", "elapsed_seconds", "examples_per_second")


def cut(place: TrialStore, monkeypatch: pytest.MonkeyPatch, call: int, owner: Any, name: str) -> None:
    """Runs a trial whose process ends in a call of a function."""
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Killed):
            finish(place)


def cut_in_step(place: TrialStore, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Runs a trial whose process ends in the update of so many steps after it began."""
    cut(place, monkeypatch, step, torch.optim.AdamW, "step")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[OptimizerStep]:
    """All optimizer steps that are done in this test, whole or resumed: examples, loss, gradient norm, rate."""
    done: list[OptimizerStep] = []
    original = TrainingProgress.note_step

    def note(self: TrainingProgress, step: OptimizerStep, **options: Any) -> None:
        done.append(step)
        original(self, step, **options)

    monkeypatch.setattr(TrainingProgress, "note_step", note)
    return done


def history(place: TrialStore, kind: str) -> dict[int, Event]:
    """What a trial told of each step, without times."""
    return {event["step"]: {k: v for k, v in event.items() if k not in TIMES} for event in told(place, kind)}


# --- losses, rates, order of examples and logs, step by step


@pytest.mark.parametrize(
    ("engine", "cuts"),
    [("fast", (1,)), ("fast", (6,)), ("plain", (2, 2, 2))],
    ids=["first", "late", "three_times"],
)
def test_losses_rates_and_examples_are_equal_step_by_step(
    engine: str,
    cuts: tuple[int, ...],
    make_place: MakePlace,
    steps: list[OptimizerStep],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    execution = {**EVERY_STEP, "engine": engine}
    whole = make_place("lora", protocol=PROTOCOL, execution=execution)
    finish(whole)
    expected = steps.copy()
    steps.clear()
    place = make_place("lora", protocol=PROTOCOL, execution=execution)
    for step in cuts:
        cut_in_step(place, monkeypatch, step)
    finish(place)
    assert len({step.loss for step in expected}) == 7
    assert steps == expected
    assert history(place, "validation") == history(whole, "validation")
    # Steps that follow each other within moments are not all told.
    told_of, told_of_whole = history(place, "step"), history(whole, "step")
    common = told_of.keys() & told_of_whole.keys()
    assert common >= {2, 4, 6, 7}
    assert [told_of[step] for step in common] == [told_of_whole[step] for step in common]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "full", "writing"])
def test_losses_are_equal_from_whatever_step_a_training_continues(
    kind: str,
    make_place: MakePlace,
    gpt_folder: Path,
    tmp_path: Path,
    steps: list[OptimizerStep],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study: dict[str, Any] = {"protocol": PROTOCOL, "execution": EVERY_STEP}
    if kind == "writing":
        data = write_csv(tmp_path / "pairs.csv", PAIRS, header=("article", "summary"))
        task = {"name": "generation", "template": "{source} => ", "max_target_length": 4}
        protocol = {**PROTOCOL, "epochs": 4, "select_metric": "rouge_l", "train_rows": 16}
        study |= {"task": task, "folder": gpt_folder, "data": data, "protocol": protocol}
    method = "full" if kind == "full" else "lora"
    whole = make_place(method, **study)
    expected = outcome(whole, finish(whole))
    expected_steps = steps.copy()
    assert len(expected_steps) == 7
    for step in range(1, 8):
        steps.clear()
        place = make_place(method, **study)
        cut_in_step(place, monkeypatch, step)
        assert outcome(place, finish(place)) == expected
        assert steps == expected_steps


# --- what is in a checkpoint


def contents(checkpoint: StoredCheckpoint) -> tuple[dict[str, str], dict[str, Any]]:
    """The checksums of a checkpoint's tensors and weights, and its state without what the clock says."""
    files = checkpoint.manifest().files
    state = json.loads((checkpoint.folder / "state.json").read_text())
    (rank,) = state["ranks"]
    progress = {key: rank["progress"][key] for key in ("step", "tokens", "computed_tokens", "gradient_norms")}
    kept = {key: state[key] for key in ("selection", "schedule", "learning_rates")}
    return (
        {name: sha256 for name, sha256 in files.items() if name != "state.json"},
        {**kept, "random": rank["random"], "progress": progress},
    )


@pytest.mark.parametrize(("method", "engine"), [("lora", "plain"), ("full", "fast")])
def test_one_more_step_after_loading_gives_the_same_model_optimizer_and_randomness(
    method: str, engine: str, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain engine draws dropout from the one stream of its process, the fast one anew for every micro-batch."""
    execution = {**EVERY_STEP, "engine": engine}
    whole = make_place(method, protocol=PROTOCOL, execution=execution)
    cut_in_step(whole, monkeypatch, 4)
    resumed = make_place(method, protocol=PROTOCOL, execution=execution)
    cut_in_step(resumed, monkeypatch, 3)
    cut_in_step(resumed, monkeypatch, 2)  # steps 3 and 4; the process ends in the latter
    of_whole, of_resumed = (place.checkpoints.newest_first()[0] for place in (whole, resumed))
    assert of_whole.manifest().step == of_resumed.manifest().step == 3
    assert contents(of_resumed) == contents(of_whole)


def test_parameters_without_a_gradient_have_no_moments_and_are_no_obstacle(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLNet's mask embedding takes no part in this task: the optimizer keeps nothing of it."""
    folder = save_folder(tmp_path / "xlnet", "xlnet", ["x", "y", "z"])
    study: dict[str, Any] = {"folder": folder, "protocol": {**PROTOCOL, "max_steps": 3}, "execution": EVERY_STEP}
    whole = make_place("full", **study)
    expected = outcome(whole, finish(whole))
    place = make_place("full", **study)
    cut_in_step(place, monkeypatch, 3)
    with safe_open(place.checkpoints.newest_first()[0].folder / "tensors-0001.safetensors", "pt") as tensors:
        names = set(tensors.keys())
    idle = {name for name in names if name.startswith("weights/") and name.replace("weights/", "exp_avg/") not in names}
    assert [name for name in idle if "mask_emb" in name], names
    record = finish(place)
    assert outcome(place, record) == expected
    assert record.resumed == 1


# --- kinds of training


def last_step_of_one_row() -> dict[str, Any]:
    return {"batch_size": 6, "gradient_accumulation_steps": 3, "train_rows": 13, "max_steps": None}


@pytest.mark.parametrize(
    ("changes", "call"),
    [
        ({"precision": "bf16"}, 9),
        (last_step_of_one_row(), 7),
        (last_step_of_one_row(), 8),
        (last_step_of_one_row(), 12),
    ],
    ids=["bf16", "after_the_one_row", "in_the_next_epoch", "inside_accumulation"],
)
def test_half_precision_and_a_last_step_of_few_rows_continue(
    changes: dict[str, Any], call: int, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = {**PROTOCOL, **changes}
    whole = make_place("lora", protocol=protocol, execution=EVERY_STEP)
    expected = outcome(whole, finish(whole))
    place = make_place("lora", protocol=protocol, execution=EVERY_STEP)
    cut(place, monkeypatch, call, torch.Tensor, "backward")
    record = finish(place)
    assert outcome(place, record) == expected
    assert record.resumed == 1


# --- the best weights so far


def test_the_best_weights_outlive_the_checkpoints_of_their_step(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is better than the first validation, and the checkpoints of its step are gone when the process ends."""
    original = Selection.validate

    def validate(self: Selection, step: int) -> dict[str, float]:
        if step > 2:
            self.best = (2.0, 0.0)
        return original(self, step)

    monkeypatch.setattr(Selection, "validate", validate)
    whole = make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)
    expected = outcome(whole, finish(whole))
    place = make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)
    cut_in_step(place, monkeypatch, 7)
    assert [checkpoint.manifest().step for checkpoint in place.checkpoints.newest_first()] == [6, 5]
    shutil.rmtree(place.weights)  # those in the checkpoint are enough
    record = finish(place)
    assert record.selected_step == 2
    assert outcome(place, record) == expected


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for number in (20, 5, 15, 100, 9):
        (tmp_path / str(number)).mkdir()
    assert [checkpoint.number for checkpoint in Checkpoints(tmp_path).newest_first()] == [100, 20, 15, 9, 5]


# --- asked to stop


def then_raise(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Asks this process to stop after a call of a function."""
    original, count = getattr(owner, name), 0

    def asked(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        result = original(*arguments, **options)
        count += 1
        if count == call:
            signal.raise_signal(signal.SIGTERM)
        return result

    patch.setattr(owner, name, asked)


needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no such signals here")


@needs_signals
@pytest.mark.usefixtures("heeded")
def test_asked_to_stop_again_while_the_checkpoint_is_written_it_is_written_whole(
    make_place: MakePlace, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("lora", protocol=PROTOCOL, execution={"latency_examples": 1})
    with monkeypatch.context() as patch:
        then_raise(patch, torch.optim.AdamW, "step", 3)
        then_raise(patch, resume, "save_file", 1)
        then_raise(patch, checkpoints, "_flush", 2)
        with pytest.raises(Cancelled):
            finish(place)
    assert not interruption.came()
    assert [checkpoint.manifest().step for checkpoint in place.checkpoints.newest_first()] == [3]
    assert outcome(place, finish(place)) == whole


@needs_signals
@pytest.mark.usefixtures("heeded")
def test_asked_to_stop_on_a_full_disk_the_checkpoint_before_counts(
    make_place: MakePlace, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        if interruption.came():
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    with monkeypatch.context() as patch:
        then_raise(patch, torch.optim.AdamW, "step", 5)
        patch.setattr(resume, "save_file", full)
        with pytest.raises(Cancelled):
            finish(place)
    assert [event["name"] for event in told(place, "finding")][-1] == "checkpoint_failed"
    record = finish(place)
    assert outcome(place, record) == whole
    assert [event["step"] for event in told(place, "resumed")] == [4]


# --- another folder, another configuration, other rows


def put(source: TrialStore, place: TrialStore) -> None:
    """Copies the checkpoints of one trial into the folder of another."""
    shutil.copytree(source.checkpoints.folder, place.checkpoints.folder)


@pytest.fixture
def source(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> TrialStore:
    """A trial that was cut off in its fifth step."""
    place = make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)
    cut_in_step(place, monkeypatch, 5)
    return place


@pytest.mark.parametrize("minutes", [5.0, None], ids=["used", "not_asked_for"])
def test_checkpoints_that_were_copied_elsewhere_continue_there(
    minutes: float | None, source: TrialStore, make_place: MakePlace, whole: dict[str, Any]
) -> None:
    place = make_place("lora", protocol=PROTOCOL, execution={"checkpoint_minutes": minutes, "latency_examples": 1})
    put(source, place)
    record = finish(place)
    assert outcome(place, record) == whole
    assert record.resumed == (0 if minutes is None else 1)


@pytest.mark.parametrize("changes", [{"batch_size": 4}, {"learning_rate": 0.02}], ids=["batch", "rate"])
def test_a_checkpoint_of_another_configuration_is_refused_by_name(
    changes: dict[str, Any], source: TrialStore, make_place: MakePlace
) -> None:
    protocol = {**PROTOCOL, **changes}
    whole = make_place("lora", protocol=protocol, execution=EVERY_STEP)
    expected = outcome(whole, finish(whole))
    place = make_place("lora", protocol=protocol, execution=EVERY_STEP)
    put(source, place)
    record = finish(place)
    messages = [event["message"] for event in told(place, "finding") if event["name"] == "checkpoint_refused"]
    assert record.resumed == 0
    assert len(messages) == 2
    assert all(f"trial: {source.spec().id} there, {place.spec().id} here" in text for text in messages)
    body = outcome(place, record)
    body["findings"] = [finding for finding in body["findings"] if finding.name != "checkpoint_refused"]
    assert body == expected


def test_rows_that_changed_meanwhile_are_refused_by_name(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_csv(tmp_path / "rows.csv", news(48))
    place = make_place("lora", data=data, protocol=PROTOCOL, execution=EVERY_STEP)
    cut_in_step(place, monkeypatch, 5)
    write_csv(data, news(48, start=100))
    record = finish(place)
    assert record.resumed == 0
    messages = [event["message"] for event in told(place, "finding") if event["name"] == "checkpoint_refused"]
    assert messages
    assert all("train rows: " in message for message in messages)


def test_half_the_micro_batch_continues_from_no_checkpoint_of_whole_ones(source: TrialStore) -> None:
    """Sums of gradients would be rounded otherwise."""
    source.write_spec(source.spec().model_copy(update={"halved_batches": True}))
    record = finish(source)
    assert record.resumed == 0
    messages = [event["message"] for event in told(source, "finding") if event["name"] == "checkpoint_refused"]
    assert len(messages) == 2
    assert all("micro-batches of a step: 2 there, 4 here" in message for message in messages)
