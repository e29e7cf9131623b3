"""Pairs of text out of source code: the body of a docstring and its one-line summary.

Files are parsed, never imported. What counts as a pair is decided here alone; `VERSION` changes with it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

VERSION = 1
"""Of the rules below: other rules, other pairs."""

COLUMNS = ("body", "summary", "package", "module", "name")

SUMMARY_WORDS = (5, 30)
BODY_WORDS = 40
SHARED = 0.5
"""Share of a summary's content words that its body must hold, so that it can be told from the body."""

RUN_WORDS, RUN_RANGE, REPEATED = 8, 100, 0.4
"""Of the 8-word runs among a body's first 100 words, the share that may stand in bodies already taken."""

_FOLDERS_LEFT_OUT = {"tests", "test", "testing", "_vendor", "vendored", "externals", "extern", "array_api_compat"}
_PATHS_LEFT_OUT = ("torch/_", "torch/fx/", "torch/onnx/", "transformers/models/")
"""A compiler's internals, and two thousand files that say the same of each model: long to parse, poor in pairs."""

_LONG_STRING = 250
"""Characters between triple quotes below which a file is not parsed: it cannot hold a pair."""

_UNDERLINED = re.compile(r"^(\S[^\n]{2,40})\n[ ]*[-=~^]{3,}[ ]*$", re.MULTILINE)
_HEADING = re.compile(r"[A-Z][A-Za-z ]{2,30}:")
_SKIPPED_SECTION = re.compile(r"(see also|references|examples?|example usage|usage|methods|attributes)\s*::?", re.I)
_FIELD = re.compile(r":(?:type|rtype)\b[^:\n]*:[^\n]*\n?|:(param|returns?|raises?)\b ?([^:\n]*):")
_MARKUP: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r":[a-z:]+:`[~.!]?([^`<]+?)(?:\s*<[^>]*>)?`"), lambda m: m[1].rpartition(".")[2]),
    (re.compile(r"\[`[~.]?([^`\]]+)`\](?:\([^)]*\))?"), lambda m: m[1].rpartition(".")[2]),
    (re.compile(r"`+([^`<]*?)(?:\s*<[^>]*>)?`+_*"), lambda m: m[1]),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), lambda m: m[1]),
    (re.compile(r"\s*\[\d+\]_|<https?:[^>]*>|</?[Tt]ip[^>]*>|> \[!\w+\]"), lambda m: ""),
    (re.compile(r"\*\*([^*\n]+)\*\*|(?<!\w)\*([^*\s][^*\n]*)\*(?!\w)"), lambda m: m[1] or m[2]),
    (re.compile(r"::$"), lambda m: ":"),
)
"""What markup means as plain text, in this order: roles, links, code, footnotes and URLs, emphasis, literal blocks."""

_NO_SENTENCE = re.compile(r"[.!?] +[A-Z]|://|::|>>>|^[^A-Za-z]")
_BOILERPLATE = re.compile(
    r"deprecated|alias (?:of|for)|see (?:also|:|the documentation)|^the bare |^an? abstract |^todo|^note\b"
    r"|^this (?:is|class)\b",
    re.I,
)
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\{|\{\w+\}\n")
_CONTENT_WORD = re.compile(r"[a-z]{4,}")
_COMMON = {"return", "compute", "create", "whether", "this", "that", "with", "from", "into", "each", "given"}
"""Too common to show that a summary can be told from its body."""


def extract(package: str, root: Path) -> Iterator[dict[str, str]]:
    """The pairs of one package's files, by file name and place in the file.

    Args:
        package: name of the top package.
        root: its folder.

    Yields:
        Rows with the keys `COLUMNS`; `module` is the file's dotted name, `name` is qualified in it.
    """
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root.parent)
        if _FOLDERS_LEFT_OUT & set(place.parts) or place.name.startswith("test_"):
            continue
        if place.as_posix().startswith(_PATHS_LEFT_OUT):
            continue
        module = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        for name, docstring in _docstrings(path):
            if (made := pair(docstring)) is not None:
                yield {"body": made[0], "summary": made[1], "package": package, "module": module, "name": name}


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Qualified name and docstring of a file's functions, classes and methods; not of what functions define."""
    try:
        text = path.read_text(encoding="utf-8")
        if not any(len(part) >= _LONG_STRING for part in text.split('"""')[1::2]):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other people's escape sequences
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return  # a template or another Python's file
    yield from _of_block(tree.body, "")


def _of_block(block: list[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in block:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if docstring := ast.get_docstring(node):
                yield prefix + node.name, docstring
            if isinstance(node, ast.ClassDef):
                yield from _of_block(node.body, f"{prefix}{node.name}.")


def pair(docstring: str) -> tuple[str, str] | None:
    """Body and summary of a docstring, as plain text; None where it makes no good pair.

    The summary is the first paragraph, if it is one sentence of 5 to 30 words. The body is the rest without code,
    examples and references, one paragraph a line; it has 40 words or more and holds at least half of the summary's
    content words.
    """
    paragraphs = re.split(r"\n\s*\n", _UNDERLINED.sub(r"\1:", docstring.strip()))
    summary = _plain(paragraphs[0])
    if not SUMMARY_WORDS[0] <= len(summary.split()) <= SUMMARY_WORDS[1] or not summary.endswith("."):
        return None
    if _NO_SENTENCE.search(summary) or _BOILERPLATE.search(summary) or _TEMPLATE.search(docstring):
        return None
    body = "\n".join(_prose(paragraphs[1:]))
    if len(body.split()) < BODY_WORDS or _shared(summary, body) < SHARED:
        return None
    return body, summary


def _prose(paragraphs: list[str]) -> Iterator[str]:
    """The paragraphs without code, directives and the sections of examples and references."""
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
        if text := _plain(paragraph.partition(">>>")[0]):
            yield text


def _plain(paragraph: str) -> str:
    """On one line, without markup."""
    text = _FIELD.sub(lambda m: "" if m.group(1) is None else f"{m.group(2) or m.group(1)}:", paragraph)
    text = " ".join(text.split())
    for pattern, meant in _MARKUP:
        text = pattern.sub(meant, text)
    return " ".join(text.split())


def _shared(summary: str, body: str) -> float:
    """Share of the summary's content words that stand in the body too; words of one stem share five letters."""
    words = {w[:5] for w in _CONTENT_WORD.findall(summary.lower()) if not {w, w.removesuffix("s")} & _COMMON}
    there = {w[:5] for w in _CONTENT_WORD.findall(body.lower())}
    return len(words & there) / len(words) if words else 0.0


def distinct(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """The rows without those that repeat an earlier one's summary or much of earlier bodies."""
    summaries: set[str] = set()
    runs: set[tuple[str, ...]] = set()
    for row in rows:
        said = " ".join(_words(row["summary"]))
        words = _words(row["body"])[:RUN_RANGE]
        own = {tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1)}
        if said in summaries or len(own & runs) > REPEATED * len(own):
            continue
        summaries.add(said)
        runs |= own
        yield row


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
