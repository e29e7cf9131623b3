"""Colour and marker of an arm: the same in every chart and, by its label, in every study."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

# Okabe and Ito's palette without its yellow (too pale on white), then dark tones of Tol's muted one.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#666600", "#332288", "#555555")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d", "*")
DASHES = ("-", (0, (6, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_COUNT = len(COLOURS) * len(MARKERS)
_SALT = "7487"
"""Chosen so that common labels do not meet: eight that are often compared get eight colours."""


def assign_styles(labels: Iterable[str]) -> dict[str, int]:
    """Returns each label's style, a number that `COLOURS`, `MARKERS` and `DASHES` are taken by.

    It comes from the label alone, so an arm looks the same in every study; where two labels of a study meet, the later
    one keeps its colour and takes the next free marker. With more arms than there are styles some look alike.
    """
    styles: dict[str, int] = {}
    taken: set[int] = set()
    for label in labels:
        style = int.from_bytes(hashlib.sha256(f"{_SALT}{label}".encode()).digest()[:4], "big") % _COUNT
        # Adding a multiple of the colours' number changes the marker alone.
        same_colour = ((style + len(COLOURS) * step) % _COUNT for step in range(len(MARKERS)))
        any_colour = ((style + step) % _COUNT for step in range(_COUNT))
        styles[label] = next((free for free in (*same_colour, *any_colour) if free not in taken), style)
        taken.add(styles[label])
    return styles
