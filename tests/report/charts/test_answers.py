"""Charts of what arms answered: classes, confusions, numbers, hard examples."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from page_helpers import classified_store
from record_helpers import WRITERS, World, build_store, writing_study
from tuneoff.analysis.answers import ClassAnswers, ClassReport, Residuals, _label_counts
from tuneoff.analysis.results import gather
from tuneoff.report import page_data
from tuneoff.report.builder import build_report
from tuneoff.report.charts import answers
from tuneoff.report.charts.chart import Chart
from tuneoff.report.charts.drawing import draw
from tuneoff.report.schema import Report


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return build_report(gather(classified_store(tmp_path_factory.mktemp("answers"))))


def built(report: Report) -> dict[str, Chart]:
    return {chart.name: chart for chart in answers.build(report) if chart is not None}


def test_the_classes_of_the_best_arm_are_told_as_its_predictions_have_them(classified: Report) -> None:
    classes = classified.classes
    assert classes is not None
    (best,) = classes.arms
    assert best.method == classified.answer.best
    counts = best.mean_counts
    assert counts.sum() == pytest.approx(400)
    accuracy = classified.arm(best.method).metrics["accuracy"].mean
    assert np.trace(counts) / counts.sum() == pytest.approx(accuracy)
    charts = built(classified)
    assert charts.keys() == {"class_f1", "confusion", "hardest_examples"}
    f1 = charts["class_f1"]
    assert sorted(f1.names) == sorted(classes.labels)
    assert list(f1.series[0].x) == sorted(f1.series[0].x), "the worst first"
    assert all(
        low <= x <= high for x, low, high in zip(f1.series[0].x, f1.series[0].low, f1.series[0].high, strict=True)
    )


def test_f1_is_none_of_a_class_that_nobody_has_and_0_of_one_never_right() -> None:
    answer = ClassAnswers.of_matrices("a", [np.array([[2, 1, 0], [1, 0, 0], [0, 0, 0]])])
    scores = answer.f1[0]
    assert scores[0] == pytest.approx(2 * 2 / (3 + 3))
    assert scores[1] == 0
    assert np.isnan(scores[2])


def test_labels_have_an_f1_each_and_no_matrix(classified: Report) -> None:
    assert classified.classes is not None
    sets = [('["cats"]', '["cats", "dogs"]'), ('["cats", "dogs"]', '["cats"]'), ("[]", '["dogs"]')]
    outputs = SimpleNamespace(targets=[t for t, _ in sets], outputs=[o for _, o in sets])
    predictions: Any = SimpleNamespace(read=lambda record: SimpleNamespace(outputs=outputs))
    arm: Any = SimpleNamespace(label=classified.classes.arms[0].method, completed=[None, None])
    labels = ("cats", "dogs", "owls")
    answer = _label_counts(arm, predictions, labels)
    assert answer is not None
    assert answer.counts == (((2, 2, 2), (0, 1, 2), (0, 0, 0)),) * 2
    assert answer.f1[0][:2].tolist() == [1, 0]
    assert np.isnan(answer.f1[0][2])
    charts = built(classified.model_copy(update={"classes": ClassReport(labels=labels, arms=(answer,))}))
    assert charts["class_f1"].names == ("dogs", "cats")
    assert "confusion" not in charts


def test_of_many_classes_the_most_confused_are_shown_and_nothing_is_lost(classified: Report) -> None:
    random = np.random.default_rng(0)
    counts = random.integers(0, 3, size=(40, 40)) + np.diag(np.full(40, 30))
    arms = tuple(ClassAnswers.of_matrices(m, [counts]) for m in ("lora", "full"))
    report = classified.model_copy(
        update={"classes": ClassReport(labels=tuple(f"class {at:02}" for at in range(40)), arms=arms)}
    )
    charts = built(report)
    confusion = charts["confusion"]
    assert len(confusion.names) == answers.CELLS_SHOWN
    assert confusion.names[-1] == answers.OTHERS
    assert [panel.label for panel in confusion.panels] == ["lora", "full"]
    assert sum(map(sum, confusion.panels[0].cells)) == counts.sum()
    assert len(charts["class_f1"].names) == answers.CLASSES_SHOWN
    assert "16 classes with a higher F1 are left out" in charts["class_f1"].caption
    for chart in charts.values():
        assert draw(chart).svg.startswith("<?xml")
    rows = page_data.chart_rows([confusion])["confusion"]
    assert len(rows) == 1 + 2 * answers.CELLS_SHOWN


def test_hard_examples_are_counted_and_the_hardest_are_shown_with_texts_first(classified: Report) -> None:
    hardness = classified.hardness
    assert hardness is not None
    assert (hardness.arms, sum(hardness.examples), len(hardness.examples)) == (3, 400, 4)
    all_wrong = [e for e in hardness.hardest if all(o.right is False for o in e.outputs if o.method != "majority")]
    assert len(all_wrong) == min(hardness.examples[3], len(hardness.hardest))
    texts = [bool(example.text) for example in all_wrong]
    assert texts == sorted(texts, reverse=True)
    assert f"{hardness.examples[3]} of 400 test examples are wrong" in built(classified)["hardest_examples"].title
    assert page_data.hardest(classified) is not None


def test_written_texts_are_hard_by_their_scores(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", writing_study(*WRITERS), World(levels=WRITERS, test_rows=30))
    report = build_report(gather(store))
    assert report.classes is None
    assert report.hardness is not None
    assert report.hardness.by_value
    assert built(report).keys() == {"hardest_examples"}
    values = [
        np.mean([o.value for o in example.outputs if o.method in ("lora", "full", "prompt_tuning")])
        for example in report.hardness.hardest[:10]
    ]
    assert values == sorted(values)


def test_numbers_have_residuals(classified: Report) -> None:
    targets = tuple(np.linspace(0, 5, 50).tolist())
    errors = tuple((2.5 - np.linspace(0, 5, 50)).tolist())
    report = classified.model_copy(
        update={"classes": None, "residuals": (Residuals(method="lora", targets=targets, errors=errors),)}
    )
    chart = built(report)["residuals"]
    assert chart.title == "lora answers too near the middle: large numbers too low"
    assert draw(chart).png.startswith(b"\x89PNG")
