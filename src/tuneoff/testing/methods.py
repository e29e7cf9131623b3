"""What every method promises, on tiny models of seven architectures."""

from __future__ import annotations

from tuneoff.testing.method_attachment import AttachmentContract
from tuneoff.testing.method_resumption import ResumptionContract
from tuneoff.testing.method_suite import Case
from tuneoff.testing.method_training import ActivationCheckpointingContract, FrozenBf16Contract

__all__ = [
    "ActivationCheckpointingContract",
    "AttachmentContract",
    "Case",
    "FrozenBf16Contract",
    "MethodContract",
    "ResumptionContract",
]


class MethodContract(AttachmentContract, FrozenBf16Contract, ActivationCheckpointingContract, ResumptionContract):
    """All that a method promises."""
