"""Training that is cut off and continues, with every method: the same weights as in one piece."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from test_methods import OPTIONS, TRAINABLE, refusal

from tuneoff.testing.methods import Case, ResumptionContract
from tuneoff.testing.settings import Setting

SETTINGS = (Setting("class", "bert"), Setting("text", "gpt2"))


class TestResumption(ResumptionContract):
    @classmethod
    def cases(cls) -> Iterable[Any]:
        return [
            pytest.param(Case(name, options, setting), id=f"{name}-{i}-{setting}")
            for name in TRAINABLE
            for i, options in enumerate(OPTIONS.get(name, [{}]))
            for setting in SETTINGS
            if (i == 0 or setting.kind == "text") and refusal(name, setting) is None
        ]
