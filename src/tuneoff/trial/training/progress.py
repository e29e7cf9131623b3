"""What a training measures: counted step by step, told as events, returned at the end."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tuneoff.config.base import Frozen
from tuneoff.measure.energy import EnergyMeter
from tuneoff.records.record import CurvePoint, Event
from tuneoff.trial.context import TrialContext
from tuneoff.trial.distributed.context import RankContext
from tuneoff.trial.training.evaluate import EVENT_INTERVAL_SECONDS

FIRST_STEPS = 3
"""Steps reported apart: they hold allocation, autotuning and compilation."""


@dataclass(frozen=True)
class Trained:
    """What the training loop measured.

    Attributes:
        steps: optimizer steps.
        curve: a point for every validation.
        gradient_norms: of every step, before clipping.
        order: SHA-256 over the positions of the examples in the order of training.
        examples: how many were trained on.
        tokens, computed_tokens: of all ranks, without and with padding.
        step_seconds: of every step with its data wait.
        first_steps_seconds: of the first steps together.
        cpu_seconds: processor seconds of this process meanwhile.
        joules: energy, or None.
        joules_reason: why `joules` is None.
    """

    steps: int
    curve: tuple[CurvePoint, ...]
    gradient_norms: tuple[float, ...]
    order: str
    examples: int
    tokens: int
    computed_tokens: int
    step_seconds: tuple[float, ...]
    first_steps_seconds: float
    cpu_seconds: float
    joules: float | None
    joules_reason: str

    @property
    def step_seconds_median(self) -> float | None:
        """Returns the median seconds of a step and its data wait after the first steps; None without later steps."""
        steady = self.step_seconds[FIRST_STEPS:]
        return statistics.median(steady) if steady else None


class ProgressState(Frozen):
    """What a training measured so far, as its checkpoint keeps it.

    Attributes:
        step: optimizer steps done.
        tokens, computed_tokens: of this rank.
        curve, gradient_norms, step_seconds, first_steps_seconds, cpu_seconds, joules: as in `Trained`.
        since_validation: steps since the last validation: loss, its terms, and learning rate.
        elapsed_seconds: since training began.
    """

    step: int
    tokens: int
    computed_tokens: int
    curve: tuple[CurvePoint, ...]
    gradient_norms: tuple[float, ...]
    step_seconds: tuple[float, ...]
    first_steps_seconds: float
    cpu_seconds: float
    joules: float | None
    since_validation: tuple[tuple[float, int, float], ...]
    elapsed_seconds: float


@dataclass
class Tokens:
    """Tokens that went through the model: the examples' own, and with padding."""

    own: int = 0
    computed: int = 0


@dataclass(frozen=True)
class OptimizerStep:
    """One optimizer step.

    Attributes:
        rows: positions of its examples.
        loss_terms: what its loss is a mean over: examples, or target tokens.
        loss: before the update.
        gradient_norm: before clipping.
        learning_rate: of the update.
    """

    rows: Sequence[int]
    loss_terms: int
    loss: float
    gradient_norm: float
    learning_rate: float


class TrainingProgress:
    """What a training measured so far.

    Args:
        context: of the trial.
        rows: training examples.
        steps: optimizer steps to come in all.
        validations: validations to come in all.
    """

    def __init__(self, context: TrialContext, rows: int, steps: int, validations: int) -> None:
        self.step = 0
        self.tokens = Tokens()
        self._context, self._rows, self._steps, self._validations = context, rows, steps, validations
        self._curve: list[CurvePoint] = []
        self._gradient_norms: list[float] = []
        self._step_seconds: list[float] = []
        self._train_seconds = self._all_step_seconds = self._first_steps_seconds = self._cpu_seconds = 0.0
        self._examples = 0
        self._order = hashlib.sha256()
        self._energy = EnergyMeter(context.device)
        self._since_validation: list[OptimizerStep] = []
        self._last_event = self._started = time.perf_counter()

    @property
    def curve(self) -> Sequence[CurvePoint]:
        """Returns the validations so far."""
        return self._curve

    @property
    def validated_step(self) -> int:
        """Returns the step of the last validation; 0 before the first."""
        return self._curve[-1].step if self._curve else 0

    def state(self) -> ProgressState:
        """Returns what was measured so far."""
        return ProgressState(
            step=self.step,
            tokens=self.tokens.own,
            computed_tokens=self.tokens.computed,
            curve=tuple(self._curve),
            gradient_norms=tuple(self._gradient_norms),
            step_seconds=tuple(self._step_seconds),
            first_steps_seconds=self._first_steps_seconds,
            cpu_seconds=self._cpu_seconds,
            joules=self._energy.joules,
            since_validation=tuple((step.loss, step.loss_terms, step.learning_rate) for step in self._since_validation),
            elapsed_seconds=time.perf_counter() - self._started,
        )

    def restore(self, state: ProgressState, batches: Iterable[Sequence[int]]) -> None:
        """Continues from what an earlier process measured; the clocks of the phases are to be restored before.

        Args:
            state: of that process.
            batches: positions of the examples of each step that it did.
        """
        self.step = state.step
        self.tokens.own, self.tokens.computed = state.tokens, state.computed_tokens
        self._curve = list(state.curve)
        self._gradient_norms, self._step_seconds = list(state.gradient_norms), list(state.step_seconds)
        self._first_steps_seconds, self._cpu_seconds = state.first_steps_seconds, state.cpu_seconds
        self._energy.add(state.joules)
        all_rows = list(batches)
        for rows in all_rows:
            self._note_rows(rows)
        pending = all_rows[state.step - len(state.since_validation) :]
        self._since_validation = [
            OptimizerStep(rows, terms, loss, norm, rate)
            for rows, norm, (loss, terms, rate) in zip(
                pending, state.gradient_norms[state.step - len(pending) :], state.since_validation, strict=True
            )
        ]
        phases = self._context.phases
        self._all_step_seconds, self._train_seconds = phases.step_seconds, phases.train_seconds
        self._started = time.perf_counter() - state.elapsed_seconds

    def _note_rows(self, rows: Sequence[int]) -> None:
        self._examples += len(rows)
        self._order.update(np.asarray(rows, dtype=np.int64).tobytes())

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures energy and this process's processor seconds while open."""
        with self._energy:
            start = time.process_time()
            yield
            self._cpu_seconds += time.process_time() - start

    def note_step(self, step: OptimizerStep, *, told: bool) -> None:
        """Counts a step that is done, and emits an event of it now and then.

        Args:
            step: the step.
            told: emits the event in any case.
        """
        self.step += 1
        self._note_rows(step.rows)
        self._gradient_norms.append(step.gradient_norm)
        self._since_validation.append(step)
        phases = self._context.phases
        self._step_seconds.append(phases.step_seconds - self._all_step_seconds)
        self._all_step_seconds, self._train_seconds = phases.step_seconds, phases.train_seconds
        if self.step <= FIRST_STEPS:
            self._first_steps_seconds = phases.step_seconds
        now = time.perf_counter()
        if told or now - self._last_event >= EVENT_INTERVAL_SECONDS:
            self._last_event = now
            self._context.emit(self._describe(step, now - self._started))

    def note_validation(self, scores: dict[str, float]) -> None:
        """Adds a point to the curve: the scores, and the mean loss since the last validation."""
        steps = self._since_validation
        self._curve.append(
            CurvePoint(
                step=self.step,
                epoch=self._examples / self._rows,
                train_seconds=self._train_seconds,
                learning_rate=steps[-1].learning_rate,
                train_loss=sum(step.loss * step.loss_terms for step in steps) / sum(step.loss_terms for step in steps),
                validation=scores,
            )
        )
        self._since_validation = []

    def finish(self, ranks: RankContext) -> Trained:
        """Returns what was measured; every rank calls it, because tokens are summed over them."""
        tokens, computed_tokens = ranks.sum([self.tokens.own, self.tokens.computed])
        return Trained(
            steps=self.step,
            curve=tuple(self._curve),
            gradient_norms=tuple(self._gradient_norms),
            order=self._order.hexdigest(),
            examples=self._examples,
            tokens=int(tokens),
            computed_tokens=int(computed_tokens),
            step_seconds=tuple(self._step_seconds),
            first_steps_seconds=self._first_steps_seconds,
            cpu_seconds=self._cpu_seconds,
            joules=self._energy.joules,
            joules_reason=self._energy.missing_reason,
        )

    def _describe(self, step: OptimizerStep, elapsed: float) -> Event:
        return {
            "kind": "step",
            "step": self.step,
            "steps": self._steps,
            "epoch": round(self._examples / self._rows, 3),
            "epochs": self._context.spec.protocol.epochs,
            "loss": step.loss,
            "gradient_norm": step.gradient_norm,
            "learning_rate": step.learning_rate,
            "examples_per_second": self._examples / max(self._train_seconds, 1e-9),
            "elapsed_seconds": elapsed,
            "validations": self._validations,
        }
