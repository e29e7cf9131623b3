"""The baseline of summarisation: the source's first sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from tuneoff.interfaces import Baseline, MethodOptions, Prediction, Reference

if TYPE_CHECKING:
    from tuneoff.interfaces import Example, Task

# fmt: off
ABBREVIATIONS = frozenset((
    "adm", "al", "approx", "apr", "assn", "aug", "ave", "blvd", "bros", "capt", "cf", "ch", "cmdr", "co", "col",
    "corp", "dec", "dept", "dr", "ed", "eds", "eq", "eqs", "est", "etc", "ex", "fig", "figs", "feb", "ft", "gen",
    "gov", "hon", "inc", "jan", "jr", "lt", "ltd", "maj", "mr", "mrs", "ms", "mt", "nov", "oct", "op", "p", "pp",
    "prof", "rep", "rev", "sec", "sen", "sens", "sept", "sgt", "sr", "st", "vol", "vols", "vs",
))
# fmt: on
"""Words that are written with a full stop and seldom end a sentence, in lower case."""

_MARKS = ".!?…।॥؟۔։።၊။"
"""Of Latin, Greek and Cyrillic, of Indic scripts, Arabic, Urdu, Armenian, Ethiopic and Burmese."""
_SENTENCE_END = re.compile(
    rf"(?<![{_MARKS}])(?P<mark>[{_MARKS}]++)(?P<close>[\"'”’»)\]]*+)\s+(?=[\"'“‘«(\[]*[^\W_a-z])|[。！？｡]+[」』）”’》]?\s*"
)
"""A mark that may end a sentence: one that is followed by space and by no small letter, or one of East Asia's."""


class LeadOptions(MethodOptions):
    """Options of `lead`."""

    sentences: int = Field(3, ge=1, description="how many of the source's first sentences are taken")


class Lead(Baseline[LeadOptions]):
    """Answers with the first sentences of the source, one a line; hard to beat on news, whose first sentences sum up.

    It knows no loss, and its figures need no model.
    """

    title = "Lead"
    summary = "No training and no model: the first sentences of the source."
    usual = True
    paper = (
        "Nenkova 2005, Automatic Text Summarization of Newswire: Lessons Learned from the Document Understanding "
        "Conference"
    )
    references = (
        Reference(
            "nenkova2005automatic",
            "Nenkova, Ani",
            "Automatic Text Summarization of Newswire: Lessons Learned from the Document Understanding Conference",
            2005,
        ),
    )
    produces = "text"
    Options = LeadOptions

    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        predictions = []
        for example in examples:
            first_sentences = "\n".join(sentences(example.text)[: self.options.sentences])
            prediction = Prediction(index=example.index, target=example.target, output="")
            scored = task.answer(prediction, example, first_sentences, 0)
            predictions.append(scored.model_copy(update={"generated_tokens": None}))
        return predictions


def sentences(text: str) -> list[str]:
    """Splits a text into sentences; line breaks inside them become spaces.

    A sentence ends at a full stop, question or exclamation mark that is followed by space and by no small letter, but
    not after an abbreviation or an initial; and at a blank line.
    """
    pieces = []
    for paragraph in re.split(r"\n\s*\n", text):
        line, start = " ".join(paragraph.split()), 0
        for end in _SENTENCE_END.finditer(line):
            word = line[line.rfind(" ", 0, end.start()) + 1 : end.start()]
            if end["mark"] == "." and not end["close"] and _abbreviates(word):
                continue
            pieces.append(line[start : end.end()].strip())
            start = end.end()
        pieces.append(line[start:].strip())
    return [sentence for sentence in pieces if sentence]


def _abbreviates(word: str) -> bool:
    """Tells whether a full stop after this word belongs to the word: Mr, U.S, e.g, the J of J. Smith."""
    word = word.lstrip("\"'“‘«([").lower()
    return word in ABBREVIATIONS or re.fullmatch(r"(?:[^\W\d_]\.)*[^\W\d_]", word) is not None


plugin = Lead
