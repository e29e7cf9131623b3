"""The report of a series: its data, its words, its files and pages."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from pathlib import Path

import pytest
from rich.console import Console

from series_helpers import based_series, set_series, sized_series
from tuneoff.analysis.series.members import gather_series
from tuneoff.cli.main import main
from tuneoff.report.series import files, terminal
from tuneoff.report.series.builder import build_series
from tuneoff.report.series.charts import build_series_charts
from tuneoff.report.series.pages import html_page, markdown_page
from tuneoff.report.series.schema import SeriesReport
from tuneoff.report.series.wording import LAW_DOUBT, notes
from tuneoff.store.series import SeriesStore

CURVES = {
    "lora": {250: 0.60, 500: 0.70, 1000: 0.77, 2000: 0.82},
    "head": {250: 0.72, 500: 0.73, 1000: 0.735, 2000: 0.74},
}
BASES = {"minilm": {"lora": 0.70, "full": 0.80}, "other": {"lora": 0.90, "full": 0.85}}
SETS = {
    name: {"lora": 0.8 + shift, "full": 0.75 + shift, "head": 0.6 + shift}
    for name, shift in (("a", 0.0), ("b", 0.1), ("c", -0.1), ("d", 0.05))
}


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> SeriesStore:
    return sized_series(tmp_path_factory.mktemp("sizes"), CURVES)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> SeriesStore:
    return based_series(tmp_path_factory.mktemp("bases"), BASES)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> SeriesStore:
    return set_series(tmp_path_factory.mktemp("sets"), SETS)


@pytest.fixture(scope="module")
def built(sizes: SeriesStore, bases: SeriesStore, sets: SeriesStore) -> dict[str, SeriesReport]:
    return {store.axis: build_series(gather_series(store)) for store in (sizes, bases, sets)}


def text_of(report: SeriesReport) -> str:
    return " ".join([report.headline, *report.text])


def test_the_report_of_sizes_says_what_more_rows_bring(built: dict[str, SeriesReport]) -> None:
    report = built["train_rows"]
    text = text_of(report)
    assert report.headline.startswith("At 2,000 training rows: lora has the highest test accuracy")
    gain = re.search(r"500 more labelled rows bring (\+\d\.\d) \[([+-]?\d\.\d), (\+\d\.\d)\] points to lora", text)
    assert gain is not None
    assert float(gain[2]) <= float(gain[1]) <= float(gain[3])
    assert "lora overtakes head at about" in text
    assert "Held out, the 2,000 rows were foretold by the other sizes" in text
    assert any("The training rows are one draw" in note for note in report.notes)
    assert [member.train_rows for member in report.members] == [250, 500, 1000, 2000]


def test_a_law_that_did_not_foretell_the_largest_size_is_doubted_where_its_gain_is_told(tmp_path: Path) -> None:
    late = {250: 0.60, 500: 0.605, 1000: 0.61, 2000: 0.90}
    report = build_series(gather_series(sized_series(tmp_path, {"lora": late, "head": CURVES["head"]})))
    assert report.sizes is not None
    assert [arm.held_out is not None and arm.held_out.holds for arm in report.sizes.arms] == [False, True]
    doubts = re.findall(
        r"to (\w+); doubt this, because its law did not foretell the 2,000 rows from fewer\.", report.text[0]
    )
    assert doubts == ["lora"]
    (chart,) = build_series_charts(report)
    assert chart.title.endswith("to head"), "the best arm's gain is doubted, so it is no heading"
    assert LAW_DOUBT in report.notes


def test_caveats_of_members_are_told_with_the_series_each_once(built: dict[str, SeriesReport]) -> None:
    for axis in ("train_rows", "data"):
        report = built[axis]
        first, *_ = report.reports
        reports = {
            name: own.model_copy(
                update={
                    "answer": own.answer.model_copy(
                        update={"caveats": ("All of it.", *(["This one."] if name == first else []))}
                    )
                }
            )
            for name, own in report.reports.items()
        }
        texts = notes(report.model_copy(update={"reports": reports}))
        assert texts.count("All of it.") == 1
        assert f"{first}: This one." in texts


def test_the_report_of_bases_is_that_of_one_study_of_all_arms(built: dict[str, SeriesReport]) -> None:
    report = built["model"]
    assert report.bases is not None
    assert report.headline.startswith("lora [other] has the highest test accuracy")
    assert "The best trained arm of each base, by its own verdict: full with minilm; lora with" in text_of(report)
    assert report.bases.study.model == "minilm and other"
    assert {arm.study for arm in report.bases.methods} == {"minilm", "other"}
    assert not [warning for warning in report.bases.warnings if warning.name == "different_model"]


def test_the_report_of_data_sets_ranks_the_arms(built: dict[str, SeriesReport]) -> None:
    report = built["data"]
    assert report.sets is not None
    assert report.headline.startswith("lora has the best average rank of the arms that train over 4 data sets, 1.00")
    assert "Nemenyi" in text_of(report)
    assert "The best trained arm of each set, by its own verdict: a: lora" in text_of(report)
    assert any("With 4 data sets the test over sets has little power" in note for note in report.notes)
    assert report.sets.arms[0].ranks == dict.fromkeys("abcd", 1.0)


@pytest.mark.parametrize("axis", ["train_rows", "model", "data"])
def test_pages_show_the_answer_and_lead_to_the_members(built: dict[str, SeriesReport], axis: str) -> None:
    report = built[axis]
    page = unescape(html_page(report, []))
    assert report.headline in page
    links = re.findall(r'<a href="([^"]+)">', page)
    assert links == [member.report for member in report.members]
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page.partition("</style>")[2])
    text = markdown_page(report, build_series_charts(report))
    for member in report.members:
        assert f"../members/{member.name}/report/report.md" in text


def test_the_verdict_over_bases_does_not_say_that_bases_are_the_same(built: dict[str, SeriesReport]) -> None:
    bases = built["model"].bases
    assert bases is not None
    assert "vary in it, searches and training and validation rows do not." in bases.answer.scope


def test_only_the_page_of_bases_has_a_budget(built: dict[str, SeriesReport]) -> None:
    pages = {axis: html_page(report, []) for axis, report in built.items()}
    assert [axis for axis, page in pages.items() if 'id="explorer"' in page] == ["model"]
    assert "lora [other]" in pages["model"]


def test_charts_are_of_the_question(built: dict[str, SeriesReport]) -> None:
    names = {axis: {chart.name for chart in build_series_charts(report)} for axis, report in built.items()}
    assert names["train_rows"] == {"training_rows"}
    assert names["data"] == {"average_ranks"}
    assert {"differences", "quality_train_time"} <= names["model"]
    curves, ranks = (build_series_charts(built[axis])[0] for axis in ("train_rows", "data"))
    assert curves.x.scale == "log"
    assert len(curves.crossings) == 1
    assert curves.series[0].law[-1][0] == 4000
    assert curves.baseline is not None
    assert ranks.groups == () or all(len(group) > 1 for group in ranks.groups)


def test_everything_is_written_once_and_again(sizes: SeriesStore) -> None:
    page = files.write(sizes)
    names = {path.name for path in page.parent.iterdir()}
    assert names == {"index.html", "report.md", "report.json", "members.csv", "training_rows.png"}
    assert all((sizes.root / "members" / name / "report/report.html").is_file() for name in ("250", "2000"))
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    body = json.loads(before["report.json"])
    assert SeriesReport.model_validate_json(before["report.json"]).headline == body["headline"]
    lines = list(csv.DictReader(io.StringIO(before["members.csv"].decode())))
    assert [(line["member"], line["method"]) for line in lines[:3]] == [
        ("250", "majority"),
        ("250", "lora"),
        ("250", "head"),
    ]
    assert 'data-name="training_rows"' in before["index.html"].decode()
    files.write(sizes)
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


def test_without_plots_old_ones_do_not_stay(sets: SeriesStore) -> None:
    page = files.write(sets)
    assert (page.parent / "average_ranks.png").is_file()
    files.write(sets, plots=False)
    assert not list(page.parent.glob("*.png"))


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("train_rows", ["2,000 rows", "lora", "At 2,000 training rows"]),
        ("model", ["lora", "other", "minilm"]),
        ("data", ["average rank", "1.00", "lora"]),
    ],
)
def test_the_terminal_shows_the_answer_and_a_table(
    built: dict[str, SeriesReport], sizes: SeriesStore, axis: str, expected: list[str]
) -> None:
    for width in (60, 140):
        console = Console(width=width, record=True, file=io.StringIO())
        terminal.render(built[axis], sizes, console)
        printed = console.export_text()
        assert max(len(line) for line in printed.splitlines() if "/" not in line) <= width
        assert all(each in printed for each in expected)


def test_the_command_writes_prints_and_refuses(sets: SeriesStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sets.root), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["axis"], body["schema_version"]) == ("data", 1)
    assert "reports" not in body
    assert main(["report", str(sets.root), "--latex"]) == 2
    assert "--latex is of one study" in capsys.readouterr().err
    assert main(["report", str(sets.root)]) == 0
    printed = capsys.readouterr().out
    assert "lora has the best average rank" in printed
    assert "index.html" in printed
