"""A training of several ranks that is cut off and continues: the same bytes, sharded or not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rank_helpers import examples, features, forked_ranks, protocol, run_ranks, runner_for
from trial_helpers import context_of
from tuneoff.config.execution import ExecutionSpec
from tuneoff.store import TrialStore
from tuneoff.trial import phases
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.distributed.aggregation import OnlookerTrialStore
from tuneoff.trial.distributed.context import RankContext
from tuneoff.trial.training import resume
from tuneoff.trial.training.checkpoint import Checkpoint
from tuneoff.trial.training.resume import TrialCheckpointer
from tuneoff.trial.training.selection import Selection
from tuneoff.trial.training.trainer import train

pytestmark = forked_ranks


class Ended(BaseException):
    """Stands for the end of a process."""


def training(name: str, folder: Path, last_step: int | None = None) -> Callable[[RankContext], Any]:
    """What each rank does: trains six steps with dropout, from the newest checkpoint in a folder where there is one,
    and returns weights, gradient norms, tokens, the selected step and how often it continued.

    Args:
        name: the method's.
        folder: of the trial.
        last_step: ends all ranks in the update of this step.
    """

    def work(ranks: RankContext) -> Any:
        runner, method = runner_for(name, "class", "bert", ranks)
        for module in runner.attached.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
        context = context_of(runner, protocol(), 5e-3)
        object.__setattr__(context.spec, "execution", ExecutionSpec(checkpoint_minutes=1e-9))
        place = TrialStore(folder) if ranks.is_main else OnlookerTrialStore(folder)
        kept = Checkpoint(place.weights, method, runner.attached, ranks)
        selection = Selection(context, runner, features("class"), examples("class"), kept)
        checkpointer = TrialCheckpointer(context, place, selection, {"ranks": "2"}, time.perf_counter())
        after_step = method.after_step

        def end(attached: Any, step: int, total_steps: int) -> None:
            after_step(attached, step, total_steps)
            if step == last_step:
                raise Ended

        method.after_step = end  # type: ignore[method-assign]
        with suppress(Ended):
            done = train(context, runner, method, features("class"), selection.validate, checkpointer)
            weights = {n: fsdp.whole(p.detach()).clone() for n, p in runner.attached.module.named_parameters()}
            step = selection.selected().step
            return weights, done.gradient_norms, done.tokens, done.curve, step, checkpointer.continuation.resumed

    return work


@pytest.mark.parametrize(("name", "sharded"), [("lora", False), ("full", True)])
def test_ranks_continue_together(name: str, sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SAVING_SHARE", math.inf)
    monkeypatch.setattr(resume, "ASKED_STEPS", 2)
    # Every stretch of training would look for garbage first.
    monkeypatch.setattr(phases, "TRIMMED", ())
    for part in ("whole", "cut"):
        (tmp_path / part).mkdir()
    whole = run_ranks(training(name, tmp_path / "whole"), tmp_path / "1", sharded=sharded)
    assert run_ranks(training(name, tmp_path / "cut", 5), tmp_path / "2", sharded=sharded) == [None, None]
    (newest, _) = TrialStore(tmp_path / "cut").checkpoints.newest_first()
    assert newest.manifest().step == 4
    continued = run_ranks(training(name, tmp_path / "cut"), tmp_path / "3", sharded=sharded)
    for ours, theirs in zip(continued, whole, strict=True):
        assert (ours[-1], theirs[-1]) == (1, 0)
        assert all(torch.equal(ours[0][key], theirs[0][key]) for key in theirs[0])
        assert ours[1:3] == theirs[1:3]
        scores = [[point.model_dump(exclude={"train_seconds"}) for point in result[3]] for result in (ours, theirs)]
        assert scores[0] == scores[1]
        assert ours[4] == theirs[4]
