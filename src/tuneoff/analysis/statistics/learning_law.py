"""Laws of how the error of a method falls with the rows that it learns from, fitted to the errors at several sizes.

The rectified scaling law of Lin et al., Selecting large language model to fine-tune via rectified scaling law, ICML
2024 (arXiv 2402.02314):

    error(D)  =  limit + scale / (offset + D^exponent)

The offset stands for what pretraining has learned already: where it is large, the error falls late. A law has fewer
parameters than there are sizes, so that the sizes can contradict it. With few sizes there are two such laws, special
cases that err to either side: one falls less and less, the other goes on.

    five sizes or more   rectified            all four parameters
    four                 power with limit     offset 0
                         power with offset    limit 0
    three                power                offset and limit 0
                         square root          offset 0, exponent 1/2: the rate of an estimate from independent rows

With two sizes there is none. An error is the distance to the best value that the metric can take; a metric without one
has no law. The scale, and in a power law the exponent, may be negative: rows may do harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Form = Literal["rectified", "power with limit", "power with offset", "power", "square root"]
FEWEST_SIZES = 3
_EXPONENTS = np.geomspace(0.05, 3.0, 40)
_NO_OFFSET = np.array([0.0])
_OFFSETS = np.concatenate([_NO_OFFSET, np.geomspace(0.05, 20.0, 13)])
"""In units of the geometric mean of the sizes, to the power of the exponent."""


@dataclass(frozen=True, eq=False)
class _Shape:
    """What of a law is fitted: a grid of exponents and offsets, and whether its limit is free."""

    parameters: int
    exponents: Array
    offsets: Array
    has_limit: bool


_SHAPES: dict[Form, _Shape] = {
    "rectified": _Shape(4, _EXPONENTS, _OFFSETS, True),
    "power with limit": _Shape(3, _EXPONENTS, _NO_OFFSET, True),
    "power with offset": _Shape(3, _EXPONENTS, _OFFSETS, False),
    "power": _Shape(2, np.linspace(-1.0, 3.0, 161), _NO_OFFSET, False),
    "square root": _Shape(2, np.array([0.5]), _NO_OFFSET, True),
}
_OF_FEW: dict[int, tuple[Form, ...]] = {3: ("power", "square root"), 4: ("power with limit", "power with offset")}
"""Number of sizes -> the laws that share them."""
PARAMETERS: dict[Form, int] = {form: shape.parameters for form, shape in _SHAPES.items()}
"""Form -> number of its parameters."""


def forms_for(sizes: int) -> tuple[Form, ...]:
    """Returns the laws that are fitted to so many sizes; none where they are too few."""
    if sizes < FEWEST_SIZES:
        return ()
    return _OF_FEW.get(sizes, ("rectified",))


@dataclass(frozen=True, eq=False)
class Laws:
    """Laws of one form, one for each set of errors that was fitted; parameters have the shape (sets,).

    Attributes:
        form: which parameters are free.
        limit: the error that is left with any number of rows.
        scale: of the part that falls, in units of `unit` to the power of the exponent.
        offset: what pretraining stands for, likewise.
        exponent: how fast the error falls.
        unit: rows that all rows are counted in.
    """

    form: Form
    limit: Array
    scale: Array
    offset: Array
    exponent: Array
    unit: float

    def at(self, rows: ArrayLike) -> Array:
        """Computes the errors at these numbers of rows, shape (sets, sizes); none is below 0."""
        powers = (np.asarray(rows, dtype=np.float64) / self.unit) ** self.exponent[:, None]
        values: Array = self.limit[:, None] + self.scale[:, None] / (self.offset[:, None] + powers)
        return np.maximum(values, 0.0)


def fit(rows: ArrayLike, errors: ArrayLike, weights: ArrayLike, form: Form) -> Laws:
    """Fits a law to each set of errors by weighted least squares.

    The exponent and the offset are taken from a grid, limit and scale of each are the best: no start, and no search
    that may stop early.

    Args:
        rows: the sizes, shape (sizes,), each once.
        errors: distances to the best value, shape (sets, sizes).
        weights: of the sizes, shape (sizes,).
        form: which law.

    Raises:
        ValueError: if there are no more sizes than the law has parameters.
    """
    sizes, values, weight = (np.asarray(each, dtype=np.float64) for each in (rows, errors, weights))
    if len(sizes) <= PARAMETERS[form]:
        raise ValueError(f"{len(sizes)} sizes are too few for a law of {PARAMETERS[form]} parameters")
    unit = float(np.exp(np.log(sizes).mean()))
    shape = _SHAPES[form]
    exponents, offsets = (each.ravel() for each in np.meshgrid(shape.exponents, shape.offsets, indexing="ij"))
    falling = 1 / (offsets[:, None] + (sizes / unit) ** exponents[:, None])
    limit, scale, loss = _lines(falling, values, weight / weight.sum(), has_limit=shape.has_limit)
    best = loss.argmin(axis=1)
    places = np.arange(len(values))
    return Laws(form, limit[places, best], scale[places, best], offsets[best], exponents[best], unit)


def _lines(falling: Array, values: Array, weight: Array, has_limit: bool) -> tuple[Array, Array, Array]:
    """Fits limit + scale · falling, where no limit is below 0, to each set and each of these shapes.

    Args:
        falling: shape (shapes, sizes).
        values: shape (sets, sizes).
        weight: shape (sizes,), summing to 1.
        has_limit: whether the limit is free; else it is 0.

    Returns:
        Limit, scale and the weighted sum of squares, each of shape (sets, shapes).
    """
    squares, products = (falling**2) @ weight, (values * weight) @ falling.T
    total = ((values**2) @ weight)[:, None]
    scale = products / squares
    limit = np.zeros_like(scale)
    if has_limit:
        centre, mean = falling @ weight, (values @ weight)[:, None]
        spread = np.maximum(squares - centre**2, 1e-300)
        free = (products - mean * centre) / spread
        own = mean - free * centre
        scale = np.where(own > 0, free, scale)
        limit = np.where(own > 0, own, 0.0)
        loss = total - 2 * (limit * mean + scale * products) + limit**2 + 2 * limit * scale * centre
        return limit, scale, loss + scale**2 * squares
    return limit, scale, total - scale * products
