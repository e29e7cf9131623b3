"""Pairs of texts from source code: the body of a docstring and its one-line summary.

Files are parsed, never imported. The rules for a pair are in this file alone; `VERSION` changes with them.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

VERSION = 1
"""Version of the rules below: other rules give other pairs."""

COLUMNS = ("body", "summary", "package", "module", "name")
CODE_START, CODE_END = "\ue000", "\ue001"
"""What stands around code in a marked text: letters of Unicode that mean nothing."""

SUMMARY_WORDS = (5, 30)
BODY_WORDS = 40
SHARED = 0.5
"""Share of a summary's content words that its body must contain, so that it can be written from the body."""

RUN_WORDS, RUN_RANGE, REPEATED = 8, 100, 0.4
"""Of the 8-word runs among a body's first 100 words, the largest share that may occur in earlier bodies."""

_SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendored", "externals", "extern", "array_api_compat"}
_SKIPPED_PATHS = ("torch/_", "torch/fx/", "torch/onnx/", "transformers/models/")
"""A compiler's internals, and two thousand files with the same texts for each model: slow to parse, few pairs."""

_LONG_STRING = 250
"""Characters between triple quotes below which a file is not parsed: it cannot hold a pair."""

_UNDERLINED = re.compile(r"^(\S[^\n]{2,40})\n[ ]*[-=~^]{3,}[ ]*$", re.MULTILINE)
_HEADING = re.compile(r"[A-Z][A-Za-z ]{2,30}:")
_SKIPPED_SECTION = re.compile(r"(see also|references|examples?|example usage|usage|methods|attributes)\s*::?", re.I)
_FIELD = re.compile(r":(?:type|rtype)\b[^:\n]*:[^\n]*\n?|:(param|returns?|raises?)\b ?([^:\n]*):")
_MARKUP: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r":[a-z:]+:`[~.!]?([^`<]+?)(?:\s*<[^>]*>)?`"), lambda m: _mark(m[1].rpartition(".")[2])),
    (re.compile(r"\[`[~.]?([^`\]]+)`\](?:\([^)]*\))?"), lambda m: _mark(m[1].rpartition(".")[2])),
    (re.compile(r"`+([^`<]*?)(?:\s*<[^>]*>)?`+_*"), lambda m: _mark(m[1])),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), lambda m: m[1]),
    (re.compile(r"\s*\[\d+\]_|<https?:[^>]*>|</?[Tt]ip[^>]*>|> \[!\w+\]"), lambda m: ""),
    (re.compile(r"\*\*([^*\n]+)\*\*|(?<!\w)\*([^*\s][^*\n]*)\*(?!\w)"), lambda m: m[1] or m[2]),
    (re.compile(r"::$"), lambda m: ":"),
)
"""What markup means, in this order: roles, links, code, footnotes and URLs, emphasis, literal blocks. Code keeps marks
around it."""

_NO_SENTENCE = re.compile(r"[.!?] +[A-Z]|://|::|>>>|^[^A-Za-z]")
_BOILERPLATE = re.compile(
    r"deprecated|alias (?:of|for)|see (?:also|:|the documentation)|^the bare |^an? abstract |^todo|^note\b"
    r"|^this (?:is|class)\b",
    re.I,
)
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\{|\{\w+\}\n")
_CONTENT_WORD = re.compile(r"[a-z]{4,}")
_COMMON_WORDS = {"return", "compute", "create", "whether", "this", "that", "with", "from", "into", "each", "given"}
"""Words too common to show that a summary can be written from its body."""


def extract(package: str, root: Path) -> Iterator[dict[str, str]]:
    """Yields the pairs of one package's files, by file name and place in the file.

    Args:
        package: name of the top package.
        root: its folder.

    Yields:
        Rows with the keys `COLUMNS`; `module` is the file's dotted name, `name` is qualified in it. `marked` is the
        body with `CODE_START` and `CODE_END` around what its author marked as code.
    """
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root.parent)
        if _SKIPPED_FOLDERS & set(place.parts) or place.name.startswith("test_"):
            continue
        if place.as_posix().startswith(_SKIPPED_PATHS):
            continue
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        for name, docstring in _docstrings(path):
            if (body_and_summary := pair(docstring)) is not None:
                yield {
                    "body": body_and_summary[0],
                    "marked": marked_body(docstring),
                    "summary": body_and_summary[1],
                    "package": package,
                    "module": module,
                    "name": name,
                }


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yields qualified name and docstring of a file's functions, classes and methods, except nested functions."""
    try:
        text = path.read_text(encoding="utf-8")
        if not any(len(part) >= _LONG_STRING for part in text.split('"""')[1::2]):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escape sequences
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return  # a template or another Python's file
    yield from _walk_block(tree.body, "")


def _walk_block(block: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in block:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if docstring := ast.get_docstring(node):
                yield prefix + node.name, docstring
            if isinstance(node, ast.ClassDef):
                yield from _walk_block(node.body, f"{prefix}{node.name}.")


def _mark(code: str) -> str:
    return f"{CODE_START}{code}{CODE_END}"


def _unmark(text: str) -> str:
    return text.replace(CODE_START, "").replace(CODE_END, "")


def marked_body(docstring: str) -> str:
    """Returns the body of a docstring with marks around code."""
    return "\n".join(_extract_prose(_paragraphs(docstring)[1:], marked=True))


def _paragraphs(docstring: str) -> list[str]:
    return re.split(r"\n\s*\n", _UNDERLINED.sub(r"\1:", docstring.strip()))


def pair(docstring: str) -> tuple[str, str] | None:
    """Returns body and summary of a docstring, as plain text; None where it makes no good pair.

    The summary is the first paragraph, if it is one sentence of 5 to 30 words. The body is the rest without code,
    examples and references, one paragraph a line; it has 40 words or more and holds at least half of the summary's
    content words.
    """
    paragraphs = _paragraphs(docstring)
    summary = _strip_markup(paragraphs[0])
    if not SUMMARY_WORDS[0] <= len(summary.split()) <= SUMMARY_WORDS[1] or not summary.endswith("."):
        return None
    if _NO_SENTENCE.search(summary) or _BOILERPLATE.search(summary) or _TEMPLATE.search(docstring):
        return None
    body = "\n".join(_extract_prose(paragraphs[1:]))
    if len(body.split()) < BODY_WORDS or _measure_shared_words(summary, body) < SHARED:
        return None
    return body, summary


def _extract_prose(paragraphs: list[str], *, marked: bool = False) -> Iterator[str]:
    """Yields the paragraphs without code, directives and sections of examples and references."""
    skipping = in_code = False
    for paragraph in paragraphs:
        head = paragraph.strip().partition("\n")[0]
        if _SKIPPED_SECTION.fullmatch(head):
            skipping = True
        elif _HEADING.match(head) and not head.startswith(("Note", "Warning")):
            skipping = False
        fences = paragraph.count("```")
        if in_code or fences or skipping or head.startswith((">>>", "..", "<")):
            in_code = in_code != bool(fences % 2)
            continue
        if text := _strip_markup(paragraph.partition(">>>")[0], marked=marked):
            yield text


def _strip_markup(paragraph: str, *, marked: bool = False) -> str:
    """Removes markup and joins the lines into one; keeps marks around code where that is wanted."""
    text = _FIELD.sub(lambda m: "" if m.group(1) is None else f"{m.group(2) or m.group(1)}:", paragraph)
    text = " ".join(text.split())
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
        text = text if marked else _unmark(text)
    return " ".join(text.split())


def _measure_shared_words(summary: str, body: str) -> float:
    """Computes the share of the summary's content words that the body contains; words match by five letters."""
    summary_words = {
        w[:5] for w in _CONTENT_WORD.findall(summary.lower()) if not {w, w.removesuffix("s")} & _COMMON_WORDS
    }
    body_words = {w[:5] for w in _CONTENT_WORD.findall(body.lower())}
    return len(summary_words & body_words) / len(summary_words) if summary_words else 0.0


def distinct(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yields the rows except those that repeat an earlier summary or much of earlier bodies."""
    summaries: set[str] = set()
    runs: set[tuple[str, ...]] = set()
    for row in rows:
        summary = " ".join(_split_words(row["summary"]))
        words = _split_words(row["body"])[:RUN_RANGE]
        row_runs = {tuple(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)}
        if summary in summaries or len(row_runs & runs) > REPEATED * len(row_runs):
            continue
        summaries.add(summary)
        runs |= row_runs
        yield row


def _split_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
