"""What a study reads: its rows, what it holds, its base model, and the weights that arms continue from."""

from __future__ import annotations

from pathlib import Path

from tuneoff import registry, sources
from tuneoff.config.spec import StudySpec
from tuneoff.study import starts


def fingerprints(study: StudySpec) -> dict[str, str]:
    """Returns source -> fingerprint of its local files, of every source that has some.

    Raises:
        SourceNotFound: if a local file is not there.
    """
    references = [*_rows(study)]
    if not study.model.random_weights:
        references.append(study.model.source)
    fingerprints = starts.fingerprints(study)
    for reference in references:
        if fingerprint := sources.fingerprint(registry.sources(), reference):
            fingerprints[reference] = fingerprint
    return fingerprints


def local_paths(study: StudySpec, origin: Path) -> list[Path]:
    """Returns where the rows, what is held and the base model would lie, as far as they are files.

    Args:
        study: what is asked.
        origin: the folder that its paths are relative to.
    """
    return [origin / name.removeprefix("file:") for name in (*_rows(study), study.model.source)]


def _rows(study: StudySpec) -> tuple[str, ...]:
    """Returns all sources of rows, those of what is held included."""
    held = study.retention.references if study.retention is not None else ()
    return (*study.task.data.references, *held)
