"""Scores what a study holds by the base model, by the trained one, and by models between them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tuneoff.checksums import content_hash
from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached, Features, Prediction
from tuneoff.records.record import HeldScore
from tuneoff.store import write_atomically
from tuneoff.trial.assembly import Assembled, load_model
from tuneoff.trial.context import TrialContext
from tuneoff.trial.distributed.context import ALONE
from tuneoff.trial.retention.changes import change, not_computed
from tuneoff.trial.retention.held import HeldSet, tokenize_held
from tuneoff.trial.training.evaluate import ModelRunner, predict, write

Scores = list[list[Prediction]]
"""The predictions of each set that is held."""
_SCORES: TypeAdapter[Scores] = TypeAdapter(Scores)


class HeldScorer:
    """Scores what a trial's study holds.

    Args:
        context: of the trial.
        trial: its model, trained; its tokenizer reads the rows.

    Attributes:
        sets: what is held.
    """

    def __init__(self, context: TrialContext, trial: Assembled) -> None:
        spec, model = context.spec, trial.runner.attached.model
        assert spec.retention is not None
        self._context, self._trial = context, trial
        self._tokenized = tokenize_held(spec.retention, spec.protocol, spec.model, trial.runner.tokenizer, model.config)
        self.sets = [one.held for one in self._tokenized]

    def score(self, runner: ModelRunner) -> Scores:
        """Scores all that is held by a model that writes; dropout is off.

        Raises:
            Diverged: if its outputs are not finite.
        """
        return [self._score(runner, one.held, one.features) for one in self._tokenized]

    def _score(self, runner: ModelRunner, held: HeldSet, features: Sequence[Features]) -> list[Prediction]:
        size = held.batch_size(self._context.spec.protocol)
        runner = replace(runner, task=held.task, batch_size=size, prefix=None, predicting=nullcontext)
        predictions = predict(runner, features, held.examples)
        if held.metric.written:
            predictions, _ = write(runner, features, held.examples, predictions, self._context.emit)
        return held.task.judge(held.task.decide(predictions, {}), held.examples)

    def runner_of(self, attached: Attached) -> ModelRunner:
        """Returns a runner of the trial's model, or of another of its kind, that goes on with texts.

        Where the study's task has put a head in the place of the language model's own, the pretrained head comes back:
        what is scored is what the trained blocks give it.
        """
        runner = replace(self._trial.runner, attached=attached)
        if not self._trial.task.adds_head:
            return runner
        whole = self._load_base()
        source, target = attached.model, whole.model
        prefix = str(source.base_model_prefix)
        if prefix != target.base_model_prefix or type(getattr(source, prefix)) is not type(getattr(target, prefix)):
            raise UnsupportedModel(
                f"{type(source).__name__} and {type(target).__name__} have other blocks, so that the pretrained "
                "language head cannot read them",
                hint="Leave `retention` out of the study.",
            )
        setattr(target, prefix, getattr(source, prefix))
        return replace(runner, attached=replace(attached, model=target, module=target))

    def score_base(self) -> Scores:
        """Scores all that is held by the base model, or reads what an earlier trial of the run scored.

        The seconds that this took there count in every trial.
        """
        path = self._base_file()
        started = time.perf_counter()
        if path is not None:
            with suppress(OSError, ValueError, KeyError, ValidationError):
                body = json.loads(path.read_text(encoding="utf-8"))
                scores, seconds = _SCORES.validate_python(body["scores"]), float(body["seconds"])
                # Longer than reading took: with these a trial costs the same whether it finds the scores or not.
                self._context.phases.watch.add_found("retention", seconds - (time.perf_counter() - started))
                return scores
        started = time.perf_counter()
        base = replace(self._trial.runner, attached=self._load_base(), ranks=ALONE)
        scores = self.score(base)
        if path is not None:
            body = {"seconds": time.perf_counter() - started, "scores": _SCORES.dump_python(scores, mode="json")}
            with suppress(StoreError):
                write_atomically(path, json.dumps(body))
        return scores

    def _load_base(self) -> Attached:
        """Loads the base model as it was pretrained, with its own language head, onto the trial's device."""
        loaded = load_model(self._context.spec, self.sets[0].task, self._context.device, self._trial.policy)
        model: Any = loaded.model.to(self._context.device).eval()
        return Attached(model, model)

    def _base_file(self) -> Path | None:
        """Returns where the trials of a run share the base model's scores; None where this one shares nothing."""
        context, trial = self._context, self._trial
        spec = context.spec
        if context.scratch is None or spec.execution.engine == "plain" or spec.retention is None:
            return None
        key = {
            "retention": spec.retention.model_dump(mode="json", exclude={"rewind"}),
            "rows": {held.label: held.info.fingerprint for held in self.sets},
            "model": [spec.model.model_dump(mode="json"), trial.model.checksum, trial.model.commit],
            "max_length": spec.protocol.max_length,
            "batch_size": spec.protocol.evaluation_batch_size,
            "precision": [trial.policy, trial.runner.attention],
        }
        return context.scratch / "retention" / f"{content_hash(key)[:16]}.json"

    def compare(self, before: Scores, after: Scores) -> dict[str, HeldScore]:
        """Returns how the scores of a model differ from the base model's, name -> scores."""
        return {
            held.label: _compare(held, first, second)
            for held, first, second in zip(self.sets, before, after, strict=True)
        }

    def values(self, scores: Scores) -> dict[str, float]:
        """Returns the metric of each set that is held, by name.

        Raises:
            DataError: if one cannot be computed.
        """
        values = {}
        for held, own in zip(self.sets, scores, strict=True):
            found = {metric.name: metric.value for metric in held.task.score(own, "test")}
            if held.metric.name not in found:
                raise not_computed(held.metric)
            values[held.label] = found[held.metric.name]
        return values


def _compare(held: HeldSet, before: Sequence[Prediction], after: Sequence[Prediction]) -> HeldScore:
    metric = held.metric
    first, second, changes = change(metric, before, after, held.task.labels)
    return HeldScore(
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        before=first,
        after=second,
        change=second - first if metric.direction == "lower" else first - second,
        changes=changes,
        rows=held.info.rows,
        fingerprint=held.info.fingerprint,
    )
