"""The report's page in a real browser: what its script does, and that it asks for nothing and obeys no text."""

from __future__ import annotations

import csv
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from axe_helpers import NPM, axe_source, violations
from browser_helpers import BROWSER, DRIVER, Browser, browse
from page_helpers import EVIL, classified_store, hostile_store
from tuneoff import report
from tuneoff.cli.main import main
from tuneoff.report import html
from tuneoff.store import StudyStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver"),
]
ENTER = "\ue007"
ARROW_LEFT = "\ue012"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[Browser]:
    with browse(downloads) as opened:
        yield opened


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    made = classified_store(tmp_path_factory.mktemp("page"))
    report.write(made)
    return made


@pytest.fixture
def page(browser: Browser, study: StudyStore) -> Iterator[Browser]:
    """The page, opened anew; afterwards the console is empty, and nothing but the page was asked for."""
    path = study.report_folder / "report.html"
    browser.requests()
    browser.open(path)
    yield browser
    assert browser.console() == []
    assert {address for address in browser.requests() if not address.startswith(("data:", "blob:"))} <= {
        path.resolve().as_uri()
    }


FIRSTS = "return [...document.querySelectorAll('#arm-table tbody tr:not([hidden]) th')].map(th => th.textContent)"


def test_tables_are_sorted_by_click_and_by_key_and_what_is_missing_comes_last(page: Browser) -> None:
    assert page.run(FIRSTS) == ["majority", "full", "lora", "head"]
    page.run("document.querySelectorAll('#arm-table thead button')[5].focus()")
    page.press(ENTER)
    assert page.run(FIRSTS) == ["head", "lora", "full", "majority"]
    page.run("document.querySelectorAll('#arm-table thead button')[5].click()")
    assert page.run(FIRSTS) == ["full", "lora", "head", "majority"]
    assert page.run("return document.querySelectorAll('#arm-table thead th')[5].ariaSort") == "descending"
    for _ in range(2):
        page.run("document.querySelectorAll('#arm-table thead button')[10].click()")
    assert page.run(FIRSTS) == ["lora", "full", "head", "majority"]


def test_tables_are_searched_and_show_the_columns_that_are_chosen(page: Browser) -> None:
    page.run("document.querySelector('#arms ~ .table-tools input[type=search]').focus()")
    page.press(*"LOR")
    assert page.run(FIRSTS) == ["lora"]
    assert page.run("return document.querySelector('#arms ~ .table-tools [role=status]').textContent") == "1 of 4 arms"
    shown = "return [...document.querySelectorAll('#arm-table thead th:not([hidden])')].length"
    before = page.run(shown)
    page.run("document.querySelector('#arms ~ .table-tools .columns input').click()")
    assert page.run(shown) == before - 1
    assert page.run("return document.querySelector('#arm-table tbody tr').cells[1].hidden")


def test_details_are_folded_and_colours_follow_the_wish(page: Browser) -> None:
    colours = "return getComputedStyle(document.body).backgroundColor"
    parts = "return [...document.querySelectorAll('main details:not(.columns)')]"
    assert page.run(f"{parts}.every(part => !part.open)")
    page.run("document.getElementById('unfold').click()")
    assert page.run(f"{parts}.every(part => part.open)")
    light = page.run(colours)
    page.run("document.getElementById('theme').click()")
    dark = page.run(colours)
    assert dark != light
    page.run("document.getElementById('theme').click()")
    assert page.run(colours) == light
    page.run("delete document.documentElement.dataset.theme")
    page.develop("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.run(colours) == dark
    page.develop("Emulation.setEmulatedMedia", features=[])


def test_sliders_move_the_recommendation_as_the_command_that_the_page_names_would(
    page: Browser, study: StudyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "return [document.getElementById('advice').textContent, document.getElementById('command').textContent]"
    answers = {}
    for slider in page.run("return [...document.querySelectorAll('#limits input')].map(each => each.id)"):
        for stop in range(page.run("return Number(document.getElementById(arguments[0]).max)", slider) + 1):
            page.run(
                "const slider = document.getElementById(arguments[0]); slider.value = arguments[1];"
                "slider.dispatchEvent(new Event('input'))",
                slider,
                stop,
            )
            advice, command = page.run(said)
            answers[command] = advice
        page.run("document.getElementById('limits-reset').click()")
    assert len(answers) > 8
    for command, advice in answers.items():
        program, *arguments = shlex.split(command.replace("STUDY", str(study.root)))
        assert program == "tuneoff"
        assert main([*arguments, "--json"]) in (0, 1)
        found = json.loads(capsys.readouterr().out)
        answer, nearest = found["answer"], found["nearest"]
        if answer is None:
            assert advice.startswith("None fits")
            assert nearest is None or nearest in advice
        else:
            assert advice.startswith(f"Use {answer}:"), command


def test_sliders_move_by_key_and_say_where_they_stand(page: Browser) -> None:
    page.run("document.getElementById('limit-time').focus()")
    assert page.run("return document.activeElement.ariaValueText ?? 'no limit'") == "no limit"
    page.press(ARROW_LEFT, ARROW_LEFT, ARROW_LEFT)
    assert page.run("return document.activeElement.getAttribute('aria-valuetext')").endswith("s")
    assert "head" in page.run("return document.getElementById('advice').textContent")
    pale = (
        "return [...document.querySelectorAll('#explorer-figure g[opacity=\"0.35\"]')].map(g => g.dataset.arm).sort()"
    )
    assert page.run(pale) == ["full", "lora"]


def test_the_explorer_shows_any_two_figures(page: Browser) -> None:
    drawn = "return document.querySelector('#explorer-figure svg').getAttribute('aria-label')"
    assert page.run(drawn).startswith("test accuracy against train time (s) of 4 arms.")
    choose = (
        "const choice = document.getElementById(arguments[0]); choice.value = arguments[1];"
        "choice.dispatchEvent(new Event('change'))"
    )
    axes = page.run("return [...document.getElementById('explorer-x').options].map(each => each.value)")
    assert axes == ["quality", "time", "memory", "stored", "parameters", "latency"]
    for x in axes:
        for y in axes:
            page.run(choose, "explorer-x", x)
            page.run(choose, "explorer-y", y)
            points = page.run("return document.querySelectorAll('#explorer-figure g[data-arm] path').length")
            assert points == (3 if "latency" in (x, y) else 4)
            assert "NaN" not in page.run("return document.querySelector('#explorer-figure').outerHTML")


def test_figures_and_tables_are_saved(page: Browser, downloads: Path) -> None:
    for name in ("explorer", "quality_train_time", "ties"):
        page.run(f"document.querySelectorAll('figure[data-name={name}] .save').forEach(each => each.click())")
        drawn = wait_for(downloads / f"{name}.svg").decode()
        assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
        assert wait_for(downloads / f"{name}.png").startswith(b"\x89PNG")
        head, *lines = csv.reader(wait_for(downloads / f"{name}.csv").decode().splitlines())
        assert head[0] == "arm"
        assert "lora" in {line[0] for line in lines}
        assert {len(line) for line in lines} == {len(head)}
    page.run("document.querySelector('#arms ~ .save').click()")
    lines = list(csv.reader(wait_for(downloads / "arms.csv").decode().splitlines()))
    assert lines[0][:4] == ["arm", "accuracy ↑", "accuracy ↑ low", "accuracy ↑ high"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert "best" in {dict(zip(lines[0], line, strict=True))["vs. best"] for line in lines[1:]}


def test_quantities_are_sorted_by_what_they_say(page: Browser) -> None:
    page.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    sort = """
        const head = [...document.querySelectorAll('thead button')].find(each => each.textContent.startsWith('whole'));
        head.click();
        const table = head.closest('table');
        return [...table.tBodies[0].rows].map(row => row.cells[0].textContent);
    """
    assert page.run(sort) == ["head", "lora", "majority", "full"]


def test_examples_are_searched_by_words_and_by_two_arms(page: Browser) -> None:
    page.run("document.getElementById('disagreements').open = true")
    shown = "return [...document.querySelectorAll('#example-list article')].map(each => each.innerText)"
    wait_until(page, "return document.querySelectorAll('#example-list article').length === 20")
    first = page.run(shown)[0]
    assert "on trade." in first
    assert "✓ right" in first
    assert "✗ wrong" in first
    page.run("document.getElementById('example-more').click()")
    assert len(page.run(shown)) == 40
    index = first.split()[2]
    page.run("document.getElementById('example-words').focus()")
    page.press(*f"message {index} ")
    assert any(text.startswith(f"Test example {index}") for text in page.run(shown))
    assert page.run("return document.getElementById('example-count').textContent").split()[0] != "200"
    choose = (
        "document.getElementById('example-words').value = '';"
        "for (const [id, label] of [['example-one', 'full'], ['example-other', 'lora']]) {"
        "  const choice = document.getElementById(id); choice.value = label; choice.dispatchEvent(new Event('change'));"
        "}"
    )
    page.run(choose)
    for text in page.run(shown):
        groups = [line for line in text.splitlines() if "right)" in line or "wrong)" in line]
        assert not any("full" in group and "lora" in group for group in groups)


def test_use_of_the_machine_is_drawn_for_the_trial_that_is_chosen(page: Browser, downloads: Path) -> None:
    page.run("document.getElementById('machine-use').open = true")
    drawn = "return document.querySelector('#use-figure svg').getAttribute('aria-label')"
    labels = page.run("return [...document.getElementById('use-arm').options].map(each => each.textContent)")
    assert labels == ["majority, seed 0", "full, seed 0", "lora, seed 0", "head, seed 0"]
    page.run(
        "const choice = document.getElementById('use-arm'); choice.value = 3; choice.dispatchEvent(new Event('change'))"
    )
    assert page.run(drawn).startswith("Use of the machine by head, seed 0")
    page.run("document.querySelectorAll('#use-figure .save')[2].click()")
    head, *lines = csv.reader(wait_for(downloads / "machine_use.csv").decode().splitlines())
    assert head == ["seconds", "process_cpu_percent", "resident_bytes"]
    assert len(lines) == 30


def test_ties_are_drawn_as_groups(page: Browser) -> None:
    drawn = page.run("return document.querySelector('[data-name=ties] svg').getAttribute('aria-label')")
    assert drawn.startswith("Groups of arms that cannot be told apart by test accuracy: ")
    assert drawn.endswith(("full and lora; head; majority.", "lora and full; head; majority."))
    assert page.run("return document.querySelector('[data-name=forecast_measured]')") is None  # none was made


def test_a_printed_page_has_all_of_it(page: Browser) -> None:
    page.develop("Page.printToPDF")
    assert page.run("return [...document.querySelectorAll('details')].every(part => !part.open)")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("return [...document.querySelectorAll('main details:not(.columns)')].every(part => part.open)")
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("return [...document.querySelectorAll('details')].every(part => !part.open)")


def test_hostile_texts_run_nothing(browser: Browser, tmp_path: Path) -> None:
    browser.console()
    browser.open(report.write(hostile_store(tmp_path)).parent / "report.html")
    browser.run("document.getElementById('unfold').click()")
    assert browser.run("return window.pwned === undefined")
    assert browser.console() == []
    assert {address.partition(":")[0] for address in browser.requests()} <= {"file", "data", "blob"}


def test_five_hundred_hostile_labels_and_texts_run_nothing(browser: Browser, tmp_path: Path) -> None:
    made = report.build(hostile_store(tmp_path))
    arm = made.methods[1]
    arms = tuple(arm.model_copy(update={"method": f"{at} {EVIL}"}) for at in range(500))
    assert made.rule is not None
    first = made.rule.arms[0]
    weighed = [first.model_copy(update={"label": each.method, "margins": (0.0,) * at}) for at, each in enumerate(arms)]
    rule = made.rule.model_copy(update={"arms": tuple(weighed)})
    examples = tuple(made.disagreements[0].model_copy(update={"index": at, "text": EVIL}) for at in range(500))
    whole = made.model_copy(update={"methods": (*made.methods, *arms), "rule": rule, "disagreements": examples})
    path = tmp_path / "report.html"
    path.write_text(html.render(whole, ()), encoding="utf-8")
    browser.console()
    browser.requests()
    browser.open(path)
    browser.run("document.getElementById('unfold').click()")
    wait_until(browser, "return document.querySelectorAll('#example-list article').length === 20")
    assert browser.run("return document.querySelectorAll('#explorer-figure g[data-arm]').length") == 500
    assert browser.run("return window.pwned === undefined")
    assert browser.run("return document.querySelectorAll('main img, main script, main a[href]').length") == 0
    assert browser.console() == []
    assert set(browser.requests()) <= {path.resolve().as_uri(), "data:,"}


@pytest.mark.package_index
@pytest.mark.skipif(NPM is None, reason="needs npm, which brings axe-core")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_readers_of_all_kinds_can_use_the_page(
    browser: Browser, study: StudyStore, theme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pages = [study.report_folder / "report.html"]
    writing = hostile_store(tmp_path_factory.mktemp("writing"))
    pages.append(report.write(writing).parent / "report.html")
    for path in pages:
        browser.open(path)
        browser.run(
            "document.documentElement.dataset.theme = arguments[0];"
            "document.querySelectorAll('details').forEach(part => { part.open = true; })",
            theme,
        )
        assert violations(browser, axe_source(tmp_path_factory.getbasetemp())) == []


def wait_until(browser: Browser, condition: str) -> None:
    """Waits until a script returns true."""
    for _ in range(100):
        if browser.run(condition):
            return
        time.sleep(0.1)
    raise AssertionError(f"not so: {condition}")


def wait_for(path: Path) -> bytes:
    """Returns the content of a download once it is there."""
    for _ in range(100):
        if path.exists():
            return path.read_bytes()
        time.sleep(0.1)
    raise AssertionError(f"{path} was not saved")
