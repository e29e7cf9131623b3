"""Gradient checkpointing changes nothing of what any method learns, and keeps less for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from test_methods import TRAINABLE, refusal
from test_peft_types import CASES as PEFT_CASES
from test_peft_types import options_of

from tuneoff.testing.method_training import compare_activation_checkpointing
from tuneoff.testing.methods import ActivationCheckpointingContract, Case
from tuneoff.testing.settings import Setting

QUICK = {Setting("class", "bert"), Setting("text", "gpt2"), Setting("text", "t5")}
OTHERS: dict[str, dict[str, Any]] = {
    "p_tuning": {"type": "lstm", "hidden": 8, "layers": 1},
    "prefix_tuning": {"projection": True, "hidden": 8},
}
"""Options under which virtual tokens are computed anew in every step."""


class TestActivationCheckpointing(ActivationCheckpointingContract):
    @classmethod
    def cases(cls) -> Iterable[Any]:
        return [
            pytest.param(
                Case(name, options, setting),
                id=f"{name}-{i}-{setting}",
                marks=() if setting in QUICK else pytest.mark.slow,
            )
            for name in TRAINABLE
            for i, options in enumerate([{}, OTHERS[name]] if name in OTHERS else [{}])
            for setting in cls.settings
            if refusal(name, setting) is None
        ]

    def saves(self, case: Case, plain: int, recomputed: int) -> bool:
        # Below the head alone there is nothing to keep, and none of it is computed again.
        return recomputed == plain if case.method == "head" else recomputed < plain


@pytest.mark.parametrize(("variant", "setting"), PEFT_CASES)
def test_so_are_they_with_every_type_of_peft(variant: str, setting: Setting) -> None:
    compare_activation_checkpointing(Case(f"peft:{variant}", options_of(variant, setting), setting))
