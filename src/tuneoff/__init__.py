"""tuneoff stages a fair face-off between fine-tuning methods.

    import tuneoff
    study = tuneoff.Study("quickstart")
    results = study.run().results()

Everything is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneoff.config.spec import StudySpec, TrialSpec
    from tuneoff.errors import TuneoffError
    from tuneoff.records.record import Status, TrialRecord
    from tuneoff.study.series import Series
    from tuneoff.study.study import Study

__version__ = "0.1.0"

__all__ = ["Series", "Status", "Study", "StudySpec", "TrialRecord", "TrialSpec", "TuneoffError", "__version__"]

_HOMES = {
    "Series": "tuneoff.study.series",
    "Status": "tuneoff.records.record",
    "Study": "tuneoff.study.study",
    "StudySpec": "tuneoff.config.spec",
    "TrialRecord": "tuneoff.records.record",
    "TrialSpec": "tuneoff.config.spec",
    "TuneoffError": "tuneoff.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tuneoff' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
