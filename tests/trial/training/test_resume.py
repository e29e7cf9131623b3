"""Trainings that are cut off and continue: equal, to the byte, to those that are not."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from resume_helpers import EVERY_STEP, PROTOCOL, Killed, die_at, finish, outcome, told
from trial_helpers import PAIRS, MakePlace, write_csv
from tuneoff.checksums import content_hash
from tuneoff.errors import Cancelled
from tuneoff.methods.lora import Lora
from tuneoff.records.record import Status
from tuneoff.store import TrialStore, checkpoints
from tuneoff.store.files import checksum
from tuneoff.trial import interruption
from tuneoff.trial.training import resume
from tuneoff.trial.training.selection import Selection

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread", "often")

WRITING = {"name": "generation", "template": "{source} => ", "max_target_length": 4}

Resumed = Callable[..., TrialStore]
Cut = Callable[[], None]


@pytest.fixture
def cut(make_place: MakePlace, monkeypatch: pytest.MonkeyPatch) -> Resumed:
    """A trial of lora whose process ended in the update of a step."""

    def make(step: int = 6, **changes: Any) -> TrialStore:
        place = make_place("lora", protocol=PROTOCOL, execution={**EVERY_STEP, **changes})
        with monkeypatch.context() as patch:
            die_at(patch, torch.optim.AdamW, "step", step)
            with pytest.raises(Killed):
                finish(place)
        return place

    return make


# --- the same bytes


@pytest.mark.parametrize("step", [2, 3, 5, 7])
def test_a_training_cut_off_in_a_step_ends_as_if_nothing_had_happened(
    step: int, cut: Resumed, whole: dict[str, Any]
) -> None:
    place = cut(step)
    record = finish(place)
    assert outcome(place, record) == whole
    assert record.resumed == 1
    (event,) = told(place, "resumed")
    assert (event["step"], event["steps"]) == (step - 1, 7)
    assert not (place.folder / "checkpoints").exists(), "a finished trial needs none"


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("full", {"protocol": {"gradient_checkpointing": True}}),
        ("full", {"execution": {"engine": "plain"}}),
        ("prompt_tuning", {}),
        ("lora", {"options": {"init": "pissa", "dropout": 0.2}}),
        ("lora", {"protocol": {"select": "last"}}),
        ("last_block", {"scratch": True}),
        ("lora", {"task": WRITING}),
    ],
    ids=["recomputed", "plain", "soft_prompt", "pissa", "last", "frozen_blocks", "writing"],
)
def test_every_kind_of_training_continues(
    method: str,
    changes: dict[str, Any],
    make_place: MakePlace,
    gpt_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study: dict[str, Any] = {
        "protocol": {**PROTOCOL, "max_steps": 4, **changes.get("protocol", {})},
        "execution": {**EVERY_STEP, **changes.get("execution", {})},
    }
    if "task" in changes:
        data = write_csv(tmp_path / "pairs.csv", PAIRS, header=("article", "summary"))
        study |= {"task": changes["task"], "folder": gpt_folder, "data": data}
        study["protocol"] |= {"select_metric": "rouge_l", "train_rows": 16}

    def trial(name: str) -> tuple[TrialStore, Path | None]:
        place = make_place(method, changes.get("options"), **study)
        return place, tmp_path / name if "scratch" in changes else None

    place, scratch = trial("whole")
    expected = outcome(place, finish(place, scratch))
    place, scratch = trial("first")
    with monkeypatch.context() as patch:
        die_at(patch, torch.optim.AdamW, "step", 4)
        with pytest.raises(Killed):
            finish(place, scratch)
    record = finish(place, tmp_path / "second" if scratch else None)
    assert outcome(place, record) == expected
    assert record.resumed == 1
    assert (record.timing.prefix_seconds is not None) == ("scratch" in changes)


@pytest.mark.parametrize(
    ("owner", "name", "call", "resumes_at"),
    [
        # While a checkpoint is written: before its first file, after it, and before it gets its place.
        (resume, "save_file", 3, 2),
        (resume, "_read_state", 1, None),
        (checkpoints, "_flush", 5, 1),
        (shutil, "rmtree", 4, None),
        (Selection, "validate", 3, 5),
        (TrialStore, "write_predictions", 1, 7),
        (TrialStore, "write_record", 1, 7),
    ],
    ids=["file", "reading", "flushed", "removing", "validation", "test", "record"],
)
def test_it_may_be_cut_off_anywhere(
    owner: Any,
    name: str,
    call: int,
    resumes_at: int | None,
    cut: Resumed,
    whole: dict[str, Any],
    make_place: MakePlace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = cut(4) if name == "_read_state" else make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)
    with monkeypatch.context() as patch:
        die_at(patch, owner, name, call, after=name != "write_record")
        with pytest.raises(Killed):
            finish(place)
    record = finish(place)
    assert outcome(place, record) == whole
    (event,) = told(place, "resumed")
    assert resumes_at is None or event["step"] == resumes_at


def test_a_trial_that_is_cut_off_again_and_again_gets_done(
    cut: Resumed, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = cut(2)
    for _ in range(4):
        with monkeypatch.context() as patch:
            die_at(patch, torch.optim.AdamW, "step", 2)
            with pytest.raises(Killed):
                finish(place)
    record = finish(place)
    assert outcome(place, record) == whole
    assert record.resumed == 5
    assert place.attempts == 5


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no such signals here")
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR2"])
@pytest.mark.parametrize(("owner", "name"), [(torch.optim.AdamW, "step"), (Selection, "validate")])
def test_a_trial_that_is_asked_to_stop_keeps_all_steps_that_it_did(
    number: str,
    owner: Any,
    name: str,
    whole: dict[str, Any],
    make_place: MakePlace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = make_place("lora", protocol=PROTOCOL, execution={"latency_examples": 1})
    with monkeypatch.context() as patch:
        original = getattr(owner, name)

        def asked(self: Any, *arguments: Any) -> Any:
            result = original(self, *arguments)
            if name == "validate" or self.param_groups[0]["lr"] < 0.006:
                signal.raise_signal(getattr(signal, number))
            return result

        patch.setattr(owner, name, asked)
        with pytest.raises(Cancelled):
            finish(place)
    assert not interruption.came()
    record = finish(place)
    assert outcome(place, record) == whole
    (event,) = told(place, "resumed")
    assert event["step"] == (2 if name == "validate" else 5)


# --- what is kept


def test_two_checkpoints_are_kept_of_plain_files(cut: Resumed) -> None:
    place = cut(6)
    assert [checkpoint.number for checkpoint in place.checkpoints.newest_first()] == [5, 4]
    newest = place.checkpoints.newest_first()[0]
    manifest = newest.manifest()
    assert manifest.step == 5
    assert set(manifest.files) == {
        "state.json",
        "tensors-0001.safetensors",
        *(f"weights/{path.name}" for path in place.weights.iterdir()),
    }
    kept = place.weights / "adapter_model.safetensors"
    assert (newest.folder / "weights" / kept.name).samefile(kept), "selected weights take no space twice"


def test_large_states_are_written_in_several_files(
    cut: Resumed, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FILE_BYTES", 1 << 10)
    place = cut(3)
    files = place.checkpoints.newest_first()[0].manifest().files
    assert sum(name.startswith("tensors-") for name in files) > 3
    record = finish(place)
    assert record.resumed == 1
    assert outcome(place, record) == whole


def test_nothing_is_kept_where_that_is_not_asked_for_or_cannot_be(
    cut: Resumed, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = cut(checkpoint_minutes=None)
    assert not without.checkpoints.newest_first()
    rare = cut(checkpoint_minutes=60.0)
    assert not rare.checkpoints.newest_first()
    monkeypatch.setattr(Lora, "resumable", False)
    assert not cut().checkpoints.newest_first()
    assert finish(without).resumed == finish(rare).resumed == 0


def test_slow_checkpoints_are_rare(cut: Resumed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVING_SHARE", 1e-9)
    assert [checkpoint.manifest().step for checkpoint in cut().checkpoints.newest_first()] == [1]


def test_times_energy_and_peaks_are_those_of_all_processes(cut: Resumed) -> None:
    place = cut(5)
    path = place.checkpoints.newest_first()[0].folder / "state.json"
    state = resume.TrainingState.model_validate_json(path.read_bytes())
    record = finish(place)
    timing, earlier = record.timing, state.ranks[0].phases
    assert timing.train_seconds is not None
    assert timing.train_step_seconds is not None
    assert timing.train_step_seconds > earlier.seconds["train_step"]
    assert timing.total_seconds is not None
    assert timing.total_seconds > state.total_seconds + timing.train_seconds - sum(earlier.seconds.values())
    times = [point.train_seconds or 0.0 for point in record.curve]
    assert 0 < times[0] < earlier.seconds["train_step"] + earlier.seconds["data_wait"]
    assert times == sorted(times)
    assert times[-1] == pytest.approx(timing.train_seconds)
    assert timing.step_seconds_median is not None
    for phase, peaks in earlier.peaks.items():
        resident = record.memory.phases[phase].resident_bytes
        assert peaks.resident_bytes is None or (resident is not None and resident >= peaks.resident_bytes)


def test_the_curve_goes_on_where_it_was(cut: Resumed) -> None:
    place = cut(6)
    record = finish(place)
    validations = [event["step"] for event in told(place, "validation")]
    assert validations == [point.step for point in record.curve] == [2, 4, 6, 7]
    steps = [event["step"] for event in told(place, "step")]
    assert steps == sorted(set(steps))
    assert {2, 4, 6, 7} <= set(steps)


# --- what is damaged or does not fit


def damage_by(way: str, path: Path) -> None:
    data = path.read_bytes()
    if way == "removed":
        path.unlink()
    elif way == "truncated":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])


@pytest.mark.parametrize("way", ["truncated", "flipped", "removed"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "state.json", "tensors-0001.safetensors", "weights/adapter_model.safetensors"]
)
def test_a_damaged_checkpoint_is_passed_over(way: str, name: str, cut: Resumed, whole: dict[str, Any]) -> None:
    place = cut(6)
    path = place.checkpoints.newest_first()[0].folder / name
    data = path.read_bytes()
    path.unlink()  # selected weights are the same file in both checkpoints
    path.write_bytes(data)
    damage_by(way, path)
    record = finish(place)
    assert outcome(place, record) == whole
    assert [event["step"] for event in told(place, "resumed")] == [4]
    (finding,) = told(place, "finding")[-1:]
    assert finding["name"] == "checkpoint_damaged"
    assert str(path) in finding["message"]


def test_without_an_undamaged_checkpoint_a_trial_begins_anew(cut: Resumed, whole: dict[str, Any]) -> None:
    place = cut(6)
    for checkpoint in place.checkpoints.newest_first():
        (checkpoint.folder / "state.json").write_text("{}")
    (place.checkpoints.folder / "7").mkdir()
    (place.checkpoints.folder / "8").mkdir()
    (place.checkpoints.folder / "8" / "manifest.json").write_text("[" * 100_000)
    record = finish(place)
    assert outcome(place, record) == whole
    assert record.resumed == 0
    assert sum(event["name"] == "checkpoint_damaged" for event in told(place, "finding")) == 4


def reseal(checkpoint: checkpoints.StoredCheckpoint, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a manifest, whose checksum is right afterwards."""
    path = checkpoint.folder / "manifest.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    change(body)
    path.write_text(json.dumps({"sha256": content_hash(body), **body}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("torch", "1.0", r"torch: 1\.0 there, \d.* here"),
        ("threads", "64", "threads: 64 there, 1 here"),
        ("processes", "2", "processes: 2 there, 1 here"),
        ("train rows", "abc", "train rows: abc there, .* here"),
        ("base model", "abc", "base model: abc there, .* here"),
        ("trial", "lora-s0-abc", "trial: lora-s0-abc there, lora-s0-.* here"),
        ("machine", "a better one", "machine: a better one there, .* here"),
        ("frozen blocks", "read from files", "frozen blocks: read from files there, none here"),
        ("engine", "plain", "engine: plain there, fast here"),
        ("precision", "bf16", "precision: bf16 there, fp32 here"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(key: str, value: str, message: str, cut: Resumed) -> None:
    import re

    place = cut(3)
    for checkpoint in place.checkpoints.newest_first():
        reseal(checkpoint, lambda body: body["identity"].update({key: value}))
    record = finish(place)
    assert record.resumed == 0
    assert record.status is Status.COMPLETED
    refusals = [event["message"] for event in told(place, "finding") if event["name"] == "checkpoint_refused"]
    assert len(refusals) == 2
    assert re.search(f"the checkpoint of step 2 is not used: {message}", refusals[0]), refusals


def test_a_checkpoint_of_another_version_or_model_is_refused(cut: Resumed) -> None:
    place = cut(6)
    newest, before = place.checkpoints.newest_first()
    reseal(newest, lambda body: body.update(checkpoint_version=99))
    state = (before.folder / "state.json").read_text()
    (before.folder / "state.json").write_text(state.replace('"attempt"', '"attempts"'))
    reseal(before, lambda body: body["files"].update({"state.json": checksum(before.folder / "state.json")}))
    assert finish(place).resumed == 0
    messages = [event["message"] for event in told(place, "finding")]
    assert any("has checkpoint version 99, this tuneoff reads 1" in message for message in messages)
    assert any("is not the state of a training" in message for message in messages)


def test_tensors_that_do_not_fit_are_refused(cut: Resumed) -> None:
    from safetensors.torch import load_file, save_file

    place = cut(6)
    newest, before = place.checkpoints.newest_first()
    for checkpoint, changes in ((newest, {"weights/x": torch.zeros(2)}), (before, {})):
        path = checkpoint.folder / "tensors-0001.safetensors"
        tensors = load_file(path)
        if not changes:
            del tensors[next(name for name in tensors if name.startswith("weights/"))]
        save_file({**tensors, **changes}, path)
        sha256 = checksum(path)
        reseal(checkpoint, lambda body, sha256=sha256: body["files"].update({"tensors-0001.safetensors": sha256}))  # type: ignore[misc]
    assert finish(place).resumed == 0
    messages = [event["message"] for event in told(place, "finding")]
    assert any("do not fit the model" in message for message in messages)
    assert any("it lacks the weights of" in message for message in messages)


# --- a full disk


@pytest.mark.parametrize(
    ("owner", "name"),
    [(resume, "save_file"), (checkpoints, "_flush"), (Path, "write_text"), (Path, "mkdir"), (Path, "rename")],
)
def test_a_checkpoint_that_cannot_be_written_costs_no_trial(
    owner: Any, name: str, make_place: MakePlace, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, place = getattr(owner, name), make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP)

    def full(*arguments: Any, **options: Any) -> Any:
        if any("checkpoints" in str(argument) for argument in arguments):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        record = finish(place)
    assert outcome(place, record) == whole
    (finding,) = [event for event in told(place, "finding") if event["name"] == "checkpoint_failed"]
    assert "No space left on device; the training goes on without it" in finding["message"]


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_moment_costs_no_trial(
    make_place: MakePlace,
    whole: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each of the first fifty things that are written of checkpoints fails once; the trial is then cut off, too."""
    points = [(resume, "save_file"), (checkpoints, "_flush"), (resume, "link"), (Path, "write_text")]
    points += [(Path, "mkdir"), (Path, "rename")]
    failed: dict[str, int] = {}
    for number in range(1, 51):
        place, count = make_place("lora", protocol=PROTOCOL, execution=EVERY_STEP), 0

        def full(name: str, original: Any, number: int = number) -> Any:
            def write(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                if any("checkpoints" in str(argument) for argument in arguments):
                    count += 1
                    if count == number:
                        failed[name] = failed.get(name, 0) + 1
                        raise OSError(errno.ENOSPC, "No space left on device")
                return original(*arguments, **options)

            return write

        with monkeypatch.context() as patch:
            for owner, name in points:
                patch.setattr(owner, name, full(name, getattr(owner, name)))
            die_at(patch, torch.optim.AdamW, "step", 6)
            with pytest.raises(Killed):
                finish(place)
        record = finish(place)
        assert outcome(place, record) == whole
        assert record.resumed == 1
    with capsys.disabled():
        print(f"\na full disk at {sum(failed.values())} write points: 0 trials lost: {failed}")
