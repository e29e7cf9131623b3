"""The warm parent of trials: what its children inherit."""

from __future__ import annotations

import gc
import io
import os

import pytest

from tuneoff.trial import __main__ as parent


def test_children_do_not_look_through_the_libraries_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen_at_fork: list[int] = []

    def fork() -> int:
        frozen_at_fork.append(gc.get_freeze_count())
        return 4321

    monkeypatch.setattr(os, "fork", fork)
    gc.unfreeze()
    objects = len(gc.get_objects())
    running: dict[int, str] = {}
    try:
        parent._serve_one({"verb": "trial", "id": "a"}, io.StringIO(), running)
    finally:
        gc.unfreeze()
    assert running == {4321: "a"}
    assert frozen_at_fork[0] > 0.9 * objects
