"""A record says of every phase that a trial lacks why its figures are null."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trial_helpers import context_of, runner_of
from tuneoff.config.protocol import Protocol
from tuneoff.measure import environment
from tuneoff.records.record import (
    CurvePoint,
    DataInfo,
    Finding,
    Memory,
    Metric,
    ModelInfo,
    Noise,
    Parameters,
    PrecisionInfo,
    PredictionsInfo,
    Timing,
    TrialRecord,
)
from tuneoff.trial.context import TrialContext
from tuneoff.trial.phases import Measured
from tuneoff.trial.recording import MODELLESS, UNTESTED, UNTRAINED, Provenance, build_record
from tuneoff.trial.results import Evaluated, TrialResults, UsedModel
from tuneoff.trial.training.progress import Trained
from tuneoff.trial.training.selection import Selected

TRAINING = Trained(
    steps=5,
    curve=(CurvePoint(step=5, epoch=1.0, train_seconds=2.0, learning_rate=0.1, train_loss=0.5, validation={}),),
    gradient_norms=(1.0, 3.0, 2.0, 1.0, 1.0),
    order="abc",
    examples=20,
    tokens=75,
    computed_tokens=100,
    step_seconds=(0.8, 0.4, 0.4, 0.1, 0.3),
    first_steps_seconds=1.6,
    cpu_seconds=1.9,
    joules=None,
    joules_reason="no counter",
)
MODEL = UsedModel(ModelInfo(source="tiny", checksum="1"), Parameters(), PrecisionInfo(policy="fp32", description=""))
EVALUATED = Evaluated(
    (Metric(name="accuracy", value=0.5, unit="", direction="higher", split="test"),),
    PredictionsInfo(file="test.jsonl", sha256="", rows=4),
    findings=(Finding(name="collapsed", message="one class"),),
)
RESULTS = TrialResults(
    data=DataInfo(),
    findings=(Finding(name="truncated", message="cut"),),
    selected=Selected((Metric(name="accuracy", value=0.75, unit="", direction="higher", split="validation"),), 5, 7),
    model=MODEL,
    training=TRAINING,
    evaluated=EVALUATED,
)
MEASURED = Measured(Timing(train_seconds=2.0, load_seconds=1.0), Memory(), {"noise.steal_percent_mean": "not Linux"})


@pytest.fixture(scope="module")
def context() -> TrialContext:
    runner, _ = runner_of("head")
    return context_of(runner, Protocol())


def record_of(context: TrialContext, measured: Measured = MEASURED, **changes: Any) -> TrialRecord:
    provenance = Provenance(
        context.spec, environment.describe("cpu", 1), 9.0, (Finding(name="tracker", message="gone"),), {"w": "1"}
    )
    return build_record(context, replace(RESULTS, **changes), measured, provenance)


def test_a_whole_trial_has_the_figures_of_every_phase(context: TrialContext) -> None:
    record = record_of(context)
    assert [(m.split, m.value) for m in record.metrics] == [("validation", 0.75), ("test", 0.5)]
    assert (record.selected_step, record.stored_bytes, record.steps) == (5, 7, 5)
    timing = record.timing
    assert (timing.train_seconds, timing.load_seconds, timing.total_seconds) == (2.0, 1.0, 9.0)
    assert (timing.first_steps, timing.first_steps_seconds) == (3, 1.6)
    assert timing.step_seconds_median == pytest.approx(0.2)
    assert record.gradient_norm.max == 3.0
    assert record.gradient_norm.mean == pytest.approx(1.6)
    assert record.throughput.model_dump() == {
        "examples_per_second": 10.0,
        "tokens_per_second": 37.5,
        "padding_share": 0.25,
    }
    assert record.data is not None
    assert (record.data.train_order_fingerprint, record.data.examples_trained) == ("abc", 20)
    assert record.predictions["test"].rows == 4
    assert record.kept_files == {"w": "1"}
    assert [finding.name for finding in record.findings] == ["truncated", "collapsed", "tracker"]
    assert record.missing["energy_joules"] == "no counter"
    assert record.missing["noise.steal_percent_mean"] == "not Linux"


def test_a_slow_rank_slows_the_whole_trial(context: TrialContext) -> None:
    slower = replace(MEASURED, timing=Timing(train_seconds=4.0))
    assert record_of(context, slower).throughput.examples_per_second == 5.0


def test_a_trial_of_few_steps_has_no_steady_step(context: TrialContext) -> None:
    record = record_of(context, training=replace(TRAINING, steps=2, step_seconds=(0.8, 0.4)))
    assert record.timing.first_steps == 2
    assert record.timing.step_seconds_median is None
    assert "no more than 3 steps" in record.missing["timing.step_seconds_median"]


@pytest.mark.parametrize(
    ("changes", "figures", "reason"),
    [
        ({"evaluated": None}, UNTESTED, "validation alone"),
        ({"training": None}, UNTRAINED, "does not train"),
        ({"training": None, "model": None}, MODELLESS, "uses no model"),
    ],
)
def test_a_phase_that_a_trial_lacks_is_the_reason_of_its_figures(
    changes: dict[str, Any], figures: tuple[str, ...], reason: str, context: TrialContext
) -> None:
    record = record_of(context, **changes)
    assert all(reason in record.missing[figure] for figure in figures)
    complete = record_of(context)
    assert not any(reason in why for why in complete.missing.values())


def test_a_disturbed_trial_says_so(context: TrialContext) -> None:
    noisy = replace(MEASURED, noise=Noise(contended=True, reason="others took half a core"))
    (finding,) = [f for f in record_of(context, noisy).findings if f.name == "contended"]
    assert finding.message == "others took half a core"
