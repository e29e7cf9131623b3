"""Many comparisons at once: Holm's correction, and groups of methods that cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values, in the given order: below 5 %, some true null is rejected in at most 5 % of studies.

    Holds however the tests depend on one another. Holm, A simple sequentially rejective multiple test procedure,
    Scand J Stat 6, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    running_max = 0.0
    for rank, index in enumerate(order):
        running_max = max(running_max, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = running_max
    return corrected


def tie_groups(ranked: Sequence[str], different: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Finds the largest groups within which nothing could be told apart; a method may be in several.

    Two methods share a group exactly when they are not in `different`. Insert and absorb: Piepho, An algorithm for a
    letter-based representation of all-pairwise comparisons, J Comput Graph Stat 13, 2004.

    Args:
        ranked: the methods, best first; each group and the groups themselves keep this order.
        different: pairs that were told apart, in either order.
    """
    position = {label: index for index, label in enumerate(ranked)}
    groups = [frozenset(position)] if position else []
    for pair in different:
        violating = [group for group in groups if set(pair) <= group]
        pieces = [piece for group in violating for piece in (group - {pair[0]}, group - {pair[1]})]
        remaining = [group for group in groups if group not in violating]
        for piece in pieces:
            if any(piece <= group for group in remaining):
                continue
            remaining = [group for group in remaining if not group < piece]
            remaining.append(piece)
        groups = remaining
    ordered = [tuple(sorted(group, key=position.__getitem__)) for group in groups]
    return tuple(sorted(ordered, key=lambda group: [position[label] for label in group]))


def letters(groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Maps each label to its groups' letters, `a` first: methods that share a letter could not be told apart."""
    letters_by_label: dict[str, str] = {}
    for index, group in enumerate(groups):
        for label in group:
            letters_by_label[label] = letters_by_label.get(label, "") + _letter(index)
    return letters_by_label


def _letter(index: int) -> str:
    """Returns a … z, then a1 … z1, a2 …"""
    return chr(ord("a") + index % 26) + (str(index // 26) if index >= 26 else "")
