"""The contract of a tracker: an optional outlet that follows a study.

A tracker lives in a process of its own beside the trials. It is given plain data, so it can change no result and no
figure of memory, and whatever becomes of it, the study goes on. The calls come in this order:

    start, then for each trial (begin_trial, log …, end_trial), then artifacts, finish

Any call may raise: the tracker is then given up for the rest of the run, and what it raised is told as the reason.
"""

from __future__ import annotations

import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

Scalar = str | int | float | bool


@dataclass(frozen=True)
class StudyInfo:
    """The study that is followed.

    Attributes:
        name: of the study.
        group: `NAME-xxxxxx`, where an outlet groups its runs; the same in every later run of the same folder.
        id: of the study's own run, which takes the report; letters and digits.
        configuration: the study as nested plain data, defaults filled in.
    """

    name: str
    group: str
    id: str
    description: str = ""
    configuration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialInfo:
    """One trial; in an outlet, one run.

    Attributes:
        id: of the run: letters and digits, the same whenever this trial of this folder is followed, so that a trial
            that is repeated or resumed continues its run, and of no other trial of any folder.
        name: the trial's own id, for people.
        label, purpose, seed: the study's arm, `final` or `search`, and the seed.
        attempt: 1, or more where earlier attempts did not come to their end.
        configuration: method, options, learning rate, protocol, … as nested plain data.
    """

    id: str
    name: str
    label: str
    purpose: str
    seed: int
    attempt: int = 1
    configuration: Mapping[str, Any] = field(default_factory=dict)


class Tracker(ABC):
    """An outlet. One object follows one run of one study; nothing may be imported or opened before `start`.

    Nothing of it may ask, need an account or use the network, unless the user's own environment asks for that.
    """

    title: ClassVar[str]
    summary: ClassVar[str]
    extra: ClassVar[str] = ""
    """What to install after `pip install`, e.g. `'tuneoff[wandb]'`."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules without which it cannot start."""

    @classmethod
    def lacks(cls) -> list[str]:
        """Returns the required modules that are not installed; imports none."""
        return [module for module in cls.requires if importlib.util.find_spec(module) is None]

    @abstractmethod
    def start(self, study: StudyInfo, folder: Path) -> None:
        """Opens the outlet. `folder` is there, is its own inside the study's, and keeps what earlier runs left."""

    @abstractmethod
    def begin_trial(self, trial: TrialInfo) -> None:
        """Opens the trial's run, or continues it where there is one, and keeps its configuration."""

    @abstractmethod
    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        """Adds finite values at an optimizer step; steps never go back within an attempt, and may repeat.

        Names are `train/loss`, `validation/accuracy`, `system/resident_bytes`, …; docs/trackers.md lists them.
        """

    @abstractmethod
    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        """Closes the trial's run.

        Args:
            trial: as it began.
            step: its last optimizer step.
            status: as in the record: `completed`, `failed`, `diverged`, …
            metrics: final metrics and costs, `final/test/accuracy`, `final/train_seconds`, …
            record: the sealed record, or None where there is none.
        """

    @abstractmethod
    def artifacts(self, files: Sequence[Path]) -> None:
        """Keeps the report and its plots, in the study's own run."""

    @abstractmethod
    def finish(self) -> None:
        """Writes down what is not written yet and closes the outlet."""


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Flattens nested plain data to dotted names -> scalars: lists as JSON, nulls and empty mappings left out."""
    flat: dict[str, Scalar] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat |= flatten(item, f"{name}.")
        elif isinstance(item, (list, tuple)):
            flat[name] = json.dumps(item, ensure_ascii=False)
        elif item is not None:
            flat[name] = item
    return flat
