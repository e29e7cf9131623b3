"""Every command of the README and the tour runs, here on a tiny model in the place of the recipe's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from running_helpers import Ended, Tiny, tiny_rows, write_rows

pytest_plugins = ("running_fixtures",)

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": 3, "docs/tour.md": 14}
"""Page -> how many commands it has at least."""


def commands(page: str) -> list[list[str]]:
    """The arguments of each `tuneoff` line in a page's blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("tuneoff ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.fixture
def place(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the pages speak of: a file of reviews, new texts, and a study for `quickstart`."""
    monkeypatch.chdir(tmp_path)
    rows = [(text, label) for text, label in tiny_rows(150, 1)]
    write_rows(tmp_path / "reviews.csv", rows, ("review", "stars"))
    write_rows(tmp_path / "new.csv", tiny_rows(5, 3))
    study = tiny.study(("majority", "head", "lora", "full"), seeds=2)
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page: str, place: Path, tiny: Tiny, run: Callable[..., Ended]) -> None:
    assert len(commands(page)) >= PAGES[page]
    folder = "out"
    for arguments in commands(page):
        # The folder's name in a page stands for the one that the run before it printed.
        words = ["quick.yaml" if word == "quickstart" else word for word in arguments]
        words = [folder if word.startswith("runs/") else word for word in words]
        if words[:1] == ["run"] and "quick.yaml" in words:
            words += ["--out", folder]
        if "reviews.study.yaml" in words:
            words += ["--model", str(tiny.model), "--set", "protocol.max_steps=2", "--set", "protocol.batch_size=4"]
        ended = run(*words)
        assert ended.code == 0, f"tuneoff {shlex.join(words)}: {ended.err}"
    if page == "docs/tour.md":
        assert (place / folder / "report" / "report.html").is_file()
        assert (place / "my-adapter" / "adapter_config.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("shared")
def test_the_tours_python_runs(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/tour.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code.replace('"quickstart"', '"quick.yaml"'), "tour.md", "exec"), {})
    assert (place / "my-adapter" / "adapter_config.json").is_file()
    assert "report.md" in capsys.readouterr().out
