"""Whether what a trial loaded is what its id was made of."""

from __future__ import annotations

from collections.abc import Iterable

from tuneoff import sources
from tuneoff.errors import ContentChanged
from tuneoff.spec import TrialSpec


def verify_rows(spec: TrialSpec) -> None:
    """Checks the sources of rows, once they are read: a file that was replaced before or meanwhile shows.

    Raises:
        ContentChanged: naming what changed since the trial was planned.
    """
    data = spec.task.data
    _verify(spec, (part.source for part in (data.train, data.validation, data.test) if part is not None))


def verify_model(spec: TrialSpec) -> None:
    """Checks the base model, once it is loaded.

    Raises:
        ContentChanged: likewise.
    """
    _verify(spec, (spec.model.source,))


def _verify(spec: TrialSpec, references: Iterable[str]) -> None:
    planned = spec.fingerprints or {}
    for reference in dict.fromkeys(references):
        if reference in planned and sources.fingerprint(reference) != planned[reference]:
            raise ContentChanged(
                f"{reference} holds something else than when this trial was planned",
                hint="Run the study again: it is planned anew with what is there then, and contents are never mixed.",
            )
