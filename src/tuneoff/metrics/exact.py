"""Exact match of an answer that is extracted from a text: `exact:number`, `exact:letter`, `exact:json.FIELD`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from tuneoff.errors import StudyError
from tuneoff.interfaces import MeanMetric, Outputs

_SIGN = r"(?:(?<![^\W_])(?<![)\]}])[-+])?"
"""A sign; after a letter, a digit or a closing bracket it is a dash, as in `10-12`."""
_NUMBER = re.compile(rf"{_SIGN}(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{{1,3}})?|{_SIGN}\.\d+")
_CHOICE = r"[(\[*]*([A-HJ-Zb-hj-z]\b|[aIi](?=[)\].,:;*!?]| is\b| ?$))"
"""A letter; `a` and `I` may be words and count only before a bracket, punctuation, `is` or the end."""
_ANSWER = re.compile(rf"\b(?i:answer)(?: (?i:is) ?[:=]?| ?[:=]) ?(?:(?i:option|choice) )?{_CHOICE}")
_OPTION = re.compile(rf"\b(?i:answer|choice|option)\b(?: (?i:is))? ?[:=]? ?{_CHOICE}")
_BARE_LETTER = re.compile(r"\s*[(\[*]*([A-Za-z])(?:[)\].:*]|\s*$)")
_LONE_LETTER = re.compile(r"\(([A-Z])\)|\b([B-HJ-Z])\b")
LONGEST = 100_000
"""Characters of a text in which an answer is looked for, from its end."""

Extract = Callable[[str], Any]


def last_number(text: str) -> Decimal | None:
    """Returns the last number in a text, its commas between thousands left out; None where there is none."""
    numbers = _NUMBER.findall(text[-LONGEST:])
    try:
        return Decimal(numbers[-1].replace(",", "")) if numbers else None
    except InvalidOperation:
        return None


def letter(text: str) -> str | None:
    """Returns the letter of a choice, as a capital: the last that is said to be the answer (`the answer is (b)`), else
    the last that is called an option or a choice, the one that the text begins with (`B.`), or the last that stands
    alone; None where there is none."""
    # One space for many: what is looked for reads a text once, however it is spaced.
    end = " ".join(text[-LONGEST:].split())
    said = _ANSWER.findall(end) or _OPTION.findall(end)
    if said:
        return str(said[-1]).upper()
    if bare := _BARE_LETTER.match(text):
        return bare[1].upper()
    alone = ["".join(pair) for pair in _LONE_LETTER.findall(end)]
    return alone[-1] if alone else None


def json_field(path: str, text: str) -> Any:
    """Returns the value at a path of keys, such as `answer.value`, in the first JSON object of a text; None where there
    is none. A text without an object is itself the value."""
    text = text[-LONGEST:]
    start = text.find("{")
    if start < 0:
        return text.strip() or None
    try:
        value = json.JSONDecoder().raw_decode(text[start:])[0]
    except (ValueError, RecursionError):
        return None
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value.strip() if isinstance(value, str) else value


def matches(extract: Extract, outputs: Outputs) -> list[float]:
    """Returns 1 for each example whose output has the same answer as its target, and 0 for others, and for those whose
    target has none."""
    pairs = zip(outputs.targets, outputs.outputs, strict=True)
    return [
        float((wanted := extract(target)) is not None and _same(wanted, extract(output))) for target, output in pairs
    ]


def _same(wanted: Any, answer: Any) -> bool:
    if isinstance(wanted, str) != isinstance(answer, str):
        # "42" as text and 42 as a number are one answer; true and 1 are not.
        return answer is not None and str(wanted).lower() == str(answer).lower()
    return bool(wanted == answer) and isinstance(wanted, bool) == isinstance(answer, bool)


class ExactFamily:
    """Exact match by what is extracted from target and output alike."""

    title = "Exact match of an extracted answer"
    summary = (
        "1 where the answer extracted from the output equals the target's: `exact:number` (the last number), "
        "`exact:letter` (of a choice), `exact:json.FIELD` (of the first JSON object)."
    )

    def variants(self) -> list[str]:
        """Returns nothing: fields have any names."""
        return []

    def get(self, variant: str) -> MeanMetric:
        """Returns the metric of an extraction.

        Raises:
            StudyError: if there is no such extraction.
        """
        kind, _, path = variant.partition(".")
        extracts: dict[str, Extract] = {"number": last_number, "letter": letter}
        if kind == "json" and path:
            extract: Extract = partial(json_field, path)
        elif variant in extracts:
            extract = extracts[variant]
        else:
            raise StudyError(
                f"unknown metric 'exact:{variant}'",
                hint="Known: exact:number, exact:letter, and exact:json.FIELD with the name of a field.",
            )
        return MeanMetric(
            name=f"exact:{variant}",
            direction="higher",
            title=f"exact {'letter' if kind == 'letter' else kind if kind == 'number' else path}",
            summary=self.summary,
            produces=("text",),
            written=True,
            low=0,
            high=1,
            of_examples=partial(matches, extract),
        )


family = ExactFamily()
