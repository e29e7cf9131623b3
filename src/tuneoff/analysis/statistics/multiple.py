"""Many pairs at once: Holm's correction, and groups of methods that cannot be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values, in the given order: below 5 %, some true null is rejected in at most 5 % of studies.

    Holds however the tests depend on one another. Holm, A simple sequentially rejective multiple test procedure,
    Scand J Stat 6, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [0.0] * len(p_values)
    reached = 0.0
    for rank, at in enumerate(order):
        reached = max(reached, min(1.0, p_values[at] * (len(p_values) - rank)))
        corrected[at] = reached
    return corrected


def tie_groups(ranked: Sequence[str], different: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """The largest groups within which nothing could be told apart; a method may be in several.

    Two methods share a group exactly when they are not in `different`. Insert and absorb: Piepho, An algorithm for a
    letter-based representation of all-pairwise comparisons, J Comput Graph Stat 13, 2004.

    Args:
        ranked: the methods, best first; each group and the groups themselves keep this order.
        different: pairs that were told apart, in either order.
    """
    place = {label: at for at, label in enumerate(ranked)}
    groups = [frozenset(place)] if place else []
    for pair in different:
        split = [group for group in groups if set(pair) <= group]
        pieces = [piece for group in split for piece in (group - {pair[0]}, group - {pair[1]})]
        kept = [group for group in groups if group not in split]
        for piece in pieces:
            if any(piece <= group for group in kept):
                continue
            kept = [group for group in kept if not group < piece]
            kept.append(piece)
        groups = kept
    ordered = [tuple(sorted(group, key=place.__getitem__)) for group in groups]
    return tuple(sorted(ordered, key=lambda group: [place[label] for label in group]))


def letters(groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Label -> its groups' letters, `a` first: methods that share a letter could not be told apart."""
    found: dict[str, str] = {}
    for at, group in enumerate(groups):
        for label in group:
            found[label] = found.get(label, "") + _letter(at)
    return found


def _letter(at: int) -> str:
    """a … z, then a1 … z1, a2 …"""
    return chr(ord("a") + at % 26) + (str(at // 26) if at >= 26 else "")
