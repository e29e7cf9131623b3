"""The search that is equal for all methods, as pure functions: what may be chosen, and what is best.

What is tried next is in `sampling.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuneoff import registry
from tuneoff.config.protocol import Protocol
from tuneoff.config.search import Candidates
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.search.rates import center

if TYPE_CHECKING:
    import optuna

LEARNING_RATE = "learning_rate"
FRACTIONS = (LEARNING_RATE, "weight_decay", "clip_norm")
"""What is never a whole number, even where candidates are written so."""
EDGE = 0.1
"""Share of a range, at either end, that counts as its edge."""
GROWTH = 10.0
"""Factor by which a range of learning rates grows, the same for every arm."""

Values = dict[str, Any]
"""What a trial of the search sets: option, `learning_rate` or setting of the protocol -> value."""


@dataclass(frozen=True)
class Dimension:
    """One hyperparameter that is searched.

    Attributes:
        name: an option's, `learning_rate`, or that of a setting of the protocol.
        first: the value tried first.
        choices: the values to choose from, numbers in ascending order; empty for a range.
        low, high: ends of a range, both included.
        log: whether the range is searched on a logarithmic scale.
    """

    name: str
    first: Any
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def ordered(self) -> bool:
        """Returns whether the values lie in an order: a range, or a list of numbers."""
        return all(is_number(choice) for choice in self.choices)

    @property
    def whole(self) -> bool:
        """Returns whether a range holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> float:
        """Counts the values; infinite for a range of fractions."""
        if self.choices:
            return len(self.choices)
        return self.high - self.low + 1 if self.whole else math.inf

    def at(self, share: float) -> Any:
        """Returns the value at a share (0 to 1) of the range or list; of a range of fractions, to four significant
        digits."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = low + share * (high - low)
        return self.fit(math.exp(value) if self.log else value)

    def fit(self, value: float) -> float:
        """Returns the nearest value of the range, rounded so that it is short to read."""
        value = round(value) if self.whole else float(f"{value:.4g}")
        return min(max(value, self.low), self.high)

    def share(self, value: Any) -> float:
        """Returns how far (0 to 1) through the range or the list a value lies."""
        if self.choices:
            return (self.position(value) + 0.5) / len(self.choices)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return float((value - self.low) / (self.high - self.low))

    def position(self, value: Any) -> int:
        """Returns the position of a value in the list."""
        # Compared by repr, because 1 and true are equal.
        return [repr(choice) for choice in self.choices].index(repr(value))

    def edge(self, value: Any) -> int:
        """Returns -1 or 1 where a value lies at the lower or upper edge, else 0.

        The edge is the outer tenth of a range, or the least or greatest of three or more numbers.
        """
        if not self.ordered:
            return 0
        if self.choices:
            ends = {self.choices[0]: -1, self.choices[-1]: 1} if len(self.choices) > 2 else {}
            return ends.get(value, 0)
        share = self.share(value)
        return -1 if share < EDGE else 1 if share > 1 - EDGE else 0

    def as_data(self) -> dict[str, Any]:
        """Returns the dimension as plain data, without its name; `from_data` reads it."""
        if self.choices:
            return {"choices": list(self.choices), "first": self.first}
        return {"low": self.low, "high": self.high, "log": self.log, "first": self.first}

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any]) -> Dimension:
        """Returns the dimension that `as_data` described."""
        return cls(name, **{**data, "choices": tuple(data.get("choices", ()))})

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Returns the dimension as Optuna's distribution; a value of a list is represented by its position."""
        from optuna import distributions

        if self.choices:
            last = len(self.choices) - 1
            return (
                distributions.IntDistribution(0, last)
                if self.ordered
                else distributions.CategoricalDistribution(range(last + 1))
            )
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)


Space = tuple[Dimension, ...]
"""All that is searched of one arm."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one suggestion.

    Attributes:
        values: the suggestion.
        score: on validation, greater is better; None where the trial did not complete, which is the worst of all.
        loss: on validation; decides between equal scores.
        rung: which share of the steps it had; 0 without pruning (see `halving.py`).
        stopped: whether it was stopped on the way (see `stopping.py`); the score is that of then.
    """

    values: Values
    score: float | None
    loss: float | None = None
    rung: int = 0
    stopped: bool = False

    @property
    def merit(self) -> tuple[float, float]:
        """Returns a key by which greater is better: the score, then the lower loss."""
        return -math.inf if self.score is None else self.score, -math.inf if self.loss is None else -self.loss


def spaces(study: StudySpec) -> dict[str, Space]:
    """Returns the search space of each arm, by label; leaves out arms of which nothing is searched."""
    if study.protocol.search is None:
        return {}
    by_label = {label: space(arm, study) for label, arm in study.methods.items()}
    return {label: dimensions for label, dimensions in by_label.items() if dimensions}


def space(arm: MethodSpec, study: StudySpec) -> Space:
    """Returns the search space of one arm: its learning rate, unless one is set for all, the options that the arm
    lists, and the settings that the protocol lists for all."""
    method, protocol = registry.methods()[arm.method], study.protocol
    if not method.trains or protocol.search is None:
        return ()
    dimensions = []
    if protocol.learning_rate is None:
        rate = center(arm, study.model)
        candidates = arm.search.get(LEARNING_RATE, Candidates(low=rate.low, high=rate.high))
        dimensions.append(_dimension(LEARNING_RATE, candidates, rate.center))
    defaults = {key: field.default for key, field in method.Options.model_fields.items()}
    for name, candidates in arm.search.items():
        if name != LEARNING_RATE:
            dimensions.append(_dimension(name, candidates, arm.options.get(name, defaults.get(name))))
    for name, candidates in protocol.search.space.items():
        dimensions.append(_dimension(name, candidates, protocol.searchable[name]))
    return tuple(dimensions)


def settings_of(protocol: Protocol, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the values that are settings of the protocol."""
    searched = protocol.search.space if protocol.search is not None else {}
    return {name: value for name, value in values.items() if name in searched}


def _dimension(name: str, candidates: Candidates, preferred: Any) -> Dimension:
    """Returns a dimension whose first value is `preferred` where that is a candidate, else the middle candidate."""
    if candidates.choices is not None:
        choices = candidates.choices
        if name in FRACTIONS:
            # As a trial keeps them, so that they are found again.
            choices = tuple(float(choice) if is_number(choice) else choice for choice in choices)
        if all(is_number(choice) for choice in choices):
            choices = tuple(sorted(choices))
        matches = [
            choice
            for choice in choices
            if choice == preferred and isinstance(choice, bool) == isinstance(preferred, bool)
        ]
        return Dimension(name, matches[0] if matches else choices[(len(choices) - 1) // 2], choices)
    assert candidates.low is not None
    assert candidates.high is not None
    low, high, log = candidates.low, candidates.high, candidates.log or name == LEARNING_RATE
    if name in FRACTIONS:
        low, high = float(low), float(high)
    dimension = Dimension(name, None, (), low, high, log)
    inside = is_number(preferred) and low <= preferred <= high
    return replace(dimension, first=preferred if inside else dimension.at(0.5))


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def size(space: Space) -> float:
    """Counts the configurations; infinite where a range holds fractions."""
    return math.prod(dimension.size for dimension in space)


def first(space: Space) -> Values:
    """Returns the configuration that is tried first."""
    return {dimension.name: dimension.first for dimension in space}


def best(history: Sequence[Outcome]) -> int | None:
    """Returns the position of the best outcome: highest rung, greatest score, then least loss, then first.

    None where none completed. A configuration that failed in a rung is not chosen for its score in a lower one, nor
    one that was stopped on the way.
    """
    failed = [outcome for outcome in history if outcome.score is None]
    ranked = [
        (outcome.rung, outcome.merit, -index)
        for index, outcome in enumerate(history)
        if outcome.score is not None
        and not outcome.stopped
        and not any(later.rung > outcome.rung and later.values == outcome.values for later in failed)
    ]
    return -max(ranked)[2] if ranked else None


def at_edge(space: Space, values: Mapping[str, Any]) -> dict[str, int]:
    """Returns which values of a configuration lie at an edge: name -> -1 for the lower, 1 for the upper (see
    `Dimension.edge`)."""
    edges = {dimension.name: dimension.edge(values[dimension.name]) for dimension in space}
    return {name: edge for name, edge in edges.items() if edge}


def grow(space: Space, history: Sequence[Outcome]) -> Space:
    """Widens the range of learning rates by `GROWTH` on the side where the best rate lies at the edge.

    The rate tried first is then the middle of what was added, with the best values of all else. Where the best rate
    lies at no edge, or nothing completed, the space stays as it is.
    """
    index = best(history)
    if index is None:
        return space
    values = history[index].values
    ranges = tuple(d for d in space if d.name == LEARNING_RATE and not d.choices)  # a list names all that is wanted
    edge = at_edge(ranges, values).get(LEARNING_RATE)
    return tuple(_widened(d, values, edge) if edge else d for d in space)


def _widened(dimension: Dimension, values: Values, edge: int) -> Dimension:
    if dimension.name != LEARNING_RATE:
        return replace(dimension, first=values[dimension.name])
    if edge > 0:
        high = dimension.high * GROWTH
        return replace(dimension, high=high, first=float(f"{math.sqrt(dimension.high * high):.4g}"))
    low = dimension.low / GROWTH
    return replace(dimension, low=low, first=float(f"{math.sqrt(dimension.low * low):.4g}"))
