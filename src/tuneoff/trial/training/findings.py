"""What a reader must know before trusting a trial's figures."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from tuneoff.records.record import DataInfo, Finding, Metric, Prediction
from tuneoff.tasks.base import Example, Features, Task

MANY = 0.05
"""Share of examples beyond which it is told."""


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
        longer = sum(feature.truncated for feature in features[name])
        splits[name] = split.model_copy(update={"truncated": longer, "longest_tokens": max(lengths)})
        cut.append(f"{longer} of {len(lengths)} {name}")
        many = many or longer > MANY * len(lengths)
    findings = []
    if many:
        message = f"examples longer than {limit} tokens were cut: {', '.join(cut)}"
        findings.append(Finding(name="truncated", message=message))
    if target_room is not None:
        findings += _long_targets(features, target_room)
    return info.model_copy(update={"splits": splits}), findings


def _long_targets(features: dict[str, list[Features]], room: int) -> list[Finding]:
    """Targets that the model may not write to their end."""
    counts = {name: sum(f.target_length > room for f in split) for name, split in features.items()}
    if not any(counts.values()):
        return []
    where = ", ".join(f"{count} of {len(features[name])} {name}" for name, count in counts.items())
    cut = any(len(f.target_ids) < f.target_length for split in features.values() for f in split)
    what = "were cut to that for training and loss" if cut else "are learned whole"
    return [
        Finding(
            name="long_targets", message=f"targets longer than the {room} tokens that may be written {what}: {where}"
        )
    ]


def note_references(task: Task, examples: Sequence[Example], tokenizer: Any) -> list[Finding]:
    """Targets that no output can equal to the letter, because tokens do not hold them whole."""
    references = task.references(examples, tokenizer)
    pairs = list(zip(examples, references, strict=True))
    changed = [(e, reference) for e, reference in pairs if _letters(e.target) != _letters(reference)]
    if not changed:
        return []
    example, reference = changed[0]
    message = (
        f"{len(changed)} of {len(examples)} test targets lose something as tokens: special tokens, or what the model's "
        f"tokenizer does not know; outputs are compared with what is left, at {example.place} {reference[:60]!r}"
    )
    return [Finding(name="targets_not_read_back", message=message)]


def _letters(text: str) -> str:
    """What must come back from tokens: all but case, spaces and the form that Unicode writes a text in."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def result_findings(task: Task, predictions: list[Prediction], metrics: list[Metric], info: DataInfo) -> list[Finding]:
    """What went wrong with the result itself."""
    found = []
    outputs = {prediction.output for prediction in predictions}
    if len(outputs) == 1 and len({p.target for p in predictions}) > 1:
        only = next(iter(outputs))
        what = "written as nothing" if not only.strip() else f"predicted as {only[:80]!r}"
        found.append(Finding(name="collapsed", message=f"every test example is {what}"))
    if task.produces == "text":
        found += _written_findings(predictions, task.target_room)
    accuracy = next((m.value for m in metrics if m.name == "accuracy" and m.split == "test"), None)
    classes = info.splits["test"].classes
    if accuracy is not None and classes:
        floor = max(classes.values()) / sum(classes.values())
        if accuracy <= floor:
            message = f"test accuracy {accuracy:.3f} is not above the largest class's share, {floor:.3f}"
            found.append(Finding(name="below_floor", message=message))
    return found


def _written_findings(predictions: list[Prediction], room: int | None) -> list[Finding]:
    """Texts that the model left empty, and texts that it did not end: both lower a score for a cause of its own."""
    counts = {
        "empty_outputs": ("are empty", sum(not p.output.strip() for p in predictions)),
        "unended_outputs": (
            f"had not ended after {room} tokens",
            sum(room is not None and (p.generated_tokens or 0) >= room for p in predictions),
        ),
    }
    return [
        Finding(name=name, message=f"{count} of {len(predictions)} test outputs {what}")
        for name, (what, count) in counts.items()
        if count > MANY * len(predictions)
    ]
