"""Metrics that tasks share: of classes, and of the tokens of a text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs

Array = NDArray[np.float64]


def right(outputs: Outputs) -> list[float]:
    """Returns 1 for each example whose output is its target, and 0 for others."""
    return [float(target == output) for target, output in zip(outputs.targets, outputs.outputs, strict=True)]


def negative_log_likelihoods(outputs: Outputs) -> list[float] | None:
    """Returns the nats of each example's class; None where an example has no log-probability of every class."""
    numbers = target_numbers(outputs)
    return None if numbers is None else [-own[at] for own, at in zip(outputs.scores, numbers, strict=True)]


def target_numbers(outputs: Outputs) -> list[int] | None:
    """Returns the number of each example's class; None where an example has no log-probability of every class."""
    number = {label: i for i, label in enumerate(outputs.labels)}
    if not number.keys() >= set(outputs.targets) or {len(scores) for scores in outputs.scores} != {len(number)}:
        return None
    return [number[target] for target in outputs.targets]


def class_counts(outputs: Outputs) -> NDArray[np.bool_]:
    """Returns whether each example is right, has the target and has the output of each class that occurs.

    The shape is (examples, 3 · classes): first all classes' right ones, then the targets, then the outputs. A class
    that some of the examples lose is still counted: as 0 by macro-F1.
    """
    return _counts(outputs, {*outputs.targets, *outputs.outputs})


def named_class_counts(outputs: Outputs) -> NDArray[np.bool_]:
    """Returns the same without the empty output, which names no class: it must not be one more whose F1 is 0."""
    return _counts(outputs, {*outputs.targets, *outputs.outputs} - {""})


def _counts(outputs: Outputs, present: set[str]) -> NDArray[np.bool_]:
    classes = [*(label for label in outputs.labels if label in present), *sorted(present - set(outputs.labels))]
    number = {label: i for i, label in enumerate(classes)}
    target, output = (
        np.equal(np.array([number.get(label, -1) for label in column])[:, None], np.arange(len(classes)))
        for column in (outputs.targets, outputs.outputs)
    )
    return np.hstack([target & output, target, output])


def macro_f1(counts: Array) -> Any:
    """Computes macro-F1 from the sums of `named_class_counts`, shape (sums,) or (many, sums)."""
    correct, true, predicted = parts_of_counts(counts)
    scores = 2 * correct / np.maximum(true + predicted, 1)
    return scores.sum(axis=-1) / scores.shape[-1]


def micro_f1(counts: Array) -> Any:
    """Computes micro-F1 from sums as those of `class_counts`, shape (sums,) or (many, sums); 0 where there is none."""
    right, true, said = _totals(counts)
    return 2 * right / np.maximum(true + said, 1)


def precision(counts: Array) -> Any:
    """Computes the share of what is said that is right, from the same sums."""
    right, _, said = _totals(counts)
    return right / np.maximum(said, 1)


def recall(counts: Array) -> Any:
    """Computes the share of what is true that is said, from the same sums."""
    right, true, _ = _totals(counts)
    return right / np.maximum(true, 1)


def _totals(counts: Array) -> tuple[Array, Array, Array]:
    right, true, said = (part.sum(axis=-1) for part in parts_of_counts(counts))
    return right, true, said


def matthews_correlation(counts: Array) -> Any:
    """Computes the multi-class Matthews correlation (Gorodkin 2004) from the sums of `class_counts`, shape (sums,) or
    (many, sums)."""
    correct, true, predicted = parts_of_counts(counts)
    total = true.sum(axis=-1)
    squares = (total**2 - (own**2).sum(axis=-1) for own in (predicted, true))
    spread = np.prod(np.stack([*squares]), axis=0)
    covariance = correct.sum(axis=-1) * total - (true * predicted).sum(axis=-1)
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)


def parts_of_counts(counts: Array) -> tuple[Array, Array, Array]:
    """Returns how many are right, are of each class and are said to be, each of shape (…, classes)."""
    parts = counts.reshape(*counts.shape[:-1], 3, -1)
    return parts[..., 0, :], parts[..., 1, :], parts[..., 2, :]


def nats_and_tokens(outputs: Outputs) -> Any:
    """Returns nats and tokens of each example's target, shape (examples, 2); None where they were not counted."""
    if None in outputs.losses or not all(outputs.target_tokens):
        return None
    return np.array([outputs.losses, outputs.target_tokens], dtype=np.float64).T


def nats_per_token(sums: Array) -> float:
    """Computes the mean loss of a token from the sums of `nats_and_tokens`."""
    return float(sums[0] / sums[1])


def perplexity(sums: Array) -> float:
    """Computes the perplexity from the sums of `nats_and_tokens`."""
    # Beyond e^700 there is no float, nor anything to tell apart.
    return math.exp(min(nats_per_token(sums), 700.0))


def nats_and_bytes(outputs: Outputs) -> Any:
    """Returns nats and bytes of each example's target, shape (examples, 2); None where they were not counted."""
    if None in outputs.losses or not outputs.target_bytes or not all(outputs.target_bytes):
        return None
    return np.array([outputs.losses, outputs.target_bytes], dtype=np.float64).T


def bits_per_byte(sums: Array) -> float:
    """Computes the bits that a byte of text takes, from the sums of `nats_and_bytes`: it compares models whatever their
    tokens."""
    return float(sums[0] / sums[1] / math.log(2))
