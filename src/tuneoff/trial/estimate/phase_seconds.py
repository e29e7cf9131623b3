"""How long a trial takes, phase by phase."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tuneoff.trial.data.draws import subset
from tuneoff.trial.estimate.counts import ForecastCounts
from tuneoff.trial.estimate.evaluations import Evaluations
from tuneoff.trial.estimate.schedule import MicroBatch
from tuneoff.trial.estimate.time_model import Curve
from tuneoff.trial.estimate.topology import Topology

KEPT_SHAPES = 3
"""Shapes whose kernels a trial keeps at a time, about: it keeps 32, and a step in bf16 needs some nine of its shape."""


@dataclass(frozen=True)
class TrainingTime:
    """Adds up the seconds of training.

    Attributes:
        curve: seconds of a micro-batch, by its padded tokens.
        update: seconds of clipping and the optimizer's step.
        topology: how the work is divided.
        gradients: bytes that the ranks sum in every step.
        calls: the part of a micro-batch's seconds that goes to calling operations, whatever their size.
        first: additional seconds of a shape that was not among the last few, to prepare its kernels.
    """

    curve: Curve
    update: float
    topology: Topology
    gradients: int
    calls: float = 0.0
    first: float = 0.0

    def __call__(self, rank_steps: Sequence[Sequence[MicroBatch]]) -> float:
        """Returns the seconds of these steps, as the topology has divided them: in every step those of the slowest
        rank, of the sums of gradients and of the update."""
        return sum(self.parts(rank_steps).values())

    def parts(self, rank_steps: Sequence[Sequence[MicroBatch]]) -> dict[str, float]:
        """Returns the seconds of these steps by parts, as `ArmForecast.train_parts` names them."""
        slowest = self.topology.slowest(rank_steps, lambda step: sum(self.curve(micro.padded_tokens) for micro in step))
        micro_batches = [micro for step in slowest for micro in step]
        passes_seconds = sum(self.curve(micro.padded_tokens) for micro in micro_batches)
        calls_seconds = min(self.calls * len(micro_batches), passes_seconds)
        first_seconds = self.first * _count_prepared(micro.size for micro in micro_batches)
        return {
            "calls": calls_seconds,
            "work": passes_seconds - calls_seconds + first_seconds,
            "update": (self.topology.sum_seconds(self.gradients) + self.update) * len(slowest),
        }


def _count_prepared(shapes: Iterable[tuple[int, int]]) -> int:
    """Counts how often kernels are prepared for shapes that come in this order."""
    kept: list[tuple[int, int]] = []
    count = 0
    for shape in shapes:
        if shape in kept:
            kept.remove(shape)
        else:
            count += 1
        kept = [*kept, shape][-KEPT_SHAPES:]
    return count


@dataclass(frozen=True)
class PhaseSeconds:
    """Seconds by phase, as `ArmForecast` names them; empty where they are not known.

    Attributes:
        final: of a final trial.
        parts: of training, in a final trial.
        search: of a trial of the search, without what is kept.
        kept: the part of `final` that computes what later trials of a run find: tokens, what frozen first blocks give.
    """

    final: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    search: dict[str, float] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)


def phase_seconds(
    counts: ForecastCounts,
    startup: dict[str, float],
    evaluations: Evaluations,
    training: TrainingTime | None,
    checkpoint: float,
) -> PhaseSeconds:
    """Returns the seconds by phase.

    Args:
        counts: of a final trial.
        startup: seconds to load, tokenize and preflight.
        evaluations: of a final trial's splits.
        training: adds up the seconds of training; None where nothing is trained.
        checkpoint: seconds to keep the weights once.
    """
    spec, material = counts.request.spec, counts.material
    seconds, parts, validations = dict(startup), dict[str, float](), 1
    if training is not None:
        validations = len(spec.protocol.evaluation_steps(len(material.features["train"])))
        parts = training.parts(counts.steps)
        seconds |= {"train": sum(parts.values()), "checkpoint": validations * checkpoint}
    seconds |= {"validation": evaluations.validation(validations), "test": evaluations.test()}
    kept = {split: evaluations.frozen(split) for split in material.features} if counts.keeps_frozen else {}
    seconds |= {split: seconds[split] + kept[split] for split in kept}
    if kept:
        parts["frozen"] = kept["train"]
    is_fast = spec.execution.engine == "fast"
    # Of each seed the rows are others, and so are their tokens.
    if is_fast and spec.protocol.splits == "fixed" and not counts.request.method.demonstrations:
        kept["tokenize"] = startup["tokenize"]
    seconds["inference"] = evaluations.inference(sum(seconds.values()))
    if material.held:
        seconds |= _held_seconds(counts, evaluations, startup["load"])
        if is_fast:
            kept["retention"] = startup["load"] + evaluations.held()
    search = counts.request.search
    if search is None or training is None:
        return PhaseSeconds(seconds, parts, kept=kept)
    protocol = search.protocol
    train = subset(material.task, material.examples["train"], protocol.train_rows, protocol.data_seed)
    features = [material.features["train"][example.index] for example in train]
    evaluation_rows = sum(len(material.features[split]) for split in ("validation", "test"))
    # The rows that a trial of the search tokenizes.
    share = (len(features) + evaluation_rows) / (len(material.features["train"]) + evaluation_rows)
    validations = len(protocol.evaluation_steps(len(features)))
    search_seconds = {
        **startup,
        "tokenize": share * startup["tokenize"],
        "train": training(counts.schedule(features, protocol, search.seed)),
        "validation": evaluations.validation(validations),
        "checkpoint": validations * checkpoint,
    }
    return PhaseSeconds(seconds, parts, search_seconds, kept)


def _held_seconds(counts: ForecastCounts, evaluations: Evaluations, load: float) -> dict[str, float]:
    """Returns the seconds of scoring what the study holds: by the base model, the trained one and those between.

    Args:
        counts, evaluations: of a final trial.
        load: seconds to load the base model.
    """
    material, once = counts.material, evaluations.held()
    # Where the task has put a head on the model, the language model's own is loaded for the trained one.
    own_head = load if material.task.adds_head else 0.0
    seconds = {"retention": load + once + own_head + once}
    retention = material.spec.retention
    if retention is not None and retention.rewind and counts.request.method.mergeable:
        fractions = len(retention.rewind)
        seconds["rewind"] = load + own_head + fractions * once + evaluations.validation(fractions)
    return seconds
