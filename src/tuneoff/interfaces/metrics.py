"""What a task declares of each metric: its name, which way is better, and how it is computed from predictions.

Both the trial that scores a model and the statistics that compare methods compute a metric by its one definition. A
metric is a mean over examples (`MeanMetric`), so that every example has a value of its own, or a function of sums over
examples (`PooledMetric`), whose error the jackknife gives.
"""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.errors import TrialError, TuneoffError, first_line
from tuneoff.records.record import Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What was predicted on a split, by column: each has one entry per example, in the same order.

    Attributes:
        targets: the classes' names, or the texts to write.
        outputs: what was predicted.
        scores: log-probabilities in the order of `labels`; empty where there are none.
        values: metric -> the example's own value, as recorded.
        losses: nats summed over the target's tokens; None where they were not counted.
        target_tokens: tokens of the target; None where they were not counted.
        target_bytes: bytes of the target; None where they were not counted, and empty where none were.
        labels: the classes in order of their numbers; empty for a task without classes.
        inputs: what was put in, for metrics that read it; there while a trial scores its test, else empty.
    """

    targets: Sequence[str]
    outputs: Sequence[str]
    scores: Sequence[Sequence[float]]
    values: Sequence[Mapping[str, float]]
    losses: Sequence[float | None]
    target_tokens: Sequence[int | None]
    labels: tuple[str, ...] = ()
    inputs: Sequence[str] = ()
    target_bytes: Sequence[int | None] = ()

    @classmethod
    def of(cls, predictions: Sequence[Prediction], labels: tuple[str, ...] = (), inputs: Sequence[str] = ()) -> Outputs:
        """Gathers the columns of predictions."""
        return cls(
            targets=[p.target for p in predictions],
            outputs=[p.output for p in predictions],
            scores=[p.scores for p in predictions],
            values=[p.values for p in predictions],
            losses=[p.loss for p in predictions],
            target_tokens=[p.target_tokens for p in predictions],
            labels=labels,
            inputs=inputs,
            target_bytes=[p.target_bytes for p in predictions],
        )

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True)
class MetricDefinition(ABC):
    """One metric of a task.

    Attributes:
        name: its key in records and limits, as `macro_f1`.
        direction: which values are better.
        unit: `fraction`, `nats`, …
        title: its name for people, as `macro-F1`; the key with spaces where empty.
        low, high: the least and the greatest value that it can take by definition.
        written: whether it scores generated text, so that it is only there where text was generated.
        per_token: whether it is counted per token, so that models of other tokenizers cannot be compared by it.
        caution: what a reader must know of its values, a sentence without its full stop; else empty.
        summary: what it says, in a line; of a metric that a study may add (docs/add-a-metric.md).
        produces: of such a metric, what a task must produce for it, as `Task.produces` names it (`class`, `text`, …);
            empty: anything.
        ordered: whether it reads an order of the classes, which the study then declares (`task.labels`) unless they are
            whole numbers.
        needs: package that it is computed with, where tuneoff works without; else empty.
        extra: what pip installs it by, as `tuneoff[bleu]`.
    """

    name: str
    direction: Literal["higher", "lower"]
    unit: str = "fraction"
    title: str = ""
    low: float = -math.inf
    high: float = math.inf
    written: bool = False
    per_token: bool = False
    caution: str = ""
    summary: str = ""
    produces: tuple[str, ...] = ()
    ordered: bool = False
    needs: str = ""
    extra: str = ""

    def lacks(self) -> bool:
        """Tells whether a package that it is computed with is not installed here."""
        return bool(self.needs) and importlib.util.find_spec(self.needs) is None

    @abstractmethod
    def compute(self, outputs: Outputs) -> float | None:
        """Computes the metric; None where the outputs lack what it is computed from."""


@dataclass(frozen=True, kw_only=True)
class MeanMetric(MetricDefinition):
    """A metric that is the mean of the examples' own values: accuracy, ROUGE, an absolute error.

    Attributes:
        of_examples: outputs -> each example's value, shape (examples,), or None where they lack it. Where it is not
            given, and wherever predictions hold the metric under its name in `values`, the recorded values count.
    """

    of_examples: Callable[[Outputs], Any] | None = None

    def example_values(self, outputs: Outputs) -> Array | None:
        """Returns each example's value, shape (examples,); None where there is none.

        Raises:
            ValueError: if they are no numbers, or not one for each example.
        """
        import numpy as np

        if all(self.name in values for values in outputs.values):
            return np.array([values[self.name] for values in outputs.values], dtype=np.float64)
        values = self.of_examples(outputs) if self.of_examples is not None else None
        if values is None:
            return None
        return _one_for_each(np.asarray(values, dtype=np.float64), outputs, are_numbers=True)

    def compute(self, outputs: Outputs) -> float | None:
        values = self.example_values(outputs)
        return None if values is None else math.fsum(values) / len(values)


@dataclass(frozen=True, kw_only=True)
class PooledMetric(MetricDefinition):
    """A metric of all examples together, as a function of sums over them: macro-F1, perplexity, a correlation.

    Attributes:
        terms: outputs -> what each example adds to the sums, shape (examples, sums), or None where they lack it.
        of_sums: the sums over some of these examples, shape (sums,) -> the metric. It must change smoothly with an
            example's weight, as functions of counts and means do; a median does not.
        batched: whether `of_sums` also takes many sums at once, shape (many, sums), and gives (many,), which makes
            reports of many trials several times faster.
    """

    terms: Callable[[Outputs], Any]
    of_sums: Callable[[Array], Any]
    batched: bool = False

    def of_many(self, sums: Array) -> Array:
        """Returns the metric of many sums, shape (many, sums)."""
        import numpy as np

        return np.asarray(self.of_sums(sums) if self.batched else [self.of_sums(own) for own in sums])

    def example_terms(self, outputs: Outputs) -> Array | None:
        """Returns what each example adds to the sums, shape (examples, sums); None where the outputs lack it.

        Raises:
            ValueError: if that is not of each example.
        """
        import numpy as np

        terms = self.terms(outputs)
        return None if terms is None else _one_for_each(np.asarray(terms), outputs)

    def compute(self, outputs: Outputs) -> float | None:
        import numpy as np

        terms = self.example_terms(outputs)
        return None if terms is None else float(self.of_sums(terms.sum(axis=0, dtype=np.float64)))


def _one_for_each(values: Array, outputs: Outputs, are_numbers: bool = False) -> Array:
    """Returns values of examples, once there are as many as examples; where they `are_numbers`, one number each.

    Raises:
        ValueError: if there are not.
    """
    if values.shape[:1] != (len(outputs),) or (are_numbers and values.ndim > 1):
        raise ValueError(f"values of shape {values.shape} for {len(outputs)} examples")
    return values


@contextmanager
def naming(metric: MetricDefinition) -> Iterator[None]:
    """Raises what a metric that a study adds raises, while open, with the metric's name and what to do.

    Raises:
        TrialError: in place of any error that is not tuneoff's own.
    """
    try:
        yield
    except TuneoffError:
        raise
    except Exception as error:  # a plug-in raises what it likes
        raise TrialError(
            f"metric {metric.name!r} cannot be computed: {type(error).__name__}: {first_line(error)}",
            hint="Correct the metric, or leave it out of task.metrics; MetricContract of tuneoff.testing tests one.",
        ) from error
