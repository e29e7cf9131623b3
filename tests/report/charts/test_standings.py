"""Charts with a line for each arm: groups of ties, and the forecast against what was measured."""

from __future__ import annotations

from pathlib import Path

from page_helpers import classified_store, page_store
from tuneoff.analysis.forecast_accuracy import Accuracy, ForecastArm, ForecastComparison, PredictedFigure
from tuneoff.report import build, page_data
from tuneoff.report.charts.drawing import draw
from tuneoff.report.charts.standings import build_forecast, build_ties


def test_ties_are_shown_as_groups_of_the_arms_best_first(tmp_path: Path) -> None:
    chart = build_ties(build(classified_store(tmp_path)))
    assert chart is not None
    labels = [series.label for series in chart.series]
    assert set(labels[:2]) == {"full", "lora"}
    assert labels[2:] == ["head", "majority"]
    assert chart.groups == ((0, 1), (2,), (3,))
    assert chart.title == f"1 of the 3 other arms cannot be told apart from {labels[0]}"
    assert draw(chart).png.startswith(b"\x89PNG")
    head, *lines = page_data.chart_rows([chart])["ties"]
    assert head[-1] == "groups"
    assert [line[-1] for line in lines] == ["1", "1", "2", "3"]
    assert build_ties(build(page_store(tmp_path / "few"))) is None  # of two seeds all is open


def test_a_forecast_is_shown_by_how_many_times_it_was_too_high(tmp_path: Path) -> None:
    report = build(page_store(tmp_path))
    assert build_forecast(report) is None
    right = PredictedFigure(predicted=2, measured=2.0, relative_error=0.0, reason="")
    high = PredictedFigure(predicted=3, measured=2.0, relative_error=0.5, reason="")
    unknown = PredictedFigure(predicted=None, measured=2.0, relative_error=None, reason="not forecast")
    arms = [
        ForecastArm(
            method=label,
            how="profile",
            corrected_by=None,
            device="cpu",
            contended=False,
            forecast_seconds=1.0,
            peak_memory_bytes=figures[0],
            train_seconds=figures[1],
            total_seconds=unknown,
        )
        for label, figures in (("majority", (unknown, unknown)), ("lora", (right, high)), ("full", (high, unknown)))
    ]
    none = Accuracy(median=None, worst=None, worst_method=None, arms=0, reason="made up")
    names = ("peak_memory_bytes", "train_seconds", "total_seconds")
    forecast = ForecastComparison(
        total_seconds=None, forecast_seconds=1.0, arms=tuple(arms), accuracy=dict.fromkeys(names, none), reason=""
    )
    chart = build_forecast(report.model_copy(update={"forecast": forecast}))
    assert chart is not None
    assert chart.names == ("lora", "full")
    assert [(s.label, s.x, s.y) for s in chart.series] == [
        ("peak memory", (1.0, 1.5), (0.0, -1.0)),
        ("train time", (1.5,), (0.0,)),
    ]
    assert "a factor of 1.50 at most" in chart.title
    assert draw(chart).png.startswith(b"\x89PNG")
    assert page_data.chart_rows([chart])["forecast_measured"] == [
        ["arm", "peak memory: predicted / measured", "train time: predicted / measured"],
        ["lora", 1.0, 1.5],
        ["full", 1.5, ""],
    ]
