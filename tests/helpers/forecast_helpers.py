"""Made-up forecasts, and an executor that makes them without looking at anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuneoff.config.spec import TrialSpec
from tuneoff.errors import TuneoffError
from tuneoff.executors.base import Executor, Inspection
from tuneoff.records.forecast import ArmForecast


def arm_forecast(label: str, **changes: Any) -> ArmForecast:
    """An arm's forecast: 600 MiB, 10 s of training in a trial of 15 s, 1 MiB kept and 2,000 bytes of predictions."""
    body: dict[str, Any] = {
        "label": label,
        "how": "profile",
        "device": "cpu",
        "peak_memory_bytes": 600 << 20,
        "memory": {"process": 300 << 20, "weights": 100 << 20, "activations": 200 << 20},
        "train_seconds": 10.0,
        "seconds": {"load": 1.0, "train": 10.0, "validation": 1.5, "test": 2.5},
        "stored_bytes": 1 << 20,
        "predictions_bytes": 2000,
        "fits": True,
    }
    return ArmForecast(**{**body, **changes})


@dataclass
class Forecasting:
    """What an executor is to forecast.

    Attributes:
        arms: label -> forecast, or the error that is raised; an arm that is not named gets `arm_forecast`.
        unprofiled: label -> the error that is raised where it is to be profiled.
        asked: (label, whether to profile, memory asked about), in order.
        by_batch_size: whether an example of a batch takes 1 MiB, and training 640 s divided by the batch size.
    """

    arms: dict[str, ArmForecast | TuneoffError] = field(default_factory=dict)
    unprofiled: Mapping[str, BaseException] = field(default_factory=dict)
    asked: list[tuple[str, bool, int | None]] = field(default_factory=list)
    by_batch_size: bool = False

    def make(self, trial: TrialSpec, search_trial: TrialSpec | None, profile: bool, limit: int | None) -> ArmForecast:
        """One forecast."""
        self.asked.append((trial.label, profile, limit))
        if profile and trial.label in self.unprofiled:
            raise self.unprofiled[trial.label]
        made = self.arms.get(trial.label) or arm_forecast(trial.label)
        if isinstance(made, TuneoffError):
            raise made
        told: dict[str, Any] = {"how": "profile" if profile else "estimate"}
        if search_trial is not None and not made.search_seconds:
            told["search_seconds"] = {"load": 1.0, "train": 3.0}
        if self.by_batch_size:
            size = trial.protocol.batch_size
            told |= {"peak_memory_bytes": size << 20, "train_seconds": 640 / size, "seconds": {"train": 640 / size}}
            told["search_seconds"] = {"train": 640 / search_trial.protocol.batch_size} if search_trial else {}
        return made.model_copy(update=told)


@dataclass
class ForecastExecutor(Executor):
    """Forecasts and does nothing else.

    Attributes:
        forecasting: what it forecasts.
    """

    forecasting: Forecasting = field(default_factory=Forecasting)
    device: str = "cpu"

    @classmethod
    def create(cls, device: str, options: Mapping[str, Any]) -> Executor:
        return cls(device=device)

    def close(self) -> None: ...

    def inspect(self, *_: Any, **__: Any) -> Inspection:
        raise NotImplementedError

    def run(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    def call(self, verb: str, payload: dict[str, Any]) -> Any:
        raise NotImplementedError

    def profile(
        self, trial: TrialSpec, search_trial: TrialSpec | None = None, *, memory_limit_bytes: int | None = None
    ) -> ArmForecast:
        return self.forecasting.make(trial, search_trial, True, memory_limit_bytes)

    def estimate(
        self, pairs: Sequence[tuple[TrialSpec, TrialSpec | None]], *, memory_limit_bytes: int | None = None
    ) -> list[ArmForecast | TuneoffError]:
        made: list[ArmForecast | TuneoffError] = []
        for trial, search_trial in pairs:
            try:
                made.append(self.forecasting.make(trial, search_trial, False, memory_limit_bytes))
            except TuneoffError as error:
                made.append(error)
        return made
