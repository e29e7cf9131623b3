"""The report as one page: complete, needing nothing else, and obeying nothing that it shows."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from page_helpers import EVIL, LEVELS, Page, check_is_safe, hostile_store, many_arms_store, page_store
from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.records.record import Status
from tuneoff.report import html
from tuneoff.report.charts.differences import build_differences
from tuneoff.report.charts.drawing import draw
from tuneoff.store import StudyStore


def written(study: StudyStore, plots: bool = True) -> str:
    return (report.write(study, plots=plots).parent / "report.html").read_text(encoding="utf-8")


def test_a_page_holds_every_arm_with_its_figures(tmp_path: Path) -> None:
    study = page_store(tmp_path, seeds=6)
    page, made = check_is_safe(written(study)), report.build(study)
    assert page.all("html") == [{"lang": "en"}]
    assert f"{made.answer.best} has the highest test accuracy of the arms that train" in page.text
    values = {float(str(cell["data-value"])) for cell in page.all("td") if "data-value" in cell}
    ends = {float(str(cell["data-low"])) for cell in page.all("td") if "data-low" in cell}
    for arm in made.methods:
        assert arm.method in page.texts
        figures = [*arm.metrics.values(), arm.train_seconds, arm.peak_memory_bytes, arm.stored_bytes]
        assert {figure.mean for figure in figures if figure.mean is not None} <= values
        assert {arm.metrics["accuracy"].interval_low} <= ends
    assert "nothing is trained." in page.text
    for title in (
        "Pairs",
        "Protocol",
        "Data",
        "Machine and software",
        "How to repeat",
        "Speed and gradients",
        "Search",
    ):
        assert title in page.texts
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all("scope" in cell for cell in page.all("th"))


def test_charts_stand_in_the_page_as_text_and_alone_as_well(tmp_path: Path) -> None:
    text = written(page_store(tmp_path))
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 10
    for chart in charts:
        drawn = ElementTree.fromstring(chart)
        assert drawn.get("aria-label")
        texts = {str(found.text).partition(" (")[0] for found in drawn.iter("text")}
        assert texts & {"lora", "full", "arms that answer wrongly"}
    assert "http" not in "".join(charts)
    assert "<svg" not in written(page_store(tmp_path / "bare"), plots=False)


def test_the_margin_stands_in_the_picture_of_differences(tmp_path: Path) -> None:
    made = report.build(page_store(tmp_path, seeds=6))
    plain = build_differences(made)
    assert plain is not None
    assert plain.margin is None
    answer = made.answer.model_copy(update={"margin": 0.02})
    named = build_differences(made.model_copy(update={"answer": answer}))
    assert named is not None
    assert named.margin == -0.02
    assert draw(named).svg != draw(plain).svg
    for chart, is_told in ((plain, False), (named, True)):
        assert ("Dotted: the study's margin" in Page(html.render(made, [draw(chart)])).text) == is_told


def test_a_page_says_what_it_cannot_know_yet(tmp_path: Path) -> None:
    skip = frozenset((label, seed) for label in LEVELS for seed in range(2))
    none = check_is_safe(written(page_store(tmp_path / "none", skip=skip)))
    assert "So far, with 0 of 8 trials: no method that trains has a score" in none.text
    lost = page_store(
        tmp_path / "lost", fail={(label, s): Status.DIVERGED for label in ("full", "lora", "head") for s in (0, 1)}
    )
    page = check_is_safe(written(lost))
    assert page.text.count("Nothing was learned: training diverged at every seed of every method.") == 1
    assert "the loss became NaN at step 12" in page.text


def test_a_verdict_names_few_rivals_and_counts_many(tmp_path: Path) -> None:
    assert "is open for want of seeds" in Page(written(page_store(tmp_path))).text
    many = {f"lora{i}": {"method": "lora", "learning_rate": 1e-4 * (i + 1)} for i in range(6)}
    study = build_store(tmp_path / "many", small_study(arms=many), World(levels={label: Level(0.9) for label in many}))
    assert "whether it is better than 5 other arms is open" in Page(written(study, plots=False)).text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    return hostile_store(tmp_path_factory.mktemp("hostile"))


def test_texts_of_users_are_shown_and_never_obeyed(hostile: StudyStore) -> None:
    text = written(hostile)
    page = check_is_safe(text)
    assert "{{7*7}}" in page.text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert page.text.count("window.pwned") > 30
    assert "http://evil.example" in page.text


def test_five_hundred_labels_are_shown_and_never_obeyed(hostile: StudyStore) -> None:
    made = report.build(hostile)
    arm = made.methods[1]
    arms = tuple(arm.model_copy(update={"method": f"{at} {EVIL}"}) for at in range(500))
    page = check_is_safe(html.render(made.model_copy(update={"methods": (*made.methods, *arms)}), ()))
    shown = {text.partition(" ")[0] for text in page.texts if "window.pwned" in text}
    assert {str(at) for at in range(400)} <= shown
    assert "6 more arms are left out here" in page.text


def test_a_page_of_twenty_arms_stays_under_a_megabyte(tmp_path: Path) -> None:
    text = written(many_arms_store(tmp_path, 20, 2))
    check_is_safe(text)
    assert len(text.encode()) < 1_000_000


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "ARMS_SHOWN", 2)
    monkeypatch.setattr(html, "CHARTS_LENGTH", 20_000)
    monkeypatch.setattr(html, "SECTION_LENGTH", 500)
    page = check_is_safe(written(page_store(tmp_path)))
    assert "2 more arms are left out here; methods.csv beside this page has all." in page.text
    assert "learning_curve_quality.png" in page.text
    assert "This part is too long for this page; report.md beside it has it." in page.text
