"""Whether a forecast takes little time beside the run that it is of."""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff import registry
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Inspection
from tuneoff.records.forecast import ArmForecast
from tuneoff.study.to_come import ToCome

PAYS = 10.0
"""A run makes a forecast where all trials to come take at least this many times as long as the forecast."""
TOO_HIGH = 2.0
"""Factor by which times that are only estimated were too long in measurements."""
ESTIMATE_SECONDS = 3.0
"""Seconds that estimating takes besides those for each arm: loading libraries and data."""
PROFILE_SECONDS = 8.0
"""Most seconds that profiling an arm takes: loading, a few seconds of steps, an evaluation batch; and its estimates."""
PROFILE_ESTIMATES = 5
"""Time of the estimates in a profile, in units of the time of estimating an arm alone."""
WRITING = 8
"""Time of a generated token in units of one that is read: the weights are loaded from memory for few tokens."""
SHORT_OPERATIONS = 6e13
"""Trials of no more operations end in about a minute on two cores: even two estimates would take more than their share
of that (`PAYS`, `ESTIMATE_SECONDS`), so that none is made only to be thrown away."""


def is_short(to_come: ToCome, inspection: Inspection) -> bool:
    """Returns whether trials compute so little that they are over before a forecast is.

    It goes by the numbers of parameters and rows and the most tokens.
    """
    if inspection.data is None:
        return False
    rows = {split: summary["rows"] for split, summary in inspection.data["splits"].items()}
    weights = {
        trial.label: sum(inspection.trials[trial.id]["total_parameters"].values())
        for trial in to_come.final
        if inspection.trials.get(trial.id)
    }
    total = 0.0
    for trial in (*to_come.final, *to_come.search):
        protocol = trial.protocol
        trained_rows = protocol.epochs * min(rows["train"], protocol.train_rows or rows["train"])
        trained_rows = (
            min(trained_rows, protocol.max_steps * protocol.batch_size) if protocol.max_steps else trained_rows
        )
        read_rows = protocol.epochs * protocol.evaluations_per_epoch * rows.get("validation", 0) + rows.get("test", 0)
        # Two operations for a weight and a token forward, twice that backward.
        tokens = protocol.max_length * (3 * trained_rows + read_rows) + WRITING * written_tokens(trial, rows)
        total += 2 * weights.get(trial.label, 0) * tokens
    return total < SHORT_OPERATIONS


def written_tokens(trial: TrialSpec, rows: Mapping[str, int]) -> int:
    """Computes the most tokens that a trial generates."""
    task = registry.create_task(trial.task)
    if task.produces != "text" or task.target_room is None:
        return 0
    protocol = trial.protocol
    selects = task.metric(task.selects(protocol.select_metric)).written
    validations = protocol.epochs * protocol.evaluations_per_epoch if selects else 0
    tests = 1 if trial.purpose == "final" else 0
    return task.target_room * (tests * rows.get("test", 0) + validations * rows.get("validation", 0))


def pays(to_come: ToCome, first: ArmForecast, arm_count: int, profile: bool) -> bool:
    """Returns whether forecasting so many arms takes little time compared to running them, if all are like one that was
    estimated."""
    if first.trial_seconds is None or first.fits is False:
        return True
    trials = sum(trial.learning_rate is not None for trial in to_come.final)
    expected = first.trial_seconds * trials + sum(map(first.search_trial_seconds, to_come.search_shares))
    per_arm = max(0.0, first.forecast_seconds - ESTIMATE_SECONDS)
    cost = 2 * ESTIMATE_SECONDS + per_arm * arm_count
    if profile:
        cost += PROFILE_SECONDS + PROFILE_ESTIMATES * per_arm
    return expected / TOO_HIGH >= PAYS * cost


def pays_to_profile(seconds: float | None, profiled: ArmForecast, arm_count: int) -> bool:
    """Returns whether profiling so many arms takes little time compared to running all trials, which takes `seconds`,
    if each takes as long as one that was profiled. So it does where the seconds are not known."""
    return seconds is None or seconds >= PAYS * max(PROFILE_SECONDS, profiled.forecast_seconds) * arm_count
