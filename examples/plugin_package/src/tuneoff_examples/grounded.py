"""How much of a written text stands in what was put in: a judge without a model."""

from __future__ import annotations

import re

from tuneoff.interfaces import MeanMetric, Outputs

_WORD = re.compile(r"\w{4,}")


def shares_put_in(outputs: Outputs) -> list[float] | None:
    """Returns the share of each output's words of four letters or more that its input has; None without the inputs."""
    if not outputs.inputs:
        return None
    return [share(text, source) for text, source in zip(outputs.outputs, outputs.inputs, strict=True)]


def share(text: str, source: str) -> float:
    """Judges one text; 0 where it has no such word."""
    words, known = _WORD.findall(text.lower()), set(_WORD.findall(source.lower()))
    return sum(word in known for word in words) / len(words) if words else 0.0


plugin = MeanMetric(
    name="grounded",
    direction="higher",
    title="grounded words",
    summary="Share of an output's longer words that stand in what was put in.",
    produces=("text",),
    written=True,
    low=0,
    high=1,
    of_examples=shares_put_in,
)
