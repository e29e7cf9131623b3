"""Seconds of steps from their costs and this machine's speed, corrected by the steps that were run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch

from tuneoff.trial.estimate.step_cost import StepCost

CALL_SECONDS = {"cpu": 3e-6, "cuda": 6e-6}
"""Overhead of calling one operation: Python, autograd and the dispatcher. Of the order of what was measured; in tiny
models it is nearly all of the time."""
EFFICIENCY = 0.5
"""Share of the speed of one large matrix product, and of copying, that a training step reaches. Rough: between 0.3 and
0.8 was measured. Only used where no step is run."""
CALIBRATION_SECONDS = 0.3
COPIED_BYTES = 64 * 2**20
"""Size of the copies that are timed, more than a processor's caches hold: so are a step's tensors together."""
LIKENESS = 0.2
"""How strongly the factors of calls and of work are drawn to one another: an error of a step's time by a tenth counts
as much as a difference of a factor by a half."""
UPDATE_PASSES = 7
"""Times that AdamW passes over a trained tensor's size: it reads weight, gradient and two moments and writes three."""


@dataclass(frozen=True)
class Speed:
    """What a machine can do at best.

    Attributes:
        operations: floating-point operations a second, in large matrix products under the trial's precision.
        traffic: bytes read and written a second, of tensors that no cache holds.
        call: seconds to call an operation.
    """

    operations: float
    traffic: float
    call: float

    def seconds(self, step: StepCost) -> float:
        """Returns the least seconds that a step could take: calls, products and traffic one after the other."""
        return step.calls * self.call + self.work_seconds(step)

    def work_seconds(self, step: StepCost) -> float:
        """Returns the least seconds of a step's products and traffic."""
        return step.operations / self.operations + step.traffic / self.traffic


def measure(device: torch.device, autocast: Callable[[], AbstractContextManager[object]]) -> Speed:
    """Measures matrix products and copies for `CALIBRATION_SECONDS` in all."""
    size = 4096 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device) for _ in range(2))
    with autocast(), torch.no_grad():
        product_seconds = _best(lambda: left @ right, device)
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    copies = torch.empty_like(source)
    copy_seconds = _best(lambda: copies.copy_(source), device)
    return Speed(2 * size**3 / product_seconds, 2 * COPIED_BYTES / copy_seconds, CALL_SECONDS[device.type])


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Returns the least seconds of one run, over half the time of a calibration."""
    seconds: list[float] = []
    limit = time.perf_counter() + CALIBRATION_SECONDS / 2
    # The first run prepares kernels.
    while len(seconds) < 3 or time.perf_counter() < limit:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@dataclass
class TimeModel:
    """Seconds of steps from their costs, corrected by the steps that were run.

    A step's least seconds are multiplied by a factor from the measured steps: between two of them the factor is
    interpolated over the logarithm of the size, beyond them it stays constant.
    """

    speed: Speed
    _observed: list[tuple[float, float]] = field(default_factory=list)
    _steps: list[tuple[StepCost, float]] = field(default_factory=list)

    def observe(self, step: StepCost, seconds: float) -> None:
        """Adds a step that was run, and its seconds."""
        least_seconds = self.speed.seconds(step)
        self._observed.append((math.log(least_seconds), math.log(seconds / least_seconds)))
        self._observed.sort()
        self._steps.append((step, seconds))

    def seconds(self, step: StepCost) -> float:
        """Returns the seconds that such a step takes."""
        least_seconds = self.speed.seconds(step)
        return least_seconds * self._factor(least_seconds)

    def _factor(self, least_seconds: float) -> float:
        if not self._observed:
            return 1 / EFFICIENCY
        sizes, factors = zip(*self._observed, strict=True)
        return math.exp(float(np.interp(math.log(least_seconds), sizes, factors)))

    def call_seconds(self, calls: int) -> float:
        """Returns the seconds of calling so many operations: what a step takes whatever its size.

        Where steps were run, the least squares of their relative errors give two factors, of calls and of products with
        traffic. They are drawn to one another, for few steps on a busy machine hardly tell them apart.
        """
        factor = 1 / EFFICIENCY
        if self._steps:
            shares = np.array(
                [
                    [step.calls * self.speed.call / seconds, self.speed.work_seconds(step) / seconds]
                    for step, seconds in self._steps
                ]
            )
            sums = shares.sum(1)
            common_factor = sums.sum() / (sums**2).sum()
            equations = np.vstack([common_factor * shares, LIKENESS * np.eye(2)])
            targets = np.append(np.ones(len(shares)), [LIKENESS, LIKENESS])
            factor = common_factor * max(0.0, np.linalg.lstsq(equations, targets, rcond=None)[0][0])
        return float(factor * calls * self.speed.call)

    def update_seconds(self, trained_bytes: int) -> float:
        """Returns the seconds of an optimizer step that was not run: nothing but reading and writing."""
        return UPDATE_PASSES * trained_bytes / self.speed.traffic


class Curve:
    """A line through points: what a batch takes, by its padded tokens.

    Args:
        points: (padded tokens, value) of some batches.
    """

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        self._points = sorted(dict(points).items())

    def __call__(self, padded_tokens: int) -> float:
        """Returns the value at so many padded tokens; beyond the points, in proportion to the nearest one."""
        xs, ys = zip(*self._points, strict=True)
        if padded_tokens <= xs[0]:
            return float(ys[0] * padded_tokens / xs[0])
        if padded_tokens >= xs[-1]:
            return float(ys[-1] * padded_tokens / xs[-1])
        return float(np.interp(padded_tokens, xs, ys))
