"""Sets of labels: read from cells, and scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.interfaces import Outputs, is_missing, read_labels
from tuneoff.tasks._cells import nearly_all
from tuneoff.tasks._literals import parse_literal

Array = NDArray[np.float64]

SEPARATORS = "|;,"
"""What stands between labels in a text cell, the surest first."""
MOST_WORDS = 3
"""Words of a label in a column that is taken for labels unasked."""
_YES_NO = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False, "1.0": True, "0.0": False}


def parts_of(cell: Any, separator: str) -> list[Any] | None:
    """Returns the labels of a cell: of a list, or of a text that is one or holds separators; None if it is neither."""
    value = parse_literal(cell)
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator)] if separator else [value.strip()]
    if isinstance(value, Mapping | bytes):
        return None
    if isinstance(value, Real):
        return [value]
    parts = list(value) if isinstance(value, Iterable) else None
    return parts if parts is None or all(isinstance(part, str | Real) for part in parts) else None


def is_list(cell: Any) -> bool:
    """Tells whether a cell is a list of names or whole numbers, written out or not."""
    value = parse_literal(cell)
    if isinstance(value, str | Mapping | bytes | Real) or not isinstance(value, Iterable):
        return False
    return all(isinstance(part, str) or (isinstance(part, Real) and part % 1 == 0) for part in value)


def yes_or_no(cell: Any) -> bool | None:
    """Returns whether a cell says yes; None where it says neither yes nor no."""
    return _YES_NO.get(str(cell).strip().lower())


def are_flags(cells: Iterable[Any]) -> bool:
    """Tells whether every cell of a column that is not empty says yes or no, and some do."""
    said = {yes_or_no(cell) for cell in cells if not is_missing(cell)}
    return bool(said) and None not in said


def are_lists(cells: Iterable[Any]) -> bool:
    """Tells whether nearly every cell of a column that is not empty is such a list."""
    return nearly_all([is_list(cell) for cell in cells if not is_missing(cell)])


def are_vectors(cells: Sequence[Any]) -> bool:
    """Tells whether a column holds vectors of 0 and 1 with a place for each label: lists of one length that repeat a
    number, as the numbers of a row's labels would not; a few rows may be broken."""
    lists = [list(map(str, parse_literal(cell))) if is_list(cell) else [] for cell in cells]
    size = max(Counter(map(len, lists)).items(), key=itemgetter(1), default=(0, 0))[0]
    # NumPy writes 1. for 1.0.
    fits = [len(own) == size and all(yes_or_no(part.removesuffix(".")) is not None for part in own) for own in lists]
    repeats = (len(set(own)) < size for own, is_vector in zip(lists, fits, strict=True) if is_vector)
    return nearly_all(fits) and any(repeats)


def find_separator(cells: Iterable[Any]) -> str:
    """Returns what stands between the labels of a column's texts; empty where nothing does."""
    texts = [cell for cell in cells if isinstance(parse_literal(cell), str)]
    return next((mark for mark in SEPARATORS if any(mark in text for text in texts)), "")


def joined_labels(cells: Sequence[str]) -> str:
    """Returns a cell that names several labels, e.g. `a|b`, where many cells of the column do and labels repeat; else
    an empty text."""
    for separator in SEPARATORS:
        several = [cell for cell in cells if separator in cell]
        labels = {part.strip() for cell in cells for part in cell.split(separator)}
        short = all(len(label.split()) <= MOST_WORDS for label in labels)
        if several and len(several) >= len(cells) / 5 and len(labels) < len(set(cells)) and short:
            return several[0]
    return ""


def holds_labels(cells: Sequence[Any], named: bool = False) -> bool:
    """Tells whether a column holds several labels a row: lists of few different ones, or texts with separators.

    Where it is `named` like labels, these may also be long or a single one, and a list may repeat one.
    """
    filled = [cell for cell in cells if not is_missing(cell)]
    if not filled:
        return False
    if nearly_all(read := list(map(is_list, filled))):
        lists = [list(map(str, parse_literal(cell))) for cell, fits in zip(filled, read, strict=True) if fits]
        parts = [part for own in lists for part in own]
        distinct = set(parts)
        few = len(distinct) <= max(2, len(parts) // 2) and len(distinct) <= len(filled)
        if named:
            return few
        # A list that repeats an entry is a sequence, such as words or tags.
        sets = nearly_all([len(set(own)) == len(own) for own in lists])
        return few and sets and len(distinct) > 1 and all(len(part.split()) <= MOST_WORDS for part in distinct)
    return all(isinstance(cell, str) for cell in filled) and bool(joined_labels([cell.strip() for cell in filled]))


# --- thresholds


def best_threshold(scores: Array, present: NDArray[np.bool_]) -> float:
    """Returns the probability from which on calling a label present gives the highest F1; 0.5 where none is present.

    It is above 0 and at most 1, and lies halfway to the next lower probability, so that nothing depends on rounding,
    unless the two are too close for that.

    Args:
        scores: probabilities, of any shape.
        present: whether the label is, of the same shape.
    """
    found, true = scores.ravel(), present.ravel()
    if not true.any():
        return 0.5
    values, place = np.unique(-found, return_inverse=True)
    right = np.cumsum(np.bincount(place, weights=true))
    called = np.cumsum(np.bincount(place))
    # A probability of 0 is below any threshold.
    best = int(np.argmax(np.where(values < 0, 2 * right / (called + true.sum()), 0)))
    value = float(-values[best])
    if not value:
        return 0.5
    lower = float(-values[best + 1]) if best + 1 < len(values) else 0.0
    rounded = float(f"{(value + lower) / 2:.6g}")
    return rounded if lower < rounded <= value else value


# --- metrics


def label_matrix(texts: Sequence[str], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Returns which of these labels each text has, shape (texts, labels)."""
    number = {label: i for i, label in enumerate(labels)}
    has = np.zeros((len(texts), len(labels)), dtype=bool)
    for row, text in enumerate(texts):
        for label in read_labels(text):
            if label in number:
                has[row, number[label]] = True
    return has


def label_counts(outputs: Outputs) -> NDArray[np.bool_]:
    """Returns whether each example has each label rightly, truly, and as said; shape (examples, 3 · labels).

    Labels that no example has and none is said to have are left out.
    """
    present = set().union(*map(read_labels, {*outputs.targets, *outputs.outputs}))
    labels = [*(label for label in outputs.labels if label in present), *sorted(present - set(outputs.labels))]
    target, output = label_matrix(outputs.targets, labels), label_matrix(outputs.outputs, labels)
    return np.hstack([target & output, target, output])


def same_set(outputs: Outputs) -> list[float]:
    """Returns 1 for each example whose labels are all right and no others, and 0 for others."""
    pairs = zip(outputs.targets, outputs.outputs, strict=True)
    return [float(read_labels(target) == read_labels(output)) for target, output in pairs]


def _scores(outputs: Outputs) -> Array | None:
    """Returns the log-probabilities, shape (examples, labels); None where an example has not one for each label."""
    if not outputs.labels or {len(scores) for scores in outputs.scores} != {len(outputs.labels)}:
        return None
    return np.array(outputs.scores, dtype=np.float64)


def binary_losses(outputs: Outputs) -> Any:
    """Returns each example's cross-entropy in nats, the mean over its labels."""
    yes = _scores(outputs)
    if yes is None:
        return None
    no = np.log(-np.expm1(np.minimum(yes, -1e-300)))
    return -np.where(label_matrix(outputs.targets, outputs.labels), yes, no).mean(axis=1)


def precision_terms(outputs: Outputs) -> Any:
    """Returns what mean average precision is made of, shape (examples, 2 · labels that some example has).

    The average precision of a label is the mean, over the examples that have it, of the precision at their rank. An
    example also moves the precision at the ranks below its own: its terms hold the first order of that, which sums to
    zero over all examples, so that the jackknife's error is right and not of the positive examples alone.
    """
    scores = _scores(outputs)
    if scores is None:
        return None
    has = label_matrix(outputs.targets, outputs.labels)
    columns = [_label_terms(scores[:, i], has[:, i]) for i in np.flatnonzero(has.any(axis=0))]
    return np.hstack([np.stack(part, axis=1) for part in zip(*columns, strict=True)]) if columns else None


def _label_terms(scores: Array, has: NDArray[np.bool_]) -> tuple[Array, Array]:
    true = has.astype(np.float64)
    _, place = np.unique(-scores, return_inverse=True)  # equal scores share a rank, as in scikit-learn
    above = np.cumsum(np.bincount(place))[place]
    precision = np.cumsum(np.bincount(place, weights=true))[place] / above

    def from_here_down(weights: Array) -> Array:
        counted = np.asarray(np.bincount(place, weights=weights), dtype=np.float64)
        sums: Array = counted[::-1].cumsum()[::-1][place]
        return sums

    moved = true * from_here_down(true / above) - from_here_down(true * precision / above)
    return true * precision + moved, true


def mean_average_precision(sums: Array) -> Any:
    """Computes mean average precision from the sums of `precision_terms`, shape (sums,) or (many, sums)."""
    precision, true = np.moveaxis(sums.reshape(*sums.shape[:-1], 2, -1), -2, 0)
    # Without its only examples a label has no precision.
    parts = np.where(true > 0, precision / np.where(true > 0, true, 1), 0.0)
    return parts.sum(axis=-1) / np.maximum((true > 0).sum(axis=-1), 1)
