"""Learning curves over the number of training rows: a law for each method, what more rows bring, where methods cross.

All of it comes from draws of all true means together, of every method at every size (`joint.py`): the same seeds and
test examples at all of them, so that what is an error of all cancels in differences. To each draw a law is fitted
(`learning_law.py`); percentiles of what the laws say are the intervals. Where there are two laws, the draws are shared
out by how well each fits the means. Where sizes contradict a law more than their errors explain, each draw gets an
error for each size besides (`_misfit`): the rows of a size are one draw of rows, of which neither seeds nor examples
tell, and no law is exact.

The law is tested where there are sizes enough: fitted without the largest, it must foretell what was measured there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tuneoff.analysis.statistics.crossed import components
from tuneoff.analysis.statistics.estimates import LEVEL
from tuneoff.analysis.statistics.joint import draw_means
from tuneoff.analysis.statistics.learning_law import FEWEST_SIZES, PARAMETERS, Form, Laws, fit, forms_for
from tuneoff.analysis.statistics.pairs import Direction
from tuneoff.analysis.statistics.ranking import Ranking
from tuneoff.analysis.statistics.sample import Sample

Array = NDArray[np.float64]
DRAWS = 2000
MORE = (0.25, 1.0)
"""Rows more than the largest size, as shares of it, for which it is said what they bring; no law is asked beyond."""
LINE_POINTS = 40
NO_BEST_VALUE = "the metric has no best value, to which an error could be counted"
TOO_FEW_SIZES = f"a law takes {FEWEST_SIZES} sizes"
NO_ERROR = "one seed and no values per example: the errors of the means are not known"


@dataclass(frozen=True)
class Bounded:
    """A figure with the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """What more rows than the largest size are expected to bring, in the metric's unit; positive is better."""

    more: int
    gain: Bounded


@dataclass(frozen=True)
class HeldOut:
    """The law without the largest size against what was measured there.

    Attributes:
        forms: the laws that fit the sizes without it.
        predicted: the metric by these laws, as it would be measured.
        measured: the mean that was measured.
        error: predicted minus measured, with the interval of that difference.
    """

    rows: int
    forms: tuple[Form, ...]
    predicted: Bounded
    measured: float
    error: Bounded

    @property
    def holds(self) -> bool:
        """Returns whether the interval of the error holds 0."""
        return self.error.low <= 0 <= self.error.high


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """One of a method's laws.

    Attributes:
        law: that of the means, the only one of its set.
        drawn: those of the draws that it has.
        share: of the draws.
        misfit: standard deviation of the error that sizes have besides, in the metric's unit.
    """

    law: Laws
    drawn: Laws
    share: float
    misfit: float


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """A method's laws.

    Attributes:
        label: the method's label.
        rows: sizes at which it was measured, ascending.
        laws: the law, or the two that share the draws; none where there is none, and `reason` says why.
        gains: what more rows bring.
        held_out: the test of the law; None with too few sizes for one.
        line: rows and the metric by the law with its band, from the least size to as far as it is asked.
    """

    label: str
    rows: tuple[int, ...]
    laws: tuple[FittedLaw, ...] = ()
    gains: tuple[Gain, ...] = ()
    held_out: HeldOut | None = None
    line: tuple[tuple[int, Bounded], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Crossing:
    """Where one method overtakes another, between the least and the largest size that both have.

    Attributes:
        first, second: the better with few rows, and the better with many.
        rows: where their means cross, interpolated between sizes by the logarithm of rows.
        low, high: the interval of that place; None where no draws tell it.
        share: share of the draws in which the first is better at the least size and the second at the largest.
    """

    first: str
    second: str
    rows: float
    low: float | None
    high: float | None
    share: float | None


@dataclass(frozen=True)
class Curves:
    """The learning curves of all methods."""

    fitted: tuple[FittedCurve, ...]
    crossings: tuple[Crossing, ...]


def learning_curves(
    samples: Mapping[str, Mapping[int, Sample]],
    direction: Direction,
    best_value: float,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Curves:
    """Fits every method's law and finds where methods cross.

    Args:
        samples: label -> number of training rows -> the scores there, on the same test examples.
        direction: which scores are better.
        best_value: of the metric; infinite where there is none.
        level: of the intervals.
        draws: of the true means.
    """
    cells = [
        replace(sample, label=f"{label} @ {rows}") for label, own in samples.items() for rows, sample in _by_rows(own)
    ]
    drawn = _drawn(cells, draws)
    places = iter(range(len(cells)))
    curves = [
        _SizeCurve(label, tuple(rows for rows, _ in own), [sample for _, sample in own], [next(places) for _ in own])
        for label, own in ((label, _by_rows(each)) for label, each in samples.items())
        if own
    ]
    fitter = _Fitter(drawn, direction, best_value, level)
    pairs = itertools.combinations(curves, 2)
    crossings = [crossing for pair in pairs if (crossing := _crossing(*pair, drawn, direction, level)) is not None]
    return Curves(tuple(map(fitter.fitted, curves)), tuple(sorted(crossings, key=lambda each: -(each.share or 0.0))))


@dataclass(frozen=True, eq=False)
class _SizeCurve:
    """A method's scores at each of its sizes; `places` are those of their columns in the draws."""

    label: str
    rows: tuple[int, ...]
    samples: Sequence[Sample]
    places: Sequence[int]

    @property
    def means(self) -> Array:
        return np.array([sample.scores.mean() for sample in self.samples])


def _by_rows(samples: Mapping[int, Sample]) -> list[tuple[int, Sample]]:
    return sorted(samples.items())


def _drawn(cells: Sequence[Sample], draws: int) -> Array | None:
    """Draws the true means of all cells, shape (draws, cells); None where the error of one is not known."""
    known = all(sample.contributions is not None for sample in cells) or all(len(sample) > 1 for sample in cells)
    if not cells or not known:
        return None
    means = {sample.label: float(sample.scores.mean()) for sample in cells}
    return draw_means(cells, draws, ranking=Ranking(tuple(means), means))


@dataclass(frozen=True)
class _Fitter:
    """Fits laws to the draws of the true means."""

    drawn: Array | None
    direction: Direction
    best_value: float
    level: float

    def fitted(self, curve: _SizeCurve) -> FittedCurve:
        nothing = FittedCurve(curve.label, curve.rows)
        if not math.isfinite(self.best_value):
            return replace(nothing, reason=NO_BEST_VALUE)
        if not forms_for(len(curve.rows)):
            return replace(nothing, reason=TOO_FEW_SIZES)
        if self.drawn is None:
            return replace(nothing, reason=NO_ERROR)
        laws, largest = self._fit(curve), curve.rows[-1]
        more = [max(1, round(share * largest)) for share in MORE]
        own, drawn = _foretold(laws, [largest, *(largest + rows for rows in more)])
        gains = tuple(
            Gain(rows, self._bounded(own[0] - own[at], drawn[:, 0] - drawn[:, at])) for at, rows in enumerate(more, 1)
        )
        return replace(nothing, laws=laws, gains=gains, held_out=self._held_out(curve), line=self._line(curve, laws))

    def _fit(self, curve: _SizeCurve, without_last: bool = False) -> tuple[FittedLaw, ...]:
        """Fits each law to the means and to its share of their draws."""
        assert self.drawn is not None
        kept = slice(0, -1) if without_last else slice(None)
        rows, weights = np.array(curve.rows[kept], dtype=np.float64), _weights(curve.samples[kept])
        errors, means = (self._error(each)[:, kept] for each in (self.drawn[:, curve.places], curve.means[None]))
        noise = np.random.default_rng(1).standard_normal(errors.shape)
        forms = forms_for(len(rows))
        fitted = [[fit(rows, each, weights, form) for each in (means, errors)] for form in forms]
        # What a law leaves of the means, and what it leaves of the errors that the draws add to them.
        left = [
            [
                float((((each - own.at(rows)) ** 2) @ weights).mean())
                for each, own in zip((means, errors), both, strict=True)
            ]
            for both in fitted
        ]
        explained = [max(drawn - own, 0.0) for own, drawn in left]
        shares = _shares([own for own, _ in left], max(explained))
        starts = np.concatenate([[0], np.cumsum(shares)]) * len(errors)
        laws = []
        for at, (form, share) in enumerate(zip(forms, shares, strict=True)):
            part = slice(*np.round(starts[at : at + 2]).astype(int))
            misfit = _misfit(left[at][0], explained[at], 1 - PARAMETERS[form] / len(rows))
            drawn = fit(rows, errors[part] + misfit * noise[part], weights, form)
            laws.append(FittedLaw(fitted[at][0], drawn, share, misfit))
        return tuple(law for law in laws if len(law.drawn.limit))

    def _held_out(self, curve: _SizeCurve) -> HeldOut | None:
        forms = forms_for(len(curve.rows) - 1)
        if not forms:
            return None
        assert self.drawn is not None
        laws, largest = self._fit(curve, without_last=True), curve.rows[-1]
        own, drawn = _foretold(laws, [largest])
        misfits = np.concatenate([np.full(len(law.drawn.limit), law.misfit) for law in laws])
        score = float(self._score(own)[0])
        scores = self._score(drawn[:, 0] + misfits * np.random.default_rng(2).standard_normal(len(drawn)))
        measured = float(curve.means[-1])
        return HeldOut(
            rows=largest,
            forms=tuple(law.law.form for law in laws),
            predicted=self._bounded(score, scores),
            measured=measured,
            error=self._bounded(score - measured, scores - self.drawn[:, curve.places[-1]]),
        )

    def _line(self, curve: _SizeCurve, laws: Sequence[FittedLaw]) -> tuple[tuple[int, Bounded], ...]:
        rows = np.unique(np.geomspace(curve.rows[0], curve.rows[-1] * (1 + max(MORE)), LINE_POINTS).round().astype(int))
        own, drawn = map(self._score, _foretold(laws, rows))
        return tuple((int(each), self._bounded(own[at], drawn[:, at])) for at, each in enumerate(rows))

    def _error(self, scores: Array) -> Array:
        errors: Array = self.best_value - scores if self.direction == "higher" else scores - self.best_value
        return np.maximum(errors, 0.0)

    def _score(self, errors: Array) -> Array:
        scores: Array = self.best_value - errors if self.direction == "higher" else self.best_value + errors
        return scores

    def _bounded(self, value: float, drawn: Array) -> Bounded:
        low, high = np.quantile(drawn, ((1 - self.level) / 2, (1 + self.level) / 2))
        return Bounded(float(value), min(float(low), float(value)), max(float(high), float(value)))


def _weights(samples: Sequence[Sample]) -> Array:
    """Returns the weight of each size, summing to 1: the inverse of its mean's variance. A variance that is small by
    chance, as of few seeds, counts as a quarter of the median."""
    variances = np.array([components(sample).variance for sample in samples])
    least = float(np.median(variances)) / 4
    if least <= 0:
        return np.full(len(samples), 1 / len(samples))
    weights = 1 / np.maximum(variances, least)
    normalised: Array = weights / weights.sum()
    return normalised


def _foretold(laws: Sequence[FittedLaw], rows: ArrayLike) -> tuple[Array, Array]:
    """Returns the errors at these numbers of rows by the laws of the means, shape (sizes,), each law by its share, and
    by the draws of all laws, shape (draws, sizes)."""
    own: Array = sum((law.share * law.law.at(rows)[0] for law in laws), np.zeros(np.size(rows)))
    return own, np.concatenate([law.drawn.at(rows) for law in laws])


def _shares(left: Sequence[float], explained: float) -> list[float]:
    """Shares out the draws among laws of as many parameters, by likelihood.

    Args:
        left: weighted mean square of what each law leaves of the means.
        explained: how much of that the errors of the means explain, at the most of any law.
    """
    beyond = np.array(left) - min(left)
    likelihoods = np.exp(-0.5 * beyond / explained) if explained else (beyond == 0).astype(np.float64)
    shares: list[float] = (likelihoods / likelihoods.sum()).tolist()
    return shares


def _misfit(left: float, explained: float, share: float) -> float:
    """Estimates the standard deviation of an error that each size has besides that of its mean.

    Args:
        left: weighted mean square of what a law leaves of the means.
        explained: how much of that the errors of the means explain.
        share: of the variance that a law leaves of errors which are independent.
    """
    return math.sqrt(max(left - explained, 0.0) / share)


def _crossing(
    one: _SizeCurve, other: _SizeCurve, drawn: Array | None, direction: Direction, level: float
) -> Crossing | None:
    """Finds where one method overtakes the other; None where their means do not cross."""
    shared = sorted(set(one.rows) & set(other.rows))
    if len(shared) < 2:
        return None
    sign = 1.0 if direction == "higher" else -1.0
    at = [[curve.rows.index(rows) for rows in shared] for curve in (one, other)]
    leads = sign * (one.means[at[0]] - other.means[at[1]])
    if leads[0] * leads[-1] >= 0:
        return None
    if leads[0] < 0:
        return _crossing(other, one, drawn, direction, level)
    logs = np.log(shared)
    place = float(np.exp(_zeros(logs, leads[None]))[0])
    crossing = Crossing(one.label, other.label, place, None, None, None)
    if drawn is None:
        return crossing
    columns = [[curve.places[index] for index in own] for curve, own in zip((one, other), at, strict=True)]
    drawn_leads = sign * (drawn[:, columns[0]] - drawn[:, columns[1]])
    crossed = drawn_leads[(drawn_leads[:, 0] > 0) & (drawn_leads[:, -1] < 0)]
    share = len(crossed) / len(drawn_leads)
    if not len(crossed):
        return replace(crossing, share=share)
    low, high = np.exp(np.quantile(_zeros(logs, crossed), ((1 - level) / 2, (1 + level) / 2)))
    return replace(crossing, low=min(float(low), place), high=max(float(high), place), share=share)


def _zeros(logs: Array, leads: Array) -> Array:
    """Finds where leads that begin above 0 and end below fall under it for the last time, between two sizes by the
    logarithm; shape (sets,)."""
    last = leads.shape[1] - 2 - (leads[:, :-1] > 0)[:, ::-1].argmax(axis=1)
    rows = np.arange(len(leads))
    before, after = leads[rows, last], leads[rows, last + 1]
    zeros: Array = logs[last] + (logs[last + 1] - logs[last]) * before / (before - after)
    return zeros
