"""Class names, texts, arms and file names that try terminals, pages, spreadsheets and charts: shown, never obeyed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hostile_helpers import assert_shown, check_cells, check_markdown
from running_helpers import Ended, Tiny, write_rows

pytest_plugins = ("running_fixtures",)

Run = Callable[..., Ended]
CLASSES = (
    "=cmd|' /C calc'!A0",
    "\x1b[31mred\x1b]0;title\x07 `q`",
    "<script>alert(1)</script>|[x](http://evil.example)",
    "\u202eevil $x_1$ \x9b2J ```",
)
ARMS = {"=1+1|<b>": "head", "+[2](x)": "bitfit", r"$\frac$ `x`_y_": "majority"}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of rows with a name of its kind."""
    path = tmp_path_factory.mktemp("rows") / "=rows <b>|`$x$ [a](b).csv"
    return write_rows(path, [(f"word {i} {CLASSES[i % 4]}", CLASSES[i % 4]) for i in range(60)])


def test_no_output_obeys_what_it_shows(
    tiny: Tiny, rows: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = tiny.study({label: {"method": method} for label, method in ARMS.items()})
    raw["task"] = {"data": {"train": str(rows)}}
    Path("study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    told = [
        run("run", "study.yaml", "--out", "out", "--no-profile"),
        run("report", "out"),
        run("recommend", "out"),
        run("plan", "study.yaml", "--no-profile"),
        run("watch", "out"),
        run("predict", "out", "_1_1", rows),
        run("predict", "out", "_1_1", rows, "--out", "p.csv"),
        run("export", "out", "_1_1", "exported"),
        run("init", rows, "--out", "made.yaml"),
    ]
    assert [ended.code for ended in told] == [0] * len(told), "".join(ended.err for ended in told if ended.code)
    as_json = [
        run(*words, "--json") for words in (("report", "out"), ("predict", "out", "_1_1", rows), ("watch", "out"))
    ]
    for ended in [*told, *as_json]:
        assert_shown(ended.out + ended.err)
    predicted = json.loads(as_json[1].out)["predictions"]
    assert set(predicted[0]["scores"]) == set(CLASSES)

    written = [*Path("out/report").iterdir(), *Path("exported").iterdir(), Path("p.csv"), Path("made.yaml")]
    shown = [path for path in written if path.suffix in {".html", ".md", ".csv", ".yaml"}]
    assert len(shown) == 9
    for path in shown:
        assert_shown(path.read_text(encoding="utf-8"))
    for path in (path for path in shown if path.suffix == ".csv"):
        check_cells(path.read_text(encoding="utf-8"))
    for page in ("out/report/report.md", "exported/README.md"):
        check_markdown(Path(page).read_text(encoding="utf-8"))
    browsed = Path("out/report/report.html").read_text(encoding="utf-8")
    assert not [tag for tag in ("<b>", "<script>alert") if tag in browsed]
    assert "&lt;script&gt;alert(1)" in browsed
    assert sum(path.suffix == ".png" for path in written) > 2
    made = yaml.safe_load(Path("made.yaml").read_text(encoding="utf-8"))
    assert made["task"]["data"]["train"] == str(rows)


def test_errors_show_what_was_typed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (("run", "no\x1b[31m.yaml"), ("\x1b]0;x\x07",), ("run", "x", "--\x1b[31m"), ("report", "\u202eno")):
        ended = run(*words)
        assert ended.code == 2
        assert_shown(ended.out + ended.err)
        assert "\\x1b" in ended.err or "\\u202e" in ended.err


# --- nothing that is read is written over


@pytest.fixture(scope="module")
def study(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with a trial that never ran: what is refused is refused before anything is loaded."""
    from tuneoff.planning.plan import plan
    from tuneoff.store import StudyStore
    from tuneoff.study.study import Study

    spec = Study(tiny.study(("head",))).spec
    return StudyStore.create(tmp_path_factory.mktemp("study") / "out", spec, plan(spec)).root


def test_predictions_replace_nothing_that_is_read(tiny: Tiny, study: Path, run: Run, tmp_path: Path) -> None:
    given = write_rows(tmp_path / "given.csv", [("some text", "cats")])
    (tmp_path / "soft.csv").symlink_to(given)
    os.link(given, tmp_path / "hard.csv")
    (tmp_path / "folder").symlink_to(tmp_path)
    held = given.read_bytes()
    same = ["given.csv", "soft.csv", "hard.csv", "folder/given.csv", "folder/../" + tmp_path.name + "/given.csv"]
    for name in same:
        ended = run("predict", study, "head", given, "--out", tmp_path / name)
        assert ended.code == 2
        assert "is what is read; nothing is written over it" in ended.err, name
    for out in (study / "new.csv", study / "report" / "results.csv", tiny.model / "new.csv", tiny.train):
        ended = run("predict", study, "head", given, "--out", out)
        assert ended.code == 2
        assert "which is read" in ended.err or "is what is read" in ended.err, out
    assert given.read_bytes() == held
    assert (tmp_path / "soft.csv").is_symlink()


def test_exports_and_study_files_neither(study: Path, run: Run, tmp_path: Path) -> None:
    ended = run("export", study, "head", study / "exported")
    assert ended.code == 2
    assert f"lies in {study}, which is read" in ended.err
    rows = write_rows(tmp_path / "rows.csv", [("some text", "cats")] * 3)
    held = rows.read_bytes()
    (tmp_path / "soft.yaml").symlink_to(rows)
    for out in ("rows.csv", "soft.yaml"):
        ended = run("init", rows, "--out", tmp_path / out, "--force")
        assert ended.code == 2
        assert "is what is read" in ended.err
    assert rows.read_bytes() == held
