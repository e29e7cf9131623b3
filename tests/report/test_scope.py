"""What a report says of the reach of its verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from record_helpers import Level, World, build_store, environment, small_study
from record_helpers import data as made_data
from tuneoff import report
from tuneoff.records.record import DataInfo
from tuneoff.report import html, paper_methods
from tuneoff.report.advice import Criteria, advise
from tuneoff.store import StudyStore

LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.9), "lora": Level(0.8), "head": Level(0.6)}
COSTS = dict.fromkeys(("memory", "time", "stored", "latency"))
SCOPE = "This is of these configurations, on this split: "


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    return build_store(tmp_path_factory.mktemp("scope") / "s", small_study(*LEVELS, seeds=6), World(levels=LEVELS))


def test_every_verdict_says_what_it_speaks_of(store: StudyStore) -> None:
    made = report.build(store)
    inside = "seeds and test examples vary in it, searches, training and validation rows and base models do not."
    assert made.answer.scope == SCOPE + inside
    assert made.answer.text.endswith(made.answer.scope)
    assert SCOPE in html.render(made, [])
    assert any(line.startswith(SCOPE) for line in advise(store, Criteria(COSTS)).lines())


def test_the_scope_knows_what_varies(tmp_path: Path) -> None:
    one_seed = report.build(build_store(tmp_path / "s", small_study(*LEVELS, seeds=1), World(levels=LEVELS)))
    assert ": test examples vary in it, " in one_seed.answer.scope
    nothing = build_store(tmp_path / "t", small_study("majority", seeds=1), World(levels=LEVELS))
    assert report.build(nothing).answer.scope == "", "no arm that trains, no verdict"


def test_the_correction_names_its_family(store: StudyStore) -> None:
    assert "Shaffer-corrected over all 6 pairs by accuracy" in report.build(store).answer.text


def test_metrics_besides_the_primary_are_exploratory(store: StudyStore) -> None:
    made = report.build(store)
    marked = {name: figure.exploratory for name, figure in made.arm("lora").metrics.items()}
    assert marked.pop("accuracy") is False
    assert marked
    assert all(marked.values())
    words = "Metrics besides accuracy are exploratory: nothing corrects for looking at several of them."
    assert words in report.write(store, plots=False).read_text()
    assert words in html.render(made, [])
    lines = advise(store, Criteria(COSTS, metric="macro_f1")).lines()
    assert "The study's primary metric is accuracy: by macro-F1 this is exploratory." in lines
    assert not any("exploratory" in line for line in advise(store, Criteria(COSTS)).lines())


def test_a_metric_that_is_biased_on_few_examples_says_so(store: StudyStore) -> None:
    made = report.build(store)
    assert "too low where a class has few test examples" in made.arm("lora").metrics["macro_f1"].caution
    assert made.arm("lora").metrics["accuracy"].caution == ""
    assert "Macro-F1 comes out too low where a class has few test examples" in html.render(made, [])


def test_groups_are_what_varies_where_the_task_has_them(tmp_path: Path) -> None:
    study = small_study(*LEVELS, seeds=6, group="author")
    store = build_store(tmp_path / "s", study, World(levels=LEVELS))
    made = report.build(store)
    assert made.answer.scope.startswith(SCOPE + "seeds and groups of test examples (author) vary in it, ")
    figure = made.arm("full").metrics["accuracy"]
    assert (figure.examples, figure.groups, figure.interval_over) == (400, 50, "seeds and groups")
    assert made.verdict is not None
    assert {(pair.test, pair.groups) for pair in made.verdict.pairs} == {("seeds and groups", 50)}
    assert "seeds and groups of test examples both vary" in paper_methods.paragraph(made, {})


def test_draws_of_training_rows_vary_where_every_seed_has_its_own(tmp_path: Path) -> None:
    study = small_study(*LEVELS, seeds=6)
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update={"splits": "per_seed"})})
    drawn = DataInfo(**{**dict(made_data(0, 400)), "train_pool": 1250})
    ours = environment(versions={"tuneoff": "0.1.0"})
    changes = {label: {"data": drawn, "environment": ours} for label in LEVELS}
    made = report.build(build_store(tmp_path / "s", study, World(levels=LEVELS, changes=changes)))
    rows = "draws of training and validation rows"
    varied = f"seeds, {rows} and test examples vary in it, searches and base models do not."
    assert made.answer.scope == f"This is of these configurations, on this test set: {varied}"
    fixed = report.build(build_store(tmp_path / "t", small_study(*LEVELS, seeds=6), World(levels=LEVELS)))
    widths = [r.arm("lora").metrics["accuracy"] for r in (made, fixed)]
    wide, narrow = ((figure.interval_high or 0) - (figure.interval_low or 0) for figure in widths)
    assert wide > narrow, "the error of what all seeds drew from is in it"
    assert "another draw of 1,000 from 1,250" in html.render(made, [])
    assert "draws its training rows anew" in paper_methods.paragraph(made, {})


def test_a_validation_file_that_every_seed_uses_whole_does_not_vary(tmp_path: Path) -> None:
    study = small_study(*LEVELS, seeds=8, search={"trials": 24, "per_seed": True})
    data = study.task.data.model_copy(update={"validation": study.task.data.train})
    changes = {
        "task": study.task.model_copy(update={"data": data}),
        "protocol": study.protocol.model_copy(update={"splits": "per_seed"}),
    }
    store = build_store(tmp_path / "s", study.model_copy(update=changes), World(levels=LEVELS))
    subject = "This is of these methods, each with its search on these validation rows, on this test set"
    varied = "seeds, searches, draws of training rows and test examples vary in it"
    advice = "All searches validate on the same rows, whose luck 8 seeds do not lessen: "
    scope = report.build(store).answer.scope
    assert scope.startswith(f"{subject}: {varied}, validation rows and base models do not. {advice}")
    (line, *_) = (line for line in advise(store, Criteria(COSTS)).lines() if line.startswith(subject))
    assert advice in line
