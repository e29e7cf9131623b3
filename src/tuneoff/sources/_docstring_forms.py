"""Rows for other tasks out of pairs of a docstring's body and summary: options, topics, relatedness, code in text."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuneoff.sources._docstrings import CODE_END, CODE_START

Pair = Mapping[str, str]
Columns = dict[str, list[Any]]

WRONG_OPTIONS = 3
MOST_FREQUENT, MOST_TOPICS = 0.4, 24
"""Share of the pairs above which a part of module names is no topic, and how many topics there are at most."""
FEWEST_MODULES = 12
"""Fewest modules that a topic stands in, so that each split has some."""


def with_options(pairs: Sequence[Pair], every_pair: Sequence[Pair]) -> Columns:
    """Returns `body`, `options` and `answer`: which of four summaries is this body's.

    The wrong ones are drawn from the same package, of other files as well; a draw is the pair's own, always the same.
    """
    by_package: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_package[pair["package"]].append(pair)
    columns: Columns = {"body": [], "options": [], "answer": []}
    for pair in pairs:
        draw = random.Random(_key(pair))
        others = [other["summary"] for other in by_package[pair["package"]] if other is not pair]
        if len(others) < WRONG_OPTIONS:
            continue
        options = draw.sample(others, WRONG_OPTIONS)
        number = draw.randrange(WRONG_OPTIONS + 1)
        options.insert(number, pair["summary"])
        columns["body"].append(pair["body"])
        columns["options"].append(options)
        columns["answer"].append("ABCD"[number])
    return columns


def with_topics(pairs: Sequence[Pair], every_pair: Sequence[Pair]) -> Columns:
    """Returns `body` and `topics`: the frequent parts of the module's name, such as `numpy` and `linalg`."""
    topics = _topics(every_pair)
    parts = [[part for part in _parts(pair) if part in topics] for pair in pairs]
    return {"body": [pair["body"] for pair in pairs], "topics": parts}


def _topics(pairs: Sequence[Pair]) -> set[str]:
    counts = Counter(part for pair in pairs for part in _parts(pair))
    modules = Counter(part for pair in {pair["module"]: pair for pair in pairs}.values() for part in _parts(pair))
    frequent = [
        part
        for part, count in counts.most_common()
        if count <= MOST_FREQUENT * len(pairs) and modules[part] >= FEWEST_MODULES
    ]
    return set(frequent[:MOST_TOPICS])


def with_relatedness(pairs: Sequence[Pair], every_pair: Sequence[Pair]) -> Columns:
    """Returns `first`, `second` and `relatedness`: how much two summaries' places have in common, from 0 (other
    packages) to 1 (one file), by the leading parts of the module names that are equal.

    The second is drawn from the same file, the same package or all pairs, each about as often.
    """
    groups: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        for name in {"", pair["package"], pair["module"]}:
            groups[name].append(pair)
    columns: Columns = {"first": [], "second": [], "relatedness": []}
    for pair in pairs:
        draw = random.Random(_key(pair))
        group = groups[draw.choice(["", pair["package"], pair["module"]])]
        other = draw.choice(group)
        if other is pair:
            continue
        one, two = pair["module"].split("."), other["module"].split(".")
        shared = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        columns["first"].append(pair["summary"])
        columns["second"].append(other["summary"])
        columns["relatedness"].append(round(2 * shared / (len(one) + len(two)), 3))
    return columns


def with_code(pairs: Sequence[Pair], every_pair: Sequence[Pair]) -> Columns:
    """Returns `words` and `tags`: which words of a paragraph its author marked as code, `B-code` and `I-code`.

    A row is the first paragraph of a body that has such words and others.
    """
    columns: Columns = {"words": [], "tags": []}
    for pair in pairs:
        tagged = (_tag(paragraph) for paragraph in pair["marked"].splitlines())
        found = next(((words, tags) for words, tags in tagged if 0 < len(tags) - tags.count("O") < len(tags)), None)
        if found is not None:
            columns["words"].append(found[0])
            columns["tags"].append(found[1])
    return columns


def _tag(paragraph: str) -> tuple[list[str], list[str]]:
    """Returns the words of a paragraph, without punctuation around code, and a tag for each."""
    words: list[str] = []
    tags: list[str] = []
    for part in paragraph.replace(CODE_START, f"\0{CODE_START}").replace(CODE_END, f"{CODE_END}\0").split("\0"):
        is_code = part.startswith(CODE_START)
        own = part.strip(CODE_START + CODE_END).split()
        words += own
        tags += ["O"] * len(own) if not is_code else ["B-code", *["I-code"] * (len(own) - 1)][: len(own)]
    return words, tags


def _parts(pair: Pair) -> list[str]:
    """Returns the parts of the module's name but its file's, which one split alone has; each once."""
    return list(dict.fromkeys(part.lstrip("_") for part in pair["module"].split(".")[:-1]))


def _key(pair: Pair) -> str:
    return f"{pair['module']}.{pair['name']}"


FORMS: Mapping[str, Callable[[Sequence[Pair], Sequence[Pair]], Columns]] = {
    "options": with_options,
    "topics": with_topics,
    "relatedness": with_relatedness,
    "code": with_code,
}
"""Configuration -> what makes its rows of a split's pairs and of all pairs."""
