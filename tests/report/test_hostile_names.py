"""Two hundred names that try terminals, pages, spreadsheets, charts and LaTeX, as arms, texts and citations, in every
output: shown, never obeyed. Seeded; the count is printed (`pytest -s`)."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hostile_helpers import assert_shown, check_cells, check_markdown
from page_helpers import check_is_safe
from record_helpers import WRITERS, Level, World, build_store, writing_study, written_predictions
from tuneoff.cli.main import main
from tuneoff.config.base import MAX_LABEL
from tuneoff.config.spec import PublishedSpec
from tuneoff.encoding import one_line
from tuneoff.records.record import Status
from tuneoff.store import StudyStore

NAMES, A_STUDY, QUICK = 200, 20, 8
PIECES = (
    *(
        "<script>window.pwned=1</script>",
        "<img src=x onerror=window.pwned=1>",
        "</style><b>",
        "<!-- ",
        "]]>",
        "&lt;b&gt;",
    ),
    *(
        "</script>",
        '" onload="window.pwned=1',
        "' style='x",
        "javascript:window.pwned=1",
        "<svg/onload=window.pwned=1>",
    ),
    *("[x](http://evil.example)", "![x](http://evil.example/x.png)", "[a]: http://evil.example", "www.evil.example"),
    *(
        "https://evil.example/?q=1",
        "<http://evil.example>",
        "`` ` ``",
        "````",
        "~~~",
        "*a* _b_ ~~d~~",
        "# head",
        "> quote",
    ),
    *(
        "- item",
        "12. item",
        "---",
        "===",
        "a|b|c",
        "||",
        "\\",
        "\\|",
        "$x^2$",
        "$$",
        "\\(x\\)",
        "^[",
        "[^1]",
        ":smile:",
    ),
    *("=1+1", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", '"=1"', "0x1F", "1e400"),
    *(
        "\\input{/etc/passwd}",
        "\\write18{id}",
        "\\end{document}",
        "50 % & #1 ~ {",
        "}",
        "\\\\",
        "\\csname x\\endcsname",
    ),
    *("\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\x08\x08", "\x7f", "\r\n", "\u2028", "\u202eevil", "\u2066x"),
    *(
        "\u200f",
        "\u061c",
        "\ufeff",
        "\u0301" * 30,
        "ﷺ" * 5,
        "模型",
        "é ø ß ł",
        "😀👩‍👩‍👧",
        "\u00a0",
        "𝒳",
    ),
    *(
        "../../etc/passwd",
        "/dev/null",
        "C:\\x",
        "CON",
        "nul",
        ".",
        "..",
        "~",
        "-rf",
        "--help",
        "$(id)",
        "`id`",
        "; id",
        "&& id",
    ),
    *("{{7*7}}", "{% raw %}", "${x}", "%s%n", "#{x}", "__class__", "null", "true", "1", "-", " ", "x" * 200),
    *(
        "!!python/object:x",
        "&a *a",
        "? x",
        ": y",
        "a: b",
        "- !x",
        "'",
        '"',
        "%YAML 1.1",
        "NaN",
        "Infinity",
        "constructor",
    ),
)


def _names() -> list[str]:
    """Two hundred names: each piece alone, then pieces put together."""
    draw, names = random.Random(0), list(dict.fromkeys(PIECES))
    while len(names) < NAMES:
        names.append(draw.choice(("", " ", "|", "\n")).join(draw.sample(PIECES, 3)))
    return names[:NAMES]


def _label(name: str) -> str:
    """What of a name an arm may be called: one line of printable characters."""
    text = "".join(letter for letter in name if letter.isprintable())[:MAX_LABEL]
    return text if text.strip() else "blank"


def _store(folder: Path, names: list[str]) -> StudyStore:
    labels = list(dict.fromkeys(map(_label, names)))
    arms = {label: {"method": "lora", "learning_rate": 1e-4 * (at + 1)} for at, label in enumerate(labels)}

    def odd(spec: Any, level: Level, rows: int) -> list[Any]:
        return [
            p.model_copy(
                update={"output": names[p.index % len(names)], "source": f"{names[-p.index % len(names)]}\n{p.index}"}
            )
            for p in written_predictions(spec, level, rows)
        ]

    study = writing_study("lead", arms=arms).model_copy(
        update={
            "published": PublishedSpec(
                citation=" ".join(names), notes=tuple(names), figures={labels[0]: {"accuracy_percent": 1.0}}
            ),
        }
    )
    levels = {"lead": WRITERS["lead"], **{label: Level(0.2 + 0.01 * at) for at, label in enumerate(labels)}}
    world = World(levels=levels, test_rows=30, fail={(labels[-1], 1): Status.FAILED})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("record_helpers.written_predictions", odd)
        return build_store(folder, study, world)


def _check_outputs(store: StudyStore, capsys: pytest.CaptureFixture[str]) -> int:
    """Looks at every output of a study; returns how many there are."""
    root, outputs = str(store.root), 0
    for words in (
        ["report", root, "--latex"],
        ["report", root, "--json"],
        ["recommend", root],
        ["recommend", root, "--json"],
        ["watch", root, "--once"],
        ["watch", root, "--once", "--json"],
        ["compare", root, f"{root}-copy"],
        ["export", root, "nothing", "out"],
    ):
        code = main(words)
        told = capsys.readouterr()
        assert code in {0, 1, 2, 3}, told.err
        assert "fault in tuneoff" not in told.err
        assert_shown(told.out + told.err)
        if "--json" in words:
            # `watch` prints a document a line.
            for document in told.out.splitlines() if words[0] == "watch" else [told.out]:
                json.loads(document)
        outputs += 1
    for path in sorted(store.report_folder.rglob("*")):
        if path.suffix in {".png", ".pdf"} or path.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        outputs += 1
        if path.suffix == ".csv":
            check_cells(text)
        if path.suffix == ".json":
            json.loads(text)
        elif path.suffix == ".yaml":
            assert yaml.safe_load(text)["methods"].keys() == store.study().methods.keys()
        elif path.suffix == ".md":
            check_markdown(text)
        elif path.suffix == ".html":
            check_is_safe(text)
        elif path.suffix in {".tex", ".bib"}:
            assert text.isascii()
            for command in ("input{/etc", "write18", "csname x", "end{document}"):
                outside = re.findall(rf"(?<!textbackslash\{{\}})\\{re.escape(command)}", text)
                assert len(outside) <= (command == "end{document}" and path.name == "report.tex"), (path.name, command)
        if path.suffix in {".csv", ".md", ".html", ".tex", ".bib"}:
            assert_shown(text)
    return outputs


def _check(folder: Path, names: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    store = _store(folder / "study", names)
    _store(folder / "study-copy", names)
    outputs = _check_outputs(store, capsys)
    # A name is shown, not left out.
    page = check_is_safe((store.report_folder / "report.html").read_text(encoding="utf-8")).text
    for label in store.study().methods:
        assert " ".join(one_line(label).split()) in page
    return outputs


def test_some_names_in_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _check(tmp_path, _names()[-QUICK:], capsys)


@pytest.mark.slow
def test_two_hundred_names_in_every_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, outputs = _names(), 0
    assert len(set(names)) == NAMES
    for start in range(0, NAMES, A_STUDY):
        outputs += _check(tmp_path / str(start), names[start : start + A_STUDY], capsys)
    with capsys.disabled():
        print(f"\n{NAMES} names in {outputs} outputs: all shown, none obeyed")
