"""The table in a terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from record_helpers import QUICKSTART, WRITERS, Level, World, build_store, small_study, writing_study
from tuneoff import report
from tuneoff.records.record import Status
from tuneoff.report import terminal, wording
from tuneoff.store import StudyStore


@pytest.fixture(scope="module")
def nine(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    world = World(contended=frozenset({"lora"}), fail={("ia3", 1): Status.DIVERGED})
    return build_store(tmp_path_factory.mktemp("t") / "s", small_study(*QUICKSTART), world)


def shown(store: StudyStore, width: int) -> str:
    out = io.StringIO()
    terminal.render(store, Console(file=out, width=width))
    return out.getvalue()


def table_of(text: str) -> list[str]:
    """The table's lines and those below it."""
    lines = text.splitlines()
    return lines[next(at for at, line in enumerate(lines) if line.startswith("method ")) :]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_every_row_fits_on_one_line(nine: StudyStore, width: int) -> None:
    lines = shown(nine, width).splitlines()
    table = table_of("\n".join(lines))[1:10]
    assert [line.split()[0] for line in table] == list(QUICKSTART)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert all("2/2" in line for line in table if not line.startswith("ia3"))


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_answer_stands_first_in_at_most_five_lines_of_whole_words(nine: StudyStore, width: int) -> None:
    lines = shown(nine, width).splitlines()
    title, answer = lines[0], lines[1 : lines.index("")]
    assert title.startswith("small: ")
    assert len(answer) <= terminal.ANSWER_LINES
    assert lines[len(answer) + 2].startswith("method")
    # Broken anywhere but at a space, the sentences would have lost one.
    said = " ".join(line.strip() for line in answer)
    assert all(sentence in said for sentence in wording.short_answer(report.build(nine))[:1])
    assert "Mind the 3 cautions below the table." in said
    assert said.endswith(".")


def test_an_answer_of_endless_labels_is_cut(tmp_path: Path) -> None:
    arms = {f"{letter} " + "very " * 18 + "long": {"method": "lora", "r": at} for at, letter in enumerate("abcd", 1)}
    world = World(levels=dict.fromkeys(arms, QUICKSTART["lora"]))
    lines = shown(build_store(tmp_path / "s", small_study(arms=arms), world), 60).splitlines()
    assert lines.index("") == 1 + terminal.ANSWER_LINES
    assert lines[terminal.ANSWER_LINES].endswith(" …")
    assert all(len(line.rstrip()) <= 60 for line in lines)


LONG = {f"{name}_of_rank_64_everywhere": {"method": "lora", "r": at + 1} for at, name in enumerate(("a", "lo", "lora"))}


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("labels", [{label: {} for label in QUICKSTART}, LONG], ids=["default", "long"])
def test_no_heading_or_figure_is_cut(width: int, labels: dict[str, dict[str, object]], tmp_path: Path) -> None:
    levels = {label: QUICKSTART.get(label, QUICKSTART["lora"]) for label in labels}
    one = list(labels)[-1]
    study = small_study(arms={label: {"method": label, **arm} for label, arm in labels.items()})
    world = World(levels=levels, fail={(one, 1): Status.OUT_OF_MEMORY}, contended=frozenset({one}))
    text = shown(build_store(tmp_path / "s", study, world), width)
    lines = text.splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    head, *arms = table_of(text)[: 1 + len(labels)]
    assert {"method", "accuracy", "time", "vs. best", "trials"} <= set(re.split(r"\s{2,}", head.strip()))
    # A label may lose its end; what stands right of it is whole.
    assert not [line for line in arms if "…" in line.partition(" ")[2]]
    assert all(label.startswith(line.split()[0].rstrip("…")) for label, line in zip(labels, arms, strict=True))
    assert arms[-1].rstrip().endswith("1/2")
    assert re.search(rf"^{one}-s1-\w+\s+out_of_memory:", text, re.MULTILINE)


def test_a_narrow_table_still_says_who_is_best(nine: StudyStore) -> None:
    lines = table_of(shown(nine, 40))
    assert lines[0].split() == ["method", "accuracy", "vs.", "best", "trials"]
    assert len({line.split()[0] for line in lines[1:10]}) == 9


def test_a_hundred_columns_show_every_cost(nine: StudyStore) -> None:
    header = table_of(shown(nine, 100))[0].split()
    assert {"accuracy", "time", "memory", "trained", "stored", "trials"} <= set(header)


def test_answer_caveats_and_failures_are_told(nine: StudyStore) -> None:
    text = " ".join(shown(nine, 100).split())
    assert "has the highest test accuracy" in text
    assert "Caution: 1 of 18 trials did not complete" in text
    assert "the loss became NaN at step 12" in text
    assert "† timed while something else used the machine" in text


@pytest.mark.parametrize("width", [80, 100])
def test_letters_stand_in_the_table_where_groups_differ(width: int, tmp_path: Path) -> None:
    levels = {"full": Level(0.9), "lora": Level(0.9), "head": Level(0.6)}
    text = shown(build_store(tmp_path / "s", small_study(*levels, seeds=6), World(levels=levels)), width)
    lines = table_of(text)
    assert "ties" in lines[0]
    assert [line.split()[-2] for line in lines[1:4]] == ["a", "a", "b"]
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "Arms that share a letter cannot be told apart by accuracy." in " ".join(text.split())


def test_the_primary_metric_shows_its_interval(nine: StudyStore) -> None:
    line = next(line for line in shown(nine, 100).splitlines() if line.startswith("head"))
    assert re.search(r"0\.\d{3} \[\.\d{3},\.\d{3}\]", line)


def test_the_report_is_named_once_it_is_there(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora", "full"))
    assert "Report:" not in shown(store, 100)
    page = report.write(store, plots=False)
    assert str(page) in shown(store, 100).replace("\n", "")


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    world = World(levels=WRITERS, test_rows=30)
    return build_store(tmp_path_factory.mktemp("w") / "s", writing_study(*WRITERS), world)


@pytest.mark.parametrize(
    ("width", "metrics"),
    [(80, "ROUGE-L"), (100, "ROUGE-L  loss"), (140, "ROUGE-L   loss  ROUGE-1  perplexity")],
)
def test_metrics_of_a_text_task_are_as_many_as_fit(width: int, metrics: str, writers: StudyStore) -> None:
    text = shown(writers, width)
    lines = table_of(text)
    assert " ".join(metrics.split()) in " ".join(lines[0].split())
    assert [line.split()[0] for line in lines[1:6]] == list(WRITERS)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "vs. best" in lines[0]


def test_no_word_is_folded_within_eighty_columns(tmp_path: Path) -> None:
    levels = {f"an arm with a long name {at:02}": Level(0.9, 10.0 + at, adapter=1000 + at) for at in range(12)}
    arms = {label: {"method": "lora", "r": 1 + at} for at, label in enumerate(levels)}
    many = build_store(tmp_path / "s", small_study(arms=arms), World(levels=levels, test_rows=60))
    whole = set(shown(many, 1000).split())
    words = shown(many, 80).split()
    assert len(words) > 100
    assert [word for word in words if word not in whole and not word.endswith("…")] == []
