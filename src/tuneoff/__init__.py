"""tuneoff stages a fair face-off between fine-tuning methods.

    import tuneoff
    study = tuneoff.Study("quickstart")
    results = study.run().results()

Everything is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneoff.errors import TuneoffError
    from tuneoff.record import Status, TrialRecord
    from tuneoff.spec import StudySpec, TrialSpec
    from tuneoff.study import Study

__version__ = "0.1.0"

__all__ = ["Status", "Study", "StudySpec", "TrialRecord", "TrialSpec", "TuneoffError", "__version__"]

_HOMES = {
    "Status": "tuneoff.record",
    "Study": "tuneoff.study",
    "StudySpec": "tuneoff.spec",
    "TrialRecord": "tuneoff.record",
    "TrialSpec": "tuneoff.spec",
    "TuneoffError": "tuneoff.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tuneoff' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
