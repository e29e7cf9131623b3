"""Published figures beside ours, in the published unit."""

from __future__ import annotations

from typing import Any

import pytest

from tuneoff.report.published import compare, our_name


def entry() -> dict[str, Any]:
    accuracy = {"mean": 0.9, "std": 0.01, "n": 2}
    return {
        "metrics": {"accuracy": accuracy},
        "validation_metrics": {},
        "train_seconds": {"mean": 120.0, "std": 6.0, "n": 2},
        "peak_memory_bytes": {"mean": 3.5e9, "std": None, "n": 1},
        "examples_per_second": {"mean": None, "std": None, "n": 0},
        "trainable_parameters": 1_181_954,
    }


@pytest.mark.parametrize(
    ("figure", "ours", "std"),
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
def test_ours_is_converted_by_the_name(figure: str, ours: float, std: float | None) -> None:
    found = compare({figure: 1.0}, entry())[0]
    assert found["ours"] == pytest.approx(ours)
    assert found["ours_std"] == (std if std is None else pytest.approx(std))


def test_a_figure_we_did_not_measure_has_a_name_and_no_value() -> None:
    found = compare({"samples_per_second": 64.0}, entry())[0]
    assert (found["ours"], found["measured_as"], found["published"]) == (None, "examples_per_second", 64.0)


def test_a_figure_we_do_not_know_is_still_listed() -> None:
    found = compare({"carbon_grams": 3.0}, entry())[0]
    assert (found["ours"], found["measured_as"], found["published"]) == (None, None, 3.0)


def test_units_are_decimal() -> None:
    assert our_name("peak_memory_megabytes") == ("peak_memory_bytes", 1e-6)
    assert our_name("peak_memory_mebibytes") == ("peak_memory_bytes", 2.0**-20)
