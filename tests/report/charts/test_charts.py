"""What the charts show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.text import Text

from record_helpers import QUICKSTART, WRITERS, Level, World, build_store, small_study, writing_study
from tuneoff.analysis.results import gather
from tuneoff.report import units
from tuneoff.report.builder import build_report
from tuneoff.report.charts import drawing
from tuneoff.report.charts.chart import BaselineLine, Chart
from tuneoff.report.charts.definitions import LABELLED, build_charts
from tuneoff.report.charts.drawing import draw
from tuneoff.report.charts.style import COLOURS, MARKERS, assign_styles


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chart]:
    study = small_study(*QUICKSTART)
    results = gather(build_store(tmp_path_factory.mktemp("c") / "s", study, World(contended=frozenset({"lora"}))))
    return {chart.name: chart for chart in build_charts(build_report(results))}


def test_rows_keep_their_colour_and_marker_in_all_charts(charts: dict[str, Chart]) -> None:
    styles: dict[str, set[int]] = {}
    for chart in charts.values():
        for series in chart.series if chart.kind != "counts" else ():
            styles.setdefault(series.label.removesuffix(" †"), set()).add(series.style)
    assert styles.keys() == QUICKSTART.keys()
    assert all(len(found) == 1 for found in styles.values())
    assert len(set.union(*styles.values())) == 9


def looks(style: int) -> tuple[str, str]:
    return COLOURS[style % len(COLOURS)], MARKERS[style % len(MARKERS)]


def test_no_two_of_a_hundred_rows_look_the_same() -> None:
    styles = assign_styles(f"arm {at}" for at in range(130))
    assert len({looks(style) for style in styles.values()}) == 130
    assert len(assign_styles(f"arm {at}" for at in range(200))) == 200


def test_an_arm_looks_the_same_in_every_study() -> None:
    alone = {label: assign_styles([label])[label] for label in QUICKSTART}
    assert assign_styles(QUICKSTART) == assign_styles(reversed([*QUICKSTART])) == alone
    trained = [label for label in QUICKSTART if label != "majority"]
    assert len({looks(alone[label])[0] for label in trained}) == len(trained)


def test_arms_that_would_look_alike_keep_their_colour() -> None:
    first = "lora"
    alone = assign_styles([first])[first]
    twin = next(label for label in map(str, range(10_000)) if assign_styles([label])[label] == alone)
    styles = assign_styles([first, twin])
    assert styles[first] != styles[twin]
    assert looks(styles[first])[0] == looks(styles[twin])[0]


@pytest.mark.parametrize("seeds", [2, 6])
def test_titles_are_messages_that_are_true_of_the_means(seeds: int, tmp_path: Path) -> None:
    levels = {
        "full": Level(0.93, 40.0, 900 << 20, base=1_000_000),
        "lora": Level(0.905, 20.0, 450 << 20, adapter=9_000),
    }
    levels |= {"head": Level(0.5, 5.0, 300 << 20), "majority": Level(0.4, head=0, stored=0)}
    built = build_report(gather(build_store(tmp_path / "s", small_study(*levels, seeds=seeds), World(levels=levels))))
    titles = {chart.name: chart.title for chart in build_charts(built)}
    best, other = (built.arm(label).metrics["accuracy"].mean for label in ("full", "lora"))
    assert built.answer.best == "full"
    assert best is not None
    assert other is not None
    gap = f"{best - other:.3f}"
    way = f"is within {gap} of full (open)" if seeds == 2 else f"loses {gap} to full"
    assert titles["quality_peak_memory"] == f"lora {way} at 50% of the memory"
    assert titles["quality_parameters"] == f"lora {way} at 1% of the trained parameters"
    assert titles["learning_curve_loss"].startswith("full ends with the lowest validation loss, 0.")
    random = small_study(*levels, model={"source": "minilm", "random_weights": True})
    drawn = build_report(gather(build_store(tmp_path / "r", random, World(levels=levels))))
    assert all("RANDOM WEIGHTS" in chart.title for chart in build_charts(drawn))


@pytest.mark.parametrize(("seeds", "lead"), [(2, "has the best mean"), (6, "is the best")])
def test_a_title_calls_the_best_what_the_tests_call_so(seeds: int, lead: str, tmp_path: Path) -> None:
    levels = {"full": Level(0.8, 40.0, 900 << 20), "lora": Level(0.93, 20.0, 450 << 20)}
    built = build_report(gather(build_store(tmp_path / "s", small_study(*levels, seeds=seeds), World(levels=levels))))
    titles = {chart.name: chart.title for chart in build_charts(built)}
    assert titles["quality_peak_memory"] == f"lora {lead} and takes the least memory"


def test_floors_are_a_line_and_never_a_point(charts: dict[str, Chart]) -> None:
    for name in ("quality_train_time", "quality_peak_memory", "quality_parameters", "learning_curve_quality"):
        baseline = charts[name].baseline
        assert baseline is not None
        assert baseline.label.startswith("majority")
        assert "majority" not in {series.label for series in charts[name].series}


def test_every_untrained_arm_is_shown_and_no_label_covers_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_store(tmp_path / "s", writing_study(*WRITERS), World(levels=WRITERS, test_rows=30))
    chart = {c.name: c for c in build_charts(build_report(gather(store)))}["quality_train_time"]
    assert chart.baseline is not None
    assert (chart.baseline.label, [line.label for line in chart.untrained]) == ("lead", ["zero_shot"])
    assert "Dotted: other arms without training." in chart.caption
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    figure: Any = draw(chart)
    figure.canvas.draw()
    texts = {text.get_text(): Text.get_window_extent(text) for text in figure.axes[0].texts if text.get_text()}
    assert sum(text.startswith("zero_shot: 0.") for text in texts) == 1
    boxes = list(texts.values())
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_a_forest_plot_tells_every_difference_to_the_best(
    charts: dict[str, Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = charts["differences"]
    assert len(chart.series) == len(QUICKSTART) - 1
    assert [s.x[0] for s in chart.series] == sorted((s.x[0] for s in chart.series), reverse=True)
    assert chart.title == "last_block is clearly ahead of none of the 7 other arms that train"
    assert all(s.low[0] <= s.x[0] <= s.high[0] for s in chart.series)
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    figure: Any = draw(chart)
    figure.canvas.draw()
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [s.label for s in chart.series]
    low, high = axes.get_xlim()
    assert low < 0 < high
    # The baseline is far away: its line is cut and marked, and its figures stand beside it.
    majority = next(s for s in chart.series if s.label == "majority")
    assert majority.high[0] < low
    assert "<" in {line.get_marker() for line in axes.lines}
    texts = [*axes.texts, *axes.get_yticklabels(), axes._left_title]
    boxes = [Text.get_window_extent(text) for text in texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


@pytest.mark.parametrize("name", ["quality_train_time", "learning_curve_quality"])
def test_a_long_title_stays_within_the_picture(
    name: str, charts: dict[str, Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    figure: Any = draw(replace(charts[name], title="an arm with a name is within 0.013 of another one, and so on " * 2))
    figure.canvas.draw()
    axes = figure.axes[0]
    box = axes._left_title.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert 1 <= axes._left_title.get_text().count("\n") <= 2


def test_the_training_loss_has_no_bands_and_begins_at_step_0(
    charts: dict[str, Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    chart = charts["learning_curve_train_loss"]
    assert all(series.low == series.high == series.y for series in chart.series)
    early = replace(chart, series=tuple(replace(s, x=tuple(x - 19 for x in s.x)) for s in chart.series))
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    figure: Any = draw(early)
    assert figure.axes[0].get_xlim()[0] <= 0


def test_axes_have_units_for_people(charts: dict[str, Chart]) -> None:
    assert charts["quality_train_time"].x.label == "train time (s)"
    assert charts["quality_peak_memory"].x.label == "peak memory while training (MiB)"
    parameters = charts["quality_parameters"].x
    assert parameters.scale == "log"
    assert parameters.tick is units.short_count
    assert [units.short_count(value) for value in (850, 10_000, 1_000_000)] == ["850", "10k", "1M"]


def test_curves_are_means_with_the_range_of_the_seeds(charts: dict[str, Chart]) -> None:
    lora = next(s for s in charts["learning_curve_loss"].series if s.label == "lora")
    assert list(lora.x) == [20.0, 40.0, 60.0, 80.0, 100.0, 126.0]
    assert all(low < mean < high for low, mean, high in zip(lora.low, lora.y, lora.high, strict=True))


def test_bars_are_intervals_and_letters_stand_beside_names_where_groups_differ(tmp_path: Path) -> None:
    def built(seeds: int) -> dict[str, Chart]:
        levels = {"full": Level(0.9, 30.0), "lora": Level(0.9, 8.0), "head": Level(0.6, 3.0)}
        study = small_study(*levels, seeds=seeds)
        results = gather(build_store(tmp_path / str(seeds), study, World(levels=levels)))
        made = build_report(results)
        head = made.arm("head")
        drawn = build_charts(made)
        point = next(s for s in drawn[0].series if s.label == "head")
        assert point.low == (head.metrics["accuracy"].interval_low,)
        assert point.high == (head.metrics["accuracy"].interval_high,)
        width = (head.train_seconds.interval_high or 0) - (head.train_seconds.mean or 0)
        # A t-interval of two seeds says next to nothing: the seeds themselves are shown.
        assert point.x_error == pytest.approx(width if seeds == 6 else 0.0)
        assert point.dots == (() if seeds == 6 else head.metrics["accuracy"].values)
        return {chart.name: chart for chart in drawn}

    six, two = built(6), built(2)
    for name in ("quality_train_time", "learning_curve_quality", "learning_curve_train_loss"):
        assert {s.label: s.ties for s in six[name].series} == {"full": "a", "lora": "a", "head": "b"}
        assert "head (b)" in {s.text for s in six[name].series}
        assert "Arms that share a letter cannot be told apart by test accuracy." in six[name].caption
        assert {s.text for s in two[name].series} == {"full", "lora", "head"}
        assert "All is open by test accuracy: it takes 6 seeds to tell arms apart." in two[name].caption
    assert (
        "Bars: 95% intervals, cut at the frame. Line: the Pareto front by means." in six["quality_train_time"].caption
    )
    assert "Small dots: single seeds." in two["quality_train_time"].caption
    for name in ("quality_train_time", "learning_curve_quality"):
        bare = replace(six[name], series=tuple(replace(s, ties="") for s in six[name].series))
        assert draw(six[name]) != draw(bare)


def test_contended_times_are_marked_in_the_time_chart_only(charts: dict[str, Chart]) -> None:
    assert "lora †" in {series.label for series in charts["quality_train_time"].series}
    assert "lora" in {series.label for series in charts["quality_peak_memory"].series}


def test_steps_are_told_in_whole_numbers(charts: dict[str, Chart], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    curve = charts["learning_curve_loss"]
    short = replace(
        curve, series=tuple(replace(s, x=(20.0, 40.0), y=s.y[:2], low=s.low[:2], high=s.high[:2]) for s in curve.series)
    )
    for chart in (curve, short):
        figure: Any = draw(chart)
        figure.canvas.draw()
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert len(labels) > 2
        assert all(label.isdecimal() for label in labels), labels


def test_odd_data_can_be_drawn(charts: dict[str, Chart]) -> None:
    """One point, equal values, a baseline far away: no warning (an error in tests) and a picture."""
    for name in ("quality_train_time", "quality_parameters", "learning_curve_loss"):
        chart = charts[name]
        one = replace(chart.series[0], x=(5.0,), y=(0.5,), low=(0.5,), high=(0.5,), x_error=0.0)
        odd = replace(chart, series=(one, replace(one, label="twin", style=1)), baseline=BaselineLine("far", 0.001))
        drawn = draw(odd)
        assert drawn.png.startswith(b"\x89PNG")
        assert ">twin</text>" in drawn.svg


def test_drawing_changes_and_minds_nobodys_settings(charts: dict[str, Chart]) -> None:
    plain = draw(charts["quality_train_time"])
    with matplotlib.rc_context({"font.size": 17.0, "axes.facecolor": "black"}):
        assert draw(charts["quality_train_time"]) == plain
        assert float(matplotlib.rcParams["font.size"]) == 17.0


def test_charts_of_a_text_task(tmp_path: Path) -> None:
    labels = [label for label in WRITERS if label != "lead"]
    changes = {label: {"primary_metric": "perplexity"} for label in labels}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("rouge", {}, "fraction"),
        ("perplexity", {"changes": changes}, "perplexity"),
    ]
    for name, knobs, unit in cases:
        arms = WRITERS if name == "rouge" else labels
        world = World(levels=WRITERS, test_rows=20, **knobs)
        results = gather(build_store(tmp_path / name, writing_study(*arms, seeds=1), world))
        charts = {chart.name: chart for chart in build_charts(build_report(results))}
        # ROUGE is not scored while training, so there is no curve of it; the loss has one.
        assert ("learning_curve_quality" in charts) == (name == "perplexity")
        assert {"quality_train_time", "learning_curve_loss", "learning_curve_train_loss"} <= charts.keys()
        baseline = charts["quality_train_time"].baseline
        assert baseline is not None
        assert (baseline.label, baseline.unit) == ("lead" if name == "rouge" else "zero_shot", unit)
        assert baseline.text == (f"{baseline.value:.3f}" if name == "rouge" else f"{baseline.value:,.0f}")
        assert {"lead", "zero_shot"}.isdisjoint(s.label for s in charts["quality_train_time"].series)
        assert charts["quality_train_time"].y.label == (
            "test ROUGE-L" if name == "rouge" else "test perplexity (lower is better)"
        )


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Chart]:
    """Forty arms, of which the fast ones are bad and the good ones slow, but for one that is neither."""
    levels = {
        f"lora {at:02}": Level(0.5 + 0.01 * at, 5.0 + at, (500 + 10 * at) << 20, adapter=1000) for at in range(40)
    }
    levels |= {"lora 20": Level(0.55, 60.0), "majority": Level(0.4, head=0, stored=0)}
    arms = {label: {"method": "lora", "r": 1 + at} for at, label in enumerate(levels) if label != "majority"}
    store = build_store(
        tmp_path_factory.mktemp("m") / "s", small_study("majority", arms=arms), World(levels=levels, test_rows=100)
    )
    return {chart.name: chart for chart in build_charts(build_report(gather(store)))}


def test_of_many_arms_the_front_and_the_best_are_named_and_the_rest_is_grey(many: dict[str, Chart]) -> None:
    for name in ("quality_train_time", "quality_peak_memory", "learning_curve_loss"):
        chart = many[name]
        assert len(chart.series) == 40
        assert 2 <= len(chart.labelled) <= LABELLED
        assert (
            f"Grey: {40 - len(chart.labelled)} arms that are neither the best nor named of the front." in chart.caption
        )
    scores = {s.label: s.y[0] for s in many["quality_train_time"].series}
    named = {s.label for s in many["quality_train_time"].labelled}
    assert max(scores, key=lambda label: scores[label]) in named
    assert "lora 20" not in named
    assert draw(many["quality_train_time"]).png.startswith(b"\x89PNG")


def test_many_arms_of_which_none_has_a_name_are_drawn(many: dict[str, Chart]) -> None:
    """As where an arm on the front has no curve, or no score can be weighed."""
    for chart in many.values():
        muted = replace(chart, series=tuple(replace(s, muted=True) for s in chart.series))
        assert draw(muted).png.startswith(b"\x89PNG")


def test_no_label_covers_a_point_or_another_label(many: dict[str, Chart], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    figure: Any = draw(many["quality_train_time"])
    figure.canvas.draw()  # puts annotations in their places
    axes = figure.axes[0]
    # Of the text alone: an annotation's own extent takes in its leader line.
    boxes = [Text.get_window_extent(text) for text in axes.texts if text.get_text()]
    points = [axes.transData.transform((s.x[0], s.y[0])) for s in many["quality_train_time"].series]
    assert len(boxes) == len(many["quality_train_time"].labelled) + 1  # and the baseline's
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_costs_are_on_logarithmic_axes_and_wide_bars_are_cut_at_the_frame(
    charts: dict[str, Chart], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_drawing", lambda _, figure: figure)
    chart = charts["quality_train_time"]
    first, *others = chart.series
    wide = replace(first, x_error=first.x[0] * 50, low=(-50.0,), high=(50.0,))
    figure: Any = draw(replace(chart, series=(wide, *others)))
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert all(abs(end) < 5 for end in axes.get_ylim())
    markers = [line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1]
    assert {"<", ">", "^", "v"} <= set(markers)


def test_nothing_is_compared_by_a_single_point(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora"), World(levels=QUICKSTART))
    assert {chart.name for chart in build_charts(build_report(gather(store)))} == {
        "learning_curve_quality",
        "learning_curve_loss",
        "learning_curve_train_loss",
        "class_f1",
        "confusion",
    }
