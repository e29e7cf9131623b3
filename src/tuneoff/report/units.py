"""Formats figures for people: seconds, bytes, counts and their spreads as text."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def seconds(value: float) -> str:
    """Formats a duration: `3.2 ms`, `12.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if value < 0.9995:
        return f"{value * 1000:.1f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    rounded = round(value)
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def byte_unit(value: float) -> tuple[float, str]:
    """Returns the size of the largest unit that leaves at least 1, in bytes, and the unit's name."""
    size, index = 1.0, 0
    while index + 1 < len(_BYTES) and abs(value) >= size * 1024:
        size, index = size * 1024, index + 1
    return size, _BYTES[index]


def size(value: float) -> str:
    """Formats a number of bytes: `512 B`, `1.2 MiB`."""
    unit, name = byte_unit(value)
    return f"{value:.0f} B" if name == "B" else f"{value / unit:.1f} {name}"


def count(value: float) -> str:
    """Formats a count: `1,234`, `894,528`, `1.2 M`, `1.5 G`."""
    if abs(value) < 999_999.5:
        return f"{value:,.0f}"
    if abs(value) < 999.95e6:
        return f"{value / 1e6:.1f} M"
    return f"{value / 1e9:.1f} G"


def short_count(value: float) -> str:
    """Formats a count for axes: `850`, `10k`, `1.5M`."""
    for size_, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size_:
            return f"{value / size_:g}{letter}"
    return f"{value:g}"


def number(value: float) -> str:
    """Formats a number with about four digits, without an exponent for everyday sizes: `0.8617`, `163.7`,
    `124,647,170`."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def exact(value: float) -> str:
    """Formats a figure as somebody wrote it: `93.88`, `0.2193`, `124,647,170`."""
    return number(value) if value == int(value) else f"{value:,.10g}"


def rate(value: float) -> str:
    """Formats a learning rate: `0.001`, `2e-05`."""
    return f"{value:g}"


def score(value: float, std: float | None = None) -> str:
    """Formats a metric, with its standard deviation over seeds: `0.862 ± 0.012`."""
    return f"{value:.3f}" if std is None else f"{value:.3f} ± {std:.3f}"


def seconds_spread(value: float, std: float | None) -> str:
    """Formats a duration with its spread: `12.3 ± 0.4 s`; the two parts have units of their own from a minute on."""
    if std is None:
        return seconds(value)
    if value < 0.9995:
        return f"{value * 1000:.1f} ± {std * 1000:.1f} ms"
    if value < 59.95:
        return f"{value:.1f} ± {std:.1f} s"
    return f"{seconds(value)} ± {seconds(std)}"


def size_spread(value: float, std: float | None) -> str:
    """Formats a size with its spread: `512.3 ± 1.2 MiB`; a spread that rounds to nothing is left out."""
    unit, name = byte_unit(value)
    if std is None or std / unit < 0.05:
        return size(value)
    return f"{value / unit:.1f} ± {std / unit:.1f} {name}"


def number_spread(value: float, std: float | None) -> str:
    """Formats a number with its spread: `163.7 ± 2.1`."""
    digits = decimals(value)
    text = f"{value:,.{digits}f}"
    return text if std is None else f"{text} ± {std:,.{digits}f}"


def change_spread(value: float, std: float | None) -> str:
    """Formats a change with its sign, and its spread: `+0.012 ± 0.003`."""
    text = with_sign(value, f"{abs(value):.3f}")
    return text if std is None else f"{text} ± {std:.3f}"


def with_sign(value: float, text: str) -> str:
    """Puts a number's sign before its text, which has none: `-0.012`. What is shown as 0 gets a plus, so that nothing
    stands there as below 0 that cannot be seen to be."""
    return f"{'-' if value < 0 and set(text) & set('123456789') else '+'}{text}"


def decimals(value: float) -> int:
    """Returns how many decimals show a number of any size with about four digits; what is under 1e-9 counts as 0."""
    magnitude = abs(value)
    if 1e-9 <= magnitude < 0.1:
        return 2 - math.floor(math.log10(magnitude))
    return 0 if magnitude >= 1000 else 1 if magnitude >= 100 else 2 if magnitude >= 1 else 3


def bound(value: float, digits: int, up: bool = True) -> str:
    """Formats a bound, rounded up (or down), never to the nearest: so what is shown is a bound, too."""
    exact_value, step = Decimal(repr(float(value))), Decimal(1).scaleb(-digits)
    rounded = exact_value.quantize(step, ROUND_CEILING if up else ROUND_FLOOR, Context(prec=400))
    return f"{rounded or Decimal(0):,.{digits}f}"
