"""Limits are read strictly."""

from __future__ import annotations

import pytest

from tuneoff.analysis.decisions.limits import cost_limit, duration, metric_limit, size
from tuneoff.errors import StudyError
from tuneoff.records.record import Metric

ACCURACY = Metric(name="accuracy", value=0.9, unit="fraction", direction="higher", split="test")
LOSS = Metric(name="loss", value=0.3, unit="nats", direction="lower", split="test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4e9), ("4GiB", 4 * 2**30), ("1.5 MB", 1.5e6), ("20kB", 2e4), ("512B", 512), ("2TiB", 2 * 2**40)],
)
def test_sizes(text: str, expected: float) -> None:
    assert size(text, "--max-memory") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4", "'4' has no unit"),
        ("4gb", "no unit of size 'gb' .did you mean 'GB'"),
        ("4Gb", "no unit of size 'Gb'"),
        ("GB", "is not a size"),
        ("-4GB", "is not a size"),
        ("4,5GB", "is not a size"),
        ("4GB 3", "is not a size"),
        ("nanGB", "is not a size"),
        ("0GB", "leaves no room"),
        ("", "is not a size"),
    ],
)
def test_bad_sizes_are_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as error:
        size(text, "--max-memory")
    assert error.value.message.startswith("--max-memory: ")
    assert error.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15m", 900), ("15min", 900), ("90s", 90), ("20ms", 0.02), ("1h30m", 5400), ("1h 30m 5s", 5405), ("1.5h", 5400)],
)
def test_durations(text: str, expected: float) -> None:
    assert duration(text, "--max-latency") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("15", "'15' has no unit"),
        ("1h30", "has no unit"),
        ("15M", "no unit of time 'M'"),
        ("30m1h", "largest first"),
        ("5m5m", "largest first"),
        ("5m5min", "largest first"),
        ("-5m", "is not a duration"),
        ("soon", "is not a duration"),
        ("0s", "leaves no room"),
    ],
)
def test_bad_durations_are_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        duration(text, "--max-train-time")


def test_excess_says_by_how_much_a_figure_is_beyond() -> None:
    memory = cost_limit("memory", "4GB", "--max-memory")
    assert (memory.name, memory.excess(5e9), memory.excess(3e9)) == ("peak_memory_bytes", 1e9, -1e9)
    accuracy = metric_limit("accuracy=0.9", "--min", [ACCURACY])
    assert accuracy.excess(0.8) == pytest.approx(0.1)
    assert accuracy.excess(0.95) < 0


def test_metrics_are_limited_from_their_worse_side() -> None:
    assert metric_limit("loss=0.4", "--max", [ACCURACY, LOSS]).bound == 0.4
    with pytest.raises(StudyError, match="lower value is the better") as error:
        metric_limit("loss=0.4", "--min", [LOSS])
    assert error.value.hint == "Write --max loss=0.4."
    with pytest.raises(StudyError, match="higher value is the better"):
        metric_limit("accuracy=0.9", "--max", [ACCURACY])


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "=0.9", "accuracy=high", "accuracy=90%"])
def test_a_metric_limit_is_name_and_value(text: str) -> None:
    with pytest.raises(StudyError, match="is not NAME=VALUE"):
        metric_limit(text, "--min", [ACCURACY])


def test_a_percentage_and_an_unknown_metric_are_refused_with_what_to_write() -> None:
    with pytest.raises(StudyError, match="is a fraction") as error:
        metric_limit("accuracy=90", "--min", [ACCURACY])
    assert error.value.hint == "For 90 % write 0.9."
    with pytest.raises(StudyError, match="did you mean 'accuracy'"):
        metric_limit("acuracy=0.9", "--min", [ACCURACY])
