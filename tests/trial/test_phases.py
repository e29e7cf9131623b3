"""The phases of a trial that continues."""

from __future__ import annotations

import torch

from tuneoff.measure.utilisation import Sampler
from tuneoff.trial.phases import Phases


def test_what_others_spent_counts_once_in_a_trial_that_continues() -> None:
    first, second = (Phases(torch.device("cpu"), Sampler(), lambda event: None) for _ in range(2))
    first.watch.add_found("tokenize", 2.0)
    first.watch.add_found("prefix", 0.5)
    state = first.state()
    # It finds the same again, in the same files.
    second.watch.add_found("tokenize", 2.0)
    second.watch.add_found("prefix", 0.5)
    second.restore(state)
    assert second.watch.added_seconds == 2.5
    assert second.watch.seconds == {"tokenize": 2.0, "prefix": 0.5}
