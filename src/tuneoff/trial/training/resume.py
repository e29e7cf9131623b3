"""Checkpoints of a training: after its process has ended, at any moment and however, another continues from the last
one, and the trial ends with the bytes of one that was never interrupted.

    checkpoints/N/
      state.json                 counts, scores, clocks, peaks, and the state of everything random
      tensors-0001.safetensors   trained weights and the optimizer's moments, as many files as they need
      weights/                   what the protocol has selected so far
      manifest.json              step, checksums, and what must be the same where the training continues
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tuneoff.config.base import Frozen
from tuneoff.errors import CorruptRecord, StoreError, first_line
from tuneoff.records.record import Finding
from tuneoff.store import StoredCheckpoint, TrialStore, link
from tuneoff.trial import interruption
from tuneoff.trial.context import TrialContext
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.phases import PhasesState
from tuneoff.trial.randomness import RandomState
from tuneoff.trial.training.progress import ProgressState
from tuneoff.trial.training.selection import Selection, SelectionState
from tuneoff.trial.training.trainer import Checkpointer, Trainer

STATE, WEIGHTS = "state.json", "weights"
FILE_BYTES = 64 * 2**20
"""Tensors are written in files of about this size: writing a file copies what it holds."""
SAVING_SHARE = 1 / 20
"""Most of the time that goes into checkpoints: the slower they are written, the rarer they are."""
ASKED_STEPS = 10
"""Several ranks agree after every so many steps whether a checkpoint is due."""
REPEATED_STEPS = 400
"""Steps of earlier processes that are told again, at most, so that a curve begins at its beginning."""


class RankState(Frozen):
    """What is each rank's own: what it measured, and the state of everything random."""

    progress: ProgressState
    phases: PhasesState
    random: RandomState


class TrainingState(Frozen):
    """What a checkpoint keeps besides tensors.

    Attributes:
        ranks: what is each rank's own.
        selection, schedule: of the training.
        learning_rates: of the optimizer's groups.
        total_seconds: of the trial, what earlier processes took included.
        resumed: how often it had continued before.
        attempt, events_bytes: where its events are, and how many bytes of them there were.
    """

    ranks: tuple[RankState, ...]
    selection: SelectionState
    schedule: dict[str, Any]
    learning_rates: tuple[float, ...]
    total_seconds: float
    resumed: int
    attempt: int
    events_bytes: int


@dataclass(frozen=True)
class Continuation:
    """How often a trial continued from a checkpoint, and the seconds of its earlier processes up to there."""

    resumed: int = 0
    seconds: float = 0.0


class TrialCheckpointer(Checkpointer):
    """Keeps the checkpoints of one trial; every rank has one, and the first of them writes.

    Args:
        context: of the trial.
        place: its folder.
        selection: of its weights.
        identity: what must be the same where the training continues: figure -> its value.
        started: `time.perf_counter()` at the start of this process.

    Attributes:
        continuation: what earlier processes did.
    """

    def __init__(
        self,
        context: TrialContext,
        place: TrialStore,
        selection: Selection,
        identity: Mapping[str, str],
        started: float,
    ) -> None:
        minutes = context.spec.execution.checkpoint_minutes
        assert minutes is not None
        self.context, self.place, self.selection, self.identity = context, place, selection, dict(identity)
        self.continuation = Continuation()
        self._started = started
        self._interval_seconds = 60 * minutes
        self._due_at = 0.0
        self._messages: set[str] = set()

    def wait(self, saving_seconds: float = 0.0) -> None:
        """Sets when the next checkpoint is due, after one that took so long."""
        self._due_at = time.monotonic() + max(self._interval_seconds, saving_seconds / SAVING_SHARE)

    def is_due(self, step: int) -> bool:
        due, ranks = interruption.came() or time.monotonic() >= self._due_at, self.context.ranks
        if ranks.alone:
            return due
        return step % ASKED_STEPS == 0 and ranks.sum([float(due and ranks.is_main)])[0] > 0

    def save(self, trainer: Trainer) -> None:
        """Writes a checkpoint; where that fails, training goes on without it.

        Raises:
            Cancelled: after it was written, where the trial was asked to stop.
        """
        began = time.monotonic()
        if self.write(trainer):
            self.prune(trainer)
        self.wait(time.monotonic() - began)
        interruption.check()

    def write(self, trainer: Trainer) -> bool:
        """Writes a checkpoint, beside those that are there; returns whether this process did. Where that fails, that is
        told."""
        with self.context.phases("checkpoint"):
            state, tensors = self._state(trainer), _tensors(trainer)
            is_written = self.context.ranks.is_main and self._write(state, tensors, trainer.step)
            # Sharded tensors are gathered by all ranks.
            deque(tensors if self.context.ranks.sharded else (), maxlen=0)
            return is_written

    def prune(self, trainer: Trainer) -> None:
        """Removes the checkpoints that are not needed any more beside the one that was written last."""
        self.place.checkpoints.prune(self.identity, trainer.step)

    def take_back(self) -> None:
        """Removes the checkpoint that was written last, and tells so: a trial beside this one could not write its own,
        so that the trials cannot go on from this step."""
        self.place.checkpoints.remove_newest()
        self._report("checkpoint_failed", "a checkpoint is not kept: a trial beside this one has none of that step")

    def _state(self, trainer: Trainer) -> TrainingState:
        own_state = RankState(
            progress=trainer.progress.state(),
            phases=self.context.phases.state(),
            random=RandomState.of(self.context.device),
        )
        return TrainingState(
            ranks=tuple(self.context.ranks.gather(own_state)),
            selection=self.selection.state(),
            schedule={key: value for key, value in trainer.schedule.state_dict().items() if key != "lr_lambdas"},
            learning_rates=tuple(float(group["lr"]) for group in trainer.optimizer.param_groups),
            total_seconds=self.continuation.seconds + time.perf_counter() - self._started,
            resumed=self.continuation.resumed,
            attempt=self.place.attempts + 1,
            events_bytes=self.place.events_size(),
        )

    def _write(self, state: TrainingState, tensors: Iterator[tuple[str, torch.Tensor]], step: int) -> bool:
        def write(folder: Path) -> None:
            for number, part in enumerate(_parts(tensors), 1):
                save_file(part, folder / f"tensors-{number:04}.safetensors")
            if state.selection.kept_step is not None:
                # Files of selected weights are replaced, never changed.
                shutil.copytree(self.place.weights, folder / WEIGHTS, copy_function=link)
            (folder / STATE).write_text(state.model_dump_json(indent=1), encoding="utf-8")

        try:
            self.place.checkpoints.save(write, self.identity, step)
        except StoreError as error:
            self._report("checkpoint_failed", f"{first_line(error)}; the training goes on without it")
            return False
        return True

    def resume(self, trainer: Trainer) -> None:
        """Continues from the newest checkpoint that is undamaged and of the same trial, machine and software; without
        one the training begins anew. What is not used is told."""
        with self.context.phases("checkpoint"):
            self._note_prefix(trainer)
            number = None
            if self.context.ranks.is_main:
                number = next((checkpoint.number for checkpoint, _ in self._fitting(trainer)), None)
            number = self.context.ranks.gather(number)[0]
            if number is not None:
                self._restore(trainer, self.place.checkpoints.numbered(number))
        self.wait()

    def steps(self, trainer: Trainer) -> dict[int, StoredCheckpoint]:
        """Returns step -> the newest checkpoint of it, of those from which the training can continue. What is not used
        is told."""
        with self.context.phases("checkpoint"):
            self._note_prefix(trainer)
            checkpoints: dict[int, StoredCheckpoint] = {}
            for checkpoint, step in self._fitting(trainer):
                checkpoints.setdefault(step, checkpoint)
            return checkpoints

    def resume_from(self, trainer: Trainer, checkpoint: StoredCheckpoint) -> None:
        """Continues from one of `steps`."""
        with self.context.phases("checkpoint"):
            self._restore(trainer, checkpoint)

    def _note_prefix(self, trainer: Trainer) -> None:
        """Notes in the identity how frozen first blocks are computed, which is known once the training begins."""
        prefix = trainer.runner.prefix
        self.identity["frozen blocks"] = (
            "none" if prefix is None else "computed" if prefix.states is None else "read from files"
        )

    def _fitting(self, trainer: Trainer) -> Iterator[tuple[StoredCheckpoint, int]]:
        """Yields the checkpoints from which the training can continue, each with its step, the newest first."""
        for checkpoint in self.place.checkpoints.newest_first():
            try:
                checkpoint.verify()
                manifest = checkpoint.manifest()
                reason = self._describe_differences(manifest.identity)
                if not reason:
                    _read_state(checkpoint)
                    _check_fit(_stored_tensors(checkpoint.folder), trainer)
            except (OSError, StoreError, SafetensorError) as error:
                self._report("checkpoint_damaged", f"a checkpoint is not used: {first_line(error)}")
                continue
            if reason:
                self._report("checkpoint_refused", f"the checkpoint of step {manifest.step} is not used: {reason}")
            else:
                yield checkpoint, manifest.step

    def _describe_differences(self, identity: Mapping[str, str]) -> str:
        names = dict.fromkeys([*identity, *self.identity])
        keys = [name for name in names if identity.get(name) != self.identity.get(name)]
        return "; ".join(f"{key}: {identity.get(key)} there, {self.identity.get(key)} here" for key in keys[:3])

    def _restore(self, trainer: Trainer, checkpoint: StoredCheckpoint) -> None:
        """Puts everything into the state of a checkpoint that is known to fit."""
        state, context = _read_state(checkpoint), self.context
        own_state = state.ranks[context.ranks.rank]
        _load_tensors(_stored_tensors(checkpoint.folder), trainer)
        for group, rate in zip(trainer.optimizer.param_groups, state.learning_rates, strict=True):
            group["lr"] = rate
        lambdas: list[None] = [None] * len(state.learning_rates)
        trainer.schedule.load_state_dict({**state.schedule, "lr_lambdas": lambdas})
        if context.ranks.is_main and state.selection.kept_step is not None:
            shutil.rmtree(self.place.weights, ignore_errors=True)
            shutil.copytree(checkpoint.folder / WEIGHTS, self.place.weights, copy_function=link)
        self.selection.continue_from(state.selection)
        context.phases.restore(own_state.phases)
        trainer.continue_from(own_state.progress)
        self.continuation = Continuation(state.resumed + 1, state.total_seconds)
        self._tell(trainer, state)
        own_state.random.restore(context.device)

    def _tell(self, trainer: Trainer, state: TrainingState) -> None:
        """Tells that the training continues, and what it told before, so that its curve is whole."""
        watch = self.context.phases.watch
        self.context.emit(
            {
                "kind": "resumed",
                "step": trainer.step,
                "steps": trainer.steps,
                "earlier_seconds": state.total_seconds,
                "train_seconds": watch.train_seconds,
                "validation_seconds": watch.seconds.get("validation", 0.0),
            }
        )
        events = self.place.earlier_events(state.attempt, state.events_bytes)
        steps = [event for event in events if event.get("kind") == "step"]
        shown = {id(event) for event in steps[:: 1 + len(steps) // REPEATED_STEPS]}
        for event in events:
            if event.get("kind") == "validation" or id(event) in shown:
                self.context.emit({key: value for key, value in event.items() if key != "time"})

    def report_refused(self, message: str) -> None:
        """Tells why a checkpoint that fits is not used."""
        self._report("checkpoint_refused", message)

    def _report(self, name: str, message: str) -> None:
        """Tells of a checkpoint that is not written or not used, of each cause once."""
        if message not in self._messages:
            self._messages.add(message)
            self.context.report([Finding(name=name, message=message)])


def _read_state(checkpoint: StoredCheckpoint) -> TrainingState:
    path = checkpoint.folder / STATE
    try:
        return TrainingState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CorruptRecord(f"{path} is not the state of a training: {first_line(error)}") from None


def _named(trainer: Trainer) -> dict[str, nn.Parameter]:
    """Returns the trained parameters by name."""
    trained = {id(parameter) for parameter in trainer.trained}
    return {name: p for name, p in trainer.runner.attached.module.named_parameters() if id(p) in trained}


def _tensors(trainer: Trainer) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the trained weights and the optimizer's state, whole and on the CPU."""
    for name, parameter in _named(trainer).items():
        yield f"weights/{name}", _whole(parameter)
        for moment, value in trainer.optimizer.state.get(parameter, {}).items():
            yield f"{moment}/{name}", _whole(value)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return fsdp.whole(tensor.detach()).cpu().contiguous()


def _parts(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """Yields tensors in parts of about `FILE_BYTES`."""
    part: dict[str, torch.Tensor] = {}
    for name, tensor in tensors:
        part[name] = tensor
        if sum(value.nbytes for value in part.values()) >= FILE_BYTES:
            yield part
            part = {}
    if part:
        yield part


def _stored_tensors(folder: Path) -> dict[str, Path]:
    """Returns the names of a checkpoint's tensors -> the file of each."""
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("tensors-*.safetensors")):
        with safe_open(path, "pt") as tensors:
            files |= dict.fromkeys(tensors.keys(), path)
    return files


def _check_fit(files: Mapping[str, Path], trainer: Trainer) -> None:
    """Checks that a checkpoint's tensors are those of the training.

    Raises:
        CorruptRecord: where they are not.
    """
    parameters = _named(trainer)
    missing = [name for name in parameters if f"weights/{name}" not in files]
    if missing:
        raise CorruptRecord(f"it lacks the weights of {missing[0]}")
    for key, path in files.items():
        moment, _, name = key.partition("/")
        with safe_open(path, "pt") as tensors:
            shape = tuple(tensors.get_slice(key).get_shape())
        if name not in parameters or shape not in {tuple(parameters[name].shape), ()}:
            raise CorruptRecord(f"its {moment} of {name} do not fit the model")


def _load_tensors(files: Mapping[str, Path], trainer: Trainer) -> None:
    """Puts a checkpoint's tensors into the model and the optimizer, whose state is empty."""
    parameters = _named(trainer)
    for path in sorted(set(files.values())):
        with safe_open(path, "pt") as tensors, torch.no_grad():
            for key in (key for key, file in files.items() if file == path):
                moment, _, name = key.partition("/")
                parameter, value = parameters[name], tensors.get_tensor(key)
                if moment == "weights":
                    fsdp.put(value, parameter)
                elif value.ndim == 0 and parameter.ndim:
                    trainer.optimizer.state[parameter][moment] = value.clone().to(parameter.device)
                else:
                    # As the optimizer makes it: rounding may hang on where in memory a tensor begins.
                    trainer.optimizer.state[parameter][moment] = torch.zeros_like(parameter)
                    fsdp.put(value, trainer.optimizer.state[parameter][moment])
