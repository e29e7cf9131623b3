"""What a reader must know before trusting a trial's figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from tuneoff.interfaces import Example, Features, Task
from tuneoff.records.record import DataInfo, Finding, Prediction

MANY = 0.05
"""Share of examples beyond which a finding is reported."""


def note_lengths(
    info: DataInfo, features: dict[str, list[Features]], limit: int, target_room: int | None
) -> tuple[DataInfo, list[Finding]]:
    """Adds each split's longest example and how many were cut to the data's description.

    Args:
        info: the data's description.
        features: split -> its examples.
        limit: tokens kept of what is put in.
        target_room: tokens that may be written; None for a task that writes none.
    """
    splits, cut, many = {}, [], False
    for name, split in info.splits.items():
        lengths = [feature.length for feature in features[name]]
        truncated = sum(feature.truncated for feature in features[name])
        splits[name] = split.model_copy(update={"truncated": truncated, "longest_tokens": max(lengths)})
        cut.append(f"{truncated} of {len(lengths)} {name}")
        many = many or truncated > MANY * len(lengths)
    findings = []
    if many:
        message = f"examples longer than {limit} tokens were cut: {', '.join(cut)}"
        findings.append(Finding(name="truncated", message=message))
    if target_room is not None:
        findings += _find_long_targets(features, target_room)
    return info.model_copy(update={"splits": splits}), findings


def _find_long_targets(features: dict[str, list[Features]], room: int) -> list[Finding]:
    """Reports targets that are longer than the model may write."""
    counts = {name: sum(f.target_length > room for f in split) for name, split in features.items()}
    if not any(counts.values()):
        return []
    shares = ", ".join(f"{count} of {len(features[name])} {name}" for name, count in counts.items())
    cut = any(len(f.target_ids) < f.target_length for split in features.values() for f in split)
    consequence = "were cut to that for training and loss" if cut else "are learned whole"
    return [
        Finding(
            name="long_targets",
            message=f"targets longer than the {room} tokens that may be written {consequence}: {shares}",
        )
    ]


def note_references(task: Task, examples: Sequence[Example], tokenizer: Any) -> list[Finding]:
    """Reports targets that no output can equal exactly, because encoding them to tokens loses something."""
    references = task.references(examples, tokenizer)
    pairs = list(zip(examples, references, strict=True))
    changed = [(e, reference) for e, reference in pairs if _normalise(e.target) != _normalise(reference)]
    if not changed:
        return []
    example, reference = changed[0]
    message = (
        f"{len(changed)} of {len(examples)} test targets lose something as tokens: special tokens, or what the model's "
        f"tokenizer does not know; outputs are compared with what is left, at {example.place} {reference[:60]!r}"
    )
    return [Finding(name="targets_not_read_back", message=message)]


def _normalise(text: str) -> str:
    """Normalises a text to what decoding must give back: all but case, spaces and the Unicode form."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def result_findings(task: Task, predictions: list[Prediction], info: DataInfo) -> list[Finding]:
    """Reports what went wrong with the result itself."""
    findings = []
    outputs = {prediction.output for prediction in predictions}
    if len(outputs) == 1 and len({p.target for p in predictions}) > 1:
        output = next(iter(outputs))
        description = "written as nothing" if not output.strip() else f"predicted as {output[:80]!r}"
        findings.append(Finding(name="collapsed", message=f"every test example is {description}"))
    if task.produces == "text":
        findings += _check_written(predictions, task.target_room)
    classes = info.splits["test"].classes
    if classes and task.produces == "class":
        accuracy = sum(prediction.output == prediction.target for prediction in predictions) / len(predictions)
        largest_share = max(classes.values()) / sum(classes.values())
        if accuracy <= largest_share:
            message = f"test accuracy {accuracy:.3f} is not above the largest class's share, {largest_share:.3f}"
            findings.append(Finding(name="below_baseline", message=message))
    return findings


def _check_written(predictions: list[Prediction], room: int | None) -> list[Finding]:
    """Reports texts that the model left empty and texts that it did not end: both lower a score for other reasons."""
    counts = {
        "empty_outputs": ("are empty", sum(not p.output.strip() for p in predictions)),
        "unended_outputs": (
            f"had not ended after {room} tokens",
            sum(room is not None and (p.generated_tokens or 0) >= room for p in predictions),
        ),
    }
    return [
        Finding(name=name, message=f"{count} of {len(predictions)} test outputs {description}")
        for name, (description, count) in counts.items()
        if count > MANY * len(predictions)
    ]
