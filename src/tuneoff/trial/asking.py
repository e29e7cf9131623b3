"""A trial of a model that others run: the test rows are asked about over a network, and replies are kept as they come.

Nothing is asked about validation rows, because nothing is chosen on them.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tuneoff.interfaces import Answered, Questions, ServedModel
from tuneoff.records.record import Inference
from tuneoff.store import TrialStore
from tuneoff.trial.assembly import demonstrations, load_data
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data.groups import with_groups
from tuneoff.trial.results import Evaluated, TrialResults
from tuneoff.trial.training.selection import Selected

EVENT_INTERVAL_SECONDS = 0.5
"""Time between two events that tell how many requests are answered."""


def ask(context: TrialContext, method: ServedModel[Any], place: TrialStore) -> TrialResults:
    """Asks a served model about the test rows and scores its answers.

    Raises:
        EndpointError: if there is no usable answer; replies until then are kept, and the trial goes on from them.
    """
    task, phases = context.task, context.phases
    with phases("load"):
        data = load_data(context)
    context.report(data.findings)
    examples, replies = data.splits["test"], place.replies
    questions = Questions(
        solved=demonstrations(method, data.splits["train"], context.spec.seed),
        examples=examples,
        kept=replies.read(),
        found=place.replies_of_others(),
        keep=replies.keep,
        tell=_Progress(context),
    )
    with phases("test"):
        answered = method.ask(task, questions)
        predictions = task.judge(answered.predictions, examples)
    context.report(answered.findings)
    return TrialResults(
        data=data.info,
        findings=data.findings,
        selected=Selected(()),
        evaluated=Evaluated(
            tuple(task.score(predictions, "test")),
            place.write_predictions("test", with_groups(predictions, examples)),
            _latency(answered) if context.spec.times_inference else Inference(),
            answered.findings,
        ),
        served=place.described(answered.served),
    )


class _Progress:
    """Tells now and then how many requests are answered."""

    def __init__(self, context: TrialContext) -> None:
        self._context = context
        self._started = self._last = time.perf_counter()

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self._last >= EVENT_INTERVAL_SECONDS:
            self._last = now
            elapsed = now - self._started
            self._context.emit({"kind": "writing", "texts": done, "of": total, "elapsed_seconds": elapsed})


def _latency(answered: Answered) -> Inference:
    """Returns how long answers took over the network, and how many tokens they had."""
    counts = [prediction.generated_tokens for prediction in answered.predictions]
    known = [count for count in counts if count is not None]
    return Inference(
        latency_seconds_median=float(np.median(answered.seconds)),
        latency_seconds_p95=float(np.percentile(answered.seconds, 95)),
        latency_examples=len(answered.seconds),
        generated_tokens_mean=float(np.mean(known)) if known and len(known) == len(counts) else None,
    )
