"""Trained weights that a trial's training started from. Every key is described in docs/record.md."""

from __future__ import annotations

from pydantic import Field

from tuneoff.config.base import Frozen


class Start(Frozen):
    """Trained weights that a training started from, and what they were trained on before, as far as that is known."""

    source: str = Field(description="folder that they were read from")
    files: dict[str, str] = Field(description="file -> its SHA-256")
    study: str | None = Field(
        None, description="name of the study that trained them; null for an adapter from elsewhere"
    )
    trial: str | None = Field(None, description="its trial; likewise")
    label: str | None = Field(None, description="its arm; likewise")
    seed: int | None = Field(None, description="its seed; likewise")
    earlier: tuple[str, ...] = Field(
        (), description="trials that this trial itself had started from, one from the other; the first ones last"
    )
    train_rows: int | None = Field(None, description="rows that it was trained on; likewise")
    train_fingerprint: str | None = Field(
        None, description="SHA-256 over these rows, as `data.splits` has it; likewise"
    )
    steps: int | None = Field(None, description="optimizer steps that it was trained for; likewise")
    test_rows_seen: int | None = Field(
        None,
        description="test rows of this trial that it, or one that it started from, was trained on; null where those "
        "rows are not known any more",
    )
