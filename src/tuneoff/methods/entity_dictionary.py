"""A baseline of token classification: entities that stand in the training rows, found again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tuneoff.interfaces import OUTSIDE, Baseline, MethodOptions, Prediction, Reference, read_entities, write_tags

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task

Words = tuple[str, ...]


class EntityDictionary(Baseline[MethodOptions]):
    """Tags the longest runs of words that are entities of the training rows in most places where they stand there.

    Each gets its most frequent kind; case does not count.
    """

    title = "Entity dictionary"
    summary = "No training: entities of the training rows, found again. What a trained method must beat."
    usual = True
    paper = "Tjong Kim Sang and De Meulder 2003, Introduction to the CoNLL-2003 Shared Task (its baseline)"
    references = (
        Reference(
            "tjongkimsang2003introduction",
            "Tjong Kim Sang, Erik F. and De Meulder, Fien",
            "Introduction to the {CoNLL}-2003 Shared Task: Language-Independent Named Entity Recognition",
            2003,
            url="https://aclanthology.org/W03-0419/",
        ),
    )
    produces = "tags"

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        known = _dictionary(train)
        longest = max(map(len, known), default=0)
        return [
            Prediction(index=e.index, target=e.target, output=write_tags(_tags(_words(e), known, longest, task.labels)))
            for e in examples
        ]


def _words(example: Example) -> Words:
    return tuple(example.text[start:end].casefold() for start, end in example.words)


def _dictionary(train: Sequence[Example]) -> dict[Words, str]:
    """Returns words of an entity -> its kind."""
    kinds: dict[Words, Counter[str]] = defaultdict(Counter)
    for example in train:
        words = _words(example)
        for entity in read_entities(example.target):
            kinds[words[entity.start : entity.end]][entity.kind] += 1
    sizes = {len(words) for words in kinds}
    places = Counter(run for example in train for run in _runs(_words(example), sizes) if run in kinds)
    return {words: counts.most_common(1)[0][0] for words, counts in kinds.items() if 2 * counts.total() > places[words]}


def _runs(words: Words, sizes: set[int]) -> Iterator[Words]:
    for size in sizes:
        for start in range(len(words) - size + 1):
            yield words[start : start + size]


def _tags(words: Words, known: dict[Words, str], longest: int, labels: Sequence[str]) -> list[str]:
    tags = [OUTSIDE] * len(words)
    start = 0
    while start < len(words):
        sizes = range(min(longest, len(words) - start), 0, -1)
        size = next((size for size in sizes if words[start : start + size] in known), 0)
        if size:
            kind = known[words[start : start + size]]
            # Schemes without B, or without any prefix, have other tags.
            inside = f"I-{kind}" if f"I-{kind}" in labels else f"B-{kind}" if f"B-{kind}" in labels else kind
            first = f"B-{kind}" if f"B-{kind}" in labels else inside
            tags[start : start + size] = [first, *[inside] * (size - 1)]
        start += size or 1
    return tags


plugin = EntityDictionary
