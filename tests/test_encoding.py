from __future__ import annotations

import csv
import io
import json

import pytest
from markdown_it import MarkdownIt

from tuneoff.encoding import chart_text, code, csv_cell, csv_table, fenced, json_text, markdown, one_line, visible

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "half \ud800",
    "safe\u202egpj.exe\u2066",
    "line\u2028end",
    "<script>alert(1)</script>",
    "<!-- x",
    "&lt;b&gt;",
    "[here](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "https://evil.example www.evil.example",
    "<http://evil.example>",
    "[a]: http://evil.example",
    "`` ` ``",
    "````",
    "*a* _b_ __c__ ~~d~~",
    "# head",
    "> quote",
    "- item",
    "+ item",
    "12. item",
    "---",
    "===",
    "a|b",
    "\\",
    "$x^2$",
    "first\n\n# second",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_nothing_to_obey(text: str) -> None:
    shown = visible(text)
    assert all(letter.isprintable() or letter in "\t\n" for letter in shown)
    shown.encode()
    assert one_line(text).isprintable()
    assert visible("naïve 日本 😀 a\tb\n") == "naïve 日本 😀 a\tb\n"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("around", ["{}", "- {}", "## {}", "> **Caution:** {}", "| a | b |\n|---|---|\n| {} | end |"])
def test_a_page_shows_it_as_it_stands(text: str, around: str) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(around.format(markdown(text)))
    plain = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(around.format("word"))
    assert [token.type for token in page] == [token.type for token in plain]
    spans = [child for token in page for child in token.children or ()]
    assert {span.type for span in spans} <= {"text", "text_special", "strong_open", "strong_close"}
    assert one_line(text) in "".join(span.content for span in spans)


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.strip()])
def test_code_ends_where_it_should(text: str) -> None:
    (paragraph,) = [token for token in MarkdownIt().parse(f"before {code(text)} after") if token.type == "inline"]
    found = [child.content for child in paragraph.children or () if child.type == "code_inline"]
    assert found == [one_line(text)]
    block, *rest = MarkdownIt().parse(fenced([*text.split("\n"), "end"], "text"))
    assert (block.type, rest) == ("fence", [])
    assert block.content.endswith("end\n")


def test_a_spreadsheet_gets_no_formula_and_numbers_stay_numbers() -> None:
    for text in ("=1+1", "+a", "-a", "@a", "\ta", "\ra", "\na", " =a", "\uff1d1", "=1\x1b"):
        assert csv_cell(text).startswith("'"), text
    for value in (-1, 1.5, None, True, "-1", "+4.5e-3", "-12 %"[:3], "a=b", "", "1-2"):
        assert csv_cell(value) == value
    table = csv_table([["=head", "n"], ["a,b\nc", -1.5], [None, "x"]])
    assert list(csv.reader(io.StringIO(table))) == [["'=head", "n"], ["a,b\nc", "-1.5"], ["", "x"]]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_says_the_same_and_shows_no_hidden_character(text: str) -> None:
    shown = json_text({text: [text, 1.5, None]}, indent=2)
    assert json.loads(shown) == {text: [text, 1.5, None]}
    assert visible(shown) == shown
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))


@pytest.mark.parametrize("text", ["$x^2$", r"\$x$", "$", r"$\nothing{$", "a\n$b$"])
def test_a_chart_draws_dollars(text: str) -> None:
    from matplotlib.text import Text

    drawn, mathematical = Text()._preprocess_math(chart_text(text))  # type: ignore[attr-defined]
    assert mathematical is False
    assert drawn == one_line(text)
