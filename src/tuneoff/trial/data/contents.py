"""Checks that what a trial loaded is what its id was made from."""

from __future__ import annotations

from collections.abc import Iterable

from tuneoff import registry, sources
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ContentChanged
from tuneoff.records.record import DataInfo, ModelInfo

_AGAIN = "Run the study again: it is planned anew with what is there then, and contents are never mixed."


def verify_rows(spec: TrialSpec, loaded: DataInfo) -> None:
    """Checks the rows after they are read. A file that was replaced before or meanwhile is noticed, and so is a data
    set that has a new commit at the hub.

    Raises:
        ContentChanged: naming what changed since the trial was planned.
    """
    _verify(spec, spec.references)
    for name, split in loaded.splits.items():
        if spec.contents.get(name, split.fingerprint) != split.fingerprint:
            raise ContentChanged(f"the {name} rows are not those that this run saw before its first trial", hint=_AGAIN)


def verify_model(spec: TrialSpec, loaded: ModelInfo) -> None:
    """Checks the base model after it is loaded.

    Raises:
        ContentChanged: naming what changed since the trial was planned.
    """
    _verify(spec, (spec.model.source,))
    planned_commit = spec.contents.get("model")
    if None not in (planned_commit, loaded.commit) and planned_commit != loaded.commit:
        raise ContentChanged(
            f"{spec.model.source} moved from commit {planned_commit} to {loaded.commit} since this run began",
            hint=_AGAIN,
        )


def _verify(spec: TrialSpec, references: Iterable[str]) -> None:
    fingerprints = spec.fingerprints or {}
    for reference in references:
        if reference in fingerprints and sources.fingerprint(registry.sources(), reference) != fingerprints[reference]:
            raise ContentChanged(
                f"{reference} holds something else than when this trial was planned",
                hint=_AGAIN,
            )
