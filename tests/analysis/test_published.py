"""Published figures beside ours, in the published unit."""

from __future__ import annotations

from typing import Any

import pytest

from record_helpers import environment, make_record, small_study
from tuneoff.analysis.published import Ours, PublishedComparison, compare, our_name
from tuneoff.analysis.results import Arm
from tuneoff.analysis.statistics import Estimate
from tuneoff.planning.plan import plan
from tuneoff.records.record import Environment, Noise, Timing, TrialRecord, Utilisation

GPU = environment(cores=4, device="cuda", device_memory_bytes=16_000)


def record(machine: Environment = GPU, **changes: Any) -> TrialRecord:
    """Two seconds of loading, six of training with its validations, two of testing; sampled every second."""
    body: dict[str, Any] = {
        "timing": Timing(
            load_seconds=1.5, preflight_seconds=0.5, train_seconds=4.0, validation_seconds=1.5, checkpoint_seconds=0.5
        ),
        "utilisation": Utilisation(
            interval_seconds=1.0,
            seconds=tuple(float(at) for at in range(1, 11)),
            process_cpu_percent=(400, 400, 100, 100, 100, 200, 200, 200, 0, 0),
            gpu_memory_bytes=(0, 0, 2_000, 4_000, 8_000, 4_000, 4_000, 4_000, 15_000, 15_000),
        ),
        "environment": machine,
        "selected_step": 80,
    }
    return make_record(plan(small_study("lora"))[0], **{**body, **changes})


def arm(*records: TrialRecord) -> Arm:
    """An arm of these records; of one from a busy machine where none is given."""
    busy = record(noise=Noise(contended=True))
    return Arm("lora", tuple(plan(small_study("lora"))), records or (busy,), ())


def figure_of(mean: float, std: float | None = None, seeds: int = 1) -> Estimate:
    return Estimate("lora", mean, std, None, seeds, None, "one seed")


FIGURES: Ours = {
    "accuracy": figure_of(0.9, 0.01, 2),
    "test_accuracy": figure_of(0.9, 0.01, 2),
    "train_seconds": figure_of(120.0, 6.0, 2),
    "peak_memory_bytes": figure_of(3.5e9),
    "examples_per_second": None,
    "trainable_parameters": 1_181_954,
}


def ours(figure: str, *records: TrialRecord) -> PublishedComparison:
    return compare({figure: 1.0}, FIGURES, arm(*records))[0]


@pytest.mark.parametrize(
    ("figure", "mean", "std"),
    [
        ("accuracy_percent", 90.0, 1.0),
        ("test_accuracy", 0.9, 0.01),
        ("train_seconds", 120.0, 6.0),
        ("train_minutes", 2.0, 0.1),
        ("peak_memory_gigabytes", 3.5, None),
        ("peak_memory_megabytes", 3500.0, None),
        ("trainable_parameters", 1_181_954, None),
    ],
)
def test_ours_is_converted_by_the_name(figure: str, mean: float, std: float | None) -> None:
    found = ours(figure)
    assert found.ours == pytest.approx(mean)
    assert found.ours_std == (std if std is None else pytest.approx(std))


def test_a_figure_we_did_not_measure_has_a_name_and_no_value() -> None:
    found = compare({"samples_per_second": 64.0}, FIGURES, arm())[0]
    assert (found.ours, found.measured_as, found.published) == (None, "examples_per_second", 64.0)


def test_a_figure_we_do_not_know_is_still_listed() -> None:
    found = compare({"carbon_grams": 3.0}, FIGURES, arm())[0]
    assert (found.ours, found.measured_as, found.published) == (None, None, 3.0)


@pytest.mark.parametrize(
    ("figure", "contended", "kind"),
    [
        ("train_minutes", True, None),
        ("peak_gpu_memory_megabytes", False, "resident"),
        ("accuracy_percent", False, None),
        ("samples_per_second", False, None),  # not measured
        ("gpu_memory_percent", False, None),
    ],
)
def test_a_timing_of_a_busy_machine_and_the_kind_of_memory_are_told(
    figure: str, contended: bool, kind: str | None
) -> None:
    found = ours(figure)
    assert (found.contended, found.memory_kind) == (contended, kind)


def test_units_are_decimal() -> None:
    assert our_name("peak_memory_megabytes") == ("peak_memory_bytes", 1e-6)
    assert our_name("peak_memory_mebibytes") == ("peak_memory_bytes", 2.0**-20)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("cpu_percent", 37.5),  # 150 % of a core while training, of four cores
        ("gpu_memory_percent", 50.0),
        ("best_epoch", 80 / 63),
    ],
)
def test_figures_of_the_records_are_those_of_training(figure: str, value: float) -> None:
    found = ours(figure, record(), record())
    assert found.ours == pytest.approx(value)
    assert (found.n, found.measured_as) == (2, figure)
    assert found.ours_std == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("figure", "changes"),
    [
        ("cpu_percent", {"utilisation": None}),
        ("cpu_percent", {"timing": Timing()}),
        ("gpu_memory_percent", {"environment": environment()}),
        ("best_epoch", {"selected_step": None}),
    ],
)
def test_figures_that_no_record_tells_are_null(figure: str, changes: dict[str, Any]) -> None:
    found = ours(figure, record(**changes))
    assert (found.ours, found.n, found.measured_as) == (None, 0, figure)


def test_scores_and_losses_of_written_text_need_no_list() -> None:
    figures: Ours = {"rouge_1": figure_of(0.2), "loss": figure_of(3.0), "validation_loss": figure_of(2.5)}
    found = compare({"rouge_1": 0.1, "validation_loss": 1.0, "rouge_2": 0.3}, figures, arm())
    assert [(one.ours, one.measured_as) for one in found] == [
        (0.2, "rouge_1"),
        (2.5, "validation_loss"),
        (None, None),
    ]
