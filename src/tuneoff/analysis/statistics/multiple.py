"""Many comparisons at once: Shaffer's correction, and groups of methods that cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def shaffer(p_values: Sequence[float], methods: int) -> list[float]:
    """Corrects p-values of pairs of methods, in the given order: below 5 %, some two methods that do not differ are
    told apart in at most 5 % of studies.

    Holds however the tests depend on one another. It goes as Holm's (A simple sequentially rejective multiple test
    procedure, Scand J Stat 6, 1979), from the smallest p on, but knows that methods which equal a third one are equal:
    where one pair differs, others must. So after the first claim fewer pairs are left than were not claimed. Shaffer,
    Modified sequentially rejective multiple test procedures, J Am Stat Assoc 81, 1986.

    Args:
        p_values: of the pairs that were tested, each pair once.
        methods: number of methods that make them.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    running_max = 0.0
    for claimed, index in enumerate(order):
        left = most_equal(methods, len(p_values), claimed)
        running_max = max(running_max, min(1.0, p_values[index] * left))
        corrected[index] = running_max
    return corrected


def most_equal(methods: int, tested: int, differing: int) -> int:
    """Returns how many tested pairs may be of equal methods, at most, where so many others of these differ.

    Equal methods form blocks. That of the largest block alone can be no more than all pairs without those that differ,
    and the most pairs are in blocks of this size and one of the rest.
    """
    pairs = math.comb(methods, 2) - differing
    size = (1 + math.isqrt(1 + 8 * pairs)) // 2
    blocks, rest = divmod(methods, size)
    return min(tested - differing, blocks * math.comb(size, 2) + math.comb(rest, 2))


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
